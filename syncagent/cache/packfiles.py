"""Pack files: content over 256 KiB, sealed once, byte for byte what goes to the remote.

A file is written under a temporary name, fsynced, renamed, and its folder
fsynced, before the row that names it may commit. One that no row names is left
over from an interruption, or of a put that is running; `sweep.py` tells them apart.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from syncagent.cache.profile import disk_errors, sync_folder
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.pack import PACK_TARGET, PackSealer
from syncagent.errors import CacheDamaged
from syncagent.model import ChunkId, PackId, PackRecord

TEMPORARY = ".tmp"


def pack_path(folder: Path, pack_id: bytes) -> Path:
    """Where a pack's file lies."""
    return folder / pack_id.hex()


class PackFileWriter:
    """Seals chunks into as many pack files as they need. For worker threads, one at a time.

    Use as a context manager: leaving it without `finish` removes what it wrote.
    """

    def __init__(self, folder: Path, keys: VaultKeys) -> None:
        self._folder = folder
        self._keys = keys
        self._file: BinaryIO | None = None
        self._temporary: Path | None = None
        self._sealer: PackSealer | None = None
        self._records: list[PackRecord] = []
        self._is_finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_finished:
            self.abandon()

    def add(self, chunk_id: ChunkId, raw: bytes) -> None:
        """Seal one chunk at the end of the current pack; closes a pack that has reached its target."""
        with disk_errors():
            if self._sealer is None or self._file is None:
                self._begin()
            assert self._sealer is not None and self._file is not None
            self._file.write(self._sealer.seal(chunk_id, raw))
            if self._sealer.size >= PACK_TARGET:
                self._close_pack()

    def finish(self) -> list[PackRecord]:
        """Close the last pack; the records of all, whose files are durable now."""
        with disk_errors():
            if self._sealer is not None:
                self._close_pack()
            if self._records:
                sync_folder(self._folder)
        self._is_finished = True
        return self._records

    def abandon(self) -> None:
        """Remove every file written so far: no row names them."""
        if self._file is not None:
            self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
        for record in self._records:
            pack_path(self._folder, record.id).unlink(missing_ok=True)
        self._file = self._temporary = self._sealer = None
        self._records = []

    def _begin(self) -> None:
        self._temporary = self._folder / (os.urandom(16).hex() + TEMPORARY)
        self._file = _create(self._temporary)
        self._sealer = PackSealer(self._keys)
        self._file.write(self._sealer.header())

    def _close_pack(self) -> None:
        assert self._sealer is not None and self._file is not None and self._temporary is not None
        self._file.write(self._sealer.finish())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        record = self._sealer.record()
        self._temporary.replace(pack_path(self._folder, record.id))
        self._records.append(record)
        self._file = self._temporary = self._sealer = None


def store_pack_file(folder: Path, pack_id: PackId, data: bytes) -> None:
    """Keep a fetched, verified pack; durable on return."""
    temporary = folder / (os.urandom(16).hex() + TEMPORARY)
    with disk_errors():
        try:
            with _create(temporary) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(pack_path(folder, pack_id))
            sync_folder(folder)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_pack_file(folder: Path, pack_id: PackId, start: int, stop: int) -> bytes:
    """Bytes of a pack file, half-open; fewer when the file is shorter.

    Raises:
        CacheDamaged: the file is missing or cannot be read.
    """
    try:
        with pack_path(folder, pack_id).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)
    except OSError as exc:
        raise CacheDamaged(f"pack file {pack_id.hex()[:16]}… cannot be read: {exc.strerror}") from exc


def _create(path: Path) -> BinaryIO:
    # 0600 from the start; O_BINARY exists on Windows only and must be given there.
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")

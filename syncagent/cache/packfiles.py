"""Pack files: content over 256 KiB, sealed once, byte for byte what goes to the remote.

A file is written under a temporary name, fsynced, renamed, and its folder
fsynced, before the row that names it may commit. One that no row names is left
over from an interruption, or of a put that is running; `sweep.py` tells them apart.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from syncagent import files
from syncagent.cache.profile import disk_errors
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.pack import CompactChunk, PackSealer
from syncagent.errors import CacheDamaged
from syncagent.model import PackId, PackRecord

TEMPORARY = ".tmp"
_MODE = 0o600


def pack_path(folder: Path, pack_id: bytes) -> Path:
    """Where a pack's file lies."""
    return folder / pack_id.hex()


class PackFiles:
    """The pack files of one put or fetch: all of them are kept, or all removed.

    Safe to share between worker threads: several packs are written at once.
    As a context manager, leaving it without `keep` removes what was written.
    """

    def __init__(self, folder: Path, keys: VaultKeys) -> None:
        self._folder = folder
        self._keys = keys
        self._paths: set[Path] = set()
        self._is_kept = False
        self._is_abandoned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_kept:
            self.abandon()

    def write(self, chunks: Iterable[CompactChunk]) -> PackRecord:
        """Seal chunks into one pack file. Its bytes are durable on return, its name once `keep` returns.

        Raises:
            CacheFull: there is no room; `abandon` removes what was written of it.
        """
        sealer = PackSealer(self._keys)
        temporary = self._folder / (os.urandom(16).hex() + TEMPORARY)
        self._paths.add(temporary)  # before it is there, so that `abandon` misses nothing
        with disk_errors():
            with files.new_file(temporary, _MODE) as file:
                file.write(sealer.header())
                for chunk in chunks:
                    file.write(sealer.seal_compact(chunk))
                file.write(sealer.finish())
            record = sealer.record()
            path = pack_path(self._folder, record.id)
            files.rename(temporary, path)
        self._paths.add(path)
        if (
            self._is_abandoned
        ):  # asyncio's own `Task.cancel` can leave a thread at work behind its caller's back
            self.abandon()
            raise RuntimeError("these pack files have been abandoned")
        return record

    def keep(self) -> None:
        """Make the names durable. Rows may name the files now."""
        with disk_errors():
            if self._paths:
                files.sync_folder(self._folder)
        self._is_kept = True

    def abandon(self) -> None:
        """Remove every file, also those kept: no row names them. What cannot be removed is swept later."""
        self._is_abandoned = True
        for path in tuple(self._paths):
            with contextlib.suppress(OSError):
                files.unlink(path)


def store_pack_file(folder: Path, pack_id: PackId, data: bytes) -> None:
    """Keep a fetched, verified pack; durable on return."""
    temporary = folder / (os.urandom(16).hex() + TEMPORARY)
    with disk_errors():
        try:
            with files.new_file(temporary, _MODE) as file:
                file.write(data)
            files.rename(temporary, pack_path(folder, pack_id))
            files.sync_folder(folder)
        except BaseException:
            files.unlink(temporary, missing_ok=True)
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

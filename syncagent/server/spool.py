"""A body on its way to the disk, hashed as it comes. Nothing of it has a name before it is complete."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import anyio
import anyio.to_thread

from syncagent import files

PIECE_SIZE = 512 << 10
"""Bytes gathered before a worker thread writes them: a hop costs as much as writing a tenth of it."""


class Spool:
    """A temporary file that takes a body. Used with `async with`; leaving removes the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hash = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._discard)

    async def write(self, piece: bytes) -> None:
        """Take bytes; `OSError` where the disk does not."""
        self._gathered.append(piece)
        self._gathered_bytes += len(piece)
        if self._gathered_bytes >= PIECE_SIZE:
            await anyio.to_thread.run_sync(self._flush)

    async def finish(self, check: Callable[[bytes], None]) -> None:
        """End the file: complete and durable, unless `check` raises at the SHA-256 of what was written."""
        await anyio.to_thread.run_sync(self._finish, check)

    def _flush(self) -> None:
        if self._file is None:
            self._file = files.create(self.path, 0o600)
        pieces, self._gathered, self._gathered_bytes = self._gathered, [], 0
        for piece in pieces:
            self._hash.update(piece)
            self._file.write(piece)

    def _finish(self, check: Callable[[bytes], None]) -> None:
        self._flush()
        check(self._hash.digest())
        assert self._file is not None, "an empty flush opens it"
        files.sync_file(self._file, self.path)
        self._file.close()

    def _discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk again
                self._file.close()
            with contextlib.suppress(OSError):  # what stays is removed when the server starts again
                files.unlink(self.path, missing_ok=True)

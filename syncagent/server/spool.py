"""A body on its way to the disk, hashed as it comes. Nothing of it has a name before it is complete."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import anyio
import anyio.to_thread

from syncagent import files
from syncagent.remote.base import Body, FileSlice
from syncagent.server.requests import IncomingBody

PIECE_SIZE = 512 << 10
"""Bytes gathered before a worker thread writes them: a hop costs as much as writing a tenth of it."""


SMALL_SIZE = 64 << 10
"""Bodies up to this are not written before they are complete: batches and records, for the most part."""


@contextlib.asynccontextmanager
async def received(
    body: IncomingBody, check: Callable[[bytes], None], place: Callable[[], Path]
) -> AsyncIterator[Body]:
    """A request's whole body, small ones in memory, others in a durable file that whoever takes it may move.

    Args:
        body: what is coming.
        check: raises where the SHA-256 is not the right one.
        place: gives a path for a temporary file. Blocks.
    """
    if body.size <= SMALL_SIZE:
        pieces = []
        while piece := await body.read():
            pieces.append(piece)
        data = b"".join(pieces)
        check(hashlib.sha256(data).digest())
        yield data
        return
    async with Spool(place) as spool:
        while piece := await body.read():
            await spool.write(piece)
        yield FileSlice(await spool.finish(check), 0, body.size)


class Spool:
    """A temporary file that takes a body. Used with `async with`; leaving it by an error removes the file.

    Args:
        place: gives the file's path. Blocks.
    """

    def __init__(self, place: Callable[[], Path]) -> None:
        self._place = place
        self._path = Path()
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
        if kind is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._discard)

    async def write(self, piece: bytes) -> None:
        """Take bytes; `OSError` where the disk does not."""
        self._gathered.append(piece)
        self._gathered_bytes += len(piece)
        if self._gathered_bytes >= PIECE_SIZE:
            await anyio.to_thread.run_sync(self._flush)

    async def finish(self, check: Callable[[bytes], None]) -> Path:
        """End the file: complete and durable, unless `check` raises at the SHA-256 of what was written."""
        return await anyio.to_thread.run_sync(self._finish, check)

    def _flush(self) -> None:
        if self._file is None:
            self._path = self._place()
            self._file = files.create(self._path, 0o600)
        pieces, self._gathered, self._gathered_bytes = self._gathered, [], 0
        for piece in pieces:
            self._hash.update(piece)
            self._file.write(piece)

    def _finish(self, check: Callable[[bytes], None]) -> Path:
        self._flush()
        check(self._hash.digest())
        assert self._file is not None, "an empty flush opens it"
        files.sync_file(self._file, self._path)
        self._file.close()
        return self._path

    def _discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk again
                self._file.close()
            with contextlib.suppress(OSError):  # what stays is removed when the server starts again
                files.unlink(self._path, missing_ok=True)

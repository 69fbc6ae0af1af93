"""Reading one blob's content chunk by chunk: what `Namespace.open` gives."""

import datetime
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Self

import anyio.to_thread

from syncagent.cache.chunks import ChunkPlaces, ChunkSource
from syncagent.engine.context import Context
from syncagent.engine.read import content_places
from syncagent.errors import CacheDamaged
from syncagent.model import CHUNK_SIZE, Metadata, Version
from syncagent.times import utc

_AT_ONCE = 4
"""Chunks read in one go: enough to keep the disk busy, little enough to hold in memory."""


class BlobReader:
    """A blob's content, in order or by range, at most a few MiB in memory at a time.

    It reads the version that won when it was opened, also if the blob is replaced
    meanwhile. Use as an async context manager and iterate over it for the chunks.
    """

    def __init__(
        self,
        ctx: Context,
        version: Version,
        heal: Callable[[CacheDamaged], Awaitable[None]],
        data: bytes | None = None,
    ) -> None:
        self._ctx = ctx
        self._data = data  # small content comes with the version: nothing can take it away any more
        self._heal = heal
        self._source = ChunkSource(ctx.keys, ctx.profile.packs)
        self.version = version

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def size(self) -> int:
        """Length of the content in bytes."""
        return self.version.size

    @property
    def metadata(self) -> Metadata:
        """The version's metadata."""
        return self.version.metadata

    @property
    def created_at(self) -> datetime.datetime:
        """When the blob was first put, UTC."""
        return utc(self.version.created_at)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The content in chunks of 1 MiB but the last.

        Raises:
            CacheDamaged: a chunk does not verify here and could not be fetched again; what was
                given before is right.
        """
        return _Chunks(self._chunks, len(self.version.content))

    async def read_range(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` (half-open), cut off at the content's end; raises as iteration does."""
        stop = min(stop, self.size)
        start = max(start, 0)
        if start >= stop:
            return b""
        first = start // CHUNK_SIZE
        chunks = await self._chunks(first, -(-stop // CHUNK_SIZE))
        offset = first * CHUNK_SIZE
        return b"".join(chunks)[start - offset : stop - offset]

    async def _chunks(self, first: int, stop: int) -> list[bytes]:
        if self._data is not None:
            return [self._data]
        try:
            return await self._read(first, stop)
        except CacheDamaged as damage:
            await self._heal(damage)
            return await self._read(first, stop)

    async def _read(self, first: int, stop: int) -> list[bytes]:
        places = await self._ctx.cache.read(
            partial(content_places, version=self.version, first=first, stop=stop)
        )
        return await anyio.to_thread.run_sync(
            _read_all, self._source, places, self.version.size, first, limiter=self._ctx.workers
        )


class _Chunks:
    """An iterator object, not an async generator: whoever stops half-way leaves nothing to finalise."""

    def __init__(self, read: Callable[[int, int], Awaitable[list[bytes]]], count: int) -> None:
        self._read = read
        self._count = count
        self._next = 0
        self._ready: list[bytes] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._ready:
            if self._next >= self._count:
                raise StopAsyncIteration
            stop = min(self._next + _AT_ONCE, self._count)
            self._ready = (await self._read(self._next, stop))[::-1]
            self._next = stop
        return self._ready.pop()


def _read_all(source: ChunkSource, places: list[ChunkPlaces], size: int, first: int) -> list[bytes]:
    contents = [source.read(place) for place in places]
    for number, content in enumerate(contents, first):
        if len(content) != min(CHUNK_SIZE, size - number * CHUNK_SIZE):
            raise CacheDamaged("a chunk of the content has another length than the version says")
    return contents

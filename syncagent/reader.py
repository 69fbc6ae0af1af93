"""Reading one blob's content chunk by chunk: what `Namespace.open` gives."""

import datetime
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from syncagent.engine.context import Context
from syncagent.engine.reading import CHUNKS_AT_ONCE, read_chunks
from syncagent.errors import CacheDamaged, ConfigError
from syncagent.model import CHUNK_SIZE, Metadata, Version
from syncagent.times import utc

FetchPart = Callable[[range], Awaitable[Mapping[int, bytes]]]
"""Brings chunks of a version that are not here; gives those that are not kept here, by position."""


class BlobReader:
    """A blob's content, in order or by range, at most a few MiB in memory at a time.

    It reads the version that won when it was opened, also if the blob is replaced
    meanwhile. Use as an async context manager and iterate over it for the chunks; what is
    read after that is a `ConfigError`.
    """

    def __init__(
        self,
        ctx: Context,
        version: Version,
        heal: Callable[[CacheDamaged], Awaitable[None]],
        data: bytes | None = None,
        fetch: FetchPart | None = None,
    ) -> None:
        self._ctx = ctx
        self._data = data  # small content comes with the version: nothing can take it away any more
        self._heal = heal
        self._fetch = fetch  # of content that was not all here: brings what is about to be read
        self._is_closed = False
        self.version = version

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True

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
            BlobNotHere: a chunk is not here and cannot be fetched now.
            CacheDamaged: a chunk does not verify here and could not be fetched again; what was
                given before is right.
        """
        return _Chunks(self._chunks, len(self.version.content))

    async def read_range(self, start: int, stop: int) -> bytes:
        """Bytes `start` to `stop` (half-open), cut off at the content's end; raises as iteration does.

        Raises:
            ConfigError: one of them is negative, which does not count from the end here.
        """
        self._check_open()
        if start < 0 or stop < 0:
            raise ConfigError(f"bytes are counted from the start of the content: not {start} to {stop}")
        stop = min(stop, self.size)
        if start >= stop:
            return b""
        if self._data is not None:
            return self._data[start:stop]
        result = io.BytesIO(bytes(stop - start))  # gives its memory away as bytes, without a copy
        with result.getbuffer() as target:

            def take(number: int, content: bytes) -> None:
                at = number * CHUNK_SIZE - start
                part = memoryview(content)[max(0, -at) : stop - start - at]
                at = max(0, at)
                target[at : at + len(part)] = part

            await self._read(start // CHUNK_SIZE, -(-stop // CHUNK_SIZE), take)
        return result.getvalue()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ConfigError("this blob is read inside its `async with` block")

    async def _chunks(self, first: int, stop: int) -> list[bytes]:
        self._check_open()
        if self._data is not None:
            return [self._data]
        found: dict[int, bytes] = {}
        await self._read(first, stop, found.__setitem__)
        return [found[number] for number in range(first, stop)]

    async def _read(self, first: int, stop: int, take: Callable[[int, bytes], None]) -> None:
        if self._fetch is None:
            await self._read_here(first, stop, take)
            return
        for start in range(first, stop, CHUNKS_AT_ONCE):
            numbers = range(start, min(start + CHUNKS_AT_ONCE, stop))
            fetched = await self._fetch(numbers)
            for number in numbers:
                if number in fetched:
                    take(number, fetched[number])
                else:
                    await self._read_here(number, number + 1, take)

    async def _read_here(self, first: int, stop: int, take: Callable[[int, bytes], None]) -> None:
        try:
            await read_chunks(self._ctx, self.version, first, stop, take)
        except CacheDamaged as damage:
            await self._heal(damage)
            await read_chunks(self._ctx, self.version, first, stop, take)


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
            stop = min(self._next + CHUNKS_AT_ONCE, self._count)
            self._ready = (await self._read(self._next, stop))[::-1]
            self._next = stop
        return self._ready.pop()

"""What `put` takes, as chunks: bytes, a file that is copied in, or a stream.

Chunks come in groups of a few MiB. Whoever takes a group may hold on to its
chunks: their bytes do not change any more, whatever the caller does to what it
handed in.
"""

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread

from syncagent.crypto.frame import Bytes
from syncagent.engine.context import Context
from syncagent.errors import LimitExceeded, SourceChanged
from syncagent.model import CHUNK_SIZE, MAX_BLOB_SIZE

Source = bytes | bytearray | memoryview | Path | AsyncIterable[bytes]
"""What `put` takes."""

ChunkGroup = list[Bytes]
"""Some chunks in order, each of 1 MiB but the last of all."""

GROUP_SIZE = 8 * CHUNK_SIZE
"""Bytes a group: about a pack, and few enough that several groups fit in memory."""


def check_source(data: object) -> None:
    """`TypeError` for what is no content: text has no bytes of its own."""
    if not isinstance(data, bytes | bytearray | memoryview | Path) and not hasattr(data, "__aiter__"):
        raise TypeError(f"content is bytes, a Path or an async iterable of bytes, not {type(data).__name__}")


def is_readable_again(source: Source) -> bool:
    """Whether a source can be read once more: a stream is spent."""
    return isinstance(source, bytes | bytearray | memoryview | Path)


@asynccontextmanager
async def chunk_groups(ctx: Context, source: Source) -> AsyncIterator[AsyncIterator[ChunkGroup]]:
    """The chunks of a source.

    Raises:
        SourceChanged: a file cannot be read, or changed while it was; the last at the end of the groups.
        LimitExceeded: a file is larger than a blob may be.
    """
    if isinstance(source, Path):
        file = await anyio.to_thread.run_sync(_open, source, limiter=ctx.workers)
        groups = _file_groups(ctx, file, source)
        try:
            yield groups
        finally:
            await groups.aclose()
            file.close()
    else:
        if isinstance(source, bytes | bytearray | memoryview):
            groups = _bytes_groups(ctx, memoryview(source).cast("B"))
        else:
            groups = _stream_groups(ctx, source)
        try:
            yield groups
        finally:
            await groups.aclose()


async def _bytes_groups(ctx: Context, data: memoryview) -> AsyncGenerator[ChunkGroup, None]:
    for start in range(0, len(data), GROUP_SIZE):
        part = data[start : start + GROUP_SIZE]
        if isinstance(data.obj, bytes):
            yield [part[i : i + CHUNK_SIZE] for i in range(0, len(part), CHUNK_SIZE)]
        else:  # its owner may write into it
            yield await anyio.to_thread.run_sync(_copied, part, limiter=ctx.workers)


async def _file_groups(ctx: Context, file: BinaryIO, path: Path) -> AsyncGenerator[ChunkGroup, None]:
    before = os.fstat(file.fileno())
    if before.st_size > MAX_BLOB_SIZE:  # before all of it has been read and sealed
        raise LimitExceeded(f"{str(path)!r} has {before.st_size} bytes, a blob has at most {MAX_BLOB_SIZE}")
    total = 0
    while group := await anyio.to_thread.run_sync(_read_group, file, path, limiter=ctx.workers):
        total += sum(map(len, group))
        yield group
        if len(group[-1]) < CHUNK_SIZE:
            break
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or total != after.st_size:
        raise SourceChanged(f"{str(path)!r} changed while it was read")


async def _stream_groups(ctx: Context, stream: AsyncIterable[bytes]) -> AsyncGenerator[ChunkGroup, None]:
    # One buffer for all groups, copied from in a thread: fresh memory is far slower to write to than
    # memory in use, and the event loop must not wait for it.
    buffer = memoryview(bytearray(GROUP_SIZE))
    filled = 0
    async for piece in stream:
        rest = memoryview(piece).cast("B")
        while rest:
            part = rest[: GROUP_SIZE - filled]
            buffer[filled : filled + len(part)] = part
            filled += len(part)
            rest = rest[len(part) :]
            if filled == GROUP_SIZE:
                yield await anyio.to_thread.run_sync(_copied, buffer, limiter=ctx.workers)
                filled = 0
    if filled:
        yield await anyio.to_thread.run_sync(_copied, buffer[:filled], limiter=ctx.workers)


def _copied(data: memoryview) -> ChunkGroup:
    return [bytes(data[i : i + CHUNK_SIZE]) for i in range(0, len(data), CHUNK_SIZE)]


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise SourceChanged(
                f"{str(path)!r} is not a regular file", todo="give a file, or pipe the content in"
            )
        return path.open("rb")
    except OSError as exc:
        raise SourceChanged(f"{str(path)!r} cannot be read: {exc.strerror}", todo="check the path") from exc


def _read_group(file: BinaryIO, path: Path) -> ChunkGroup:
    group: ChunkGroup = []
    try:
        while len(group) * CHUNK_SIZE < GROUP_SIZE:
            raw = file.read(CHUNK_SIZE)
            if not raw:
                break
            group.append(raw)
            if len(raw) < CHUNK_SIZE:
                break
    except OSError as exc:
        raise SourceChanged(f"{str(path)!r} cannot be read: {exc.strerror}") from exc
    return group

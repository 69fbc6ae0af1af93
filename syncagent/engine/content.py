"""From what a caller hands in to content that can be stored: bytes, a file, or a stream.

Content up to 256 KiB is kept in memory and goes into a row. Larger content is
read a few chunks at a time and sealed into pack files as it comes, so memory
stays bounded whatever the size.
"""

import hashlib
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread

from syncagent.cache import chunks
from syncagent.cache.chunks import ChunkPlaces, ChunkSource
from syncagent.cache.db import Database
from syncagent.cache.packfiles import PackFileWriter
from syncagent.crypto.chunk import content_digest, digest_of
from syncagent.engine.context import Context
from syncagent.engine.local import NewContent, small_content
from syncagent.errors import (
    BlobExists,
    BlobNotFound,
    CacheDamaged,
    ConfigError,
    ContentMismatch,
    LimitExceeded,
    SourceChanged,
    VersionConflict,
)
from syncagent.model import CHUNK_SIZE, MAX_BLOB_SIZE, SMALL_BLOB, ChunkId, Scope

Source = bytes | bytearray | memoryview | Path | AsyncIterable[bytes]
"""What `put` takes."""

_REFUSALS = (BlobExists, BlobNotFound, ContentMismatch, LimitExceeded, SourceChanged, VersionConflict)

READ_CHUNKS = 8
"""Chunks read at a time: about one pack, and few enough to keep in memory twice."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What the caller promises of the content; None where nothing."""

    sha256: bytes | None = None
    size: int | None = None


def check_source(data: object) -> None:
    """`TypeError` for what is no content: text has no bytes of its own."""
    if not isinstance(data, bytes | bytearray | memoryview | Path) and not hasattr(data, "__aiter__"):
        raise TypeError(f"content is bytes, a Path or an async iterable of bytes, not {type(data).__name__}")


def check_expected(sha256: bytes | str | None, size: int | None) -> Expected:
    """What a caller promises; `ConfigError` for what no content can have."""
    if isinstance(sha256, str):
        try:
            sha256 = bytes.fromhex(sha256)
        except ValueError as exc:
            raise ConfigError("the expected SHA-256 is not hex") from exc
    if sha256 is not None and len(sha256) != 32:
        raise ConfigError(f"a SHA-256 has 32 bytes, not {len(sha256)}")
    if size is not None and size < 0:
        raise ConfigError(f"no content has {size} bytes")
    return Expected(sha256, size)


def check_content(expected: Expected, data: bytes) -> None:
    """`ContentMismatch` for content in memory that is not what was expected."""
    check = _Check(expected)
    check.add([data])
    check.finish()


@dataclass(frozen=True, slots=True)
class Prepared:
    """Content that can be stored. `for_scope` gives it for a dedup scope; None leaves the scope as it is."""

    content_digest: bytes
    for_scope: Callable[[Scope | None], NewContent]


@asynccontextmanager
async def prepared(
    ctx: Context, source: Source, find_scope: Callable[[Database], Scope], expected: Expected = Expected()
) -> AsyncIterator[Prepared]:
    """Content of a source, as `record_put` wants it. Leaving by an error of ours undoes pack files.

    Args:
        ctx: the open vault.
        source: bytes, a file that is copied in, or a stream.
        find_scope: looks up the dedup scope; large content must be sealed for one before it is stored.
        expected: what the content must be.

    Raises:
        SourceChanged: the file vanished, shrank or changed while it was read.
        ContentMismatch: it is not what was expected.
        LimitExceeded: over 64 GiB.
        CacheFull: the disk of the cache is full.
    """
    check = _Check(expected)
    async with _pieces(ctx, source) as pieces:
        first: list[bytes] = await anext(pieces, [])
        if sum(map(len, first)) <= SMALL_BLOB:
            data = b"".join(first)
            await anext(pieces, None)  # the end of a file is where it is looked at once more
            check.add([data])
            check.finish()
            digest = digest_of(data)
            yield Prepared(
                content_digest((digest,) if data else ()),
                lambda scope: small_content(ctx.keys, scope, data, digest),
            )
            return
        scope = await ctx.cache.read(find_scope)
        with PackFileWriter(ctx.profile.packs, ctx.keys) as writer:
            content = await _seal(ctx, scope, first, pieces, writer, check)
        try:
            yield Prepared(content.content_digest, lambda wanted: _for_scope(content, wanted))
        except _REFUSALS:
            # Refused by the operation itself, so no row names the files. After anything else, such as a
            # cancellation or a full disk at the commit, one may: a file too many, never a row too many.
            await anyio.to_thread.run_sync(writer.abandon, limiter=ctx.workers)
            raise


class _Check:
    """Content as it comes, beside what was promised of it."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._size = 0
        self._sha256 = hashlib.sha256() if expected.sha256 is not None else None

    def add(self, pieces: Iterable[bytes]) -> None:
        """Content that follows; refused as soon as it is too long. Hashes: for a worker thread."""
        for piece in pieces:
            self._size += len(piece)
            if self._expected.size is not None and self._size > self._expected.size:
                raise ContentMismatch(f"the content is longer than the {self._expected.size} bytes expected")
            if self._sha256 is not None:
                self._sha256.update(piece)

    def finish(self) -> None:
        """There is no more."""
        if self._expected.size not in (None, self._size):
            raise ContentMismatch(f"the content has {self._size} bytes, {self._expected.size} were expected")
        if self._sha256 is not None and self._sha256.digest() != self._expected.sha256:
            raise ContentMismatch(f"the content has SHA-256 {self._sha256.hexdigest()}, not the one expected")


async def _seal(
    ctx: Context,
    scope: Scope,
    first: list[bytes],
    pieces: AsyncIterator[list[bytes]],
    writer: PackFileWriter,
    check: _Check,
) -> NewContent:
    source = ChunkSource(ctx.keys, ctx.profile.packs)
    digests: list[bytes] = []
    ids: list[ChunkId] = []
    sealed: set[ChunkId] = set()
    size = 0
    group: list[bytes] | None = first
    while group:
        size += sum(map(len, group))
        if size > MAX_BLOB_SIZE:
            raise LimitExceeded(f"a blob has at most {MAX_BLOB_SIZE} bytes")
        await anyio.to_thread.run_sync(check.add, group, limiter=ctx.workers)
        new_digests = await anyio.to_thread.run_sync(_digests, group, limiter=ctx.workers)
        new_ids = [ctx.keys.chunk_id(scope, digest) for digest in new_digests]
        wanted = [chunk_id for chunk_id in new_ids if chunk_id not in sealed]
        known = await ctx.cache.read(partial(_known, ids=wanted))
        await anyio.to_thread.run_sync(
            _add_unknown, writer, source, new_ids, group, known, sealed, limiter=ctx.workers
        )
        digests += new_digests
        ids += new_ids
        group = await anext(pieces, None)
    check.finish()
    records = await anyio.to_thread.run_sync(writer.finish, limiter=ctx.workers)
    return NewContent(size, content_digest(digests), scope, tuple(ids), packs=tuple(records))


def _digests(group: list[bytes]) -> list[bytes]:
    return [digest_of(raw) for raw in group]


def _known(db: Database, ids: Sequence[ChunkId]) -> dict[ChunkId, ChunkPlaces]:
    numbers = [
        number
        for number in (chunks.find_chunk(db, chunk_id) for chunk_id in ids)
        if number is not None and chunks.is_here(db, number)
    ]
    return {place.id: place for place in chunks.places(db, numbers)}


def _add_unknown(
    writer: PackFileWriter,
    source: ChunkSource,
    ids: Sequence[ChunkId],
    group: Sequence[bytes],
    known: dict[ChunkId, ChunkPlaces],
    sealed: set[ChunkId],
) -> None:
    for chunk_id, raw in zip(ids, group, strict=True):
        if chunk_id in sealed or (chunk_id in known and _verifies(source, known[chunk_id])):
            continue
        writer.add(chunk_id, raw)
        sealed.add(chunk_id)


def _verifies(source: ChunkSource, place: ChunkPlaces) -> bool:
    """A put must not be acknowledged on damaged bytes: what is here already is read before it counts."""
    try:
        source.read(place)
    except (CacheDamaged, SourceChanged):
        return False
    return True


def _for_scope(content: NewContent, wanted: Scope | None) -> NewContent:
    if wanted is not None and content.scope != wanted:
        raise SourceChanged(
            "the blob was replaced by one of another dedup scope meanwhile", todo="put it again"
        )
    return content


# Sources: lists of chunks, each of 1 MiB but the last ------------------------------------------


@asynccontextmanager
async def _pieces(ctx: Context, source: Source) -> AsyncIterator[AsyncIterator[list[bytes]]]:
    if isinstance(source, Path):
        file = await anyio.to_thread.run_sync(_open, source, limiter=ctx.workers)
        pieces = _file_pieces(ctx, file, source)
        try:
            yield pieces
        finally:
            await pieces.aclose()
            file.close()
    else:
        if isinstance(source, bytes | bytearray | memoryview):
            stream = _bytes_pieces(memoryview(source).cast("B"))
        else:
            stream = _stream_pieces(source)
        try:
            yield stream
        finally:
            await stream.aclose()


async def _bytes_pieces(data: memoryview) -> AsyncGenerator[list[bytes], None]:
    step = READ_CHUNKS * CHUNK_SIZE
    for start in range(0, len(data), step):
        part = data[start : start + step]
        yield [bytes(part[i : i + CHUNK_SIZE]) for i in range(0, len(part), CHUNK_SIZE)]


async def _file_pieces(ctx: Context, file: BinaryIO, path: Path) -> AsyncGenerator[list[bytes], None]:
    before = os.fstat(file.fileno())
    total = 0
    while group := await anyio.to_thread.run_sync(_read_group, file, path, limiter=ctx.workers):
        total += sum(map(len, group))
        yield group
        if len(group[-1]) < CHUNK_SIZE:
            break
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or total != after.st_size:
        raise SourceChanged(f"{str(path)!r} changed while it was read")


async def _stream_pieces(stream: AsyncIterable[bytes]) -> AsyncGenerator[list[bytes], None]:
    step = READ_CHUNKS * CHUNK_SIZE
    pending = bytearray()
    async for piece in stream:
        pending += piece
        while len(pending) >= step:
            yield [bytes(pending[i : i + CHUNK_SIZE]) for i in range(0, step, CHUNK_SIZE)]
            del pending[:step]
    if pending:
        yield [bytes(pending[i : i + CHUNK_SIZE]) for i in range(0, len(pending), CHUNK_SIZE)]


def _open(path: Path) -> BinaryIO:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise SourceChanged(
                f"{str(path)!r} is not a regular file", todo="give a file, or pipe the content in"
            )
        return path.open("rb")
    except OSError as exc:
        raise SourceChanged(f"{str(path)!r} cannot be read: {exc.strerror}", todo="check the path") from exc


def _read_group(file: BinaryIO, path: Path) -> list[bytes]:
    group: list[bytes] = []
    try:
        while len(group) < READ_CHUNKS:
            raw = file.read(CHUNK_SIZE)
            if not raw:
                break
            group.append(raw)
            if len(raw) < CHUNK_SIZE:
                break
    except OSError as exc:
        raise SourceChanged(f"{str(path)!r} cannot be read: {exc.strerror}") from exc
    return group

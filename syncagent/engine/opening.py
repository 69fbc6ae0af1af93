"""What was fetched of a pack is opened, and every chunk of it verified by its id, before anything is kept."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from syncagent.cache import blobs, downloads
from syncagent.cache.chunks import batched
from syncagent.cache.downloads import StoredChunk
from syncagent.cache.packfiles import PackFiles, store_pack_file
from syncagent.crypto.chunk import verify_chunk
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.pack import ChunkCompressor, PackCutter, PackOpener, check_pack
from syncagent.engine.context import Context
from syncagent.engine.plan import PackFetch
from syncagent.errors import Tampered
from syncagent.model import ChunkId, PackId, PackRecord

_VERSIONS_AT_ONCE = 64

Scopes = Mapping[int, Sequence[bytes]]
"""By chunk, the scopes that it may be of, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Verified content: to be kept as rows, or in pack files that are durable already.

    `scopes` has, by chunk, the scope of those that are not of the likeliest one.
    """

    rows: Sequence[StoredChunk]
    files: Sequence[PackRecord]
    scopes: Mapping[int, bytes] = field(default_factory=dict)


async def claimed_scopes(
    ctx: Context, fetch: PackFetch, tried: Mapping[int, bytes], *, background: bool
) -> Scopes | None:
    """The scopes that versions give for the chunks of a fetch; None if they are those that were tried.

    The cache keeps the first that was given. A faulty device may have named another's chunks before their own
    device was heard, with a scope that is not theirs; what its version says must not spoil the others.
    """
    numbers = [chunk.chunk_no for chunk in fetch.chunks]
    naming = await ctx.cache.read(partial(downloads.naming, chunks=numbers), background=background)
    scope_of: dict[int, bytes] = {}
    for part in batched({one for some in naming.values() for one in some}, _VERSIONS_AT_ONCE):
        found = await ctx.cache.read(partial(blobs.load_versions, versions=part), background=background)
        scope_of |= {number: version.scope for number, version in found.items()}
    claimed = {
        chunk: list(dict.fromkeys([tried[chunk], *(scope_of[v] for v in naming[chunk] if v in scope_of)]))
        for chunk in numbers
    }
    return claimed if any(len(scopes) > 1 for scopes in claimed.values()) else None


def open_pack(
    ctx: Context,
    record: PackRecord,
    fetch: PackFetch,
    scopes: Scopes,
    bodies: Sequence[bytes],
    keeps: bool,
) -> Opened:
    """Open and verify the wanted chunks. On a worker thread.

    Raises:
        OpenError: the pack, or a chunk in it, is not what the journal says.
    """
    if fetch.is_whole:
        check_pack(record, bodies[0])
    opener = PackOpener(ctx.keys, record)
    views = [memoryview(body) for body in bodies]
    others: dict[int, bytes] = {}

    def contents() -> Iterable[tuple[int, ChunkId, bytes]]:
        spans = iter(zip(fetch.ranges, views, strict=True))
        span, view = next(spans)
        for chunk in fetch.chunks:
            while chunk.offset >= span.stop:
                span, view = next(spans)
            start = chunk.offset - span.start
            content = opener.open(chunk.position, view[start : start + chunk.stored_length])
            chunk_id = ChunkId(record.chunks[chunk.position].id)
            likely = scopes[chunk.chunk_no]
            scope = _scope_of(ctx.keys, likely, chunk_id, content)
            if scope != likely[0]:
                others[chunk.chunk_no] = scope
            yield chunk.chunk_no, chunk_id, content

    if not (fetch.is_large and keeps):
        return Opened([StoredChunk(number, content) for number, _, content in contents()], (), others)
    if fetch.is_whole:
        for _ in contents():
            pass  # every wanted chunk verifies before the file counts
        store_pack_file(ctx.profile.packs, PackId(record.id), bodies[0])
        return Opened((), (record,), others)
    compressor, cutter = ChunkCompressor(), PackCutter()
    records = []
    with PackFiles(ctx.profile.packs, ctx.keys) as files:
        for _, chunk_id, content in contents():
            if pack := cutter.add(compressor.compact(chunk_id, content)):
                records.append(files.write(pack))
        if pack := cutter.rest():
            records.append(files.write(pack))
        files.keep()
    return Opened((), records, others)


def _scope_of(keys: VaultKeys, scopes: Sequence[bytes], chunk_id: ChunkId, content: bytes) -> bytes:
    """The one of some scopes in which content is what its id says. Raises `Tampered`."""
    for scope in scopes[:-1]:
        with contextlib.suppress(Tampered):
            verify_chunk(keys, scope, chunk_id, content)
            return scope
    verify_chunk(keys, scopes[-1], chunk_id, content)
    return scopes[-1]

"""Large content into pack files: hashed and compressed in order, sealed and written side by side.

    groups of chunks from the source            (sources.py)
    → digests and ids; which chunks are here already
    → the others compressed, and cut into packs
    → each pack sealed, written, fsynced        (several at once, while the next is being filled)

Memory is bounded by the packs under way in the whole vault (`Context.packs`), the
group that is read and the pack that is filled.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from syncagent.cache import chunks
from syncagent.cache.chunks import ChunkPlaces, ChunkSource
from syncagent.cache.db import Database
from syncagent.cache.packfiles import PackFiles
from syncagent.crypto.chunk import content_digest, digest_of
from syncagent.crypto.pack import ChunkCompressor, CompactChunk, PackCutter
from syncagent.engine.context import Context
from syncagent.engine.expected import ContentCheck
from syncagent.engine.sources import ChunkGroup
from syncagent.engine.storing import NewContent
from syncagent.errors import CacheDamaged, LimitExceeded, SourceChanged
from syncagent.model import MAX_BLOB_SIZE, ChunkId, PackRecord, Scope


class ContentSealer:
    """Seals the content of one put, group by group, into pack files that `tasks` writes.

    What is here already is not sealed, if it `relies` on it; else it is sealed apart, into packs to spare.
    Use `add` and `finish` inside `tasks`, and `content` after it.
    """

    def __init__(
        self,
        ctx: Context,
        scope: Scope,
        files: PackFiles,
        check: ContentCheck,
        tasks: TaskGroup,
        *,
        relies: bool,
    ) -> None:
        self._ctx = ctx
        self._scope = scope
        self._files = files
        self._check = check
        self._tasks = tasks
        self._source = ChunkSource(ctx.keys, ctx.profile.packs)
        self._compressor = ChunkCompressor()
        self._relies = relies
        self._cutter = PackCutter()
        self._spare_cutter = PackCutter()
        self._size = 0
        self._digests: list[bytes] = []
        self._ids: list[ChunkId] = []
        self._new: set[ChunkId] = set()
        self._records: list[PackRecord | None] = []
        self._spare: set[int] = set()

    async def add(self, group: ChunkGroup) -> None:
        """Take the next chunks; returns when there is room for others."""
        ctx = self._ctx
        self._size += sum(map(len, group))
        if self._size > MAX_BLOB_SIZE:
            raise LimitExceeded(f"a blob has at most {MAX_BLOB_SIZE} bytes")
        digests = await anyio.to_thread.run_sync(_digests, self._check, group, limiter=ctx.workers)
        ids = [ctx.keys.chunk_id(self._scope, digest) for digest in digests]
        unsealed = [chunk_id for chunk_id in ids if chunk_id not in self._new]
        known = await ctx.cache.read(partial(_known, ids=unsealed))
        packs = await anyio.to_thread.run_sync(self._compact, ids, group, known, limiter=ctx.workers)
        self._digests += digests
        self._ids += ids
        for pack in packs:
            await self._begin(pack)

    async def finish(self) -> None:
        """There are no more chunks."""
        self._check.finish()
        for cutter in (self._cutter, self._spare_cutter):
            if pack := cutter.rest():
                await self._begin(_Pack(pack, cutter is self._spare_cutter))

    def content(self) -> NewContent:
        """What was sealed, once every pack is written. Its files are still to be kept."""
        records = [record for record in self._records if record is not None]
        assert len(records) == len(self._records)
        return NewContent(
            self._size,
            content_digest(self._digests),
            self._scope,
            tuple(self._ids),
            tuple(self._digests),
            packs=tuple(record for i, record in enumerate(records) if i not in self._spare),
            spare=tuple(record for i, record in enumerate(records) if i in self._spare),
        )

    def _compact(
        self, ids: Sequence[ChunkId], group: ChunkGroup, known: dict[ChunkId, ChunkPlaces]
    ) -> "list[_Pack]":
        """Leave out, or set apart, what is here already; the packs that are full. On a worker thread."""
        packs: list[_Pack] = []
        for chunk_id, raw in zip(ids, group, strict=True):
            if chunk_id in self._new:
                continue
            is_here = chunk_id in known and _verifies(self._source, known[chunk_id])
            if is_here and self._relies:
                continue
            self._new.add(chunk_id)
            cutter = self._spare_cutter if is_here else self._cutter
            if pack := cutter.add(self._compressor.compact(chunk_id, raw)):
                packs.append(_Pack(pack, is_here))
        return packs

    async def _begin(self, pack: "_Pack") -> None:
        if pack.is_spare:
            self._spare.add(len(self._records))
        self._records.append(None)
        await self._tasks.start(self._write, len(self._records) - 1, pack.chunks)

    async def _write(
        self, number: int, pack: Sequence[CompactChunk], *, task_status: TaskStatus[None]
    ) -> None:
        async with self._ctx.packs:
            task_status.started()  # here, so that the next pack is not filled before there is room for it
            # A thread of its own: `Context.packs` bounds these, and who waits for a slow disk must not
            # keep those from working who read.
            own = anyio.CapacityLimiter(1)
            self._records[number] = await anyio.to_thread.run_sync(self._files.write, pack, limiter=own)


@dataclass(frozen=True, slots=True)
class _Pack:
    chunks: Sequence[CompactChunk]
    is_spare: bool


def _digests(check: ContentCheck, group: ChunkGroup) -> list[bytes]:
    check.add(group)
    return [digest_of(raw) for raw in group]


def _known(db: Database, ids: Iterable[ChunkId]) -> dict[ChunkId, ChunkPlaces]:
    numbers = [
        number
        for number in (chunks.find_chunk(db, chunk_id) for chunk_id in ids)
        if number is not None and chunks.is_here(db, number)
    ]
    return {place.id: place for place in chunks.places(db, numbers)}


def _verifies(source: ChunkSource, place: ChunkPlaces) -> bool:
    """A put must not be acknowledged on damaged bytes: what is here already is read before it counts."""
    try:
        source.read(place)
    except (CacheDamaged, SourceChanged):
        return False
    return True

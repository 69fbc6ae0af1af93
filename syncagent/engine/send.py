"""Send-missing: packs first, then the batches that name them.

    fold what was superseded before it was sent
    → find chunks the remote does not hold                              (proof.py)
    → group them into packs                                             (plan.py)
    → seal, PUT, and record each pack on its own                        (a crash repeats those in flight)
    → publish every version whose content is there                      (publish.py)

A failure of one blob or pack is counted for the blobs in it; the others go on.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import anyio.to_thread

from syncagent import names
from syncagent.cache import chunks, outbox, sendable, stalled
from syncagent.cache.chunks import ChunkPlaces, ChunkSource, batched
from syncagent.cache.packfiles import read_pack_file
from syncagent.cache.sendable import START, Position, UnsentChunk
from syncagent.crypto.pack import PACK_MAX, ChunkCompressor, PackSealer, SealedPack, check_pack
from syncagent.engine.context import Context
from syncagent.engine.gate import TransferGate
from syncagent.engine.plan import PackPlan, plan_packs, split
from syncagent.engine.proof import Lookout
from syncagent.engine.publish import Publisher, fail_versions, fold
from syncagent.engine.report import Meter, Tally
from syncagent.engine.tasks import run_together
from syncagent.engine.trouble import FailsAlone, Trouble
from syncagent.errors import (
    CacheDamaged,
    ObjectError,
    ObjectExists,
    ObjectNotFound,
    OpenError,
    SourceChanged,
    SyncAgentError,
    TransientRemoteError,
)
from syncagent.model import ChunkId, PackId, PackRecord
from syncagent.remote.base import Remote

CHUNKS_A_ROUND = 20_000
"""Chunks planned together: some 1 MiB of rows, and at least five packs of small blobs."""
CHUNKS_A_READ = 500
"""Chunks, and rows of the queue, looked at in one go: about 3 ms."""
PACKS_A_ROUND = 16
"""Packs between two batches: about 128 MiB, so that receivers can begin while a long send runs."""
ROWS_AT_ONCE = 64
"""Chunks read from the cache in one go: about 2 ms of small ones, for which a put waits."""
SEALERS = 1
"""Threads that seal small chunks. More of them, and the cache's, only wait for each other's interpreter:
a sync of 10,000 blobs took 1.4 s with one thread and 1.6 s with two."""
OLD_PUT_MS = 7 * 24 * 3600 * 1000
"""A pack that was PUT longer ago than this is looked for before a batch names it."""


class Sender:
    """One send-missing. Use `run` once."""

    def __init__(
        self,
        ctx: Context,
        remote: Remote,
        gate: TransferGate,
        tally: Tally,
        meter: Meter,
        *,
        seen_since_ms: int,
        namespace: int | None = None,
    ) -> None:
        self._ctx = ctx
        self._remote = remote
        self._gate = gate
        self._tally = tally
        self._meter = meter
        self._namespace = namespace
        self._publisher = Publisher(ctx, remote, tally, namespace, seen_since_ms)
        self._seen_since_ms = seen_since_ms
        self._sealers = anyio.CapacityLimiter(SEALERS)
        self._trouble = Trouble(remote)
        self._lookout = Lookout(ctx, remote, tally)
        self._failed: set[int] = set()
        self._stalled: set[int] = set()
        self._aside: list[_Aside] = []

    async def run(self) -> None:
        """Send everything that is due.

        Raises:
            RemoteError: the remote as a whole fails; what was sent is recorded.
            FailsAlone: nothing can be published, though the remote answers; all packs were sent.
        """
        later = await self._ctx.cache.read(partial(stalled.load, direction=stalled.UPLOAD))
        try:
            await self._publisher.resume(self._lookout)  # the outbox first: nothing may overtake it
            await fold(self._ctx)
            await self._forget_old_packs()
            self._failed |= later
            await self._send_packs()
            if later:
                await self._publisher.flush()  # before those are tried that may end the sync again
                self._failed -= later
                await self._send_packs()
            await self._publisher.flush()
            self._trouble.check()
            if self._publisher.stuck is not None:  # with a pack set aside it may be the remote's, of all puts
                raise FailsAlone(self._publisher.stuck)
            for aside in self._aside:
                await fail_versions(self._ctx, aside.versions, aside.error, self._tally)
            await self._note_stalled(later, set())
        except TransientRemoteError:
            await self._note_stalled(later, later | self._stalled)
            raise
        finally:
            self._tally.sent += self._publisher.published
            self._tally.sent_bytes += self._publisher.sent_bytes
            self._meter.finish()

    async def _note_stalled(self, before: set[int], now: set[int]) -> None:
        if now != before:
            await self._ctx.cache.write(
                partial(stalled.store, direction=stalled.UPLOAD, versions=now), background=True
            )

    async def _send_packs(self) -> None:
        """Once through the queue: what is put meanwhile may wait for the next sync, or this one never ends.

        Once more after a failure: what failed may have been to bring a chunk that others need too.
        """
        failed = -1
        while failed < len(self._failed):
            failed = len(self._failed)
            after: Position | None = START
            while after is not None:
                plans = await self._plan(after)
                for part in batched(plans.packs, PACKS_A_ROUND):
                    jobs = [partial(self._send_and_offer, plan, plans.chunks) for plan in part]
                    await run_together([*jobs, self._publisher.flush_offered])
                after = plans.next

    async def _plan(self, after: Position) -> "_Round":
        unsent: dict[int, UnsentChunk] = {}
        position: Position | None = after
        while position is not None and len(unsent) < CHUNKS_A_ROUND:
            page = await self._ctx.cache.read(
                partial(
                    sendable.unsent_chunks,
                    now_ms=self._ctx.now_ms(),
                    limit=CHUNKS_A_READ,
                    namespace=self._namespace,
                    after=position,
                    seen_since_ms=self._seen_since_ms,
                ),
                background=True,
            )
            for chunk in page.chunks:
                # What has failed in this run waits for the next one, whatever the clock says meanwhile.
                if chunk.version_no not in self._failed:
                    unsent.setdefault(chunk.chunk_no, chunk)
            position = page.next
        for number in await self._lookout.find([no for no, chunk in unsent.items() if chunk.is_named]):
            del unsent[number]
        planned = [
            replace(chunk, pack_no=None) if chunk.pack_no in self._lookout.altered else chunk
            for chunk in unsent.values()
        ]
        # Not on the event loop: twenty thousand chunks take 8 ms.
        packs = await anyio.to_thread.run_sync(plan_packs, planned, limiter=self._ctx.workers)
        if packs:
            self._meter.expect(len({chunk.version_no for chunk in planned}), sum(p.size_bytes for p in packs))
        return _Round(planned, packs, position)

    async def _send_and_offer(self, plan: PackPlan, unsent: Sequence[UnsentChunk]) -> None:
        await self._send(plan, unsent)
        await self._publisher.offer(plan.versions)

    async def _send(self, plan: PackPlan, unsent: Sequence[UnsentChunk]) -> None:
        try:
            async with self._gate.transfer(min(plan.size_bytes + (64 << 10), PACK_MAX)):
                sealed = await self._sealed(plan)
                if sealed is None:
                    return
                await self._put(sealed)
            await self._ctx.cache.write(
                partial(
                    chunks.record_pack,
                    record=sealed.record,
                    is_remote=True,
                    has_file=plan.file_no is not None,
                    put_at_ms=self._ctx.now_ms(),
                    seen_at_ms=self._ctx.now_ms(),
                ),
                background=True,
            )
            self._tally.sent_bytes += len(sealed.data)
            self._meter.advance(len(plan.versions), plan.size_bytes)
        except CacheDamaged as exc:
            await self._fail(plan.versions, exc)
        except TransientRemoteError:
            if self._trouble.has_given_up:
                self._stalled.update(plan.versions)
            raise
        except (ObjectError, FailsAlone) as exc:
            if isinstance(exc, FailsAlone):
                self._stalled.update(plan.versions)
            halves = split(plan, unsent)
            for half in halves:
                await self._send(half, unsent)
            if halves:
                return
            if isinstance(exc, ObjectError):
                await self._fail(plan.versions, exc)
            else:
                self._failed.update(plan.versions)  # counted at the end, when it is known whose fault it is
                self._aside.append(_Aside(plan.versions, exc.cause))

    async def _put(self, sealed: SealedPack) -> None:
        name = names.pack_object(sealed.record.id)
        with contextlib.suppress(ObjectExists):  # its name is its hash: whoever put it put these bytes
            await self._trouble.attempt(lambda: self._remote.put(name, sealed.data))

    async def _sealed(self, plan: PackPlan) -> SealedPack | None:
        """The pack's bytes, or None when none of its chunks can be read."""
        ctx = self._ctx
        if plan.file_no is not None:
            record = await ctx.cache.read(partial(chunks.load_record, pack=plan.file_no), background=True)
            return await anyio.to_thread.run_sync(_read_file, ctx, record, limiter=ctx.workers)
        sealing = _Sealing(PackSealer(ctx.keys), ChunkSource(ctx.keys, ctx.profile.packs))
        sealing.parts.append(sealing.sealer.header())
        for part in batched(plan.chunks, ROWS_AT_ONCE):
            try:
                found = await ctx.cache.read(partial(chunks.places, chunks=part), background=True)
            except CacheDamaged:
                found = await self._one_by_one(part, sealing)
            await anyio.to_thread.run_sync(_seal_some, sealing, found, limiter=self._sealers)
        if sealing.unreadable:
            await self._fail_chunks(sealing.unreadable)
        if not sealing.sealer.count:
            return None
        return await anyio.to_thread.run_sync(_finish, sealing, limiter=self._sealers)

    async def _one_by_one(self, part: Sequence[int], sealing: "_Sealing") -> list[ChunkPlaces]:
        """After a damaged page: every chunk alone, so that only the damaged one is left out."""
        found: list[ChunkPlaces] = []
        for number in part:
            try:
                found += await self._ctx.cache.read(partial(chunks.places, chunks=[number]), background=True)
            except CacheDamaged as exc:
                sealing.unreadable[number] = exc
        return found

    async def _fail_chunks(self, unreadable: dict[int, SyncAgentError]) -> None:
        for number, error in unreadable.items():
            versions = await self._ctx.cache.read(partial(outbox.pending_with_chunk, chunk=number))
            await self._fail(versions, error)

    async def _fail(self, versions: Sequence[int], error: SyncAgentError) -> None:
        self._failed.update(versions)
        await fail_versions(self._ctx, versions, error, self._tally)

    async def _forget_old_packs(self) -> None:
        """Packs that were PUT long ago and never named may have been collected: look before naming them."""
        old = await self._ctx.cache.read(
            partial(outbox.unannounced_before, before_ms=self._ctx.now_ms() - OLD_PUT_MS)
        )
        for number, pack_id in old:
            try:
                await self._remote.head(names.pack_object(pack_id))
            except ObjectNotFound:
                await self._ctx.cache.write(partial(outbox.forget_put, pack=number))


@dataclass(frozen=True, slots=True)
class _Aside:
    """Blobs whose pack fails while the remote answers otherwise."""

    versions: Sequence[int]
    error: SyncAgentError


@dataclass(frozen=True, slots=True)
class _Round:
    chunks: Sequence[UnsentChunk]
    packs: Sequence[PackPlan]
    next: Position | None


@dataclass(slots=True)
class _Sealing:
    """A pack being sealed in memory."""

    sealer: PackSealer
    source: ChunkSource
    compressor: ChunkCompressor = field(default_factory=ChunkCompressor)
    parts: list[bytes] = field(default_factory=list)
    unreadable: dict[int, SyncAgentError] = field(default_factory=dict)


def _seal_some(sealing: _Sealing, found: Sequence[ChunkPlaces]) -> None:
    contents: list[tuple[ChunkId, bytes]] = []
    for place in found:
        try:
            contents.append((place.id, sealing.source.read(place)))
        except (CacheDamaged, SourceChanged) as exc:
            sealing.unreadable[place.no] = exc
    sealing.parts += [
        sealing.sealer.seal_compact(chunk) for chunk in sealing.compressor.compact_many(contents)
    ]


def _finish(sealing: _Sealing) -> SealedPack:
    sealing.parts.append(sealing.sealer.finish())
    return SealedPack(b"".join(sealing.parts), sealing.sealer.record())


def _read_file(ctx: Context, record: PackRecord) -> SealedPack:
    data = read_pack_file(ctx.profile.packs, PackId(record.id), 0, record.size)
    try:
        check_pack(record, data)
    except OpenError as exc:
        raise CacheDamaged(f"pack file {record.id.hex()[:16]}… does not verify: {exc}") from exc
    return SealedPack(data, record)

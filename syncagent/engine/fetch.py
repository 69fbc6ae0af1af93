"""Fetch-missing: content that is wanted here, from the packs that hold it.

    wanted versions → their missing chunks → a pack for each            (plan.py)
    → the whole pack when at least half of it is wanted, else ranges
    → open, verify by chunk id → rows for small blobs, pack files for large
    → versions whose content is complete are settled

Chunks are kept as they come, so an interrupted fetch resumes where it was. A
pack that does not verify or is not there is left for another that holds the
chunk; only when none is left does the blob fail.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from syncagent import names
from syncagent.cache import chunks, downloads, stalled, there
from syncagent.cache.chunks import SQL_VARIABLES, batched
from syncagent.cache.db import Database
from syncagent.cache.downloads import MissingChunk, RemotePlace, StoredChunk
from syncagent.cache.packfiles import pack_path
from syncagent.engine.apply import alarm
from syncagent.engine.backoff import blob_delay_s
from syncagent.engine.context import Context
from syncagent.engine.gate import TransferGate
from syncagent.engine.opening import Opened, Scopes, claimed_scopes, open_pack
from syncagent.engine.plan import PART_SHARE, ByteRange, FetchPlan, PackFetch, plan_fetch
from syncagent.engine.report import Meter, Tally
from syncagent.engine.tasks import run_together
from syncagent.engine.trouble import FailsAlone, Trouble
from syncagent.errors import (
    BadResponse,
    ObjectError,
    ObjectNotFound,
    OpenError,
    SyncAgentError,
    TooNew,
    TransientRemoteError,
    Withheld,
)
from syncagent.model import MAX_RETRIES, PackRecord
from syncagent.remote.base import Remote

VERSIONS_A_ROUND = 4096
STORE_BYTES = 1 << 20
STORE_ROWS = 64
"""Rows of one background transaction: under 5 ms, so that an interactive put does not wait longer."""


class Fetcher:
    """Fetches content. `run` takes what is queued, `fetch` what it is told."""

    def __init__(
        self,
        ctx: Context,
        remote: Remote,
        gate: TransferGate,
        tally: Tally,
        meter: Meter,
        *,
        namespace: int | None = None,
        interactive: bool = False,
        part: "Part | None" = None,
    ) -> None:
        self._ctx = ctx
        self._remote = remote
        self._gate = gate
        self._tally = tally
        self._meter = meter
        self._namespace = namespace
        self._interactive = interactive
        self._part = part
        # Small chunks one pack at a time: several threads that open them would mostly wait for each other.
        self._small_opening = anyio.CapacityLimiter(1)
        self._trouble = Trouble(remote)
        self._bad_packs: dict[int, SyncAgentError] = {}
        self._tried: set[int] = set()
        self._stalled: set[int] = set()
        self._settled: set[int] = set()
        self.causes: dict[int, SyncAgentError] = {}
        """Why each version that could not be fetched could not."""

    async def run(self) -> None:
        """Fetch everything that is due.

        Raises:
            RemoteError: the remote as a whole fails; what has come is kept.
            CacheFull: the disk is full; what has come is kept.
        """
        later = await self._ctx.cache.read(partial(stalled.load, direction=stalled.DOWNLOAD))
        try:
            self._tried |= later
            await self._fetch_due()
            if later:
                self._tried -= later
                await self._fetch_due()
            await self._note_stalled(later, set())
        except TransientRemoteError:
            await self._note_stalled(later, later | self._stalled)
            raise
        finally:
            self._meter.finish()

    async def _note_stalled(self, before: set[int], now: set[int]) -> None:
        if now != before:
            await self._ctx.cache.write(
                partial(stalled.store, direction=stalled.DOWNLOAD, versions=now), background=True
            )

    async def _fetch_due(self) -> None:
        while True:
            due = await self._ctx.cache.read(
                partial(
                    downloads.due,
                    now_ms=self._ctx.now_ms(),
                    limit=VERSIONS_A_ROUND + len(self._tried),
                    namespace=self._namespace,
                ),
                background=True,
            )
            versions = [version for version in due if version not in self._tried]
            if not versions:
                return
            await self.fetch(versions)

    async def fetch(self, versions: Sequence[int]) -> None:
        """Fetch these versions, whatever their time; those that fail are noted for a later try."""
        self._tried.update(versions)
        is_first = True
        while True:
            plan = await self._plan(versions)
            if is_first:
                self._meter.expect(len(versions), sum(fetch.size_bytes for fetch in plan.fetches))
                is_first = False
            bad_before = len(self._bad_packs)
            await run_together(partial(self._fetch_pack, fetch) for fetch in plan.fetches)
            if len(self._bad_packs) == bad_before:
                break  # else plan anew, without the packs that have just failed
        for some in batched(versions, STORE_ROWS) if self._part is None or self._part.keeps else ():
            # Most were settled with their content; not those whose chunks another has brought.
            if left := [v for v in some if v not in plan.unplaced and v not in self._settled]:
                settle = partial(downloads.settle, versions=left)
                self._note_settled(await self._ctx.cache.write(settle, background=not self._interactive))
        if plan.unplaced:
            self._trouble.check()
            await self._fail(sorted(plan.unplaced))

    async def _plan(self, versions: Sequence[int]) -> FetchPlan:
        if self._part is not None:
            return await self._plan_part(self._part)
        missing: list[MissingChunk] = []
        places: list[RemotePlace] = []
        for part in batched(versions, SQL_VARIABLES):
            lacking = await self._ctx.cache.read(
                partial(downloads.missing_chunks, versions=part), background=not self._interactive
            )
            missing += lacking
            places += await self._ctx.cache.read(
                partial(downloads.remote_places, chunks=[chunk.chunk_no for chunk in lacking]),
                background=not self._interactive,
            )
        bad_packs = frozenset(self._bad_packs)
        # Not on the event loop: four thousand versions take 12 ms.
        return await anyio.to_thread.run_sync(
            plan_fetch, missing, places, bad_packs, limiter=self._ctx.workers
        )

    async def _plan_part(self, part: "Part") -> FetchPlan:
        read = self._ctx.cache.read
        missing = await read(
            partial(
                downloads.missing_part,
                version=part.version_no,
                first=part.chunks.start,
                stop=part.chunks.stop,
            )
        )
        # What is not kept is still missing here when the rest is planned anew.
        missing = [chunk for chunk in missing if chunk.chunk_no not in part.taken]
        places = await read(partial(downloads.remote_places, chunks=[chunk.chunk_no for chunk in missing]))
        return plan_fetch(missing, places, frozenset(self._bad_packs), PART_SHARE)

    def _note_settled(self, versions: Sequence[int]) -> None:
        self._settled.update(versions)
        self._tally.fetched += len(versions)
        self._meter.advance(len(versions), 0)

    async def _fetch_pack(self, fetch: PackFetch) -> None:
        ctx = self._ctx
        record = await ctx.cache.read(
            partial(chunks.load_record, pack=fetch.pack_no), background=not self._interactive
        )
        scopes = await ctx.cache.read(
            partial(downloads.scopes, chunks=[chunk.chunk_no for chunk in fetch.chunks]),
            background=not self._interactive,
        )
        try:
            async with self._gate.transfer(fetch.size_bytes, interactive=self._interactive):
                bodies = [await self._get(record, span) for span in fetch.ranges]
                try:
                    opened = await self._open(
                        record, fetch, {no: [one] for no, one in scopes.items()}, bodies
                    )
                except OpenError:
                    claimed = await claimed_scopes(ctx, fetch, scopes, background=not self._interactive)
                    if claimed is None:
                        raise
                    opened = await self._open(record, fetch, claimed, bodies)
                del bodies
                if self._part is not None and not self._part.keeps:
                    self._part.taken.update((row.chunk_no, row.content) for row in opened.rows)
                else:
                    await self._store(fetch, opened)
        except TransientRemoteError:
            if self._trouble.has_given_up:
                self._stalled.update(chunk.version_no for chunk in fetch.chunks)
            raise
        except FailsAlone as exc:
            self._stalled.update(chunk.version_no for chunk in fetch.chunks)
            self._bad_packs[fetch.pack_no] = exc.cause
            return
        except (OpenError, ObjectError, TooNew) as exc:
            await self._note_bad_pack(fetch.pack_no, record, exc)
            return
        size = sum(span.stop - span.start for span in fetch.ranges)
        self._tally.fetched_bytes += size
        self._meter.advance(0, size)

    async def _get(self, record: PackRecord, span: ByteRange) -> bytes:
        name = names.pack_object(record.id)
        data = await self._trouble.attempt(lambda: self._remote.get(name, span.start, span.stop))
        if len(data) != span.stop - span.start:
            raise BadResponse(
                f"pack {record.id.hex()} ends after {span.start + len(data)} of {record.size} bytes"
            )
        return data

    async def _open(
        self, record: PackRecord, fetch: PackFetch, scopes: Scopes, bodies: Sequence[bytes]
    ) -> Opened:
        return await anyio.to_thread.run_sync(
            open_pack,
            *(self._ctx, record, fetch, scopes, bodies, self._part is None or self._part.keeps),
            limiter=self._ctx.workers if fetch.is_large else self._small_opening,
        )

    async def _store(self, fetch: PackFetch, opened: Opened) -> None:
        ctx = self._ctx
        waiting = {chunk.chunk_no: chunk.version_no for chunk in fetch.chunks}
        given = partial(there.note_given, pack=fetch.pack_no, now_ms=ctx.now_ms())
        if opened.scopes:
            await ctx.cache.write(
                partial(downloads.set_scopes, proven=opened.scopes), background=not self._interactive
            )
        for record in opened.files:
            await ctx.cache.write(
                partial(_record_file, record=record, folder=ctx.profile.packs, given=given),
                background=not self._interactive,
            )
        for part in _portions(opened.rows):
            operation = partial(
                _store_and_settle,
                chunks=part,
                versions=[waiting[row.chunk_no] for row in part],
                given=given,
            )
            self._note_settled(await ctx.cache.write(operation, background=not self._interactive))

    async def _note_bad_pack(self, pack_no: int, record: PackRecord, exc: SyncAgentError) -> None:
        name = names.pack_object(record.id)
        error: SyncAgentError = exc
        if isinstance(exc, ObjectNotFound):
            # A batch names it, so it was there: the remote hides it, or has lost it.
            error = Withheld(f"pack {record.id.hex()} is named by a journal and not given")
        self._bad_packs[pack_no] = error
        self._tally.alarms.append(alarm(error, name))
        is_altered = isinstance(exc, OpenError | TooNew)
        await self._ctx.cache.write(
            partial(there.note_missed, pack=pack_no, is_altered=is_altered), background=not self._interactive
        )

    async def _fail(self, versions: Sequence[int]) -> None:
        """Nothing usable holds some chunk of these versions: say why, and when they are tried again."""
        ctx = self._ctx
        for version in versions:
            error = self.causes[version] = await self._cause(version)
            is_altered = isinstance(error, OpenError | TooNew)
            is_withheld = isinstance(error, Withheld)
            failures = 1 + await ctx.cache.read(partial(downloads.retries_of, version=version))
            # What is withheld is asked for again by the next sync: the remote may only be slow.
            delay_s = 0.0 if is_withheld else blob_delay_s(failures, ctx.random(), MAX_RETRIES)
            text = f"{type(error).__name__}: {error}"
            await ctx.cache.write(
                partial(
                    downloads.fail,
                    versions=[version],
                    error=text,
                    next_attempt_at=ctx.now_ms() + int(delay_s * 1000),
                    is_counted=not is_withheld,
                    is_final=is_altered,
                    max_retries=MAX_RETRIES,
                ),
                background=True,
            )
            for namespace, blob_id in await ctx.cache.read(partial(downloads.blob_names, versions=[version])):
                self._tally.fail(namespace, blob_id, "download", text)

    async def _cause(self, version: int) -> SyncAgentError:
        packs = await self._ctx.cache.read(partial(downloads.packs_of_missing, version=version))
        causes = [self._bad_packs[pack] for pack in packs if pack in self._bad_packs]
        for kind in (OpenError, TooNew, ObjectError, Withheld, TransientRemoteError):
            for cause in causes:
                if isinstance(cause, kind):
                    return cause
        return Withheld("no journal read so far names a pack that holds its content")


@dataclass(slots=True)
class Part:
    """Some chunks of one version, that somebody reads. What is not to be kept is in `taken`, by number."""

    version_no: int
    chunks: range
    keeps: bool
    taken: dict[int, bytes] = field(default_factory=dict, repr=False)


def _record_file(db: Database, record: PackRecord, folder: Path, given: Callable[[Database], None]) -> None:
    """Remember a file that was written, unless somebody who gave its content up has removed it since."""
    given(db)
    if pack_path(folder, record.id).exists():
        chunks.record_pack(db, record, is_remote=False, has_file=True)


def _store_and_settle(
    db: Database, chunks: Sequence[StoredChunk], versions: Sequence[int], given: Callable[[Database], None]
) -> list[int]:
    """Keep content, and take those of the versions off the queue that it completes; which they are."""
    given(db)
    downloads.store_payloads(db, chunks)
    return downloads.settle(db, versions)


def _portions(rows: Sequence[StoredChunk]) -> Iterable[list[StoredChunk]]:
    part: list[StoredChunk] = []
    size = 0
    for row in rows:
        part.append(row)
        size += len(row.content)
        if len(part) >= STORE_ROWS or size >= STORE_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part

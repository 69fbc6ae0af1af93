"""Batches out: cut, keep in the outbox, PUT, confirm. One batch is in flight at a time.

    transaction 1   rows and packs get the batch's number; the sealed bytes are kept
    PUT             those bytes, again after any crash or lost answer
    transaction 2   the rows are settled

A batch is sealed once. Whatever happens after transaction 1, only these bytes
are ever sent under this number.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import anyio

from syncagent import names
from syncagent.cache import blobs, downloads, journals, meta, outbox, ownbatches, sendable, settings
from syncagent.cache.db import Database
from syncagent.cache.ownbatches import OwnBatch
from syncagent.cache.sendable import START, Position
from syncagent.crypto.sealed import open_object
from syncagent.engine.backoff import blob_delay_s
from syncagent.engine.context import Context
from syncagent.engine.cutting import Author, Cut, cut_batch
from syncagent.engine.heads import fold_pair
from syncagent.engine.proof import Lookout
from syncagent.engine.report import Tally
from syncagent.engine.trouble import FailsAlone, Trouble
from syncagent.errors import (
    CacheDamaged,
    ObjectExists,
    ObjectNotFound,
    RemoteForked,
    SyncAgentError,
    TransientRemoteError,
    Unreachable,
)
from syncagent.journal.changes import MAX_CHANGES
from syncagent.model import MAX_RETRIES
from syncagent.remote.base import Remote

_FOLD_AT_ONCE = 200


class Publisher:
    """Publishes what is ready. Several tasks may ask for it; they take turns.

    What is ready rests on packs that were seen at the remote since `seen_since_ms` (`proof.py`).
    `stuck` is why the remote, which answers otherwise, never takes our next batch; nothing can overtake it.
    """

    def __init__(
        self, ctx: Context, remote: Remote, tally: Tally, namespace: int | None, seen_since_ms: int
    ) -> None:
        self._ctx = ctx
        self._remote = remote
        self._tally = tally
        self._namespace = namespace
        self._seen_since_ms = seen_since_ms
        self._turn = anyio.Lock()
        self._offered: dict[int, None] = {}  # as an ordered set
        self.published = 0
        self.sent_bytes = 0
        self.stuck: TransientRemoteError | None = None

    async def resume(self, lookout: Lookout) -> None:
        """Publish the batch that an interruption left in the outbox, and cut no other; raises as `flush`.

        What the remote has lost of it since waits to be sent once more, with the versions that name it.

        Raises:
            OutboxDamaged: its bytes are lost.
        """
        async with self._turn:
            try:
                batch = await self._ctx.cache.read(ownbatches.unconfirmed_batch)
            except CacheDamaged as exc:
                # Its number may be taken at the remote, and no other bytes may ever go there under it.
                raise OutboxDamaged("a batch of this device, kept to be sent, cannot be read") from exc
            await self._publish(batch, await self._lost(lookout) if batch is not None else ())

    async def _lost(self, lookout: Lookout) -> Sequence[int]:
        """The versions of the batch in the outbox whose content the remote does not hold any more."""
        ctx = self._ctx
        unseen = await ctx.cache.read(
            partial(sendable.unseen_in_outbox, now_ms=ctx.now_ms(), seen_since_ms=self._seen_since_ms)
        )
        found = await lookout.find(list({one.chunk_no for one in unseen}))
        return sorted({one.version_no for one in unseen if one.chunk_no not in found})

    async def offer(self, versions: Iterable[int]) -> None:
        """Publish whole batches of versions whose content has just been sent; a remainder waits for others.

        Raises what `flush` raises.
        """
        self._offered.update(dict.fromkeys(versions))
        if self._turn.statistics().locked:
            return  # whoever has the turn comes to these too
        async with self._turn:
            while len(self._offered) >= MAX_CHANGES and not self.stuck:
                await self._publish_offered()

    async def flush_offered(self) -> None:
        """Publish what has been offered so far, and nothing else. Raises what `flush` raises."""
        async with self._turn:
            while self._offered and not self.stuck:
                await self._publish_offered()

    async def flush(self) -> None:
        """Publish everything that waits and is ready, once through the queue.

        Raises:
            RemoteForked: the remote holds another batch under the number of ours.
            RemoteError: the remote does not take it; the outbox keeps it.
        """
        async with self._turn:
            await self._flush(is_apart=False)
            if await self._ctx.cache.read(settings.kept_apart):
                await self._flush(is_apart=True)

    async def _flush(self, *, is_apart: bool) -> None:
        after: Position | None = START
        while after is not None and not self.stuck:
            cut = await self._cut(partial(cut_batch, after=after, is_apart=is_apart))
            await self._publish(cut.batch)
            after = cut.next

    async def _publish_offered(self) -> None:
        versions = list(self._offered)[:MAX_CHANGES]
        cut = await self._cut(partial(cut_batch, versions=versions))
        left = set(cut.left)
        for version in versions:
            if version not in left:
                self._offered.pop(version, None)
        await self._publish(cut.batch)

    async def _publish(self, batch: OwnBatch | None, lost: Sequence[int] = ()) -> None:
        if batch is None:
            return
        try:
            await self._put(batch)
        except FailsAlone as exc:
            self.stuck = exc.cause
            return
        self.sent_bytes += len(batch.object)
        self.published += await self._ctx.cache.write(
            partial(_confirm, seq=batch.seq, now_ms=self._ctx.now_ms(), lost=lost), background=True
        )

    async def _cut(self, operation: Callable[..., Cut]) -> Cut:
        """The batch in the outbox, else a new one; blobs whose rows cannot be read are set aside."""
        ctx = self._ctx
        author = Author(ctx.keys, ctx.now_ms(), self._seen_since_ms)
        cut = await ctx.cache.write(
            partial(operation, author=author, namespace=self._namespace), background=True
        )
        if cut.damaged:
            error = CacheDamaged("the blob's row in the cache does not verify")
            await fail_versions(ctx, cut.damaged, error, self._tally)
        return cut

    async def _put(self, batch: OwnBatch) -> None:
        name = names.batch_object(batch.device, batch.seq)
        trouble = Trouble(self._remote)
        try:
            await trouble.attempt(lambda: self._remote.put(name, batch.object))
        except ObjectExists as exc:
            try:
                stored = await trouble.attempt(lambda: self._remote.get(name))
            except ObjectNotFound:
                raise Unreachable(f"{name} is said to exist and cannot be read") from exc
            if stored != batch.object:
                open_object(self._ctx.keys, name, stored)  # Tampered, and tried again, if it is not ours
                raise ProfileCopied(f"the remote holds another batch {batch.seq} of this device") from exc


class ProfileCopied(RemoteForked):
    """This profile exists twice or was restored: others have batches of it that it never issued.

    `engine/identity.py` makes it a device of its own; should that not help, the sync ends with this error.
    """

    default_safe = "everything put on this device is kept and stays pending"
    why = "this profile was copied or restored from a backup"
    advice = "if you did neither, somebody else may have a copy of this profile"


class OutboxDamaged(CacheDamaged):
    """The sealed bytes of the next batch are lost: this journal can go on only under another device id."""

    default_safe = "everything put on this device is kept and stays pending"
    default_todo = "run `syncagent sync` again"
    why = "the cache is damaged"
    advice = "check the disk of this device"


async def fail_versions(ctx: Context, versions: Sequence[int], error: SyncAgentError, tally: Tally) -> None:
    """Count a failure that is the blobs' own; their next attempt follows from how often they have failed."""
    text = f"{type(error).__name__}: {error}"
    failures = 1 + await ctx.cache.read(partial(outbox.retries_of, versions=versions))
    delay_s = blob_delay_s(failures, ctx.random(), MAX_RETRIES)
    await ctx.cache.write(
        partial(
            outbox.fail_uploads,
            versions=versions,
            error=text,
            next_attempt_at=ctx.now_ms() + int(delay_s * 1000),
            max_retries=MAX_RETRIES,
        ),
        background=True,
    )
    for namespace, blob_id in await ctx.cache.read(partial(downloads.blob_names, versions=versions)):
        tally.fail(namespace, blob_id, "upload", text)


async def fold(ctx: Context) -> int:
    """Drop pending versions that a later put on this device has replaced; how many."""
    folded = 0
    # Folding only saves work: what cannot be read is published, or set aside, as it stands.
    with contextlib.suppress(CacheDamaged):
        while count := await ctx.cache.write(_fold_some, background=True):
            folded += count
    return folded


def _confirm(db: Database, seq: int, now_ms: int, lost: Sequence[int] = ()) -> int:
    device = meta.device_id(db)
    chain = ownbatches.own_chain(db, device, seq)
    count = ownbatches.confirm_batch(db, seq)
    for version in lost:
        outbox.publish_again(db, version)
    meta.put(db, meta.LAST_PUBLISHED_AT, now_ms)
    if chain is not None:
        journals.advance(db, blobs.device_no(db, device), seq, chain)
    return count


def _fold_some(db: Database) -> int:
    dropped: set[int] = set()
    for pair in outbox.superseded(db, _FOLD_AT_ONCE):
        if pair.older_no in dropped or pair.newer_no in dropped:
            continue  # its parents have just moved: the next round sees them as they are
        if fold_pair(db, pair.older_no, pair.newer_no):
            dropped.add(pair.older_no)
    return len(dropped)

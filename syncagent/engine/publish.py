"""Batches out: cut, keep in the outbox, PUT, confirm. One batch is in flight at a time.

    transaction 1   rows and packs get the batch's number; the sealed bytes are kept
    PUT             those bytes, again after any crash or lost answer
    transaction 2   the rows are settled

A batch is sealed once. Whatever happens after transaction 1, only these bytes
are ever sent under this number.
"""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio

from syncagent import names
from syncagent.cache import alarms, blobs, downloads, journals, meta, outbox, ownbatches
from syncagent.cache.db import Database
from syncagent.cache.outbox import Waiting
from syncagent.cache.ownbatches import OwnBatch
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.sealed import open_object, seal_object
from syncagent.engine.apply import alarm
from syncagent.engine.backoff import GIVEN_UP_S, blob_delay_s
from syncagent.engine.context import Context
from syncagent.engine.heads import fold_pair
from syncagent.engine.report import Tally
from syncagent.engine.trouble import FailsAlone, Trouble
from syncagent.errors import (
    CacheDamaged,
    LimitExceeded,
    ObjectExists,
    ObjectNotFound,
    OpenError,
    RemoteForked,
    SyncAgentError,
    TooNew,
    TransientRemoteError,
    Unreachable,
)
from syncagent.journal.batch import (
    ENVELOPE_BYTES,
    MAX_CHANGES,
    MAX_TRANSACTION_BYTES,
    Batch,
    Change,
    Head,
    VersionChange,
    cut,
    decode_change,
    encode_batch,
    encode_change,
)
from syncagent.journal.chain import chain_next, chain_start
from syncagent.journal.clock import tick
from syncagent.model import MAX_RETRIES, DeviceId, PackRecord
from syncagent.remote.base import Remote

ACKNOWLEDGE_MS = 24 * 3600 * 1000
"""A device that has read others and published nothing for so long says how far it has read."""
_PACK_ROWS_BYTES = 192 << 10
"""What packs may take of a batch, leaving room for changes."""
_GROUP_BYTES = MAX_TRANSACTION_BYTES - ENVELOPE_BYTES
_FOLD_AT_ONCE = 200
_UNREADABLE = (CacheDamaged, OpenError, TooNew, LimitExceeded)
"""What a damaged row of the queue gives when it is read."""


@dataclass(frozen=True, slots=True)
class Author:
    """What cutting needs: the keys to seal with, and the time."""

    keys: VaultKeys
    now_ms: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The next batch, if anything is ready, and versions whose rows could not be read for it."""

    batch: OwnBatch | None
    damaged: tuple[int, ...] = ()


class Publisher:
    """Publishes what is ready. `flush` may be called from several tasks; they take turns.

    `stuck` is why the remote, which answers otherwise, never takes our next batch; nothing can overtake it.
    """

    def __init__(self, ctx: Context, remote: Remote, tally: Tally, namespace: int | None = None) -> None:
        self._ctx = ctx
        self._remote = remote
        self._tally = tally
        self._namespace = namespace
        self._turn = anyio.Lock()
        self.published = 0
        self.sent_bytes = 0
        self.stuck: TransientRemoteError | None = None

    async def resume(self) -> None:
        """Publish the batch that an interruption left in the outbox, and cut no other; raises as `flush`.

        Raises:
            OutboxDamaged: its bytes are lost.
        """
        async with self._turn:
            try:
                batch = await self._ctx.cache.read(ownbatches.unconfirmed_batch)
            except CacheDamaged as exc:
                # Its number may be taken at the remote, and no other bytes may ever go there under it.
                raise OutboxDamaged("a batch of this device, kept to be sent, cannot be read") from exc
            await self._publish(batch)

    async def flush(self) -> None:
        """Publish batches until nothing more is ready.

        Raises:
            RemoteForked: the remote holds another batch under the number of ours.
            RemoteError: the remote does not take it; the outbox keeps it.
        """
        async with self._turn:
            while not self.stuck:
                cut = await self._cut()
                if not await self._publish(cut.batch) and not cut.damaged:
                    return

    async def _publish(self, batch: OwnBatch | None) -> bool:
        if batch is None:
            return False
        try:
            await self._put(batch)
        except FailsAlone as exc:
            self.stuck = exc.cause
            return False
        self.sent_bytes += len(batch.object)
        self.published += await self._ctx.cache.write(
            partial(_confirm, seq=batch.seq, now_ms=self._ctx.now_ms()), background=True
        )
        return True

    async def _cut(self) -> "Cut":
        """The batch in the outbox, else a new one; blobs whose rows cannot be read are set aside."""
        ctx = self._ctx
        author = Author(ctx.keys, ctx.now_ms())
        operation = partial(cut_batch, author=author, namespace=self._namespace)
        cut = await ctx.cache.write(operation, background=True)
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


class OutboxDamaged(CacheDamaged):
    """The sealed bytes of the next batch are lost: this journal can go on only under another device id."""

    default_safe = "everything put on this device is kept and stays pending"
    default_todo = "run `syncagent sync` again"
    why = "the cache is damaged"


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


def cut_batch(db: Database, *, author: Author, namespace: int | None) -> Cut:
    """Cut, seal and keep the next batch, where anything is ready. In one transaction."""
    pending = ownbatches.unconfirmed_batch(db)
    if pending is not None:
        return Cut(pending)  # an interruption left it there
    device = meta.device_id(db)
    seq = ownbatches.last_own_seq(db) + 1
    packs = _take_packs(db, seq)
    packs_bytes = sum(50 * len(record.chunks) + 100 for record in packs)
    taken = _take_group(db, author.now_ms, packs_bytes, namespace) or _take_changes(
        db, author.now_ms, packs_bytes, namespace
    )
    if not taken.rows and not packs and not _owes_acknowledgement(db, author):
        return Cut(None, taken.damaged)
    hlc = tick(meta.hlc(db), author.now_ms)
    chain_before = _chain_before(db, device, seq)
    heads = {
        other: Head(head_seq, chain) for other, head_seq, chain in journals.unannounced_heads(db, device)
    }
    payload = encode_batch(Batch(hlc, chain_before, heads, tuple(packs), tuple(taken.changes)))
    sealed = seal_object(author.keys, names.batch_object(device, seq), payload)
    digest = hashlib.sha256(sealed).digest()
    chain = chain_next(chain_before, digest)
    meta.put(db, meta.HLC, hlc)
    ownbatches.store_batch(db, seq=seq, sealed=sealed, object_sha256=digest, chain=chain, rows=taken.rows)
    journals.announce_heads(db, device)
    return Cut(OwnBatch(device, seq, sealed, chain), taken.damaged)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Rows for a batch with their changes, and versions that could not be read."""

    rows: Sequence[Waiting]
    changes: Sequence[Change]
    damaged: tuple[int, ...]


def _take_packs(db: Database, seq: int) -> list[PackRecord]:
    taken: list[PackRecord] = []
    size = 0
    for number, record in outbox.unannounced_packs(db, limit=256):
        size += 50 * len(record.chunks) + 100
        if taken and size > _PACK_ROWS_BYTES:
            break
        outbox.announce(db, number, seq)
        taken.append(record)
    return taken


def _take_group(db: Database, now_ms: int, packs_bytes: int, namespace: int | None) -> _Taken | None:
    """A whole transaction, if one can go out now; never a part of one."""
    rows = outbox.publishable_group(db, now_ms, namespace)
    if not rows:
        return None
    changes: list[Change] = []
    for row in rows:
        try:
            changes.append(_change(db, row))
        except _UNREADABLE:
            if row.version_no is None:
                _put_off(db, row, now_ms)
            return _Taken((), (), () if row.version_no is None else (row.version_no,))  # the others wait
    if packs_bytes and packs_bytes + sum(len(encode_change(change)) for change in changes) > _GROUP_BYTES:
        return None  # the packs go first, in a batch of their own
    return _Taken(rows, changes, ())


def _take_changes(db: Database, now_ms: int, packs_bytes: int, namespace: int | None) -> _Taken:
    rows: list[Waiting] = []
    changes: list[Change] = []
    damaged: list[int] = []
    ready = outbox.publishable(db, now_ms, MAX_CHANGES, namespace)
    folded: set[int] = set()
    for row in ready:
        if row.version_no is not None and row.version_no not in folded:
            folded |= _fold_into(db, row.version_no)
    for row in ready:
        if row.version_no in folded:
            continue
        try:
            changes.append(_change(db, row))
            rows.append(row)
        except _UNREADABLE:
            if row.version_no is None:
                _put_off(db, row, now_ms)
            else:
                damaged.append(row.version_no)
    count = cut([len(encode_change(change)) for change in changes], envelope_bytes=packs_bytes)
    return _Taken(rows[:count], changes[:count], tuple(damaged))


def _change(db: Database, row: Waiting) -> Change:
    if row.version_no is not None:
        return VersionChange(blobs.load_version(db, row.version_no))
    assert row.change is not None
    return decode_change(row.change)


def _put_off(db: Database, row: Waiting, now_ms: int) -> None:
    """A change without content that cannot be read: it waits, the others go, and a report tells of it."""
    error = CacheDamaged("a change without content, kept to be sent, cannot be read")
    alarms.keep(db, [alarm(error, f"change {row.no}")])
    outbox.put_off(db, row.no, error=f"CacheDamaged: {error}", until_ms=now_ms + int(GIVEN_UP_S * 1000))


def _chain_before(db: Database, device: DeviceId, seq: int) -> bytes:
    if seq == 1:
        return chain_start(meta.vault_id(db), device)
    chain = ownbatches.own_chain(db, device, seq - 1)
    assert chain is not None, "batches are numbered without a gap"
    return chain


def _owes_acknowledgement(db: Database, author: Author) -> bool:
    if not journals.unannounced_heads(db, meta.device_id(db)):
        return False
    last = meta.find_int(db, meta.LAST_PUBLISHED_AT) or meta.find_int(db, meta.JOINED_AT) or 0
    return author.now_ms - last >= ACKNOWLEDGE_MS


def _confirm(db: Database, seq: int, now_ms: int) -> int:
    device = meta.device_id(db)
    chain = ownbatches.own_chain(db, device, seq)
    count = ownbatches.confirm_batch(db, seq)
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


def _fold_into(db: Database, newer_no: int) -> set[int]:
    """Fold all that a version about to be published replaces, also what was replaced since `fold` ran.

    Published alone, it would name a version that others do not know and that this device may never be
    able to send.
    """
    dropped: set[int] = set()
    while folded := [no for no in outbox.superseded_by(db, newer_no) if fold_pair(db, no, newer_no)]:
        dropped.update(folded)
    return dropped

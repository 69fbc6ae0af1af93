"""A profile that exists twice takes a new device id: a copied folder, or one restored from a backup.

So does one whose next batch was damaged in the cache after it got its number.

Its batches as far as the remote holds the same bytes stay what they are: the
journal of a device it once was. Whatever the remote does not hold of them is
published again under the new id. What its other self has published meanwhile is
read like any other device's journal.
"""

import hashlib
import os
import platform
from collections.abc import Sequence
from functools import partial

from syncagent import names
from syncagent.cache import alarms, blobs, facts, journals, meta, outbox, ownbatches
from syncagent.cache.db import Database
from syncagent.crypto.sealed import open_object
from syncagent.engine.apply import alarm
from syncagent.engine.context import Context
from syncagent.engine.heads import rank_anew
from syncagent.engine.publish import OutboxDamaged, ProfileCopied
from syncagent.engine.stamps import next_hlc
from syncagent.errors import BadResponse, CacheDamaged, ObjectNotFound, RemoteForked
from syncagent.journal.batch import decode_batch, decode_change, encode_change
from syncagent.journal.changes import Change, DeviceChange, VersionChange
from syncagent.model import DeviceId
from syncagent.remote.base import Remote
from syncagent.reports import Alarm


async def become_new_device(ctx: Context, remote: Remote, cause: ProfileCopied | OutboxDamaged) -> Alarm:
    """Take a new device id; durable on return. What the report of this sync must say about it.

    Raises:
        RemoteError: the remote does not answer; nothing has changed.
    """
    old = await ctx.cache.read(meta.device_id)
    last = await ctx.cache.read(ownbatches.last_own_seq)
    common = await _common(ctx, remote, old, last)
    changes: list[Change] = []
    for seq in range(common + 1, last + 1):
        try:
            batch = await ctx.cache.read(partial(ownbatches.own_batch, device=old, seq=seq))
        except CacheDamaged:
            # Its versions have rows of their own; what stands in a register is said once more.
            changes += await ctx.cache.read(partial(_own_registers, own=old))
            continue
        if batch is not None:
            opened = decode_batch(open_object(ctx.keys, names.batch_object(old, seq), batch.object))
            changes += [change for change in opened.changes if not isinstance(change, VersionChange)]
    new = DeviceId(os.urandom(16))
    kind = CacheDamaged if isinstance(cause, OutboxDamaged) else RemoteForked
    text = f"{cause}: {cause.why}, and goes on as device {new.hex()}"
    found = alarm(kind(text, safe="nothing put here is lost", todo=cause.advice), f"device {old.hex()}")

    def switch(db: Database) -> None:
        if meta.device_id(db) == old:  # else another process was quicker
            _switch(db, old=old, new=new, common=common, changes=changes, now_ms=ctx.now_ms())
            alarms.keep(db, [found])

    await ctx.cache.write(switch)
    return found


def _own_registers(db: Database, own: DeviceId) -> list[Change]:
    rows = [row for kind in ("device", "slots", "tag") for row in facts.registers(db, kind)]
    return [decode_change(row.change) for row in rows if row.device == own]


async def _common(ctx: Context, remote: Remote, device: DeviceId, last: int) -> int:
    """The last batch that the remote holds exactly as this device has issued it; 0 for none."""
    for seq in range(last, 0, -1):
        digest = await ctx.cache.read(partial(ownbatches.own_digest, device=device, seq=seq))
        try:
            stored = await remote.get(names.batch_object(device, seq))
        except (ObjectNotFound, BadResponse):
            continue
        if hashlib.sha256(stored).digest() == digest:
            return seq  # its chain covers all before it
    return 0


def _switch(
    db: Database, *, old: DeviceId, new: DeviceId, common: int, changes: Sequence[Change], now_ms: int
) -> None:
    old_no, new_no = blobs.device_no(db, old), blobs.device_no(db, new)
    chain = ownbatches.own_chain(db, old, common)
    if common:
        ownbatches.confirm_batch(db, common)  # it may have been in the outbox still
    ownbatches.give_up(db, common)
    for row in db.all("SELECT no FROM version WHERE device_no = ? AND seq > ? ORDER BY no", (old_no, common)):
        outbox.publish_again(db, row[0])
    for change in changes:
        outbox.enqueue_change(db, encode_change(change))
    db.execute("UPDATE version SET device_no = ? WHERE device_no = ? AND seq = 0", (new_no, old_no))
    for (blob,) in db.all(
        "SELECT DISTINCT blob_no FROM version WHERE device_no = ? AND status IS NOT NULL", (new_no,)
    ):
        rank_anew(db, blob)
    journals.become(db, old=old_no, seq=common, chain=chain)
    hlc = next_hlc(db, now_ms)
    name = meta.find_text(db, meta.DEVICE_NAME) or "device"
    device = encode_change(DeviceChange(new, name, platform.system() or "unknown", old, False, hlc))
    facts.set_register(db, "device", new, change=device, hlc=hlc, device=new)
    outbox.enqueue_change(db, device, priority=1)
    meta.put(db, meta.DEVICE_ID, new)
    meta.put(db, meta.JOINED_AT, now_ms)
    for key in (meta.IS_COPIED, meta.LAST_PUBLISHED_AT):
        meta.put(db, key, None)

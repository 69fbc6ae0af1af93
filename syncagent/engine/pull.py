"""Journals in: read what other devices have published, check it, and merge it.

    list the devices and their journals
    → per journal: in step, new batches, a gap, or rolled back       (journal/chain.py)
    → open the new ones and put them in order                        (journal/chain.py)
    → merge each in a transaction                                    (engine/apply.py)
    → what others have read and we were not shown is listed once more

A journal that is not given, or does not open or chain, stops by itself; the others go on.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio.to_thread

from syncagent import names
from syncagent.cache import journals, meta
from syncagent.cache.chunks import batched
from syncagent.cache.journals import Cursor
from syncagent.crypto.sealed import open_object
from syncagent.engine.apply import (
    Applied,
    Incoming,
    alarm,
    apply_ahead,
    apply_batch,
    may_go_ahead,
    record_ahead,
)
from syncagent.engine.context import Context
from syncagent.engine.gate import TransferGate
from syncagent.engine.listing import list_names
from syncagent.engine.own import check_own_journals, check_read_by_others
from syncagent.engine.report import Arrivals
from syncagent.engine.tasks import run_together
from syncagent.engine.trouble import FailsAlone, Trouble
from syncagent.errors import (
    LimitExceeded,
    ObjectError,
    ObjectNotFound,
    OpenError,
    RemoteForked,
    RemoteRolledBack,
    SyncAgentError,
    TooNew,
    Withheld,
)
from syncagent.journal.batch import decode_batch
from syncagent.journal.chain import BatchId, Verdict, apply_order, check_listing
from syncagent.model import DeviceId
from syncagent.remote.base import Remote
from syncagent.reports import Alarm
from syncagent.wording import counted

WINDOW = 32
"""Batches opened and ordered together: at most some 10 MiB of msgpack in memory."""
VERSIONS_AT_ONCE = 125
"""Versions of new blobs stored in one transaction: about 5 ms, so that a put does not wait longer."""


UNREAD_DEVICES = 16
"""Devices that only heads name, of which journals are asked for: a faulty device may invent any number."""


@dataclass(slots=True)
class Pulled:
    """What reading the journals brought. `is_listed` says whether the others can find this device."""

    arrivals: Arrivals
    batches: int = 0
    is_listed: bool = False
    conflicts: set[int] = field(default_factory=set)
    arrived: int = 0
    alarms: list[Alarm] = field(default_factory=list)


async def pull(ctx: Context, remote: Remote, gate: TransferGate, arrivals: Arrivals) -> Pulled:
    """Read every journal as far as it is shown and merge it.

    `arrivals` is told of each batch when it is merged, for nobody would tell of those before a failure.

    Raises:
        RemoteError: the remote as a whole does not answer. What was merged stays.
        CacheFull: the disk of the cache is full. What was merged stays.
    """
    result = Pulled(arrivals)
    stopped: set[DeviceId] = set()
    own = await ctx.cache.read(meta.device_id)
    devices = await _known_devices(ctx, remote, own, result)
    result.alarms += await check_own_journals(ctx, remote, gate)
    await _pull_devices(ctx, remote, gate, devices, stopped, result)
    # A head names more than was listed: a listing may lag behind, so it is asked for once more.
    beyond = await ctx.cache.read(journals.beyond_cursors)
    await check_read_by_others(ctx, beyond)
    asked = {*devices, *await ctx.cache.read(partial(journals.unread, limit=UNREAD_DEVICES))} - {own}
    behind = {shown.device for shown in beyond} & asked - stopped
    if behind:
        await _pull_devices(ctx, remote, gate, sorted(behind), stopped, result)
        beyond = await ctx.cache.read(journals.beyond_cursors)
        await check_read_by_others(ctx, beyond)
        for shown in beyond:
            # Also one that only a batch of the second round has named.
            if shown.device in asked and shown.device not in stopped:
                error = Withheld(f"batch {shown.seq} of device {shown.device.hex()} exists and is not shown")
                result.alarms.append(alarm(error, f"journal {shown.device.hex()}"))
    unknown = len({shown.device for shown in beyond} - asked - {own})
    if unknown:
        text = f"nothing is shown of {counted(unknown, 'more device')} that journals name"
        result.alarms.append(alarm(Withheld(text), "journals"))
    return result


async def _known_devices(ctx: Context, remote: Remote, own: DeviceId, result: Pulled) -> list[DeviceId]:
    listed = await list_names(remote, names.DEVICES)
    known = await ctx.cache.read(journals.cursors)
    devices = {DeviceId(bytes.fromhex(name[len(names.DEVICES) :])) for name in listed}
    result.is_listed = own in devices
    devices.update(device for device, seq in known.items() if seq > 0)
    devices.update(await ctx.cache.read(partial(journals.unread, limit=UNREAD_DEVICES)))
    return sorted(devices - {own})


async def _pull_devices(
    ctx: Context,
    remote: Remote,
    gate: TransferGate,
    devices: Iterable[DeviceId],
    stopped: set[DeviceId],
    result: Pulled,
) -> None:
    waiting: list[BatchId] = []
    for device in devices:
        cursor = await ctx.cache.read(partial(journals.cursor, device=device))
        waiting += await _new_batches(remote, device, cursor, stopped, result)
    # Round by round over the journals, so that a window holds batches of the same age.
    waiting.sort(key=lambda batch: (batch.seq, batch.device))
    for part in batched(waiting, WINDOW):
        window = [batch for batch in part if batch.device not in stopped]
        if window:  # a remote may list a million batches and give none
            await _apply_window(ctx, remote, gate, window, stopped, result)


async def _apply_window(
    ctx: Context,
    remote: Remote,
    gate: TransferGate,
    window: Sequence[BatchId],
    stopped: set[DeviceId],
    result: Pulled,
) -> None:
    opened: dict[BatchId, Incoming] = {}
    failed: dict[BatchId, SyncAgentError] = {}
    await run_together(
        partial(_open_batch, ctx, remote, gate, batch_id, opened, failed) for batch_id in window
    )
    first_failed: dict[DeviceId, int] = {}
    for batch_id in sorted(failed):
        if batch_id.device not in first_failed:  # what comes after it could not be applied anyway
            first_failed[batch_id.device] = batch_id.seq
            result.alarms.append(alarm(failed[batch_id], names.batch_object(*batch_id)))
    heads = {b: i.batch.heads for b, i in opened.items() if b.seq < first_failed.get(b.device, b.seq + 1)}
    cursors = await ctx.cache.read(journals.cursors)
    await ctx.reads.flush(ctx.cache)  # what was read is wanted when it changes
    for batch_id in apply_order(heads, cursors):
        if batch_id.device in stopped:
            continue
        try:
            applied = await _apply(ctx, opened[batch_id], result.arrivals)
        except RemoteForked as exc:
            stopped.add(batch_id.device)
            result.alarms.append(alarm(exc, f"journal {batch_id.device.hex()}"))
            continue
        result.batches += 1
        result.conflicts |= applied.conflicts
        result.arrived += applied.arrived
        result.alarms += applied.alarms
    stopped.update(first_failed)


async def _apply(ctx: Context, incoming: Incoming, arrivals: Arrivals) -> Applied:
    """Merge a batch, what may go ahead of the rest in portions. Raises what `apply_batch` raises."""
    applied = Applied()
    plain = may_go_ahead(incoming.batch)
    if plain:
        for record in incoming.batch.packs:
            record_it = partial(record_ahead, incoming=incoming, record=record, now_ms=ctx.now_ms())
            await ctx.cache.write(record_it, background=True)
    for part in batched(plain, VERSIONS_AT_ONCE):
        operation = partial(apply_ahead, incoming=incoming, versions=part, now_ms=ctx.now_ms())
        ahead = await ctx.cache.write(operation, background=True)
        arrivals.add(ahead.seen)
        applied.add(ahead)
    operation = partial(apply_batch, incoming=incoming, now_ms=ctx.now_ms(), ahead=applied.versions)
    rest = await ctx.cache.write(operation, background=True)
    arrivals.add(rest.seen)
    applied.add(rest)
    return applied


async def _new_batches(
    remote: Remote, device: DeviceId, cursor: Cursor, stopped: set[DeviceId], result: Pulled
) -> list[BatchId]:
    after = names.batch_object(device, cursor.seq - 1) if cursor.seq > 0 else ""
    subject = f"journal {device.hex()}"
    try:
        listed = await Trouble(remote).attempt(
            lambda: list_names(remote, names.journal_prefix(device), after=after)
        )
    except (ObjectError, FailsAlone) as exc:
        stopped.add(device)
        result.alarms.append(alarm(exc.cause if isinstance(exc, FailsAlone) else exc, subject))
        return []
    listing = check_listing(cursor.seq, map(names.batch_seq, listed))
    if listing.verdict is Verdict.ROLLED_BACK:
        stopped.add(device)
        error: SyncAgentError = RemoteRolledBack(
            f"the remote no longer has batch {cursor.seq} of device {device.hex()}, which was read here"
        )
        result.alarms.append(alarm(error, subject))
    elif listing.verdict is Verdict.GAP:
        error = Withheld(
            f"batch {listing.withheld} of device {device.hex()} is missing, later ones are there"
        )
        result.alarms.append(alarm(error, subject))
    return [BatchId(device, seq) for seq in listing.new]


async def _open_batch(
    ctx: Context,
    remote: Remote,
    gate: TransferGate,
    batch_id: BatchId,
    opened: dict[BatchId, Incoming],
    failed: dict[BatchId, SyncAgentError],
) -> None:
    name = names.batch_object(batch_id.device, batch_id.seq)
    if any(other.device == batch_id.device and other.seq < batch_id.seq for other in failed):
        return  # nothing behind a batch that does not come can be applied
    try:
        async with gate.transfer(256 << 10):
            # Each batch by itself: any number of journals may fail while the remote answers otherwise.
            data = await Trouble(remote).attempt(lambda: remote.get(name))
        opened[batch_id] = await anyio.to_thread.run_sync(_opened, ctx, batch_id, data, limiter=ctx.workers)
    except ObjectNotFound:
        failed[batch_id] = Withheld(
            f"batch {batch_id.seq} of device {batch_id.device.hex()} is listed and not given"
        )
    except FailsAlone as exc:
        failed[batch_id] = exc.cause
    except (OpenError, TooNew, LimitExceeded, ObjectError) as exc:
        failed[batch_id] = exc


def _opened(ctx: Context, batch_id: BatchId, data: bytes) -> Incoming:
    payload = open_object(ctx.keys, names.batch_object(*batch_id), data)
    return Incoming(batch_id.device, batch_id.seq, decode_batch(payload), hashlib.sha256(data).digest())

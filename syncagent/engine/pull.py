"""Journals in: read what other devices have published, check it, and merge it.

    list the devices and their journals
    → per journal: in step, new batches, a gap, or rolled back       (journal/chain.py)
    → open the new ones and put them in order                        (journal/chain.py)
    → merge each in a transaction                                    (engine/apply.py)
    → what others have read and we were not shown is listed once more

A journal that does not open or chain stops by itself; the others go on.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio.to_thread
import msgspec

from syncagent import names
from syncagent.cache import journals, outbox
from syncagent.cache.chunks import batched
from syncagent.cache.journals import Cursor, ShownHead
from syncagent.crypto.sealed import open_object
from syncagent.engine.apply import Incoming, alarm, apply_batch
from syncagent.engine.context import Context
from syncagent.engine.gate import TransferGate
from syncagent.engine.publish import copied
from syncagent.engine.tasks import run_together
from syncagent.errors import (
    BadResponse,
    CacheDamaged,
    LimitExceeded,
    ObjectExists,
    ObjectNotFound,
    OpenError,
    RemoteForked,
    RemoteRolledBack,
    SyncAgentError,
    Tampered,
    TooNew,
    Withheld,
    WrongVault,
)
from syncagent.journal.batch import decode_batch
from syncagent.journal.chain import BatchId, Verdict, apply_order, check_listing
from syncagent.model import Alarm, DeviceId, VaultId
from syncagent.remote.base import Remote

WINDOW = 32
"""Batches opened and ordered together: at most some 10 MiB of msgpack in memory."""
MOST_NAMES = 1_000_000
"""Names one listing may have; a remote that lists on for ever is stopped there."""


class VaultRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The object `vault`: a hint which vault this is, confirmed by the key slot. JSON."""

    format: int
    vault_id: str


@dataclass(slots=True)
class Pulled:
    """What reading the journals brought."""

    batches: int = 0
    conflicts: set[int] = field(default_factory=set)
    arrived: int = 0
    alarms: list[Alarm] = field(default_factory=list)


def encode_vault_record(vault: VaultId) -> bytes:
    """The bytes of the object `vault`."""
    return msgspec.json.encode(VaultRecord(1, vault.hex()))


def decode_vault_record(data: bytes) -> VaultId:
    """The vault id an object `vault` names. `TooNew` for anything but format 1."""
    try:
        record = msgspec.json.decode(data, type=VaultRecord)
        vault = bytes.fromhex(record.vault_id)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise TooNew("the vault record was made by a newer syncagent, or altered") from exc
    if record.format != 1 or len(vault) != 16 or encode_vault_record(VaultId(vault)) != data:
        raise TooNew("the vault record was made by a newer syncagent, or altered")
    return VaultId(vault)


async def check_vault(ctx: Context, remote: Remote) -> None:
    """Make sure the remote holds this device's vault, before anything is read or written there.

    Raises:
        RemoteRolledBack: the remote is there, but the vault is gone.
        WrongVault: it is another vault.
    """
    try:
        found = decode_vault_record(await remote.get(names.VAULT))
    except ObjectNotFound as exc:
        raise RemoteRolledBack("the remote no longer has this vault") from exc
    if found != ctx.vault:
        raise WrongVault(f"the remote holds vault {found.hex()}, this device belongs to {ctx.vault.hex()}")


async def pull(ctx: Context, remote: Remote, gate: TransferGate) -> Pulled:
    """Read every journal as far as it is shown and merge it.

    Raises:
        RemoteError: the remote as a whole does not answer. What was merged stays.
        CacheFull: the disk of the cache is full. What was merged stays.
    """
    result = Pulled()
    stopped: set[DeviceId] = set()
    devices = await _known_devices(ctx, remote)
    await _check_own_journal(ctx, remote, result)
    await _pull_devices(ctx, remote, gate, devices, stopped, result)
    # A head names more than was listed: a listing may lag behind, so it is asked for once more.
    beyond = await ctx.cache.read(journals.beyond_cursors)
    await _check_read_by_others(ctx, beyond)
    behind = {shown.device for shown in beyond} - stopped - {ctx.device}
    if behind:
        await _pull_devices(ctx, remote, gate, sorted(behind), stopped, result)
        beyond = await ctx.cache.read(journals.beyond_cursors)
        await _check_read_by_others(ctx, beyond)
        for shown in beyond:
            if shown.device not in stopped and shown.device != ctx.device:
                error = Withheld(f"batch {shown.seq} of device {shown.device.hex()} exists and is not shown")
                result.alarms.append(alarm(error, f"journal {shown.device.hex()}"))
    return result


async def list_names(remote: Remote, prefix: str, *, after: str = "") -> list[str]:
    """Every object name under a prefix, in order; each page is checked before the next is asked for."""
    found: list[str] = []
    while True:
        page = await remote.list(prefix, after=after)
        for info in page.objects:
            if not info.name.startswith(prefix) or info.name <= after or not names.is_object_name(info.name):
                raise BadResponse(f"a listing of {prefix!r} is not in order or names something else")
            after = info.name
            found.append(info.name)
        if not page.more:
            return found
        if not page.objects or len(found) > MOST_NAMES:
            raise BadResponse(f"a listing of {prefix!r} does not end")


async def _known_devices(ctx: Context, remote: Remote) -> list[DeviceId]:
    listed = await list_names(remote, names.DEVICES)
    known = await ctx.cache.read(journals.cursors)
    devices = {DeviceId(bytes.fromhex(name[len(names.DEVICES) :])) for name in listed} | set(known)
    return sorted(devices - {ctx.device})


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
    for batch_id in apply_order(heads, cursors):
        if batch_id.device in stopped:
            continue
        try:
            applied = await ctx.cache.write(
                partial(apply_batch, incoming=opened[batch_id], now_ms=ctx.now_ms()), background=True
            )
        except RemoteForked as exc:
            stopped.add(batch_id.device)
            result.alarms.append(alarm(exc, f"journal {batch_id.device.hex()}"))
            continue
        result.batches += 1
        result.conflicts |= applied.conflicts
        result.arrived += applied.arrived
        result.alarms += applied.alarms
    stopped.update(first_failed)


async def _new_batches(
    remote: Remote, device: DeviceId, cursor: Cursor, stopped: set[DeviceId], result: Pulled
) -> list[BatchId]:
    after = names.batch_object(device, cursor.seq - 1) if cursor.seq > 0 else ""
    listed = await list_names(remote, names.journal_prefix(device), after=after)
    listing = check_listing(cursor.seq, map(names.batch_seq, listed))
    subject = f"journal {device.hex()}"
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
    try:
        async with gate.transfer(256 << 10):
            data = await remote.get(name)
        opened[batch_id] = await anyio.to_thread.run_sync(_opened, ctx, batch_id, data, limiter=ctx.workers)
    except (OpenError, TooNew, LimitExceeded, ObjectNotFound, BadResponse) as exc:
        failed[batch_id] = exc
        if isinstance(exc, ObjectNotFound):
            failed[batch_id] = Withheld(
                f"batch {batch_id.seq} of device {batch_id.device.hex()} is listed and not given"
            )


def _opened(ctx: Context, batch_id: BatchId, data: bytes) -> Incoming:
    payload = open_object(ctx.keys, names.batch_object(*batch_id), data)
    return Incoming(batch_id.device, batch_id.seq, decode_batch(payload), hashlib.sha256(data).digest())


async def _check_own_journal(ctx: Context, remote: Remote, result: Pulled) -> None:
    """Our own batches must be where we put them; those that are not are put there again, byte for byte."""
    last = await ctx.cache.read(outbox.last_own_seq)
    pending = await ctx.cache.read(outbox.unconfirmed_batch)
    confirmed = last if pending is None else pending.seq - 1
    after = names.batch_object(ctx.device, confirmed - 1) if confirmed > 0 else ""
    listed = {
        names.batch_seq(name)
        for name in await list_names(remote, names.journal_prefix(ctx.device), after=after)
    }
    await _check_not_copied(ctx, remote, result, sorted(seq for seq in listed if seq > last), last)
    if confirmed == 0 or confirmed in listed:
        return
    shown = {names.batch_seq(name) for name in await list_names(remote, names.journal_prefix(ctx.device))}
    lost = [seq for seq in range(1, confirmed + 1) if seq not in shown]
    for seq in lost:
        try:
            batch = await ctx.cache.read(partial(outbox.own_batch, seq=seq))
        except CacheDamaged as exc:
            result.alarms.append(alarm(exc, names.batch_object(ctx.device, seq)))
            continue
        if batch is not None:
            try:
                await remote.put(names.batch_object(ctx.device, seq), batch.object)
            except ObjectExists:
                continue  # shown late
    error = RemoteRolledBack(
        f"the remote had lost {len(lost)} batches of this device; they were put there again,"
        " but content it lost with them is not sent again yet: keep this device"
    )
    result.alarms.append(alarm(error, f"journal {ctx.device.hex()}"))


async def _check_not_copied(
    ctx: Context, remote: Remote, result: Pulled, unknown: Sequence[int], last: int
) -> None:
    """A batch we did not issue and that opens as ours comes from a copy of this profile."""
    for seq in unknown[:1]:
        name = names.batch_object(ctx.device, seq)
        try:
            open_object(ctx.keys, name, await remote.get(name))
        except (OpenError, TooNew, ObjectNotFound, BadResponse) as exc:
            # Whoever holds the remote can list any name; only a device of the vault can seal under it.
            error = Tampered(f"the remote shows a batch {seq} of this device that is none: {exc}")
            result.alarms.append(alarm(error, name))
        else:
            raise copied(f"the remote holds batch {seq} of this device, which has issued {last}")


async def _check_read_by_others(ctx: Context, beyond: Sequence[ShownHead]) -> None:
    """What others have read of our journal is ours: the remote may have been restored with this profile."""
    last = await ctx.cache.read(outbox.last_own_seq)
    for shown in beyond:
        if shown.device == ctx.device and shown.seq > last:
            raise copied(f"another device has read batch {shown.seq} of this device, which has issued {last}")

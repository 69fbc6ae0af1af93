"""This device's own journal at the remote: it must hold what was issued, no more and no less.

Less: the remote went back. Packs that are gone are put again from their files, or their
blobs are queued again; batches are put again byte for byte. A flag stands in the
cache until all of it is done, so an interruption anywhere leads to the same end.
More: a copy of this profile has gone on elsewhere (`identity.py`).
"""

import hashlib
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import anyio.to_thread

from syncagent import names
from syncagent.cache import alarms, chunks, meta, outbox, ownbatches
from syncagent.cache.chunks import batched
from syncagent.cache.db import Database
from syncagent.cache.journals import ShownHead
from syncagent.cache.packfiles import read_pack_file
from syncagent.crypto.pack import check_pack
from syncagent.crypto.sealed import open_object
from syncagent.engine.apply import alarm
from syncagent.engine.context import Context
from syncagent.engine.gate import TransferGate
from syncagent.engine.listing import list_names
from syncagent.engine.publish import ProfileCopied
from syncagent.engine.slots import listed_slots
from syncagent.engine.trouble import FailsAlone, Trouble
from syncagent.errors import (
    CacheDamaged,
    ObjectError,
    ObjectExists,
    OpenError,
    RemoteRolledBack,
    RemoteStopped,
    Tampered,
    TooNew,
)
from syncagent.model import DeviceId, PackId
from syncagent.remote.base import MAX_LIST_LIMIT, Remote
from syncagent.reports import Alarm
from syncagent.wording import counted

_PACKS_AT_ONCE = 4
"""Packs given up in one transaction: some 10,000 rows at most."""


async def check_own_journals(ctx: Context, remote: Remote, gate: TransferGate) -> list[Alarm]:
    """Look whether the remote holds what this device has issued, and mend what it lost.

    Raises:
        ProfileCopied: somebody else goes on under this device's id.
    """
    if await _is_set(ctx, meta.IS_COPIED):
        raise ProfileCopied("another device has read a batch of this device that it has not issued")
    own = await ctx.cache.read(meta.device_id)
    last = await ctx.cache.read(ownbatches.last_own_seq)
    alarms: list[Alarm] = []
    lost: dict[DeviceId, list[int]] = {}
    for device, confirmed in (await ctx.cache.read(ownbatches.issued)).items():
        shown = await _shown(remote, device, confirmed)
        if device == own:
            alarms += await _check_not_copied(
                ctx, remote, own, sorted(s for s in shown.seqs if s > last), last
            )
        missing = [seq for seq in range(shown.first, confirmed + 1) if seq not in shown.seqs]
        if missing:
            lost[device] = missing
    if lost or await _is_set(ctx, meta.IS_HEALING):
        try:
            alarms.append(await _heal(ctx, remote, gate, lost))
        except (ObjectError, RemoteStopped, FailsAlone) as exc:
            # Reading what others wrote needs none of it, and the flag still stands.
            error = RemoteRolledBack(f"the remote lost batches of this device and does not take them: {exc}")
            alarms.append(alarm(error, "remote"))
    return alarms


async def check_read_by_others(ctx: Context, beyond: Sequence[ShownHead]) -> None:
    """What others have read of our journal is ours: the remote may have been restored with this profile."""
    own = await ctx.cache.read(meta.device_id)
    last = await ctx.cache.read(ownbatches.last_own_seq)
    for shown in beyond:
        if shown.device == own and shown.seq > last:
            raise ProfileCopied(
                f"another device has read batch {shown.seq} of this one, which has issued {last}"
            )
    if await _is_set(ctx, meta.IS_COPIED):
        raise ProfileCopied("another device has read a batch of this device that it has not issued")


async def _is_set(ctx: Context, flag: str) -> bool:
    return await ctx.cache.read(partial(meta.find_int, key=flag)) is not None


@dataclass(frozen=True, slots=True)
class _Shown:
    """Numbers of a journal that the remote shows, from `first` on."""

    seqs: frozenset[int]
    first: int


async def _shown(remote: Remote, device: DeviceId, confirmed: int) -> _Shown:
    """What the remote shows of a journal of ours: all, or of a long one the end if that is in order."""
    prefix = names.journal_prefix(device)
    if confirmed >= MAX_LIST_LIMIT:
        after = names.batch_object(device, confirmed - 1)
        end = frozenset(names.batch_seq(name) for name in await list_names(remote, prefix, after=after))
        if confirmed in end:
            return _Shown(end, confirmed)
    return _Shown(frozenset(names.batch_seq(name) for name in await list_names(remote, prefix)), 1)


async def _check_not_copied(
    ctx: Context, remote: Remote, own: DeviceId, unknown: Sequence[int], last: int
) -> list[Alarm]:
    """A batch we did not issue and that opens as ours comes from a copy of this profile."""
    for seq in unknown[:1]:
        name = names.batch_object(own, seq)
        try:
            open_object(ctx.keys, name, await Trouble(remote).attempt(partial(remote.get, name)))
        except FailsAlone as exc:
            return [alarm(exc.cause, name)]
        except (OpenError, TooNew, ObjectError) as exc:
            # Whoever holds the remote can list any name; only a device of the vault can seal under it.
            error = Tampered(f"the remote shows a batch {seq} of this device that is none: {exc}")
            return [alarm(error, name)]
        raise ProfileCopied(f"the remote holds batch {seq} of this device, which has issued {last}")
    return []


async def _heal(
    ctx: Context, remote: Remote, gate: TransferGate, lost: Mapping[DeviceId, Sequence[int]]
) -> Alarm:
    """Put again what the remote lost of ours: packs first, then the batches that name them."""
    await ctx.cache.write(partial(meta.put, key=meta.IS_HEALING, value=1))
    packs = await _heal_packs(ctx, remote, gate)
    damaged = 0
    batches = 0
    for device, missing in lost.items():
        for seq in missing:
            try:
                batch = await ctx.cache.read(partial(ownbatches.own_batch, device=device, seq=seq))
            except CacheDamaged:
                damaged += 1
                continue
            if batch is not None and await _put_again(remote, names.batch_object(device, seq), batch.object):
                batches += 1
    slots = await _put_slots(ctx, remote, set(await list_names(remote, names.KEYS)))
    text = (
        f"the remote went back: {counted(batches, 'batch', 'batches')}, {counted(packs.put_again, 'pack')}"
        f" and {counted(slots, 'key slot')} of this device put there again, {counted(packs.queued, 'blob')}"
        " to be sent again"
    )
    if packs.lost:
        text += f"; the content of {counted(packs.lost, 'blob')} was there alone"
        text += ", and is lost unless it comes back"
    if damaged:
        text += f"; {counted(damaged, 'batch', 'batches')} lost, for the copy here is damaged"
    found = alarm(RemoteRolledBack(text), "remote")
    await ctx.cache.write(partial(_end_healing, found=found))
    return found


def _end_healing(db: Database, found: Alarm) -> None:
    alarms.keep(db, [found])
    meta.put(db, meta.IS_HEALING, None)


@dataclass(frozen=True, slots=True)
class _Packs:
    put_again: int
    queued: int
    lost: int


async def _heal_packs(ctx: Context, remote: Remote, gate: TransferGate) -> _Packs:
    there = {bytes.fromhex(name[len(names.PACKS) :]) for name in await list_names(remote, names.PACKS)}
    announced = await ctx.cache.read(outbox.own_announced_packs)
    put_again = 0
    gone: list[int] = []
    for pack in announced:
        if pack.id in there:
            continue
        if pack.has_file and await _put_file(ctx, remote, gate, pack.no):
            put_again += 1
        else:
            gone.append(pack.no)
    queued = lost = 0
    for part in batched(gone, _PACKS_AT_ONCE):
        more = await ctx.cache.write(partial(give_up_packs, packs=part), background=True)
        queued, lost = queued + more[0], lost + more[1]
    return _Packs(put_again, queued, lost)


async def _put_file(ctx: Context, remote: Remote, gate: TransferGate, pack_no: int) -> bool:
    record = await ctx.cache.read(partial(chunks.load_record, pack=pack_no))
    try:
        async with gate.transfer(record.size):
            data = await anyio.to_thread.run_sync(
                read_pack_file, ctx.profile.packs, PackId(record.id), 0, record.size, limiter=ctx.workers
            )
            check_pack(record, data)
            await _put_again(remote, names.pack_object(record.id), data)
    except (CacheDamaged, OpenError, ObjectError, FailsAlone):
        return False  # its blobs are queued again, and fail by themselves if they must
    return True


def give_up_packs(db: Database, packs: Sequence[int]) -> tuple[int, int]:
    """Packs of ours that the remote lost: blobs whose content is here are queued again.

    Returns how many of these were not queued yet, and of how many blobs some content is nowhere any more.
    """
    touched: set[int] = set()
    for pack in packs:
        db.execute("UPDATE pack SET is_remote = 0, batch_seq = NULL WHERE no = ?", (pack,))
        for chunk in chunks.chunks_of(db, pack):
            if not chunks.is_there(db, chunk):
                touched.update(chunks.heads_with_chunk(db, chunk))
    here = [head for head in sorted(touched) if chunks.is_complete(db, head)]
    return sum(outbox.publish_again(db, head) for head in here), len(touched) - len(here)


async def heal_slots(ctx: Context, remote: Remote, there: Container[str]) -> list[Alarm]:
    """Put again the listed key slots that the remote lost: without them no new device could ever join.

    Args:
        ctx: the open vault.
        remote: of the vault.
        there: what the remote listed before the journals were read. A slot is deleted after the journal has
            dropped it, so one that was missing then and is listed now was lost.
    """
    count = await _put_slots(ctx, remote, there)
    if not count:
        return []
    error = RemoteRolledBack(f"the remote went back: {counted(count, 'key slot')} put there again")
    found = alarm(error, "key slots")
    await ctx.cache.write(partial(alarms.keep, found=[found]))
    return [found]


async def _put_slots(ctx: Context, remote: Remote, there: Container[str]) -> int:
    listed = await ctx.cache.read(listed_slots) or {}
    count = 0
    for slot, digest in listed.items():
        name = names.slot_object(slot)
        path = ctx.profile.keys / slot.hex()
        if name in there or not path.is_file():
            continue
        data = path.read_bytes()
        if hashlib.sha256(data).digest() == digest:
            count += await _put_again(remote, name, data)
    return count


async def _put_again(remote: Remote, name: str, data: bytes) -> bool:
    """Put bytes that were there before; whether they had to be."""
    try:
        await Trouble(remote).attempt(lambda: remote.put(name, data))
    except ObjectExists:
        return False  # shown late
    return True

"""The vault's key slots as its journal lists them, and the copies of them beside the cache.

The copies let a passphrase open the vault without the remote. After a passphrase
was replaced on another device, the listed slots are fetched and the others dropped.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import anyio.to_thread

from syncagent import files, names
from syncagent.cache import facts, meta, outbox
from syncagent.cache.db import Database
from syncagent.engine.context import Context
from syncagent.engine.stamps import next_register_hlc
from syncagent.engine.trouble import FailsAlone, Trouble
from syncagent.errors import Forbidden, ObjectError, SyncAgentError
from syncagent.journal.batch import decode_change, encode_change
from syncagent.journal.changes import SlotsChange
from syncagent.model import SlotId
from syncagent.remote.base import Remote

SLOTS_KEY = b""
"""The one key of the register that lists the vault's key slots."""


def listed_slots(db: Database) -> Mapping[SlotId, bytes] | None:
    """The slots in force with the SHA-256 of each; None before any batch has listed them."""
    row = facts.find_register(db, "slots", SLOTS_KEY)
    change = None if row is None else decode_change(row.change)
    if not isinstance(change, SlotsChange):
        return None
    return {SlotId(slot): digest for slot, digest in change.slots.items()}


def list_slots(db: Database, slots: Mapping[SlotId, bytes], *, now_ms: int) -> None:
    """Let these slots be the ones in force, here and with the next batch for everyone."""
    dropped = set(listed_slots(db) or {}) - set(slots)
    hlc = next_register_hlc(db, "slots", SLOTS_KEY, now_ms)
    change = encode_change(SlotsChange(dict(slots), hlc))
    outbox.enqueue_change(db, change, priority=1)
    facts.set_register(db, "slots", SLOTS_KEY, change=change, hlc=hlc, device=meta.device_id(db))
    left = meta.find_text(db, meta.DROPPED_SLOTS) or ""
    meta.put(db, meta.DROPPED_SLOTS, left + "".join(slot.hex() for slot in sorted(dropped)))


async def refresh_slots(ctx: Context, remote: Remote) -> None:
    """Bring the copies beside the cache to what the journal lists; the last that opens is never dropped."""
    listed = await ctx.cache.read(listed_slots)
    if listed is None:
        return
    here = await anyio.to_thread.run_sync(_copies, ctx.profile.keys, limiter=ctx.workers)
    if here == listed:
        return
    for slot, digest in listed.items():
        if here.get(slot) == digest:
            continue
        try:
            data = await Trouble(remote).attempt(partial(remote.get, names.slot_object(slot)))
        except (ObjectError, FailsAlone):
            return  # withheld: the old copies stay until it comes
        if hashlib.sha256(data).digest() != digest:
            return
        await anyio.to_thread.run_sync(
            files.write_file, ctx.profile.keys / slot.hex(), data, limiter=ctx.workers
        )
    for slot in here.keys() - listed.keys():
        with contextlib.suppress(OSError):
            files.unlink(ctx.profile.keys / slot.hex())


async def delete_dropped(ctx: Context, remote: Remote) -> None:
    """Remove slots from the remote that this device has replaced, once every other one can know it."""
    text = await ctx.cache.read(lambda db: meta.find_text(db, meta.DROPPED_SLOTS))
    if not text or await ctx.cache.read(_is_unpublished):
        return
    left = ""
    for start in range(0, len(text), 32):
        slot = SlotId(bytes.fromhex(text[start : start + 32]))
        try:
            with contextlib.suppress(Forbidden):  # an append-only remote keeps what the journal drops
                await Trouble(remote).attempt(partial(remote.delete, names.slot_object(slot)))
        except (ObjectError, FailsAlone):
            left += slot.hex()  # the next sync tries again
    if left != text:
        await ctx.cache.write(lambda db: meta.put(db, meta.DROPPED_SLOTS, left or None))


def _is_unpublished(db: Database) -> bool:
    for (change,) in db.all("SELECT change FROM upload WHERE version_no IS NULL"):
        try:
            if isinstance(decode_change(change), SlotsChange):
                return True
        except SyncAgentError:
            return True  # a damaged row may be it
    return False


def _copies(folder: Path) -> dict[SlotId, bytes]:
    found: dict[SlotId, bytes] = {}
    for path in folder.iterdir():
        with contextlib.suppress(OSError, ValueError):
            if len(path.name) == 32:
                found[SlotId(bytes.fromhex(path.name))] = hashlib.sha256(path.read_bytes()).digest()
    return found

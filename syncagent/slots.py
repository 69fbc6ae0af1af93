"""Replacing what opens a vault: its passphrase and its recovery code.

Neither changes the vault's root secret: whoever had the old passphrase and a copy
of the old key slot, or of this device's folder, can still open what was stored.
"""

import contextlib
import hashlib
import os
from functools import partial

import anyio.to_thread

from syncagent import files, names
from syncagent.cache import meta
from syncagent.cache.profile import disk_errors, read_slots
from syncagent.crypto.keys import RootSecret
from syncagent.crypto.keyslot import (
    FORMAT,
    KdfParameters,
    KeySlot,
    SlotContents,
    SlotKind,
    open_slot,
    parse_slot,
    seal_slot,
)
from syncagent.engine.context import Context
from syncagent.engine.engine import Engine
from syncagent.engine.slots import list_slots, listed_slots
from syncagent.errors import OpenError, VaultInUse
from syncagent.model import EPOCH, SlotId
from syncagent.remote.base import Remote
from syncagent.reports import KeySlotInfo


async def slot_infos(ctx: Context) -> tuple[KeySlotInfo, ...]:
    """The key slots that open this device's copy of the vault."""
    listed = await ctx.cache.read(listed_slots) or {}
    slots = await anyio.to_thread.run_sync(read_slots, ctx.profile, limiter=ctx.workers)
    return tuple(
        KeySlotInfo(
            id=slot.id.hex(),
            kind=slot.kind.name.lower(),
            memory_kib=slot.kdf.memory_kib,
            iterations=slot.kdf.iterations,
            lanes=slot.kdf.lanes,
            is_listed=slot.id in listed,
        )
        for slot in slots
    )


async def replace_slots(
    ctx: Context, engine: Engine, kind: SlotKind, secret: bytes, kdf: KdfParameters
) -> None:
    """Let a new secret open the vault in the place of all others of its kind.

    In an order after which, wherever it stops, the vault opens here and for joiners with the old secret or
    the new one: the new slot is put and read back; it is copied here; the list of slots is changed, in one
    transaction; that is published; the old slots are removed.

    Raises:
        RemoteError: the remote cannot be used. Before the list has changed the old secret stays in force;
            after that the next sync publishes the new one.
        OpenError: the remote gives back another slot than it was given; nothing has changed.
    """
    await _sync(engine)  # what others have replaced meanwhile
    root = RootSecret(await ctx.cache.read(partial(meta.get_bytes, key=meta.ROOT)))
    slot_id = SlotId(os.urandom(16))
    contents = SlotContents(FORMAT, ctx.vault, {EPOCH: root})
    data = await anyio.to_thread.run_sync(
        seal_slot, slot_id, kind, secret, contents, kdf, limiter=ctx.workers
    )
    await _put_and_read_back(ctx, await engine.remote(), slot_id, data, secret)
    copies = await anyio.to_thread.run_sync(read_slots, ctx.profile, limiter=ctx.workers)
    replaced = {slot.id for slot in copies if slot.kind is kind}
    await anyio.to_thread.run_sync(_copy, ctx, slot_id, data, limiter=ctx.workers)
    listed = await ctx.cache.read(listed_slots) or {}
    slots = {slot: digest for slot, digest in listed.items() if slot not in replaced}
    slots[slot_id] = hashlib.sha256(data).digest()
    await ctx.cache.write(partial(list_slots, slots=slots, now_ms=ctx.now_ms()))
    await _sync(engine)


async def _sync(engine: Engine) -> None:
    with contextlib.suppress(VaultInUse):  # whoever is syncing publishes it
        await engine.sync()


def _copy(ctx: Context, slot_id: SlotId, data: bytes) -> None:
    with disk_errors():
        files.write_file(ctx.profile.keys / slot_id.hex(), data)


async def _put_and_read_back(
    ctx: Context, remote: Remote, slot_id: SlotId, data: bytes, secret: bytes
) -> None:
    name = names.slot_object(slot_id)
    await remote.put(name, data)
    stored = await remote.get(name)
    if stored != data:
        raise OpenError("the remote gives back another key slot than it was given", todo="check the remote")
    slot: KeySlot = parse_slot(slot_id, stored)
    await anyio.to_thread.run_sync(open_slot, slot, secret, limiter=ctx.workers)

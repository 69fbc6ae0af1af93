"""The devices of a vault: who they are, what they are called, which are gone."""

import platform
from functools import partial

import msgspec

from syncagent.cache import facts, journals, meta, outbox
from syncagent.cache.db import Database
from syncagent.engine.context import Context
from syncagent.engine.stamps import next_register_hlc
from syncagent.errors import ConfigError, InvalidName
from syncagent.journal.batch import decode_change, encode_change
from syncagent.journal.changes import MAX_DEVICE_NAME_BYTES, DeviceChange
from syncagent.journal.checks import check_label
from syncagent.model import DeviceId
from syncagent.reports import DeviceInfo


def check_device_name(name: str) -> str:
    """The name itself, or `ConfigError`."""
    try:
        return check_label(name, "a device name", MAX_DEVICE_NAME_BYTES)
    except InvalidName as exc:
        raise ConfigError(f"{exc}: it has 1 to {MAX_DEVICE_NAME_BYTES} bytes and no NUL") from None


async def list_devices(ctx: Context) -> tuple[DeviceInfo, ...]:
    """Every device of the vault that is known here, this one first, the retired ones last."""
    return await ctx.cache.read(_infos)


async def rename_device(ctx: Context, device: str, name: str) -> DeviceInfo:
    """Call a device something else; as it is then."""
    name = check_device_name(name)
    return await ctx.cache.write(partial(_change, wanted=device, now_ms=ctx.now_ms(), name=name))


async def retire_device(ctx: Context, device: str) -> DeviceInfo:
    """Say that a device is gone; as it is then."""
    return await ctx.cache.write(partial(_change, wanted=device, now_ms=ctx.now_ms(), retired=True))


def _infos(db: Database) -> tuple[DeviceInfo, ...]:
    own = meta.device_id(db)
    cursors = journals.cursors(db)
    changes = {
        DeviceId(change.device): change
        for change in (decode_change(row.change) for row in facts.registers(db, "device"))
        if isinstance(change, DeviceChange)
    }
    known = set(changes) | {device for device, seq in cursors.items() if seq} | {own}
    infos = [_info(device, changes.get(device), own, cursors.get(device, 0)) for device in known]
    return tuple(sorted(infos, key=lambda one: (not one.is_this, one.is_retired, one.name, one.id)))


def _info(device: DeviceId, change: DeviceChange | None, own: DeviceId, batches: int) -> DeviceInfo:
    return DeviceInfo(
        id=device.hex(),
        name="" if change is None else change.name,
        platform="" if change is None else change.platform,
        is_this=device == own,
        is_retired=change is not None and change.retired,
        replaces=None if change is None or change.replaces is None else change.replaces.hex(),
        batches=batches,
    )


def _change(
    db: Database, *, wanted: str, now_ms: int, name: str | None = None, retired: bool = False
) -> DeviceInfo:
    info = _find(_infos(db), wanted)
    if retired and info.is_this:
        raise ConfigError("this device cannot remove itself", todo="run it on another device of the vault")
    device = DeviceId(bytes.fromhex(info.id))
    row = facts.find_register(db, "device", device)
    known = None if row is None else decode_change(row.change)
    hlc = next_register_hlc(db, "device", device, now_ms)
    if isinstance(known, DeviceChange):
        change = msgspec.structs.replace(
            known, name=name if name is not None else known.name, retired=retired or known.retired, hlc=hlc
        )
    else:  # its own first batch has not come
        change = DeviceChange(device, name or "device", "unknown", None, retired, hlc)
    if info.is_this and name is not None:
        meta.put(db, meta.DEVICE_NAME, name)
        change = msgspec.structs.replace(change, platform=platform.system() or "unknown")
    packed = encode_change(change)
    facts.set_register(db, "device", device, change=packed, hlc=hlc, device=meta.device_id(db))
    outbox.enqueue_change(db, packed, priority=1)
    return _info(device, change, meta.device_id(db), info.batches)


def _find(infos: tuple[DeviceInfo, ...], wanted: str) -> DeviceInfo:
    """The device of this name, or whose id begins so."""
    named = [one for one in infos if one.name == wanted and not one.is_retired]
    found = named or [one for one in infos if len(wanted) >= 4 and one.id.startswith(wanted.lower())]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"{len(found)} devices are called {wanted!r}", todo="name it by the start of its id"
        )
    raise ConfigError(f"the vault has no device {wanted!r}", todo="`syncagent device ls` lists them")

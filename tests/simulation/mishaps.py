"""What befalls devices and the remote."""

import os
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from syncagent import names
from syncagent.testing.faulty import HONEST, Rule
from tests.simulation import users
from tests.simulation.crash import Point
from tests.simulation.sim import DAY_S, MOST_DEVICES, Backup, Device, Simulation


async def cut_off(
    simulation: Simulation, device: Device, point: Point, step: Callable[[], Awaitable[object]]
) -> None:
    """Do something and end the process, or cancel what it does, at a point, if it gets that far."""
    await simulation.opened(device)
    assert device.doom is not None
    device.doom.set(point)
    await step()
    if device.doom is not None:
        device.doom.lift()


def fault(simulation: Simulation, device: Device, rule: Rule) -> None:
    """Let calls of a device's remote fail."""
    simulation.is_honest &= rule.fault in HONEST
    device.rules.append(rule)


async def sync_without(simulation: Simulation, device: Device, other: Device, rule: Rule) -> None:
    """Sync while a fault keeps another device's journal back; the rule's prefix is found here."""
    simulation.is_honest = False
    prefix = names.journal_prefix(bytes.fromhex((await simulation.opened(other)).device_id))
    device.rules.insert(0, replace(rule, prefix=prefix))
    await users.sync(simulation, device)
    del device.rules[0]


def shift_clock(simulation: Simulation, device: Device, seconds: float) -> None:
    """Set a device's clock."""
    simulation.are_clocks_right &= abs(seconds) < DAY_S  # else what it writes is dated far ahead for others
    device.offset_s = seconds


def let_days_pass(simulation: Simulation, days: float) -> None:
    """Nobody does anything for so long; files grow old too, so that what is left over may be removed."""
    simulation.now += days * DAY_S
    for device in simulation.devices:
        age_files(device)


def age_files(device: Device) -> None:
    """Let pack files be two days old."""
    then = time.time() - 2 * DAY_S
    for path in (device.folder / "packs").iterdir():
        os.utime(path, (then, then))


async def back_up(simulation: Simulation, device: Device) -> None:
    """Copy a device's folder away."""
    simulation.backups[device] = Backup(await _copy(simulation, device), frozenset(device.mine))


async def restore(simulation: Simulation, device: Device) -> None:
    """Put a device's folder back to what it was; what it had not sent since may be lost."""
    backup = simulation.backups.get(device)
    if backup is None or not await simulation.is_all_there(device):
        return
    simulation.is_honest = False
    shutil.rmtree(device.folder)
    shutil.copytree(backup.folder, device.folder)
    device.mine = set(backup.mine)
    await simulation.doubt_what_is_nowhere()
    simulation.saved_objects = None


async def clone(simulation: Simulation, device: Device) -> None:
    """Copy a device's folder to a machine of its own; both go on."""
    if len(simulation.devices) == MOST_DEVICES:
        return
    simulation.is_honest = False
    folder = await _copy(simulation, device)
    copy = Device(f"{device.name}'", folder, mine=set(device.mine), index=device.index.copy())
    copy.offset_s, copy.is_offline = device.offset_s, device.is_offline
    simulation.devices.append(copy)
    simulation.saved_objects = None


async def leave(simulation: Simulation, device: Device) -> None:
    """A device is never seen again, unless only one more would stay."""
    if len(simulation.devices) <= 2 or not await simulation.is_all_there(device):
        return
    simulation.devices.remove(device)
    simulation.backups.pop(device, None)
    await simulation.doubt_what_is_nowhere()
    simulation.saved_objects = None


async def save_remote(simulation: Simulation) -> None:
    """Copy the store away."""
    simulation.saved_objects = dict(simulation.store.objects)


async def restore_remote(simulation: Simulation) -> None:
    """Put the store back to what it was."""
    if simulation.saved_objects is not None:
        simulation.is_honest = False
        simulation.store.objects = dict(simulation.saved_objects)  # type: ignore[arg-type]  # what it was


async def _copy(simulation: Simulation, device: Device) -> Path:
    await simulation.close_device(device)
    copy = simulation.new_folder()
    shutil.copytree(device.folder, copy)
    return copy

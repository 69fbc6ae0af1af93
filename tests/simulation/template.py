"""The vault that runs start from: devices that have exchanged everything and hold nothing."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import syncagent
from syncagent.remote.memory import named_store
from syncagent.vault import Vault
from tests.engine.conftest import root_of
from tests.engine.world import NOON, PASSPHRASE, World
from tests.simulation.alone import alone


async def make_vault(folder: Path, devices: int) -> World:
    """A vault of so many devices."""
    url = f"memory:{folder}"
    store = named_store(url.partition(":")[2])
    for number in range(devices):
        if number == 0:
            await syncagent.create_vault(
                folder / "a", remote=url, passphrase=PASSPHRASE, device_name="0", kdf=syncagent.FLOOR_KDF
            )
        else:
            await syncagent.join_vault(
                folder / device_name(number), remote=url, passphrase=PASSPHRASE, device_name=str(number)
            )
    return World(folder, store, root_of(folder))


@contextlib.contextmanager
def made_alone(devices: int = 3) -> Iterator[World]:
    """A vault that is the same every time."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        with alone(0) as process, _stopped_clock():
            world = process.run(make_vault(Path(folder), devices))
        yield world


@contextlib.contextmanager
def _stopped_clock() -> Iterator[None]:
    defaults = Vault.__init__.__kwdefaults__
    assert defaults is not None
    with mock.patch.object(time, "time", _before_noon), mock.patch.dict(defaults, now=_before_noon):
        yield


def _before_noon() -> float:
    return NOON - 1000


def device_name(number: int) -> str:
    """What the folder of a device is called."""
    return chr(ord("a") + number)


def scratch() -> Path | None:
    """Where the devices' folders lie: in memory, where there is such a place. Nothing here cuts the power."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None

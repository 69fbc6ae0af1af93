"""The vault that every engine test starts from, made once and copied.

Tables of bad input run on one backend each, for what they try is not asynchronous; all else runs on both.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent import files
from syncagent.cache.profile import Credential, Profile, open_slots, read_slots
from syncagent.crypto.keys import RootSecret
from syncagent.remote.memory import MemoryStore, named_store
from tests.engine.packdisk import PackDisk
from tests.engine.world import PASSPHRASE, World

DEVICES = ("a", "b", "c")


def root_of(folder: Path) -> RootSecret:
    """The root secret of the vault, which every device has."""
    credential = Credential.of(passphrase=PASSPHRASE, recovery_code=None)
    return open_slots(read_slots(Profile(folder / "a")), credential).root


async def _make(folder: Path, url: str, store: MemoryStore) -> None:
    await syncagent.create_vault(
        folder / "a", remote=url, passphrase=PASSPHRASE, device_name="a", kdf=syncagent.FLOOR_KDF
    )
    for name in DEVICES[1:]:
        await syncagent.join_vault(folder / name, remote=url, passphrase=PASSPHRASE, device_name=name)
    world = World(folder, store, root_of(folder))
    # Three rounds: every device has then said how far it has read, so no test meets an
    # acknowledgement that it did not cause.
    for _ in range(3):
        for name in DEVICES:
            await world.sync(name)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("template")
    url = f"memory:{folder.name}"
    store = named_store(url.partition(":")[2])
    anyio.run(partial(_make, folder, url, store))
    yield World(folder, store, root_of(folder))


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    folder = tmp_path / "world"
    shutil.copytree(template.folder, folder)
    return World(folder, MemoryStore(objects=dict(template.store.objects)), template.root)


@pytest.fixture
def disk(observed: Callable[[files.Observer], None]) -> Iterator[PackDisk]:
    disk = PackDisk()
    observed(disk)
    yield disk
    disk.release()

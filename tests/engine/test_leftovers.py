"""What interruptions leave on the disk is removed after a day, and nothing that anyone needs."""

import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent.cache.sweep import GRACE_S
from syncagent.errors import SourceChanged
from tests.engine.packdisk import PackDisk
from tests.engine.place import Place
from tests.engine.test_rollback import contents
from tests.engine.threads import with_threads
from tests.engine.world import World, rows

pytestmark = pytest.mark.anyio

LARGE = random.Random(9).randbytes(300 << 10)
DAY_S = GRACE_S + 60


def age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (time.time() - DAY_S,) * 2)


def packs(world: World, device: str = "a") -> Path:
    return world.folder / device / "packs"


async def test_old_temporary_and_nameless_files_go_and_young_and_named_ones_stay(world: World) -> None:
    """On the device (row E7)."""
    async with world.open("a") as vault:
        await vault.namespace("notes").put("kept", LARGE)
        [named] = packs(world).iterdir()
        old = [packs(world) / ("0" * 32 + ".tmp"), packs(world) / ("ab" * 32)]
        young = [packs(world) / ("1" * 32 + ".tmp"), packs(world) / ("cd" * 32)]
        other = packs(world) / "something of the user's"
        for path in (*old, *young, other):
            path.write_bytes(b"x")
        age(named, other, *old)
        world.clock.now += DAY_S
        await vault.sync()
        assert set(packs(world).iterdir()) == {named, other, *young}
        assert await contents(vault) == {"kept": LARGE}


async def test_content_that_was_replaced_before_it_was_sent_goes_with_the_next_sweep(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(3):
            await notes.put("x", LARGE + b"%d" % number, replace=True)
        await notes.put("mine", LARGE + b"mine", local_only=True)
        assert len(list(packs(world).iterdir())) == 4
        await vault.sync()
        age(*packs(world).iterdir())
        world.clock.now += DAY_S
        await vault.sync()
        assert len(list(packs(world).iterdir())) == 2
        assert await rows(vault, "SELECT count(*) FROM pack WHERE has_file") == [(2,)]
        assert await contents(vault) == {"x": LARGE + b"2", "mine": LARGE + b"mine"}


async def test_it_is_looked_once_a_day(world: World) -> None:
    async with world.open("a") as vault:
        world.clock.now += DAY_S
        await vault.sync()
        left = packs(world) / ("0" * 32 + ".tmp")
        left.write_bytes(b"x")
        age(left)
        await vault.sync()
        assert left.exists()
        world.clock.now += DAY_S
        await vault.sync()
        assert not left.exists()


async def test_a_put_whose_files_were_swept_while_it_ran_fails_and_says_so(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("before", b"x")

        async def pieces() -> AsyncIterator[bytes]:
            yield LARGE[: 1 << 18]
            yield random.Random(1).randbytes(9 << 20)
            with anyio.fail_after(10):
                while not (finished := [path for path in packs(world).iterdir() if path.suffix != ".tmp"]):
                    await anyio.sleep(0.001)  # it is written while the next piece is awaited
            age(*finished)
            world.clock.now += DAY_S
            await vault.sync()
            assert not any(path.exists() for path in finished)

        with pytest.raises(SourceChanged, match="gone from the disk"):
            await vault.namespace("notes").put("x", pieces())
        assert await contents(vault) == {"before": b"x"}


async def test_what_a_crash_leaves_of_a_large_put_is_no_blob_and_goes_after_a_day(
    world: World, disk: PackDisk
) -> None:
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8))
        await notes.put("before", LARGE)
        disk.hold(after=3)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notes.put, "x", random.Random(2).randbytes(40 << 20))
            await disk.wait_held(6)
            world.clone("a", "crashed")  # two packs have their names, three are being written
            disk.release()
    files = sorted(path.suffix for path in packs(world, "crashed").iterdir())
    assert files == [""] * 3 + [".tmp"] * 3
    async with world.open("crashed") as vault:
        assert await contents(vault) == {"before": LARGE}
        await vault.sync()
        assert len(list(packs(world, "crashed").iterdir())) == 6
        age(*packs(world, "crashed").iterdir())
        world.clock.now += DAY_S
        await vault.sync()
        assert len(list(packs(world, "crashed").iterdir())) == 1
        assert await contents(vault) == {"before": LARGE}


async def test_profiles_that_were_never_finished_go_with_the_next_attempt(tmp_path: Path) -> None:
    place = Place(tmp_path)
    old, young = tmp_path / "one.new-0123", tmp_path / "one.new-4567"
    for folder in (old, young, tmp_path / "one.newer"):
        folder.mkdir()
        (folder / "cache.db").write_bytes(b"x")
    age(old)
    await place.create("one")
    assert place.profiles() == ["one", "one.new-4567", "one.newer"]
    async with syncagent.open_vault(tmp_path / "one", passphrase="correct horse") as vault:
        assert vault.id

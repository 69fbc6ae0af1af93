"""A sync with nothing new: no writes, but for one acknowledgement a day."""

import pytest

from syncagent import names
from tests.engine.world import World

pytestmark = pytest.mark.anyio

LARGE = bytes(range(256)) * (2 << 10)


def _files(world: World, name: str) -> dict[str, bytes]:
    folder = world.folder / name
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "sync.lock" and not path.name.endswith("-shm")
    }


@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_second_sync_writes_nothing_here_or_there(world: World, name: str) -> None:
    await world.put_and_sync("a", x=b"one", y=LARGE)
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("x")
        await vault.sync()
    await world.sync("b")  # b only fetches
    remote = world.remote()
    async with world.open(name, remote) as vault:
        await vault.sync()
        objects = dict(world.store.objects)
        files = _files(world, name)
        remote.calls.clear()
        report = await vault.sync()
        assert (report.sent, report.fetched, report.sent_bytes, report.fetched_bytes) == (0, 0, 0, 0)
        assert _files(world, name) == files
    assert world.store.objects == objects
    assert {call.method for call in remote.calls} == {"get", "list"}
    assert remote.called("get") == [names.VAULT]


async def test_a_device_that_only_reads_says_so_once_a_day(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    await world.sync("b")
    before = len(world.store.objects)
    world.clock.now += 24 * 3600 - 1
    await world.sync("b")
    assert len(world.store.objects) == before
    world.clock.now += 1
    await world.sync("b")
    assert len(world.store.objects) == before + 1
    await world.sync("b")
    world.clock.now += 24 * 3600
    await world.sync("b")
    assert len(world.store.objects) == before + 1, "nothing new was read since"


async def test_nobody_acknowledges_an_acknowledgement(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    for device in ("b", "c"):
        await world.sync(device)
    world.clock.now += 24 * 3600
    for device in ("b", "c"):
        await world.sync(device)
    objects = world.names()
    for _ in range(3):
        world.clock.now += 24 * 3600
        for device in ("a", "b", "c"):
            await world.sync(device)
    assert world.names() == objects, "an idle vault stays as it is"

"""A device's own journal at the remote: what was lost of it is put there again, byte for byte."""

import pytest

from syncagent import names
from syncagent.errors import ObjectRefused, QuotaExceeded, SyncAgentError, Unreachable
from syncagent.vault import Vault
from syncagent.wording import counted
from tests.engine.world import Fails, World, kinds, listed

pytestmark = pytest.mark.anyio


def own_journal(world: World, vault: Vault) -> list[str]:
    return world.names(names.journal_prefix(bytes.fromhex(vault.device_id)))


async def journal_of(world: World, device: str) -> list[str]:
    async with world.open(device) as vault:
        return own_journal(world, vault)


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_batches_the_remote_lost_are_put_again_byte_for_byte_and_named(world: World, lost: int) -> None:
    for number in range(3):
        await world.put_and_sync("a", **{f"n{number}": b"x"})
    names_a = await journal_of(world, "a")
    right = {name: world.data(name) for name in names_a}
    for name in names_a[-lost:]:
        world.hide(name)
    report = await world.sync("a")
    assert [alarm.kind for alarm in report.alarms] == ["RemoteRolledBack"]
    assert f"{counted(lost, 'batch', 'batches')}, 0 packs" in report.alarms[0].message
    assert {name: world.data(name) for name in names_a} == right
    assert kinds(await world.sync("a")) == []
    assert kinds(await world.sync("b")) == []
    async with world.open("b") as vault:
        assert set(await listed(vault)) == {"n0", "n1", "n2"}


async def test_a_wholly_lost_journal_is_put_again_before_anything_new(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    await world.put("a", y=b"y")
    names_a = await journal_of(world, "a")
    for name in names_a:
        world.hide(name)
    remote = world.remote()
    assert "RemoteRolledBack" in kinds(await world.sync("a", remote))
    assert remote.called("put", names.JOURNAL)[:-1] == names_a
    assert await journal_of(world, "a") == [*names_a, names_a[-1][:-12] + f"{len(names_a) + 1:012d}"]


async def test_a_lost_batch_that_shows_up_while_it_is_put_again_is_left_as_it_is(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    [*_, last] = await journal_of(world, "a")
    right = world.data(last)
    bring_back = world.hide(last)
    remote = world.remote()

    async def reappear(call: object) -> None:
        if getattr(call, "method", "") == "put":
            bring_back()

    remote.before = reappear
    assert "RemoteRolledBack" in kinds(await world.sync("a", remote))
    assert world.data(last) == right


async def test_lost_packs_of_ours_do_not_stop_a_sync(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    for name in world.names(names.PACKS):
        world.hide(name)
    await world.put("a", y=b"y")
    report = await world.sync("a")
    assert (report.sent, kinds(report)) == (1, [])
    async with world.open("a") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"x"


@pytest.mark.parametrize(
    "error", [Unreachable("took longer than 300 s"), ObjectRefused("not this one"), QuotaExceeded("no room")]
)
async def test_a_lost_batch_that_is_not_taken_again_does_not_keep_us_from_reading_the_others(
    world: World, error: SyncAgentError
) -> None:
    await world.put_and_sync("a", mine=b"mine")
    [*_, last] = await journal_of(world, "a")
    right = world.data(last)
    world.hide(last)
    await world.put_and_sync("b", theirs=b"theirs")
    remote = world.remote()
    remote.before = Fails(error, "put", names.JOURNAL)
    async with world.open("a", remote) as vault:
        for _ in range(2):
            [alarm] = (await vault.sync()).alarms
            assert alarm.kind == "RemoteRolledBack" and str(error) in alarm.message
        assert (await vault.namespace("notes").get("theirs")).data == b"theirs"
        remote.before = Fails(error, "put", times=0)
        assert kinds(await vault.sync()) == ["RemoteRolledBack"]
        assert world.data(last) == right
        assert kinds(await vault.sync()) == []

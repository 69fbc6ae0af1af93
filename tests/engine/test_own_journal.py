"""A device's own journal at the remote: what was lost is put there again, what it never wrote is a fork."""

import pytest

from syncagent import names
from syncagent.errors import RemoteForked
from syncagent.vault import Vault
from tests.engine.world import World, kinds, listed, statuses

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
    assert f"lost {lost} batches" in report.alarms[0].message
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


async def test_a_batch_of_ours_beyond_what_we_issued_is_a_fork_and_nothing_is_sent(world: World) -> None:
    """The folder was restored from a backup, and the device it was copied from has written on."""
    world.clone("a", "backup")
    for number in range(2):
        await world.put_and_sync("a", **{f"n{number}": b"x"})
    await world.put("backup", mine=b"mine")
    before = dict(world.store.objects)
    async with world.open("backup") as vault:
        for _ in range(2):
            with pytest.raises(RemoteForked):
                await vault.sync()
        assert await statuses(vault) == {"mine": "PENDING_UPLOAD"}
        assert (await vault.namespace("notes").get("mine")).data == b"mine"
        assert (await vault.status()).reasons[0].startswith("RemoteForked")
    assert world.store.objects == before


async def test_a_journal_of_ours_that_others_have_read_further_than_we_wrote_is_a_fork(world: World) -> None:
    """The folder and the remote were both restored: only what another device has read tells of it."""
    world.clone("a", "backup")
    kept = dict(world.store.objects)
    for number in range(2):
        await world.put_and_sync("a", **{f"n{number}": b"x"})
    await world.sync("b")
    world.store.objects.clear()
    world.store.objects.update(kept)
    await world.put("b", later=b"b names what it has read")
    await world.sync("b")
    await world.put("backup", mine=b"mine")
    async with world.open("backup") as vault:
        for _ in range(2):
            with pytest.raises(RemoteForked):
                await vault.sync()
        assert (await statuses(vault))["mine"] == "PENDING_UPLOAD"


async def test_a_journal_of_ours_that_another_was_shown_differently_is_an_alarm(world: World) -> None:
    world.clone("a", "copy")
    kept = dict(world.store.objects)
    await world.put_and_sync("copy", x=b"the copy's story")
    await world.sync("b")
    await world.put("b", y=b"b names what it has read")
    async with world.open("b") as vault:
        await vault.send_missing()
        device_b = vault.device_id
    from_b = {name: stored for name, stored in world.store.objects.items() if device_b in name}
    world.store.objects.clear()
    world.store.objects.update(kept)
    for number in range(2):
        await world.put_and_sync("a", **{f"n{number}": b"x"})
    world.store.objects.update(from_b)
    assert "RemoteForked" in kinds(await world.sync("a"))


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

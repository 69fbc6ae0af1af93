"""The remote is restored from an earlier copy: every device puts back what it lost of theirs, and says so."""

import random
from collections.abc import Callable

import anyio
import pytest

from syncagent import names
from syncagent.cache import facts
from syncagent.engine.slots import SLOTS_KEY
from syncagent.errors import RemoteRolledBack, Unreachable
from syncagent.vault import Vault
from tests.engine.world import Call, World, kinds, listed, rows, statuses

pytestmark = pytest.mark.anyio

LARGE = random.Random(4).randbytes(300 << 10)
LARGER = random.Random(5).randbytes(600 << 10)


def backup(world: World) -> Callable[[], None]:
    """Take a copy of the remote; the call that restores it."""
    kept = dict(world.store.objects)

    def restore() -> None:
        world.store.objects.clear()
        world.store.objects.update(kept)

    return restore


async def contents(vault: Vault) -> dict[str, bytes]:
    notes = vault.namespace("notes")
    return {blob_id: (await notes.get(blob_id)).data for blob_id in await listed(vault)}


async def is_quiet(world: World, *devices: str) -> bool:
    """Whether a further sync of each writes nothing and has nothing to say."""
    before = {name: stored.data for name, stored in world.store.objects.items()}
    for device in devices:
        report = await world.sync(device)
        if report.alarms or report.sent or report.fetched:
            return False
    return before == {name: stored.data for name, stored in world.store.objects.items()}


async def settle(world: World, *devices: str) -> list[str]:
    """Sync until everybody has seen everything; the kinds of all alarms on the way."""
    found: list[str] = []
    for _ in range(4):
        for device in devices:
            found += kinds(await world.sync(device))
    return found


async def yesterday_and_today(world: World) -> tuple[Callable[[], None], dict[str, bytes]]:
    """Blobs of two devices before a backup and after it; the restore, and all content."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("old", b"old")
        await notes.put("edited", b"first")
        await notes.put("deleted", b"gone")
        await notes.put("old-large", LARGE)
        await vault.sync()
    await settle(world, "a", "b", "c")
    restore = backup(world)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("edited", b"second", replace=True)
        await notes.delete("deleted")
        await notes.put_many([(f"n{number}", b"%d" % number * 100) for number in range(30)])
        await notes.put("large", LARGER)
        await notes.put("same", LARGE)  # content the remote has from before
        await vault.sync()
    async with world.open("b") as vault:
        await vault.sync()
        await vault.namespace("notes").put("from-b", b"b")
        await vault.namespace("notes").put("n3", b"edited by b", replace=True)
        await vault.sync()
    await settle(world, "a", "b")
    async with world.open("a") as vault:
        return restore, await contents(vault)


async def test_a_restored_remote_is_healed_by_the_devices_and_a_late_one_gets_everything(
    world: World,
) -> None:
    restore, wanted = await yesterday_and_today(world)
    restore()
    report = await world.sync("a")
    [alarm] = [one for one in report.alarms if one.subject == "remote"]
    assert alarm.kind == "RemoteRolledBack"
    # The packs of large blobs lie here as files; the shared one of the small ones is sealed anew.
    assert "1 pack and 0 key slots of this device put there again" in alarm.message
    assert "30 blobs to be sent again" in alarm.message  # n3 is b's now, and `edited` is one of them
    assert "RemoteRolledBack" in kinds(await world.sync("b"))
    await settle(world, "a", "b", "c")
    for device in ("a", "b", "c"):
        async with world.open(device) as vault:
            assert await contents(vault) == wanted
            assert set((await statuses(vault)).values()) == {"SYNCED"}
            assert not any(blob.conflict for blob in (await listed(vault)).values())
    assert await is_quiet(world, "a", "b", "c")


async def test_it_is_told_once(world: World) -> None:
    restore, _ = await yesterday_and_today(world)
    restore()
    told = [kinds(await world.sync("a")).count("RemoteRolledBack") for _ in range(3)]
    assert told[0] >= 1
    await world.sync("b")
    assert kinds(await world.sync("a")) == [] and kinds(await world.sync("b")) == []


async def test_everything_lost_but_the_vault_itself(world: World) -> None:
    _, wanted = await yesterday_and_today(world)
    for name in world.names():
        if name != names.VAULT:
            world.hide(name)
    slots = 2
    report = await world.sync("a")
    [alarm] = [one for one in report.alarms if one.subject == "remote"]
    assert f"{slots} key slot" in alarm.message
    assert len(world.names(names.KEYS)) == slots
    await settle(world, "a", "b", "c")
    assert len(world.names(names.DEVICES)) == 3
    for device in ("a", "b", "c"):
        async with world.open(device) as vault:
            assert await contents(vault) == wanted
    assert await is_quiet(world, "a", "b", "c")


async def test_without_its_vault_object_nothing_is_put_there(world: World) -> None:
    await world.put("a", x=b"one")
    world.store.objects.clear()
    with pytest.raises(RemoteRolledBack):
        await world.sync("a")
    assert world.names() == []


async def test_lost_batches_alone_are_put_again_and_no_content_is_sent(world: World) -> None:
    await world.put_and_sync("a", x=b"one", y=LARGE)
    for name in world.names(names.JOURNAL):
        world.hide(name)
    remote = world.remote()
    await world.sync("a", remote)
    assert remote.called("put", names.PACKS) == []
    await settle(world, "a", "b", "c")
    async with world.open("c") as vault:
        assert await contents(vault) == {"x": b"one", "y": LARGE}


async def test_a_batch_missing_from_the_middle_is_noticed(world: World) -> None:
    for number in range(4):
        await world.put_and_sync("a", **{f"n{number}": b"%d" % number})
    async with world.open("a") as vault:
        journal = world.names(names.journal_prefix(bytes.fromhex(vault.device_id)))
    world.hide(journal[-3])
    report = await world.sync("a")
    assert "1 batch, 0 packs" in report.alarms[0].message
    assert kinds(await world.sync("b")) == []


async def test_a_pack_file_that_no_longer_verifies_sends_its_blob_no_wrong_bytes(world: World) -> None:
    await world.put_and_sync("a", large=LARGE, small=b"small")
    [path] = (world.folder / "a" / "packs").iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    for name in (*world.names(names.PACKS), *world.names(names.JOURNAL)):
        world.hide(name)
    report = await world.sync("a")
    assert [failure.id for failure in report.failures] == ["large"]
    async with world.open("a") as vault:
        assert await statuses(vault) == {"large": "PENDING_UPLOAD", "small": "SYNCED"}
    assert (await world.sync("b")).fetched == 1


async def test_what_is_pending_goes_out_with_what_was_lost(world: World) -> None:
    restore, wanted = await yesterday_and_today(world)
    await world.put("a", new=b"new", edited=b"third")
    restore()
    await settle(world, "a", "b", "c")
    async with world.open("c") as vault:
        assert await contents(vault) == wanted | {"new": b"new", "edited": b"third"}
        assert not any(blob.conflict for blob in (await listed(vault)).values())


async def stopped_at(world: World, device: str, at: int, *, after: bool) -> bool:
    """Sync with the remote going away at its n-th call; whether there was such a call."""
    remote = world.remote()
    number = 0

    async def stop(call: Call) -> None:
        nonlocal number
        number += 1
        if number >= at:
            raise Unreachable("gone")

    if after:
        remote.after = stop
    else:
        remote.before = stop
    try:
        await world.sync(device, remote)
    except Unreachable:
        return True
    return False


@pytest.mark.parametrize("after", [False, True])
async def test_healing_that_stops_anywhere_is_finished_by_the_next_sync(world: World, after: bool) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        await vault.namespace("notes").put("large", LARGE)
        await vault.sync()
    kept = dict(world.store.objects)
    lost = [name for name in kept if name != names.VAULT]
    at = 0
    is_running = True
    while is_running:
        at += 1
        for name in lost:
            world.store.objects.pop(name, None)
        is_running = await stopped_at(world, "a", at, after=after)
        report = await world.sync("a")
        if is_running and at > 3:
            assert "RemoteRolledBack" in kinds(report) or at > 12
        await world.sync("a")
        async with world.open("a") as vault:
            assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
            assert await rows(vault, "SELECT count(*) FROM meta WHERE key = 'is_healing'") == [(0,)]
        assert set(world.names(names.KEYS)) == {name for name in lost if name.startswith(names.KEYS)}
    assert at > 12
    await settle(world, "b", "c")
    async with world.open("c") as vault:
        assert await contents(vault) == {"x": b"one", "large": LARGE}


async def test_a_slot_copy_that_is_not_the_listed_one_is_not_put(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    async with world.open("a") as vault:
        ctx, _ = vault.parts()
        assert await ctx.cache.read(lambda db: facts.find_register(db, "slots", SLOTS_KEY)) is not None
    copies = sorted((world.folder / "a" / "keys").iterdir())
    copies[0].write_bytes(b"something else")
    for name in world.names(names.KEYS) + world.names(names.JOURNAL):
        world.hide(name)
    await world.sync("a")
    assert world.names(names.KEYS) == [names.KEYS + copies[1].name]


async def test_cancelled_in_the_middle_it_goes_on(world: World) -> None:
    restore, wanted = await yesterday_and_today(world)
    restore()
    remote = world.remote()
    with anyio.CancelScope() as scope:

        async def cancel(call: Call) -> None:
            if call.method == "put":
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        remote.before = cancel
        await world.sync("a", remote)
    assert scope.cancelled_caught
    await settle(world, "a", "b", "c")
    async with world.open("c") as vault:
        assert await contents(vault) == wanted


@pytest.mark.parametrize("device", ["a", "b"])
async def test_key_slots_that_the_remote_lost_are_put_again_by_any_device_and_named(
    world: World, device: str
) -> None:
    """Nothing else shows that they are gone until somebody wants to join."""
    kept = {name: world.data(name) for name in world.names(names.KEYS)}
    for name in kept:
        world.hide(name)
    report = await world.sync(device)
    assert kinds(report) == ["RemoteRolledBack"]
    assert "2 key slots" in report.alarms[0].message
    assert {name: world.data(name) for name in world.names(names.KEYS)} == kept
    assert await is_quiet(world, "a", "b", "c")

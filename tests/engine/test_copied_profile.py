"""A profile that exists twice, or was restored, becomes a device of its own and loses nothing."""

import contextlib
import random
import shutil

import pytest

import syncagent
from syncagent import names
from syncagent.crypto.sealed import seal_object
from syncagent.engine.slots import listed_slots
from syncagent.errors import RemoteForked, Unreachable
from tests.engine.test_rollback import contents, is_quiet, settle, stopped_at
from tests.engine.world import Call, Fails, GoesAway, World, batches, change, kinds, listed, rows, statuses

pytestmark = pytest.mark.anyio

LARGE = random.Random(6).randbytes(300 << 10)


async def device_of(world: World, name: str) -> str:
    async with world.open(name) as vault:
        return vault.device_id


def restore(world: World, name: str, backup: str) -> None:
    """Put a device's folder back to what it was."""
    shutil.rmtree(world.folder / name)
    shutil.copytree(world.folder / backup, world.folder / name)


async def conflicts(world: World, name: str) -> list[str]:
    async with world.open(name) as vault:
        return sorted(blob_id for blob_id, blob in (await listed(vault)).items() if blob.conflict)


async def all_have(world: World, wanted: dict[str, bytes], *devices: str) -> None:
    for name in devices:
        async with world.open(name) as vault:
            assert await contents(vault) == wanted, name
            assert set((await statuses(vault)).values()) <= {"SYNCED"}, name
        assert await conflicts(world, name) == []
    assert await is_quiet(world, *devices)


# Copied ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "copy"])
async def test_both_go_on_as_two_devices(world: World, first: str) -> None:
    await world.put_and_sync("a", old=b"old", large=LARGE)
    world.clone("a", "copy")
    second = "copy" if first == "a" else "a"
    id_before = await device_of(world, "a")
    await world.put(first, one=b"one")
    await world.put(second, two=b"two")
    assert kinds(await world.sync(first)) == []
    async with world.open(second) as vault:
        report = await vault.sync()
        assert kinds(report) == ["RemoteForked"]
        assert "copied or restored from a backup" in report.alarms[0].message
        assert report.sent == 1  # in the same sync
        new = vault.device_id
        assert new != id_before
    assert await device_of(world, second) == new
    assert await device_of(world, first) == id_before
    await settle(world, "a", "copy", "b", "c")
    await all_have(
        world, {"old": b"old", "large": LARGE, "one": b"one", "two": b"two"}, "a", "copy", "b", "c"
    )
    assert names.DEVICES + new in world.names(names.DEVICES)


async def test_what_was_pending_when_it_was_copied_is_published_once(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"first")
        await notes.put("x", b"second", replace=True)
        await notes.put("large", LARGE)
        await notes.put("gone", b"gone")
        await notes.delete("gone")
    world.clone("a", "copy")
    await world.sync("a")
    await world.put("copy", mine=b"mine")
    await world.sync("copy")
    await settle(world, "a", "copy", "b")
    await all_have(world, {"x": b"second", "large": LARGE, "mine": b"mine"}, "a", "copy", "b")
    async with world.open("b") as vault:
        counts = await rows(
            vault, "SELECT count(*) FROM version JOIN blob ON blob.no = blob_no WHERE blob.id = 'x'"
        )
        assert counts == [(1,)]


async def test_edits_made_after_copying_what_is_pending_build_on_it(world: World) -> None:
    await world.put("a", x=b"first")
    world.clone("a", "copy")
    await world.put_and_sync("a", x=b"second of a")  # folds the first away
    await world.put("copy", y=b"y")
    await world.sync("copy")
    # The copy's `x` was waiting as "first", which nobody has published: two edits of nothing in common.
    await settle(world, "a", "copy", "b")
    assert await conflicts(world, "a") == await conflicts(world, "copy") == await conflicts(world, "b")
    for name in ("a", "copy", "b"):
        async with world.open(name) as vault:
            assert (await contents(vault))["y"] == b"y"


async def test_edits_of_both_are_a_conflict_as_between_any_two_devices(world: World) -> None:
    await world.put_and_sync("a", x=b"old")
    world.clone("a", "copy")
    await world.put("a", x=b"by a")
    await world.put("copy", x=b"by the copy")
    await settle(world, "a", "copy", "b")
    for name in ("a", "copy", "b"):
        assert await conflicts(world, name) == ["x"]
    async with world.open("a") as one, world.open("b") as two:
        assert await contents(one) == await contents(two)


async def test_a_batch_in_the_outbox_is_put_by_either_with_the_same_bytes(world: World) -> None:
    await world.put("a", x=b"one")
    remote = world.remote()
    remote.before = Fails(Unreachable("no"), "put", names.JOURNAL)
    with pytest.raises(Unreachable):
        await world.sync("a", remote)
    world.clone("a", "copy")
    assert kinds(await world.sync("a")) == []
    assert kinds(await world.sync("copy")) == []  # nothing tells them apart yet
    await world.put_and_sync("a", y=b"y")
    await world.put("copy", z=b"z")
    assert kinds(await world.sync("copy")) == ["RemoteForked"]
    await settle(world, "a", "copy", "b")
    await all_have(world, {"x": b"one", "y": b"y", "z": b"z"}, "a", "copy", "b")


async def test_a_batch_in_the_outbox_whose_number_the_other_took_is_published_under_the_new_id(
    world: World,
) -> None:
    world.clone("a", "copy")
    await world.put("copy", x=b"one")
    remote = world.remote()
    remote.before = Fails(Unreachable("no"), "put", names.JOURNAL)
    with pytest.raises(Unreachable):
        await world.sync("copy", remote)
    await world.put_and_sync("a", y=b"y")
    assert kinds(await world.sync("copy")) == ["RemoteForked"]
    await settle(world, "a", "copy", "b")
    await all_have(world, {"x": b"one", "y": b"y"}, "a", "copy", "b")


async def test_sending_alone_notices_it_too(world: World) -> None:
    world.clone("a", "copy")
    await world.put_and_sync("a", x=b"x")
    async with world.open("copy") as vault:
        await vault.namespace("notes").put("y", b"y")
        report = await vault.send_missing()
        assert (report.sent, kinds(report)) == (1, ["RemoteForked"])
    await settle(world, "a", "copy", "b")
    await all_have(world, {"x": b"x", "y": b"y"}, "a", "copy", "b")


async def test_three_copies_become_three_devices(world: World) -> None:
    world.clone("a", "one")
    world.clone("a", "two")
    await world.put("a", a=b"a")
    await world.put("one", b=b"b")
    await world.put("two", c=b"c")
    await settle(world, "a", "one", "two", "b")
    ids = {await device_of(world, name) for name in ("a", "one", "two")}
    assert len(ids) == 3
    await all_have(world, {"a": b"a", "b": b"b", "c": b"c"}, "a", "one", "two", "b")


async def test_another_process_learns_of_the_new_id(world: World) -> None:
    world.clone("a", "copy")
    await world.put_and_sync("a", x=b"x")
    async with world.open("copy") as one, world.open("copy") as two:
        await one.namespace("notes").put("y", b"y")
        await one.sync()
        await two.namespace("notes").put("z", b"z")
        report = await two.sync()
        assert (report.sent, kinds(report)) == (1, [])
        assert await rows(two, "SELECT 1 FROM version WHERE seq = 0") == []
    await settle(world, "a", "copy", "b")
    await all_have(world, {"x": b"x", "y": b"y", "z": b"z"}, "a", "copy", "b")


# Restored ----------------------------------------------------------------------------------------


async def test_a_profile_restored_from_a_backup_goes_on_where_the_vault_is(world: World) -> None:
    await world.put_and_sync("a", old=b"old")
    world.clone("a", "backup")
    await world.put_and_sync("a", since=b"since", large=LARGE)
    await world.sync("b")
    restore(world, "a", "backup")
    await world.put("a", new=b"new")
    report = await world.sync("a")
    assert kinds(report) == ["RemoteForked"] and report.fetched == 2
    await settle(world, "a", "b", "c")
    await all_have(world, {"old": b"old", "since": b"since", "large": LARGE, "new": b"new"}, "a", "b", "c")


async def test_what_waited_at_the_time_of_the_backup_and_was_sent_since_is_not_doubled(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"first")
        await notes.put("y", b"y")
    world.clone("a", "backup")
    await world.put("a", x=b"second")  # folds what waited: it is published with other parents
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("y")
        await vault.sync()
    await world.sync("b")
    restore(world, "a", "backup")
    await settle(world, "a", "b")
    found = {name: await conflicts(world, name) for name in ("a", "b")}
    assert found["a"] == found["b"]
    async with world.open("a") as one, world.open("b") as two:
        assert await contents(one) == await contents(two)
        assert b"second" in (await contents(one)).values()


async def test_a_folded_version_that_was_published_is_taken_as_it_was_published(world: World) -> None:
    await world.put_and_sync("a", x=b"zero")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"one", replace=True)
        await notes.put("x", b"two", replace=True)
        await notes.put("x", b"three", replace=True)
    world.clone("a", "backup")
    await world.sync("a")  # publishes "three", on top of "zero"
    restore(world, "a", "backup")
    assert kinds(await world.sync("a")) == ["RemoteForked"]
    await settle(world, "a", "b")
    await all_have(world, {"x": b"three"}, "a", "b")
    async with world.open("a") as vault:
        assert await rows(vault, "SELECT count(*) FROM version") == [(2,)]


async def test_remote_and_profile_restored_together_and_only_another_has_read_further(world: World) -> None:
    world.clone("a", "backup")
    kept = dict(world.store.objects)
    await world.put_and_sync("a", lost=b"only b has it now")
    await world.sync("b")
    world.store.objects.clear()
    world.store.objects.update(kept)
    await world.put("b", later=b"b names what it has read")
    await world.sync("b")
    restore(world, "a", "backup")
    await world.put("a", mine=b"mine")
    report = await world.sync("a")
    assert "RemoteForked" in kinds(report)
    # What b has read of a's former journal is gone from the remote: named at every sync, and nothing stops.
    assert "Withheld" in kinds(await world.sync("a"))
    await world.sync("b")
    async with world.open("b") as vault:
        found = await contents(vault)
        assert found["mine"] == b"mine" and found["lost"] == b"only b has it now"


async def test_a_batch_of_ours_that_another_was_shown_differently_makes_it_a_new_device(world: World) -> None:
    world.clone("a", "copy")
    kept = dict(world.store.objects)
    await world.put_and_sync("copy", x=b"the copy's story")
    await world.sync("b")
    await world.put("b", y=b"b names what it has read")
    async with world.open("b") as vault:
        await vault.send_missing()
        device_b = vault.device_id
    from_b = {name: stored for name, stored in world.store.objects.items() if device_b in name}
    packs = {name: stored for name, stored in world.store.objects.items() if name.startswith(names.PACKS)}
    world.store.objects.clear()
    world.store.objects.update(kept)
    for number in range(2):
        await world.put_and_sync("a", **{f"n{number}": b"x"})
    world.store.objects.update(from_b | packs)
    before = await device_of(world, "a")
    assert "RemoteForked" in kinds(await world.sync("a"))
    assert await device_of(world, "a") != before
    async with world.open("a") as vault:
        assert {"n0", "n1", "y"} <= set(await contents(vault))


# Interruptions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
async def test_becoming_a_new_device_may_stop_anywhere(world: World, after: bool) -> None:
    await world.put_and_sync("a", old=b"old")
    world.clone("a", "copy")
    await world.put_and_sync("a", x=b"x")
    await world.put("copy", y=b"y", large=LARGE)
    world.clone("copy", "start")
    kept = dict(world.store.objects)
    at = 0
    is_running = True
    while is_running:
        at += 1
        restore(world, "copy", "start")
        world.store.objects.clear()
        world.store.objects.update(kept)
        is_running = await stopped_at(world, "copy", at, after=after)
        await world.sync("copy")
        await settle(world, "copy")
        async with world.open("copy") as vault:
            assert await contents(vault) == {"old": b"old", "x": b"x", "y": b"y", "large": LARGE}
            assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
            assert min(await batches(world, vault)) == 1
    assert at > 10
    await settle(world, "b", "copy", "a", "b")
    await all_have(world, {"old": b"old", "x": b"x", "y": b"y", "large": LARGE}, "copy", "a", "b")


async def test_a_remote_that_claims_it_again_and_again_ends_the_sync_as_forked(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("x", b"one")
        keys = vault.parts()[0].keys

        async def intrude(call: Call) -> None:
            is_batch = call.method == "put" and call.name.startswith(names.JOURNAL)
            if is_batch and call.name not in world.names():
                await world.replace(call.name, seal_object(keys, call.name, b"a copy's batch"))

        remote.before = intrude
        with pytest.raises(RemoteForked):
            await vault.sync()
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}
        assert (await vault.status()).state is syncagent.SyncState.STOPPED
        remote.before = Fails(Unreachable("no"), "put", times=0)
        report = await vault.sync()
        assert report.sent == 1
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"one"


async def test_a_damaged_row_that_its_other_self_has_published_is_mended(world: World) -> None:
    await world.put("a", x=b"one")
    world.clone("a", "copy")
    await world.sync("a")
    async with world.open("copy") as vault:
        await change(vault, "UPDATE packed SET bytes = zeroblob(length(bytes))")
        await vault.sync()
        assert (await vault.namespace("notes").get("x")).data == b"one"
    assert await is_quiet(world, "copy")


# A batch of ours that is lost before it was sent -----------------------------------------------------


@pytest.mark.parametrize("is_there", [False, True], ids=["not sent", "sent, answer lost"])
async def test_a_batch_damaged_in_the_outbox_makes_a_new_device_and_loses_nothing(
    world: World, is_there: bool
) -> None:
    await world.put_and_sync("a", old=b"old")
    await world.put("a", x=b"x", large=LARGE)
    remote = world.remote()
    if is_there:
        remote.after = GoesAway(Unreachable("the answer was lost"), "put", names.JOURNAL)
    else:
        remote.before = GoesAway(Unreachable("no connection"), "put", names.JOURNAL)
    with pytest.raises(Unreachable):
        await world.sync("a", remote)
    before = await device_of(world, "a")
    async with world.open("a") as vault:
        await change(
            vault,
            "UPDATE payload SET bytes = zeroblob(length(bytes)) WHERE no IN"
            " (SELECT payload_no FROM own_batch WHERE NOT confirmed)",
        )
        await vault.namespace("notes").put("y", b"y")
        assert (await vault.namespace("notes").get("x")).data == b"x"
        report = await vault.sync()
        assert kinds(report) == ["CacheDamaged"]
        assert report.alarms[0].safe == "nothing put here is lost"
        assert vault.device_id != before
    await settle(world, "a", "b")
    await all_have(world, {"old": b"old", "x": b"x", "y": b"y", "large": LARGE}, "a", "b")


async def test_a_new_passphrase_in_a_damaged_batch_is_published_all_the_same(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(Unreachable("no"), "put", names.JOURNAL)
    async with world.open("a", remote) as vault:
        with contextlib.suppress(Unreachable):
            await vault.change_passphrase("another passphrase", kdf=syncagent.FLOOR_KDF)
        await change(
            vault,
            "UPDATE payload SET bytes = zeroblob(length(bytes)) WHERE no IN"
            " (SELECT payload_no FROM own_batch WHERE NOT confirmed)",
        )
        remote.before = Fails(Unreachable("no"), "put", times=0)
        assert kinds(await vault.sync()) == ["CacheDamaged"]
        listed_here = await vault.parts()[0].cache.read(listed_slots)
    async with world.open("b") as vault:
        await vault.sync()
        assert await vault.parts()[0].cache.read(listed_slots) == listed_here


async def test_what_one_has_folded_is_not_published_by_the_other(world: World) -> None:
    """Both have a put and its deletion waiting: one publishes the deletion, the other drops the put."""
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        await vault.namespace("notes").delete("x")
    world.clone("a", "copy")
    for name in ("a", "copy", "a", "copy", "b"):
        await world.sync(name)
    histories = []
    for name in ("a", "copy", "b"):
        async with world.open(name) as vault:
            assert not await vault.namespace("notes").exists("x")
            histories.append([one.id for one in await vault.namespace("notes").history("x")])
    assert len(histories[0]) == 1
    assert histories[0] == histories[1] == histories[2]

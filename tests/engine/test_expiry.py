"""When blobs expire: put off only, unless forced; by the local clock."""

import datetime
from collections.abc import Awaitable, Callable

import pytest

from syncagent import names
from syncagent.errors import BlobNotFound, ConfigError, ObjectRefused, VersionConflict
from syncagent.journal.changes import ExpiresChange
from syncagent.model import SyncStatus
from syncagent.namespace import Namespace
from tests.engine.world import NOON, Fails, World, batches, rows

pytestmark = pytest.mark.anyio


def at(seconds: float) -> datetime.datetime:
    """So long after the test begins."""
    return datetime.datetime.fromtimestamp(NOON + seconds, datetime.UTC)


async def expiry(world: World, device: str) -> datetime.datetime | None:
    async with world.open(device) as vault:
        return (await vault.namespace("notes").stat("x")).expires_at


async def settle(world: World) -> None:
    for device in ("a", "b", "c", "a", "b"):
        await world.sync(device)


async def test_an_expired_blob_is_absent_for_every_call_and_stays_as_it_is(world: World) -> None:
    """From its time on, by the local clock (row C1)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"x", expires_at=at(60))
        await notes.put("y", b"y")
        await notes.add_flags("x", {"seen"})
        await vault.sync()
        assert (await notes.stat("x")).expires_at == at(60) and (await notes.stat("y")).expires_at is None
        world.clock.now += 59.999
        assert (await notes.get("x")).data == b"x" and await notes.count() == 2
        world.clock.now += 0.001
        absent: list[Callable[[], Awaitable[object]]] = [
            lambda: notes.get("x"),
            lambda: notes.stat("x"),
            lambda: notes.delete("x"),
            lambda: notes.get_flags("x"),
            lambda: notes.add_flags("x", {"y"}),
            lambda: notes.set_metadata("x", {}),
        ]
        for call in absent:
            with pytest.raises(BlobNotFound):
                await call()
        assert not await notes.exists("x")
        assert isinstance((await notes.get_many(["x"]))[0].error, BlobNotFound)
        assert [blob.id for blob in (await notes.list()).blobs] == ["y"]
        assert [blob.id for blob in (await notes.list(flag="seen")).blobs] == []
        assert await notes.count() == await notes.count(status=SyncStatus.SYNCED) == 1
        assert await notes.count(prefix="x") == await notes.count(flag="seen") == 0
        assert [(one.name, one.blobs) for one in await vault.namespaces()] == [("notes", 1)]
        # It is kept, synced and counted by what tells of the disk and the remote.
        assert (await vault.status()).counts[SyncStatus.SYNCED] == 2
        assert (await notes.get("x", version="~0")).data == b"x" and len(await notes.history("x")) == 1
        assert (await vault.sync()).sent == 0
        assert await notes.set_expiry("x", at(3600)) == at(3600)
        assert (await notes.get("x")).data == b"x" and await notes.get_flags("x") == {"seen"}
        assert await notes.count() == 2


async def test_a_clock_that_jumps_hides_a_blob_for_as_long_as_it_is_wrong(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"x", expires_at=at(60))
        world.clock.now += 365 * 86400
        assert not await notes.exists("x")
        world.clock.now -= 365 * 86400
        assert await notes.exists("x")


async def test_it_is_only_put_off_unless_forced(world: World) -> None:
    """A time is only ever extended (row C1)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"x")
        assert await notes.set_expiry("x", at(100)) == at(100)
        assert await notes.set_expiry("x", at(50)) == at(100)
        assert await notes.set_expiry("x", at(200)) == at(200)
        await notes.put("x", b"other", replace=True, expires_at=at(150))
        await notes.put("x", b"other", expires_at=at(160))
        assert (await notes.stat("x")).expires_at == at(200)
        assert await notes.set_expiry("x", at(70), force=True) == at(70)
        assert await notes.set_expiry("x", at(60)) == at(70)
        assert await notes.set_expiry("x", None) is None, "for ever"
        assert await notes.set_expiry("x", at(80)) is None
        assert await notes.set_expiry("x", at(80), force=True) == at(80)
        assert await notes.set_expiry("x", at(-1), force=True) == at(-1)
        assert not await notes.exists("x")
        await vault.sync()
    await world.sync("b")
    async with world.open("b") as vault:
        assert not await vault.namespace("notes").exists("x")


async def test_for_ever_is_remembered_though_nobody_has_said_a_time(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"x")
        assert await notes.set_expiry("x", None) is None
        assert await notes.set_expiry("x", at(80)) is None


@pytest.mark.parametrize("is_forced", [False, True])
async def test_times_that_two_devices_set_come_to_the_same_on_all(world: World, is_forced: bool) -> None:
    await world.put_and_sync("a", x=b"x")
    await settle(world)
    async with world.open("a") as vault:
        await vault.namespace("notes").set_expiry("x", at(500))
    world.clock.now += 1
    async with world.open("b") as vault:
        await vault.namespace("notes").set_expiry("x", at(300), force=is_forced)
    world.clock.now += 1
    async with world.open("c") as vault:
        await vault.namespace("notes").set_expiry("x", at(400))
    await settle(world)
    expected = at(400) if is_forced else at(500)
    assert [await expiry(world, device) for device in "abc"] == [expected] * 3


async def test_a_put_over_what_has_expired_makes_the_blob_anew(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        old = await notes.put("x", b"x", expires_at=at(60))
        await notes.add_flags("x", {"seen"})
        await vault.sync()
        world.clock.now += 100
        new = await notes.put("x", b"x")
        assert new != old and new.created_at == int(world.clock.now * 1000)
        assert (await notes.get("x")).data == b"x"
        assert (await notes.stat("x")).expires_at is None and await notes.get_flags("x") == frozenset()
        with pytest.raises(VersionConflict):
            await notes.put("x", b"y", if_version=old)
        await vault.sync()
    await settle(world)
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"x"


async def test_an_edit_of_what_has_expired_meanwhile_is_not_lost(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        read = await notes.put("x", b"read", expires_at=at(60))
        await notes.add_flags("x", {"seen"})
        world.clock.now += 60
        edited = await notes.put("x", b"edited", if_version=read)
        assert (await notes.get("x")).data == b"edited"
        assert (await notes.stat("x")).expires_at is None and await notes.get_flags("x") == frozenset()
        with pytest.raises(VersionConflict):
            await notes.put("x", b"too late", if_version=read)
        await notes.delete("x")
        with pytest.raises(VersionConflict):
            await notes.put("x", b"too late", if_version=edited)


@pytest.mark.parametrize("seconds", [None, 30.0, 500.0])
async def test_a_put_over_a_deletion_begins_without_the_old_time(world: World, seconds: float | None) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"x", expires_at=at(60))
        await notes.delete("x")
        with pytest.raises(BlobNotFound):
            await notes.set_expiry("x", at(90))
        time = None if seconds is None else at(seconds)
        await notes.put("x", b"anew", expires_at=time)
        assert (await notes.stat("x")).expires_at == time
        await vault.sync()
    await world.sync("b")
    assert await expiry(world, "b") == time


async def test_times_that_cannot_be_are_refused_and_nothing_is_stored(world: World) -> None:
    naive = datetime.datetime(2050, 1, 1)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for bad in (at(0), at(-5), naive):
            with pytest.raises(ConfigError):
                await notes.put("x", b"x", expires_at=bad)
            with pytest.raises(ConfigError):
                async with vault.transaction() as tx:
                    tx.namespace("notes").put("x", b"x", expires_at=bad)
        assert not await notes.exists("x")
        await notes.put("x", b"x")
        with pytest.raises(ConfigError):
            await notes.set_expiry("x", at(-5))
        with pytest.raises(ConfigError):
            await notes.set_expiry("x", naive, force=True)
        with pytest.raises(BlobNotFound):
            await notes.set_expiry("never", at(5))
        assert (await notes.stat("x")).expires_at is None


async def test_a_time_in_a_transaction_goes_with_it(world: World) -> None:
    async with world.open("a") as vault:
        async with vault.transaction() as tx:
            tx.namespace("notes").put("x", b"x", expires_at=at(60))
        assert await rows(vault, "SELECT count(DISTINCT group_id), count(*) FROM upload") == [(1, 2)]
        await vault.sync()
    await world.sync("b")
    assert await expiry(world, "b") == at(60)


async def test_what_stays_here_tells_nobody_when_it_expires_until_it_is_shared(world: World) -> None:
    async with world.open("a") as vault:
        notes: Namespace = vault.namespace("notes")
        await notes.put("x", b"x", local_only=True, expires_at=at(60))
        await notes.set_expiry("x", at(90))
        assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
        await notes.put("x", b"x", local_only=False)
        await vault.sync()
    await world.sync("b")
    assert await expiry(world, "b") == at(90)


async def test_what_has_expired_and_is_in_conflict_is_neither_listed_nor_counted(world: World) -> None:
    for device in ("a", "b"):
        async with world.open(device) as vault:
            await vault.namespace("notes").put("x", device.encode(), expires_at=at(60))
    await settle(world)
    async with world.open("a") as vault:
        assert len(await vault.namespace("notes").conflicts()) == (await vault.status()).conflicts == 1
        world.clock.now += 60
        assert await vault.namespace("notes").conflicts() == []
        assert (await vault.status()).conflicts == 0


async def test_a_put_of_what_has_expired_before_it_came_is_there(world: World) -> None:
    """Another device's blob whose content is refused, but whose time is published, and past."""
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("x", bytes(300_000), expires_at=at(60))
        assert (await vault.sync()).failed == 1
    world.clock.now += 61
    async with world.open("b") as vault:
        await vault.sync()
        assert await rows(vault, "SELECT winner_no IS NULL, expires_at IS NULL FROM blob") == [(1, 0)]
        await vault.namespace("notes").put("x", b"the only letter")
        assert (await vault.namespace("notes").get("x")).data == b"the only letter"


async def test_others_hear_at_once_of_a_blob_made_anew_and_of_its_new_time(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"old", expires_at=at(60))
    await settle(world)
    world.clock.now += 61
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("x", bytes(300_000))
        assert (await vault.sync()).failed == 1
    await world.sync("b")
    async with world.open("b") as vault:
        assert not await vault.namespace("notes").exists("x"), "the old one is not there again"
    async with world.open("a") as vault:
        await vault.retry()
        await vault.sync()
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).size == 300_000


async def test_a_blob_made_anew_has_no_flag_of_before_that_its_deletion_had_not_heard_of(
    world: World,
) -> None:
    await world.put_and_sync("a", x=b"one")
    await world.sync("b")
    async with world.open("b") as vault:
        await vault.namespace("notes").add_flags("x", {"old"})
        await vault.sync()
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("x")
        await vault.sync()
        await vault.namespace("notes").put("x", b"anew")
        assert await vault.namespace("notes").get_flags("x") == set()
    await settle(world)
    async with world.open("b") as vault:
        assert await vault.namespace("notes").get_flags("x") == set()


async def test_a_time_that_was_put_off_often_before_it_is_sent_goes_out_once(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"x")
        for seconds in (60, 70, 80):
            await vault.namespace("notes").set_expiry("x", at(seconds))
        await vault.sync()
        said = [change for batch in (await batches(world, vault)).values() for change in batch.changes]
    assert [change.at for change in said if isinstance(change, ExpiresChange)] == [at(80).timestamp() * 1000]

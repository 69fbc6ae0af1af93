"""Blobs that stay on their device: what others never hear of, and what they hear once it is shared."""

import datetime
import random
from collections.abc import AsyncIterator

import pytest

import syncagent
from syncagent.errors import ConfigError
from syncagent.journal.changes import VersionChange
from syncagent.vault import Vault
from tests.engine.world import Fails, World, batches, change, rows, statuses

pytestmark = pytest.mark.anyio

LARGE = bytes(range(256)) * 2000


async def exchange(world: World, *names: str) -> None:
    """Let devices sync until all of them have read all."""
    for _ in range(2):
        for name in names:
            await world.sync(name)


async def published(world: World, vault: Vault) -> list[object]:
    """Every change that a device has published, but for what it says of itself."""
    found = await batches(world, vault)
    changes = [change for batch in found.values() for change in batch.changes]
    return [change for change in changes if type(change).__name__ not in ("DeviceChange", "SlotsChange")]


# What was put before, and not sent -----------------------------------------------------------------


async def test_what_waited_to_be_sent_is_not_once_other_content_of_the_blob_stays_here(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(3):
            await notes.put("x", b"secret %d" % number, replace=True)
        await notes.add_flags("x", {"private"})
        await notes.put("x", b"secret 3", replace=True, local_only=True)
        assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
        assert await rows(vault, "SELECT count(*) FROM version") == [(1,)]
        await vault.sync()
        assert await published(world, vault) == [] and world.names("packs/") == []
        assert await statuses(vault) == {"x": "LOCAL_ONLY"} and await notes.get_flags("x") == {"private"}
        await notes.put("x", b"secret 3", local_only=False)
    await exchange(world, "a", "b")
    async with world.open("b") as vault:
        notes = vault.namespace("notes")
        assert (await notes.get("x")).data == b"secret 3" and await notes.get_flags("x") == {"private"}
        assert len(await notes.history("x")) == 1


async def test_what_waited_between_deletions_is_not_sent_either(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(3):
            await notes.put("x", b"secret %d" % number)
            await notes.delete("x")
        await notes.put("x", b"secret 3", local_only=True)
        await vault.sync()
        assert await published(world, vault) == [] and await statuses(vault) == {"x": "LOCAL_ONLY"}


async def test_a_deletion_that_others_wait_for_is_told_though_the_blob_is_made_anew_here(
    world: World,
) -> None:
    await world.put_and_sync("a", x=b"known")
    await world.sync("b")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"secret", replace=True)
        await notes.delete("x")
        await notes.put("x", b"mine", local_only=True)
        await vault.sync()
        assert (await notes.get("x")).data == b"mine" and await statuses(vault) == {"x": "LOCAL_ONLY"}
        assert b"secret" not in [data for (data,) in await rows(vault, "SELECT bytes FROM payload")]
    await exchange(world, "a", "b")
    async with world.open("b") as vault:
        assert await statuses(vault) == {}


@pytest.mark.parametrize("content", [b"secret 2", b"secret 3"])
@pytest.mark.parametrize("how", ["tagged", "of a transaction", "tagged itself"])
async def test_a_former_version_that_must_be_sent_refuses_that_the_blob_stays_here(
    world: World, how: str, content: bytes
) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        if how == "tagged":
            await notes.tag("x", await notes.put("x", b"secret 1"), "t")
        elif how == "of a transaction":
            async with vault.transaction() as tx:
                tx.namespace("notes").put("x", b"secret 1")
                tx.namespace("notes").put("y", b"y")
        version = await notes.put("x", b"secret 2", replace=True)
        if how == "tagged itself":
            await notes.tag("x", version, "t")
        before = await rows(vault, "SELECT * FROM upload"), await rows(vault, "SELECT * FROM version")
        with pytest.raises(ConfigError):
            await notes.put("x", content, replace=True, local_only=True)
        assert before == (
            await rows(vault, "SELECT * FROM upload"),
            await rows(vault, "SELECT * FROM version"),
        )
        assert (await notes.get("x")).data == b"secret 2"


async def test_a_damaged_former_version_is_not_sent_either(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(3):
            await notes.put("x", b"secret %d" % number, replace=True)
        await change(vault, "UPDATE packed SET bytes = x'00' WHERE no = 2")
        await notes.put("x", b"secret 3", replace=True, local_only=True)
        await vault.sync()
        assert await published(world, vault) == [] and world.names("packs/") == []


async def test_what_waited_shares_no_pack_with_other_blobs_once_it_stays_here(world: World) -> None:
    first, second = (random.Random(seed).randbytes(1 << 20) for seed in range(2))
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("mine", first + second)
        await notes.put("mine", first + second, local_only=True)
        await notes.put("ours", first)
        await vault.sync()
        assert await statuses(vault) == {"mine": "LOCAL_ONLY", "ours": "SYNCED"}
        assert (await notes.get("mine")).data == first + second
    assert sum(len(world.data(name)) for name in world.names("packs/")) < 1.5 * (1 << 20)


# What was given up here ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"letter", LARGE, b""], ids=["small", "large", "empty"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_put_that_is_to_stay_here_stores_content_that_was_given_up_here(
    world: World, data: bytes, is_stream: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield data

    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", data)
        await vault.sync()
        await notes.evict("x")
        await notes.put("x", pieces() if is_stream else data, local_only=True)
    remote = world.remote()
    remote.before = Fails(syncagent.Unreachable("off"), "get")
    async with world.open("a", remote) as vault:
        assert (await vault.namespace("notes").get("x")).data == data
    await exchange(world, "a", "b")
    async with world.open("b") as vault:
        assert len(await vault.namespace("notes").history("x")) == 1


# What is said of a blob that stays here --------------------------------------------------------------


async def made_local_over_what_others_know(world: World, *, expires_s: int | None = None) -> None:
    """Both devices know `x` and a flag of it; on `a`, content of its own stays and other flags are set."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"old", expires_at=None if expires_s is None else at(world, expires_s))
        await notes.add_flags("x", {"unread"})
    await exchange(world, "a", "b")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"mine", replace=True, local_only=True)
        await notes.remove_flags("x", {"unread"})
        await notes.add_flags("x", {"mine"})
        await notes.set_expiry("x", None)


def at(world: World, seconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(world.clock.now + seconds, datetime.UTC)


async def said(world: World, name: str) -> tuple[object, ...]:
    """What a device shows to be said of `x`, and its content."""
    async with world.open(name) as vault:
        notes = vault.namespace("notes")
        blob = (await notes.list()).blobs[0]
        return await notes.get_flags("x"), blob.expires_at, (await notes.get("x")).data


async def is_told_alike(world: World, *names: str) -> bool:
    await exchange(world, *names)
    found = [await said(world, name) for name in names]
    return all(one == found[0] for one in found)


async def test_flags_and_expiry_stay_here_with_a_blob_until_it_is_shared(world: World) -> None:
    await made_local_over_what_others_know(world, expires_s=100)
    await exchange(world, "a", "b")
    assert await said(world, "a") == ({"mine"}, None, b"mine")
    assert await said(world, "b") == ({"unread"}, at(world, 100), b"old")
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"mine", local_only=False)
    assert await is_told_alike(world, "a", "b")
    assert await said(world, "b") == ({"mine"}, None, b"mine")


async def test_what_was_said_while_a_blob_stayed_here_is_told_when_it_is_deleted(world: World) -> None:
    await made_local_over_what_others_know(world, expires_s=100)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.delete("x")
        await notes.put("x", b"anew", local_only=False)
    assert await is_told_alike(world, "a", "b")
    assert await said(world, "b") == (frozenset(), None, b"anew")


async def test_what_was_said_while_a_blob_stayed_here_is_told_when_others_put_too(world: World) -> None:
    await made_local_over_what_others_know(world)
    world.clock.now += 10
    await world.put_and_sync("b", x=b"theirs")
    assert await is_told_alike(world, "a", "b")
    assert await said(world, "b") == ({"mine"}, None, b"theirs")


@pytest.mark.parametrize("ends", ["mine", "theirs", "both", "both, shared"])
async def test_flags_are_the_same_after_a_conflict_with_what_stays_here_and_what_follows(
    world: World, ends: str
) -> None:
    await made_local_over_what_others_know(world)
    await world.put_and_sync("b", x=b"theirs")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await vault.sync()
        (conflict,) = await notes.conflicts()
        sides = {(await notes.get("x", version=one)).data: one for one in conflict.versions}
        if ends == "both":
            await notes.resolve("x", b"both")
        elif ends == "both, shared":
            await notes.put("x", b"both", replace=True, local_only=False)
        else:
            await notes.resolve("x", version=sides[ends.encode()])
        await notes.add_flags("x", {"after"})
    await exchange(world, "a", "b")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", (await notes.get("x")).data, local_only=False)
    assert await is_told_alike(world, "a", "b")
    assert (await said(world, "b"))[0] == {"mine", "after"}


async def test_an_expiry_of_one_side_of_a_conflict_is_told_though_it_stays_here(world: World) -> None:
    await made_local_over_what_others_know(world)
    await world.put_and_sync("b", x=b"theirs")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await vault.sync()
        world.clock.now += 10
        mine = next(v for v in (await notes.conflicts())[0].versions if v.device != "b")
        await notes.resolve("x", version=mine)
    await world.put_and_sync("b", x=b"theirs again")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await vault.sync()
        winner = (await notes.list()).blobs[0].version
        await notes.put("x", b"new", if_version=winner, local_only=True, expires_at=at(world, 50))
    await exchange(world, "a", "b")
    assert (await said(world, "a"))[:2] == (await said(world, "b"))[:2]


@pytest.mark.parametrize("deed", ["flag", "tag", "expiry"])
async def test_what_was_said_of_a_shared_blob_is_told_though_it_is_made_local_before(
    world: World, deed: str
) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        version = await notes.put("x", b"1")
        await notes.add_flags("x", {"unread"})
    await exchange(world, "a", "b")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        if deed == "flag":
            await notes.remove_flags("x", {"unread"})
        elif deed == "tag":
            await notes.tag("x", version, "as agreed")
        else:
            await notes.set_expiry("x", at(world, 100))
        await notes.put("x", b"2", replace=True)
        await notes.put("x", b"2", local_only=True)
        assert await statuses(vault) == {"x": "LOCAL_ONLY"}
    await exchange(world, "a", "b")
    flags, expires_at, data = await said(world, "b")
    assert data == b"1"
    assert flags == (frozenset() if deed == "flag" else {"unread"})
    assert expires_at == (at(world, 100) if deed == "expiry" else None)
    async with world.open("b") as vault:
        tags = [one.tags for one in await vault.namespace("notes").history("x")]
        assert tags == [("as agreed",) if deed == "tag" else ()]


async def test_flags_of_a_blob_made_local_in_a_transaction_are_told_in_that_which_shares_it(
    world: World,
) -> None:
    await made_local_over_what_others_know(world)
    async with world.open("a") as vault:
        async with vault.transaction() as tx:
            tx.namespace("notes").delete("x")
            tx.namespace("notes").put("y", b"y")
        assert await rows(vault, "SELECT count(DISTINCT group_id) FROM upload") == [(1,)]
        assert await rows(vault, "SELECT count(*) FROM upload WHERE group_id IS NULL") == [(0,)]


async def test_a_backup_of_before_a_blob_was_shared_learns_that_it_was(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"mine", local_only=True)
        await vault.namespace("notes").add_flags("x", {"draft"})
    world.clone("a", "backup")
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"mine", local_only=False)
        await vault.sync()
    async with world.open("backup") as vault:
        await vault.sync()
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED"}
        await vault.namespace("notes").put("x", b"2", replace=True)
        await vault.namespace("notes").remove_flags("x", {"draft"})
    assert await is_told_alike(world, "backup", "b")
    assert await said(world, "b") == (frozenset(), None, b"2")


# Sharing it again, and tags on it --------------------------------------------------------------------


async def test_what_stays_here_is_shared_though_others_have_deleted_the_blob(world: World) -> None:
    await made_local_over_what_others_know(world)
    async with world.open("b") as vault:
        await vault.namespace("notes").delete("x")
        await vault.sync()
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await vault.sync()
        assert await statuses(vault) == {"x": "LOCAL_ONLY"}
        why = await vault.explain("notes", "x")
        assert "local_only=False" in why.unblock and "--shared" in why.unblock
        await notes.put("x", b"mine", local_only=False)
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}
    assert await is_told_alike(world, "a", "b")
    assert (await said(world, "b"))[2] == b"mine"


async def test_a_version_that_stays_here_takes_no_tag_though_others_have_put_too(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        mine = await notes.put("x", b"mine", local_only=True)
        world.clock.now -= 10
        await world.put_and_sync("b", x=b"theirs")
        await vault.sync()
        with pytest.raises(ConfigError):
            await notes.tag("x", mine, "t")
        theirs = next(one for one in (await notes.conflicts())[0].versions if one.id != str(mine))
        await notes.tag("x", theirs, "t")
        await notes.resolve("x", b"both")
        assert await statuses(vault) == {"x": "LOCAL_ONLY"}


# Deletions that stay here, and transactions ------------------------------------------------------------


@pytest.mark.parametrize("theirs", ["put", "deleted"])
async def test_a_deletion_that_stayed_here_is_of_no_account_once_others_put_a_blob_of_its_name(
    world: World, theirs: str
) -> None:
    async with world.open("b") as vault:
        await vault.namespace("notes").put("x", b"theirs")
        if theirs == "deleted":
            await vault.namespace("notes").delete("x")
    world.clock.now += 10
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"mine", local_only=True, expires_at=at(world, 5))
        await notes.delete("x")
    await world.sync("b")
    world.clock.now += 10
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await vault.sync()
        assert await rows(vault, "SELECT status, deleted FROM version WHERE status IS NOT NULL") == [
            (1, theirs == "deleted")
        ]
        if theirs == "put":
            assert await statuses(vault) == {"x": "SYNCED"}
            assert (await vault.explain("notes", "x")).status is syncagent.SyncStatus.SYNCED
            await notes.add_flags("x", {"seen"})
            await notes.evict("x")
        else:
            await notes.put("x", b"anew")
            await notes.add_flags("x", {"seen"})
    assert await is_told_alike(world, "a", "b")
    assert (await said(world, "b"))[:2] == ({"seen"}, None)


async def test_a_blob_shared_in_a_transaction_goes_out_with_it(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        mine = await notes.put("x", b"mine", local_only=True)
        await notes.add_flags("x", {"draft"})
        async with vault.transaction() as tx:
            tx.namespace("notes").put("x", b"mine", local_only=False)
        async with vault.transaction() as tx:
            tx.namespace("notes").put("y", b"y")
        found_groups = await rows(vault, "SELECT hex(group_id), count(*) FROM upload GROUP BY group_id")
        groups = {str(group): int(str(count)) for group, count in found_groups}
        assert sorted(groups.values()) == [1, 2] and "" not in groups
        await vault.sync()
        found = [one for one in await published(world, vault) if isinstance(one, VersionChange)]
        assert {one.version.blob_id: one.version.group for one in found}.keys() == {"x", "y"}
        assert all((one.version.group or b"").hex().upper() in groups for one in found)
        assert [str(one.version) for one in found if one.version.blob_id == "x"] == [str(mine)]
    assert await is_told_alike(world, "a", "b")


@pytest.mark.parametrize("wins", [True, False])
@pytest.mark.parametrize("shares", [True, None])
async def test_a_put_over_a_conflict_tells_nothing_of_the_side_that_stays_here(
    world: World, wins: bool, shares: bool | None
) -> None:
    await world.put_and_sync("a", x=b"0")
    await world.sync("b")
    world.clock.now += 10
    await world.put_and_sync("b", x=b"theirs")
    world.clock.now += 10 if wins else -10
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        mine = await notes.put("x", b"mine", replace=True, local_only=True)
        await vault.sync()
        assert len(await notes.conflicts()) == 1
        packs = world.names("packs/")
        await notes.put("x", b"new", replace=True, local_only=False if shares else None)
        await vault.sync()
        versions = [one.version for one in await published(world, vault) if isinstance(one, VersionChange)]
        assert mine.id not in [one.id for one in versions]
        assert mine.id not in [parent.version for one in versions for parent in one.parents]
        assert not set(mine.content) & {chunk for one in versions for chunk in one.content}
        assert len(world.names("packs/")) - len(packs) == (1 if shares or not wins else 0)
    await exchange(world, "a", "b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == (b"new" if shares or not wins else b"theirs")
        assert await vault.namespace("notes").conflicts() == []

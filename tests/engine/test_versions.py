"""Versions of a blob: history, reading an old one, conflicts that are the same everywhere, other metadata."""

import random

import pytest

from syncagent.answers import Conflict
from syncagent.errors import (
    BlobNotFound,
    BlobNotHere,
    ConfigError,
    InvalidName,
    LimitExceeded,
    Unreachable,
    VersionConflict,
    VersionNotFound,
)
from syncagent.model import SyncStatus
from syncagent.vault import Vault
from tests.engine.world import Fails, World, change, damage_version, listed, rows, statuses

pytestmark = pytest.mark.anyio

LARGE = random.Random(3).randbytes(600 << 10)


async def conflicts(world: World, device: str) -> list[tuple[str, list[str]]]:
    async with world.open(device) as vault:
        found = await vault.namespace("notes").conflicts()
    return [(one.id, [version.id for version in one.versions]) for one in found]


async def settle(world: World, *devices: str) -> None:
    for _ in range(2):
        for device in devices or ("a", "b", "c"):
            await world.sync(device)


async def edit_apart(world: World, *devices: str) -> None:
    """Every one of these devices replaces `x`, not knowing of the others' edits."""
    await world.put_and_sync("a", x=b"common")
    await settle(world)
    for device in devices:
        world.clock.now += 1
        await world.put(device, x=f"by {device}".encode())
    await settle(world)


# History and old versions ------------------------------------------------------------------------


async def test_history_is_newest_first_and_says_who_and_what(world: World) -> None:
    await world.put_and_sync("a", x=b"first")
    await world.sync("b")
    world.clock.now += 60
    async with world.open("b") as vault:
        await vault.namespace("notes").put("x", b"the second", metadata={"title": "T"}, replace=True)
        await vault.sync()
    await world.sync("a")
    world.clock.now += 60
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.delete("x")
        third, second, first = await notes.history("x")
        assert (third.deleted, third.size, third.is_current, third.is_head) == (True, 0, True, True)
        assert (second.device, second.size, second.metadata) == ("b", 10, {"title": "T"})
        assert (first.device, first.size, first.is_current, first.is_head) == ("a", 5, False, False)
        assert first.device_id == vault.device_id and first.is_here and first.tags == ()
        assert (second.changed_at - first.changed_at).total_seconds() == 60
        assert [one.id for one in await notes.history("x", limit=2)] == [third.id, second.id]
        assert await notes.history("x", before=second) == [first]
        with pytest.raises(BlobNotFound):
            await notes.history("never")
        for limit in (0, 1001):
            with pytest.raises(ConfigError):
                await notes.history("x", limit=limit)


async def test_an_old_version_is_read_by_whatever_names_it(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        versions = []
        for number in range(3):
            data = f"draft {number}".encode()
            versions.append(await notes.put("x", data, metadata={"n": number}, replace=True))
            await vault.sync()
        await notes.delete("x")
        first = versions[0]
        for reference in (first, str(first), str(first)[:8].upper(), "~3"):
            blob = await notes.get("x", version=reference)
            assert (blob.data, blob.metadata, blob.version) == (b"draft 0", {"n": 0}, first)
        assert (await notes.get("x", version="~")).data == b"draft 2", "of a deleted blob too"
        async with notes.open("x", version="~2") as reader:
            assert await reader.read_range(0, 100) == b"draft 1"
        with pytest.raises(BlobNotFound):
            await notes.get("x")
        with pytest.raises(VersionNotFound, match="deletion"):
            await notes.get("x", version="~0")
        for absent in ("~4", "~9999", "0" * 32, "0" * 8, "abc", "", "no tag"):
            with pytest.raises(VersionNotFound):
                await notes.get("x", version=absent)
        for bad in ("~x", "~-1", "~99999", "~١"):
            with pytest.raises(InvalidName):
                await notes.get("x", version=bad)
        with pytest.raises(BlobNotFound):
            await notes.get("never", version=first)


async def test_a_prefix_of_two_versions_is_ambiguous(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(2):
            await notes.put("x", b"%d" % number, replace=True)
            await vault.sync()
        await change(vault, "UPDATE version SET id = x'0123456789' || substr(id, 1, 11) WHERE deleted = 0")
        with pytest.raises(InvalidName, match="several versions"):
            await notes.get("x", version="01234567")


@pytest.mark.parametrize("data", [b"small", LARGE])
async def test_an_old_version_is_fetched_when_it_is_asked_for(world: World, data: bytes) -> None:
    async with world.open("a") as vault:
        old = await vault.namespace("notes").put("x", data)
        await vault.sync()
        await vault.namespace("notes").put("x", b"new", replace=True)
        await vault.sync()
    await world.sync("b")
    remote = world.remote()
    async with world.open("b", remote) as vault:
        notes = vault.namespace("notes")
        assert [one.is_here for one in await notes.history("x")] == [True, False]
        remote.before = Fails(Unreachable("no network"), "get", "packs/")
        with pytest.raises(BlobNotHere):
            await notes.get("x", version=old)
        remote.before = Fails(Unreachable("no network"), "none")
        assert (await notes.get("x", version=old)).data == data
        assert [one.is_here for one in await notes.history("x")] == [True, True]
        assert (await notes.get("x")).data == b"new" and await statuses(vault) == {"x": "SYNCED"}


async def test_a_folded_version_is_a_named_error(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        folded = await notes.put("x", b"never sent")
        await notes.put("x", b"sent", replace=True)
        assert (await notes.get("x", version=folded)).data == b"never sent"
        await vault.sync()
        with pytest.raises(VersionNotFound) as caught:
            await notes.get("x", version=folded)
        assert caught.value.todo and str(folded) in str(caught.value)
        assert len(await notes.history("x")) == 1


async def test_a_damaged_version_stands_in_the_history(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    async with world.open("a") as vault:
        await damage_version(vault, "x")
        (one,) = await vault.namespace("notes").history("x")
        assert one.metadata is None and one.size == 1


# Conflicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
async def test_a_conflict_is_the_same_everywhere_and_gone_when_one_resolves_it(
    world: World, count: int
) -> None:
    devices = ["a", "b", "c"][:count]
    await edit_apart(world, *devices)
    ((blob_id, versions),) = await conflicts(world, "a")
    assert blob_id == "x" and len(versions) == count
    assert await conflicts(world, "b") == await conflicts(world, "c") == [(blob_id, versions)]
    async with world.open("c") as vault:
        (conflict,) = await vault.namespace("notes").conflicts()
        assert [one.device for one in conflict.versions] == devices[::-1], "the later ones win"
        assert conflict.versions[0].is_current and all(one.is_head for one in conflict.versions)
        merged = await vault.namespace("notes").resolve("x", b"merged", metadata={"by": "c"})
        assert {parent.version.hex() for parent in merged.parents} == set(versions)
        assert await vault.namespace("notes").conflicts() == []
    await settle(world, "c", "a", "b")
    for device in ("a", "b", "c"):
        assert await conflicts(world, device) == []
        async with world.open(device) as vault:
            blob = await vault.namespace("notes").get("x")
            assert (blob.data, blob.metadata, blob.version) == (b"merged", {"by": "c"}, merged)
            assert len(await vault.namespace("notes").history("x")) == count + 2


async def test_one_side_is_chosen_without_its_content(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"common")
        await vault.sync()
    await settle(world)
    await world.put("a", x=b"by a")
    async with world.open("b") as vault:
        world.clock.now += 1
        await vault.namespace("notes").put("x", LARGE, metadata={"t": "T"}, replace=True)
        await vault.sync()
    await world.sync("a")
    packs = world.names("packs/")
    async with world.open("c") as vault:
        await vault.parts()[1].read_journals()  # what it brings is known, and no content fetched
        notes = vault.namespace("notes")
        (conflict,) = await notes.conflicts()
        assert [one.is_here for one in conflict.versions] == [False, False]
        await notes.resolve("x", version=conflict.versions[1])
        assert await statuses(vault) == {"x": "PENDING_DOWNLOAD"}
        assert (await notes.get("x")).data == b"by a"
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}, "here now, and yet to be published"
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED"}
    await settle(world)
    assert world.names("packs/") == packs
    for device in ("a", "b", "c"):
        assert await conflicts(world, device) == []
        async with world.open(device) as vault:
            blob = await vault.namespace("notes").get("x")
            assert (blob.data, dict(blob.metadata)) == (b"by a", {})


async def test_choosing_the_present_version_is_a_resolution_too(world: World) -> None:
    await edit_apart(world, "a", "b")
    async with world.open("a") as vault:
        await vault.namespace("notes").resolve("x", b"by b")
        assert await vault.namespace("notes").conflicts() == []
        await vault.sync()
    await settle(world)
    assert [await conflicts(world, device) for device in "abc"] == [[], [], []]


async def test_what_is_not_in_conflict_cannot_be_resolved(world: World) -> None:
    await edit_apart(world, "a", "b")
    async with world.open("b") as vault:
        (seen,) = await vault.namespace("notes").conflicts()
        await vault.namespace("notes").resolve("x", b"by the other")
        await vault.sync()
    await world.sync("a")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for arguments in ({"data": b"mine"}, {"version": "~1"}, {"data": b"mine", "seen": seen}):
            with pytest.raises(VersionConflict):
                await notes.resolve("x", **arguments)
        assert (await notes.get("x")).data == b"by the other"
        for arguments in ({"data": b"mine"}, {"version": "~1"}):
            with pytest.raises(BlobNotFound):
                await notes.resolve("never", **arguments)
        assert not await notes.exists("never")
        with pytest.raises(ConfigError):
            await notes.resolve("x")
        with pytest.raises(ConfigError):
            await notes.resolve("x", b"both", version="~1")


async def test_one_who_has_seen_one_side_only_ends_nothing(world: World) -> None:
    await edit_apart(world, "a", "b")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        (conflict,) = await notes.conflicts()
        shown = Conflict("notes", "x", conflict.versions[:1])
        with pytest.raises(VersionConflict):
            await notes.resolve("x", b"one of two", seen=shown)
        await notes.resolve("x", b"both", seen=conflict)
        assert await notes.conflicts() == []


async def test_a_third_version_that_comes_meanwhile_stays_in_conflict(world: World) -> None:
    for device in ("a", "b", "c"):
        world.clock.now += 1
        await world.put(device, z=device.encode())
    await settle(world, "a", "b")
    async with world.open("a") as vault:
        (of_two,) = await vault.namespace("notes").conflicts()
        assert of_two.id == "z" and len(of_two.versions) == 2
    await world.sync("c")
    await world.sync("a")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.resolve("z", b"a and b", seen=of_two)
        (left,) = await notes.conflicts()
        assert len(left.versions) == 2 and (await notes.get("z")).data == b"a and b"
        await vault.sync()
    await settle(world)
    assert await conflicts(world, "a") == await conflicts(world, "b") == await conflicts(world, "c")


async def test_a_deletion_beside_an_edit_loses_and_is_no_conflict(world: World) -> None:
    await world.put_and_sync("a", x=b"common")
    await settle(world)
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("x")
    await world.put("b", x=b"edited")
    await settle(world)
    for device in ("a", "b", "c"):
        assert await conflicts(world, device) == []
        async with world.open(device) as vault:
            assert (await vault.namespace("notes").get("x")).data == b"edited"
            heads = [one for one in await vault.namespace("notes").history("x") if one.is_head]
            assert sorted(one.deleted for one in heads) == [False, True]


async def test_deleting_ends_a_conflict_and_old_sides_stay_readable(world: World) -> None:
    await edit_apart(world, "a", "b")
    async with world.open("c") as vault:
        notes = vault.namespace("notes")
        (conflict,) = await notes.conflicts()
        await notes.delete("x")
        await vault.sync()
        for version, data in zip(conflict.versions, (b"by b", b"by a"), strict=True):
            assert (await notes.get("x", version=version)).data == data
    await settle(world)
    assert [await conflicts(world, device) for device in "abc"] == [[], [], []]


async def test_many_conflicts_are_all_listed(world: World) -> None:
    ids = [f"{number:03}" for number in range(120)]
    for device in ("a", "b"):
        async with world.open(device) as vault:
            await vault.namespace("notes").put_many([(blob_id, device.encode()) for blob_id in ids])
    await settle(world, "a", "b")
    assert [blob_id for blob_id, _ in await conflicts(world, "a")] == ids
    async with world.open("a") as vault:
        assert (await vault.status()).conflicts == 120
        assert await vault.namespace("mail").conflicts() == []


# Other metadata ------------------------------------------------------------------------------------


async def title(vault: Vault, blob_id: str = "x") -> object:
    return (await vault.namespace("notes").get(blob_id)).metadata.get("title")


@pytest.mark.parametrize("data", [b"", b"small", LARGE])
async def test_metadata_alone_is_a_new_version_that_sends_no_content(world: World, data: bytes) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        first = await notes.put("x", data, metadata={"title": "old", "kept": 1})
        await vault.sync()
        packs = world.names("packs/")
        second = await notes.set_metadata("x", {"title": "new"})
        assert second != first and second.content == first.content
        assert second.created_at == first.created_at and second.parents[0].version == first.id
        assert await notes.set_metadata("x", {"title": "new"}) == second, "no new version"
        await notes.put("x", data, metadata={"title": "newer"}, replace=True)  # the same by a put
        await vault.sync()
        assert world.names("packs/") == packs
        assert await statuses(vault) == {"x": "SYNCED"}
    await world.sync("b")
    async with world.open("b") as vault:
        blob = await vault.namespace("notes").get("x")
        assert (blob.data, dict(blob.metadata)) == (data, {"title": "newer"})


@pytest.mark.parametrize("is_wanted", [True, False])
async def test_metadata_of_what_is_not_here_can_be_set(world: World, is_wanted: bool) -> None:
    await world.put_and_sync("a", x=b"far away")
    async with world.open("b") as vault:
        await vault.parts()[1].read_journals()
        if not is_wanted:
            await change(vault, "UPDATE version SET status = ?", SyncStatus.REMOTE_ONLY)
            await change(vault, "DELETE FROM download")
        notes = vault.namespace("notes")
        before = (await listed(vault))["x"].status
        await notes.set_metadata("x", {"title": "set on b"})
        assert (await listed(vault))["x"].status == before
        if not is_wanted:
            assert "metadata waits" in (await vault.explain("notes", "x")).cause
        await vault.send_missing()
        assert (await listed(vault))["x"].status == before, "its content is still not here"
        assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
        await vault.sync()
        expected = SyncStatus.SYNCED if is_wanted else SyncStatus.REMOTE_ONLY
        assert (await listed(vault))["x"].status is expected
        assert await title(vault) == "set on b"
        assert (await listed(vault))["x"].status is SyncStatus.SYNCED
    await world.sync("a")
    async with world.open("a") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"far away"
        assert await title(vault) == "set on b"


async def test_metadata_is_set_only_on_the_version_that_was_read(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        first = await notes.put("x", b"1")
        await vault.sync()
        second = await notes.put("x", b"2", replace=True)
        with pytest.raises(VersionConflict):
            await notes.set_metadata("x", {"title": "T"}, if_version=first)
        assert await title(vault) is None
        await notes.set_metadata("x", {"title": "T"}, if_version=second)
        assert await title(vault) == "T"
        with pytest.raises(LimitExceeded):
            await notes.set_metadata("x", {"title": "T" * 20_000})
        with pytest.raises(ConfigError):
            await notes.set_metadata("x", {"title": None})  # type: ignore[dict-item]  # refused
        await notes.delete("x")
        for blob_id in ("x", "never"):
            with pytest.raises(BlobNotFound):
                await notes.set_metadata(blob_id, {})


async def test_metadata_of_a_blob_in_conflict_leaves_it_in_conflict(world: World) -> None:
    await edit_apart(world, "a", "b")
    async with world.open("c") as vault:
        await vault.namespace("notes").set_metadata("x", {"title": "T"})
        (conflict,) = await vault.namespace("notes").conflicts()
        assert len(conflict.versions) == 2
        await vault.sync()
    await settle(world)
    for device in ("a", "b", "c"):
        assert [blob_id for blob_id, _ in await conflicts(world, device)] == ["x"]
        async with world.open(device) as vault:
            assert await title(vault) == "T"


async def test_metadata_of_what_stays_here_stays_here(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"mine", local_only=True)
        await notes.set_metadata("x", {"title": "T"})
        assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
        assert await statuses(vault) == {"x": "LOCAL_ONLY"}
        assert (await notes.get("x")).data == b"mine" and await title(vault) == "T"

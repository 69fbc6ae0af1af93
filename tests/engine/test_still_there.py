"""SYNCED means that the remote holds it, also where the content rests on packs that were sent long ago."""

import shutil
from pathlib import Path

import pytest

import syncagent
from syncagent import names
from syncagent.engine.proof import SEEN_MS
from syncagent.errors import Unreachable
from syncagent.model import PackId
from syncagent.vault import Vault
from tests.engine.world import Fails, GoesAway, World, batches, change, kinds, rows, statuses

pytestmark = pytest.mark.anyio

LETTER = b"the only copy of a letter " * 20
LARGE = bytes(range(256)) * (2 << 10)
LATER_S = SEEN_MS / 1000 + 1


async def given_up_and_lost(world: World, data: bytes = LETTER) -> None:
    """`a` has put and given up, `b` has it, and the remote has lost the pack."""
    await world.put_and_sync("a", x=data)
    await world.sync("b")
    async with world.open("a") as vault:
        await vault.namespace("notes").evict("x")
    for name in world.names(names.PACKS):
        world.hide(name)


async def put_again(world: World, data: bytes = LETTER, sent: int = 1) -> None:
    """`b` puts the same bytes under another name, and syncs."""
    async with world.open("b") as vault:
        await vault.namespace("notes").put("y", data)
        assert (await vault.sync()).sent == sent
        assert (await statuses(vault))["y"] == "SYNCED"


async def read_at_c(world: World, blob_id: str, data: bytes) -> None:
    async with world.open("c") as vault:
        await vault.sync()
        assert (await vault.namespace("notes").get(blob_id)).data == data


@pytest.mark.parametrize("data", [LETTER, LARGE], ids=["small", "large"])
async def test_content_that_only_a_lost_pack_of_another_holds_is_sent(world: World, data: bytes) -> None:
    await given_up_and_lost(world, data)
    world.clock.now += LATER_S
    await put_again(world, data)
    await read_at_c(world, "y", data)
    await read_at_c(world, "x", data)


async def test_content_of_an_own_pack_that_was_given_up_and_lost_is_sent(world: World) -> None:
    await given_up_and_lost(world)
    world.clock.now += LATER_S
    async with world.open("a") as vault:
        await vault.namespace("notes").put("y", LETTER)
        report = await vault.sync()
        assert kinds(report) == ["Withheld"]
    await read_at_c(world, "y", LETTER)


@pytest.mark.parametrize("data", [LETTER, LARGE], ids=["small", "large"])
async def test_what_the_remote_has_cut_short_is_sent_in_another_pack(world: World, data: bytes) -> None:
    """Another, for nothing takes the place of a pack that is there."""
    await world.put_and_sync("a", x=data)
    await world.sync("b")
    [name] = world.names(names.PACKS)
    await world.replace(name, world.data(name)[:-1])
    world.clock.now += LATER_S
    async with world.open("b") as vault:
        await vault.namespace("notes").put("y", data)
        report = await vault.sync()
        assert (report.sent, kinds(report)) == (1, ["Tampered"])
        assert (await statuses(vault))["y"] == "SYNCED"
    assert len(world.names(names.PACKS)) == 2
    await read_at_c(world, "y", data)


async def test_what_was_seen_lately_is_not_asked_for(world: World) -> None:
    await world.put_and_sync("a", x=LETTER, z=b"other")
    await world.sync("b")
    remote = world.remote()
    async with world.open("b", remote) as vault:
        notes = vault.namespace("notes")
        await notes.put("y", LETTER)
        await notes.set_metadata("x", {"title": "new"})
        await vault.sync()
        assert (await statuses(vault))["y"] == "SYNCED"
    assert remote.called("head") == [] and remote.called("put", names.PACKS) == []


async def test_a_pack_that_is_there_is_asked_for_once_a_day_and_nothing_is_sent(world: World) -> None:
    await world.put_and_sync("a", **{f"x{i}": b"%d" % i for i in range(30)})
    await world.sync("b")
    world.clock.now += LATER_S
    remote = world.remote()
    async with world.open("b", remote) as vault:
        notes = vault.namespace("notes")
        for i in range(30):
            await notes.put(f"y{i}", b"%d" % i)
        assert (await vault.sync()).sent == 30
        assert len(remote.called("head")) == 1, "one for the pack, not one for each put"
        await notes.put("z", b"7")
        assert (await vault.sync()).sent == 1
        assert len(remote.called("head")) == 1
    assert remote.called("put", names.PACKS) == []


@pytest.mark.parametrize("is_pulled", [True, False], ids=["sync", "send alone"])
async def test_a_remote_that_has_gone_back_is_not_believed(world: World, is_pulled: bool) -> None:
    await given_up_and_lost(world)
    world.clock.now += 1
    async with world.open("a") as vault:
        world.hide(world.names(names.journal_prefix(bytes.fromhex(vault.device_id)))[-1])
    async with world.open("b") as vault:
        if not is_pulled:
            assert kinds(await vault.sync()) == ["RemoteRolledBack"]
        await vault.namespace("notes").put("y", LETTER)
        await (vault.sync() if is_pulled else vault.send_missing())
        assert (await statuses(vault))["y"] == "SYNCED"
    assert world.names(names.PACKS)


async def test_what_waits_is_not_published_unseen(world: World) -> None:
    """A put beside a sync, after what waited was looked at."""
    await given_up_and_lost(world)
    world.clock.now += LATER_S
    remote = world.remote()
    async with world.open("b", remote) as vault:
        notes = vault.namespace("notes")
        await notes.put("first", b"something to send")

        async def put_now(call: object) -> None:
            if getattr(call, "method", "") == "put" and not put:
                put.append(1)
                await notes.put("y", LETTER)

        put: list[int] = []
        remote.before = put_now
        await vault.sync()
        assert (await statuses(vault))["y"] == "PENDING_UPLOAD"
        await vault.sync()
        assert (await statuses(vault))["y"] == "SYNCED"
    await read_at_c(world, "y", LETTER)


async def test_where_nothing_is_said_of_a_pack_another_is_sent(world: World) -> None:
    await world.put_and_sync("a", x=LETTER)
    await world.sync("b")
    world.clock.now += LATER_S
    remote = world.remote()
    remote.before = Fails(Unreachable("cut off"), "head", names.PACKS)
    async with world.open("b", remote) as vault:
        await vault.namespace("notes").put("y", LETTER)
        assert (await vault.sync()).sent == 1
    assert len(world.names(names.PACKS)) == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_was_seen_at_another_place_is_looked_for_at_the_new_one(tmp_path: Path) -> None:
    """Whoever copied the remote may have left something out."""
    old, new = tmp_path / "old", tmp_path / "new"
    await syncagent.create_vault(
        tmp_path / "a", remote=old.as_uri(), passphrase="moved", kdf=syncagent.FLOOR_KDF
    )
    await syncagent.join_vault(tmp_path / "b", remote=old.as_uri(), passphrase="moved")
    async with syncagent.open_vault(tmp_path / "a", passphrase="moved") as vault:
        await vault.namespace("notes").put("x", LETTER)
        await vault.sync()
    async with syncagent.open_vault(tmp_path / "b", passphrase="moved") as vault:
        await vault.sync()
        shutil.copytree(old, new, ignore=shutil.ignore_patterns("packs"))
        await vault.set_remote(new.as_uri())
        await vault.namespace("notes").put("y", LETTER)
        assert (await vault.sync()).sent == 1
        assert len(list((new / "packs").rglob("*"))) > 0


async def test_a_clock_that_was_ahead_proves_nothing(world: World) -> None:
    world.clock.now += 400 * LATER_S
    await given_up_and_lost(world)
    world.clock.now -= 400 * LATER_S
    async with world.open("b") as vault:
        await vault.namespace("notes").put("y", LETTER)
        await vault.sync()
        assert (await statuses(vault))["y"] == "SYNCED"
    assert world.names(names.PACKS)


async def test_a_pack_that_no_batch_names_yet_and_that_is_gone_is_sent_anew_and_never_named(
    world: World,
) -> None:
    remote = world.remote()
    remote.before = GoesAway(Unreachable("away"), "put", names.PACKS, skip=1)
    async with world.open("a", remote, transfers=1) as vault:
        notes = vault.namespace("notes")
        await notes.put("x", LARGE)
        await notes.put("y", LARGE[::-1])
        with pytest.raises(Unreachable):
            await vault.sync()
        remote.before = Fails(Unreachable("away"), "put", times=0)
        [name] = world.names(names.PACKS)
        world.hide(name)
        world.clock.now += LATER_S
        report = await vault.sync()
        assert (report.sent, kinds(report)) == (2, [])
        assert len(world.names(names.PACKS)) == 2
        named = [pack for batch in (await batches(world, vault)).values() for pack in batch.packs]
        assert {names.pack_object(PackId(pack.id)) for pack in named} == set(world.names(names.PACKS))


async def test_what_a_late_batch_names_and_the_remote_has_lost_since_is_sent_once_more(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(Unreachable("away"), "put", names.JOURNAL)
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")
        await notes.put("x", LETTER)
        await notes.put("y", b"")
        with pytest.raises(Unreachable):
            await vault.sync()
        remote.before = Fails(Unreachable("away"), "put", times=0)
        [name] = world.names(names.PACKS)
        world.hide(name)
        world.clock.now += LATER_S
        report = await vault.sync()
        assert kinds(report) == ["Withheld"] and report.sent == 3
        assert await statuses(vault) == {"x": "SYNCED", "y": "SYNCED"}
        assert (await vault.sync()).sent == 0
    await read_at_c(world, "x", LETTER)


async def test_a_remote_in_doubt_is_not_written_of_each_time(world: World) -> None:
    await world.put_and_sync("a", x=LETTER)
    await world.sync("b")
    async with world.open("a") as vault:
        world.hide(world.names(names.journal_prefix(bytes.fromhex(vault.device_id)))[-1])
    async with world.open("b") as vault:
        assert kinds(await vault.sync()) == ["RemoteRolledBack"]
        told = await rows(vault, "SELECT value FROM meta WHERE key = 'doubted_at'")
        world.clock.now += 60
        await vault.sync()
        assert await rows(vault, "SELECT value FROM meta WHERE key = 'doubted_at'") == told
        world.clock.now += 3600
        await vault.sync()
        assert await rows(vault, "SELECT value FROM meta WHERE key = 'doubted_at'") != told


# Putting what the remote lost -------------------------------------------------------------------


async def lost(world: World) -> None:
    """`a` has put, and nobody fetched it before the remote lost it; `a` has given it up."""
    await world.put_and_sync("a", x=LETTER)
    async with world.open("a") as vault:
        await vault.namespace("notes").evict("x")
    for name in world.names(names.PACKS):
        world.hide(name)


async def heal_by_put(world: World, vault: Vault, metadata: dict[str, str] | None = None) -> None:
    await vault.namespace("notes").put("x", LETTER, metadata=metadata)
    assert await statuses(vault) == {"x": "PENDING_UPLOAD"}
    await vault.sync()
    assert await statuses(vault) == {"x": "SYNCED"}
    await read_at_c(world, "x", LETTER)


async def test_the_same_bytes_put_once_more_bring_lost_content_back(world: World) -> None:
    await lost(world)
    async with world.open("b") as vault:
        assert kinds(await vault.sync()) == ["Withheld"]
        await heal_by_put(world, vault)


async def test_they_do_where_only_a_read_has_found_it_lost(world: World) -> None:
    await lost(world)
    async with world.open("a") as vault:
        with pytest.raises(syncagent.BlobNotHere):
            await vault.namespace("notes").get("x")
        await heal_by_put(world, vault)


async def test_they_do_where_this_device_knows_that_nothing_is_left(world: World) -> None:
    await lost(world)
    async with world.open("a") as vault:
        world.hide(world.names(names.journal_prefix(bytes.fromhex(vault.device_id)))[-1])
        assert kinds(await vault.sync()) == ["RemoteRolledBack"]
        await heal_by_put(world, vault)


async def test_they_do_where_the_remote_has_altered_it(world: World) -> None:
    await world.put_and_sync("a", x=LETTER)
    [pack] = world.names(names.PACKS)
    await world.flip(pack)
    async with world.open("b") as vault:
        assert (await vault.sync()).failed == 1
        await heal_by_put(world, vault)
        world.hide(
            world.names(names.PACKS)[0]
            if world.names(names.PACKS)[0] != pack
            else world.names(names.PACKS)[1]
        )
        with pytest.raises(syncagent.NotSent):
            await vault.namespace("notes").evict("x")


async def test_the_same_bytes_put_once_more_are_not_sent_where_nothing_is_amiss(world: World) -> None:
    await world.put_and_sync("a", x=LETTER)
    async with world.open("a") as vault:
        await vault.namespace("notes").evict("x")
        await vault.namespace("notes").put("x", LETTER)
        assert await statuses(vault) == {"x": "SYNCED"}
        assert (await vault.sync()).sent == 0


# New metadata of what the remote lost -----------------------------------------------------------


@pytest.mark.parametrize("is_known", [True, False], ids=["known to be lost", "not known"])
async def test_new_metadata_is_sent_though_the_content_is_lost(world: World, is_known: bool) -> None:
    await world.put_and_sync("a", x=LETTER)
    await world.sync("b")
    await lost(world)
    world.clock.now += LATER_S
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        if is_known:
            world.hide(world.names(names.journal_prefix(bytes.fromhex(vault.device_id)))[-1])
            await vault.sync()
        await notes.set_metadata("x", {"title": "new"})
        report = await vault.sync()
        assert (report.sent, report.failed) == (1, 0)
        assert (await vault.sync()).sent == 0
    async with world.open("b") as vault:
        await vault.sync()
        blob = await vault.namespace("notes").get("x")
        assert (blob.data, blob.metadata) == (LETTER, {"title": "new"})


async def test_it_is_said_that_content_is_lost_and_what_brings_it_back(world: World) -> None:
    await lost(world)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        assert "not wanted" in (await vault.explain("notes", "x")).cause
        with pytest.raises(syncagent.BlobNotHere):
            await notes.get("x")
        found = await vault.explain("notes", "x")
        assert "no pack" in found.cause and "put" in found.unblock
        await notes.set_metadata("x", {"title": "new"})
        found = await vault.explain("notes", "x")
        assert "new metadata waits" in found.cause and "no pack" in found.cause
        await heal_by_put(world, vault, metadata={"title": "new"})
        assert (await vault.explain("notes", "x")).cause == ""


@pytest.mark.parametrize("status", [syncagent.SyncStatus.REMOTE_ONLY, syncagent.SyncStatus.PENDING_DOWNLOAD])
async def test_what_keeps_new_metadata_from_being_sent_is_said(
    world: World, status: syncagent.SyncStatus
) -> None:
    await world.put_and_sync("a", x=LETTER)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.evict("x")
        if status is syncagent.SyncStatus.PENDING_DOWNLOAD:
            await notes.pin("x")
        await notes.set_metadata("x", {"title": "new"})
        await change(
            vault,
            "UPDATE upload SET last_error = 'CacheDamaged: no', retries = 3, next_attempt_at = ?",
            int((world.clock.now + 60) * 1000),
        )
        found = await vault.explain("notes", "x")
        assert found.status is status and found.retries == 3
        assert found.cause == "new metadata cannot be sent: CacheDamaged: no"
        assert found.next_attempt is not None and found.next_attempt.timestamp() == world.clock.now + 60
        assert await vault.retry() == 1
        assert (await vault.sync()).sent == 1


async def test_new_metadata_that_waits_is_counted_while_the_content_is_not_here(world: World) -> None:
    await world.put_and_sync("a", x=LETTER, y=b"other")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for blob_id in ("x", "y"):
            await notes.evict(blob_id)
            await notes.set_metadata(blob_id, {"title": "first"})
            await notes.set_metadata(blob_id, {"title": "new"})
        status = await vault.status()
        assert status.pending_changes == status.namespaces["notes"].pending_changes == 2
        assert (await notes.get("y")).data == b"other"
        status = await vault.status()
        assert status.pending_changes == 1, "the other waits with its content, and is counted as a blob"
        assert status.counts[syncagent.SyncStatus.PENDING_UPLOAD] == 1
        await vault.sync()
        assert (await vault.status()).pending_changes == 0

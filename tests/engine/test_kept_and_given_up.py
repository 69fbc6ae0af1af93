"""Content that was given up here, and blobs that stay here, when something else happens to them as well."""

from typing import cast

import pytest

import syncagent
from syncagent import names
from syncagent.cache import holding
from syncagent.cache.db import Database
from tests.engine.world import World, rows, statuses

pytestmark = pytest.mark.anyio


async def test_a_policy_that_comes_back_holds_for_what_came_meanwhile(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.settings(fetch="on-demand")
        await vault.sync()
        await notes.put("x", b"1")
        await vault.sync()
        await notes.settings(fetch="eager")
        await vault.sync()
    async with world.open("b") as vault:
        await vault.sync()
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_given_up_content_is_read_again_when_what_the_remote_lost_comes_back(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"precious" * 100)
        await vault.sync()
        await notes.evict("x")
        last = world.names(names.journal_prefix(bytes.fromhex(vault.device_id)))[-1]
        back = [world.hide(name) for name in (*world.names(names.PACKS), last)]
        report = await vault.sync()
        (told,) = [alarm for alarm in report.alarms if alarm.kind == "RemoteRolledBack"]
        assert "the content of 1 blob was there alone" in told.message
        for bring in back:
            bring()
        await vault.sync()
        assert (await notes.get("x")).data == b"precious" * 100


async def test_the_last_copy_is_not_dropped_once_its_pack_is_known_to_be_lost(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"precious" * 100)
        await vault.sync()
        ((chunk, pack),) = cast(
            list[tuple[int, int]], await rows(vault, "SELECT chunk_no, pack_no FROM pack_chunk")
        )

        def is_in(db: Database) -> bool:
            return holding._is_in(db, chunk, [pack])

        cache = vault.parts()[0].cache
        assert await cache.read(is_in)

        def lose(db: Database) -> None:
            db.execute("UPDATE pack SET is_remote = 0, batch_seq = NULL")

        await cache.write(lose)
        assert not await cache.read(is_in)


async def test_a_blob_put_anew_after_its_deletion_is_shared(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"1", local_only=True)
        await notes.delete("x")
        await notes.put("x", b"2")
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}


async def test_metadata_of_a_blob_that_stays_here_stays_here(world: World) -> None:
    await world.put_and_sync("a", x=b"0")
    await world.sync("b")
    await world.put_and_sync("b", x=b"theirs")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        world.clock.now += 10
        await notes.put("x", b"secret", replace=True, local_only=True)
        await vault.sync()
        packs = world.names(names.PACKS)
        await notes.set_metadata("x", {"a": 1})
        await vault.sync()
        assert world.names(names.PACKS) == packs
    async with world.open("b") as vault:
        await vault.sync()
        assert (await vault.namespace("notes").get("x")).data == b"theirs"


async def test_what_a_put_does_not_name_it_does_not_replace(world: World) -> None:
    await world.put_and_sync("a", x=b"0")
    await world.sync("b")
    await world.put_and_sync("b", x=b"theirs")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        world.clock.now += 10
        mine = await notes.put("x", b"mine", replace=True)
        await vault.sync()
        assert len(await notes.conflicts()) == 1
        await notes.put("x", b"mine 2", if_version=mine)
        (conflict,) = await notes.conflicts()
        sides = [(await notes.get("x", version=version)).data for version in conflict.versions]
        assert sorted(sides) == [b"mine 2", b"theirs"]


async def test_what_a_blob_was_before_it_was_kept_here_is_not_sent(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"secret 1")
        await notes.put("x", b"secret 2", replace=True)
        await notes.put("x", b"secret 2", local_only=True)
        await vault.sync()
        assert await statuses(vault) == {"x": "LOCAL_ONLY"}
    async with world.open("b") as vault:
        await vault.sync()
        assert await statuses(vault) == {}


async def test_a_tagged_version_is_sent_and_does_not_stay_here(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        version = await notes.put("x", b"keep me")
        await notes.tag("x", version, "precious")
        for data in (b"keep me", b"other"):
            with pytest.raises(syncagent.ConfigError):
                await notes.put("x", data, replace=True, local_only=True)
        await notes.put("x", b"other", replace=True)
        assert (await notes.get("x", version="precious")).data == b"keep me"


async def test_a_part_of_a_waiting_transaction_cannot_be_kept_here(world: World) -> None:
    async with world.open("a") as vault:
        async with vault.transaction() as tx:
            tx.namespace("notes").put("p", b"1")
            tx.namespace("notes").put("q", b"2")
        with pytest.raises(syncagent.ConfigError):
            await vault.namespace("notes").put("p", b"1", local_only=True)
        await vault.sync()
    async with world.open("b") as vault:
        await vault.sync()
        assert await statuses(vault) == {"p": "SYNCED", "q": "SYNCED"}


# What a version that brings no content of its own makes a device want ----------------------------


async def from_b(world: World, *, metadata: str) -> None:
    async with world.open("b") as vault:
        await vault.sync()
        await vault.namespace("notes").set_metadata("x", {"title": metadata})
        await vault.sync()


@pytest.mark.parametrize("fetch", ["eager", "on-demand"])
async def test_new_metadata_from_elsewhere_does_not_bring_back_what_was_given_up(
    world: World, fetch: str
) -> None:
    await world.put_and_sync("a", x=b"1" * 1000)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.settings(fetch=fetch)
        await vault.sync()
        await notes.evict("x")
        await from_b(world, metadata="new")
        await vault.sync()
        assert await statuses(vault) == {"x": "REMOTE_ONLY"}
        assert (await notes.history("x"))[0].metadata == {"title": "new"}
    await world.put_and_sync("b", x=b"2" * 1000)
    async with world.open("a") as vault:
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED" if fetch == "eager" else "REMOTE_ONLY"}


async def test_content_that_is_waited_for_is_waited_for_under_new_metadata_too(world: World) -> None:
    await world.put_and_sync("a", x=b"1" * 1000)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.settings(fetch="on-demand")
        await vault.sync()
        await notes.evict("x")
    back = [world.hide(name) for name in world.names(names.PACKS)]
    async with world.open("a") as vault:
        (result,) = await vault.namespace("notes").prefetch(["x"])
        assert result.error is not None
    for bring in back:
        bring()
    await from_b(world, metadata="new")
    async with world.open("a") as vault:
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED"}


@pytest.mark.parametrize("is_pinned", [False, True])
@pytest.mark.parametrize("fetch", ["eager", "on-demand"])
async def test_an_old_version_that_ends_a_conflict_is_fetched_by_the_policy(
    world: World, fetch: str, is_pinned: bool
) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        old = await vault.namespace("notes").put("x", b"old" * 1000)
        await vault.sync()
        await vault.namespace("notes").put("x", b"newer" * 1000, replace=True)
        await vault.sync()
    await world.sync("b")
    await world.put_and_sync("b", x=b"theirs" * 1000)
    await world.put_and_sync("a", x=b"mine" * 1000)
    async with world.open("c") as vault:
        notes = vault.namespace("notes")
        await vault.sync()
        await notes.settings(fetch=fetch)
        await vault.sync()
        if is_pinned:
            await notes.pin("x")
        await notes.resolve("x", version=str(old))
        wanted = fetch == "eager" or is_pinned
        assert await statuses(vault) == {"x": "PENDING_DOWNLOAD" if wanted else "REMOTE_ONLY"}
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED" if wanted else "REMOTE_ONLY"}
        assert (await notes.get("x")).data == b"old" * 1000


# A conflict between what stays here and what others have put --------------------------------------


async def in_conflict_with_what_stays_here(world: World, *, wins: bool) -> None:
    """`a` holds a version that stays there, over one that `b` has replaced."""
    await world.put_and_sync("a", x=b"0")
    await world.sync("b")
    if not wins:
        async with world.open("a") as vault:
            await vault.namespace("notes").put("x", b"secret", replace=True, local_only=True)
        world.clock.now += 10
    await world.put_and_sync("b", x=b"theirs")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        if wins:
            world.clock.now += 10
            await notes.put("x", b"secret", replace=True, local_only=True)
        await vault.sync()
        assert len(await notes.conflicts()) == 1
        assert (await notes.get("x")).data == (b"secret" if wins else b"theirs")


async def shown_at_b(world: World) -> bytes:
    async with world.open("b") as vault:
        await vault.sync()
        assert await vault.namespace("notes").conflicts() == []
        return (await vault.namespace("notes").get("x")).data


async def test_an_edit_of_what_stays_here_stays_here_though_others_have_put_too(world: World) -> None:
    await in_conflict_with_what_stays_here(world, wins=True)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"secret, edited", replace=True)
        await vault.sync()
        assert await statuses(vault) == {"x": "LOCAL_ONLY"}
    assert await shown_at_b(world) == b"theirs"
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"secret, edited", local_only=False)
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED"}
    assert await shown_at_b(world) == b"secret, edited"


async def test_an_edit_of_what_others_have_put_is_shared_though_something_else_stays_here(
    world: World,
) -> None:
    await in_conflict_with_what_stays_here(world, wins=False)
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"mine", replace=True)
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED"}
    assert await shown_at_b(world) == b"mine"


@pytest.mark.parametrize("wins", [True, False])
@pytest.mark.parametrize("how", ["merged", "secret", "theirs"])
async def test_what_stays_here_is_not_shared_by_the_end_of_a_conflict(
    world: World, how: str, wins: bool
) -> None:
    await in_conflict_with_what_stays_here(world, wins=wins)
    packs = world.names(names.PACKS)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        sides = {(await notes.get("x", version=v)).data: v for v in (await notes.conflicts())[0].versions}
        if how == "merged":
            await notes.resolve("x", b"theirs, and the secret")
        else:
            await notes.resolve("x", version=sides[how.encode()])
        assert await notes.conflicts() == []
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED" if how == "theirs" else "LOCAL_ONLY"}
    assert world.names(names.PACKS) == packs
    assert await shown_at_b(world) == b"theirs"

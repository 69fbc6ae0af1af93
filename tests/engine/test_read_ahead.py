"""What was read here lately is kept up to date in a namespace of which nothing else is fetched by itself."""

import pytest

from syncagent.cache.settings import LATELY_MS
from tests.engine.world import World, statuses

pytestmark = pytest.mark.anyio


async def on_demand(world: World, *blob_ids: str) -> None:
    """Device b knows of some blobs of a, and has none of their content."""
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put_many([(blob_id, blob_id.encode()) for blob_id in blob_ids])
        await vault.sync()
    await world.sync("b")


async def test_what_was_read_is_fetched_ahead_when_it_changes(world: World) -> None:
    """Without being asked for, so that it can be read offline (row D6)."""
    await on_demand(world, "read", "other")
    async with world.open("b") as vault:
        await vault.namespace("notes").get("read")
        for text in (b"second", b"third"):  # what was noted in memory counts too
            await world.put_and_sync("a", read=text, other=text)
            assert (await vault.sync()).fetched == 1
            assert await statuses(vault) == {"read": "SYNCED", "other": "REMOTE_ONLY"}
    await world.put_and_sync("a", read=b"fourth")
    async with world.open("b") as vault:
        await vault.parts()[1].read_journals()
        assert (await statuses(vault))["read"] == "PENDING_DOWNLOAD"
    await world.put_and_sync("a", read=b"fifth")  # before the fourth has come
    async with world.open("b") as vault:
        await vault.sync()
    remote = world.remote()
    async with world.open("b", remote) as vault:
        assert (await vault.namespace("notes").get("read")).data == b"fifth" and remote.calls == []


async def test_what_was_read_long_ago_is_not(world: World) -> None:
    """Row by row of the log of reads (row D6)."""
    await on_demand(world, "x", "y")
    async with world.open("b") as vault:
        await vault.namespace("notes").get_many(["x", "y"])
        world.clock.now += LATELY_MS / 1000 - 1
        await vault.namespace("notes").get("y")
        world.clock.now += 2
        await world.put_and_sync("a", x=b"second", y=b"second")
        assert (await vault.sync()).fetched == 1
        assert await statuses(vault) == {"x": "REMOTE_ONLY", "y": "SYNCED"}


async def test_what_is_not_kept_here_is_not(world: World) -> None:
    await on_demand(world, "evicted", "not kept", "deleted")
    async with world.open("b") as vault:
        notes = vault.namespace("notes")
        await notes.get("evicted")
        await notes.evict("evicted")
        await notes.get("not kept", keep=False)
        await notes.get("deleted")
        await notes.delete("deleted")
        await vault.sync()
        await world.sync("a")
        await world.put_and_sync("a", evicted=b"second", deleted=b"anew", **{"not kept": b"second"})
        assert (await vault.sync()).fetched == 0
        assert set((await statuses(vault)).values()) == {"REMOTE_ONLY"}


async def test_what_was_read_stays_wanted_when_the_policy_changes(world: World) -> None:
    await world.put_and_sync("a", read=b"first", other=b"first")
    await world.sync("b")
    async with world.open("b") as vault:
        await vault.namespace("notes").get("read")
    await world.put_and_sync("a", read=b"second", other=b"second")
    async with world.open("b") as vault:
        await vault.parts()[1].read_journals()
        await vault.namespace("notes").settings(fetch="on-demand")
        assert await statuses(vault) == {"read": "PENDING_DOWNLOAD", "other": "REMOTE_ONLY"}


async def test_what_came_with_another_blobs_equal_content_is_kept_once_it_is_read(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put_many([("x", b"twin"), ("y", b"twin"), ("z", b"twin")])
        await vault.sync()
    await world.sync("b")
    remote = world.remote()
    async with world.open("b", remote) as vault:
        notes = vault.namespace("notes")
        await notes.get("x")
        remote.calls.clear()
        assert (await notes.get("y")).data == (await notes.get("z", keep=False)).data == b"twin"
        assert remote.calls == []
        assert await statuses(vault) == {"x": "SYNCED", "y": "SYNCED", "z": "REMOTE_ONLY"}
        await notes.evict("x")
        remote.calls.clear()
        assert (await notes.get("y")).data == (await notes.get("x")).data == b"twin" and remote.calls == []
        assert (await statuses(vault))["x"] == "SYNCED"
        await notes.get("y")
        await notes.evict("y")
        assert await statuses(vault) == {"x": "SYNCED", "y": "REMOTE_ONLY", "z": "REMOTE_ONLY"}, (
            "a read of before does not undo it"
        )
        await notes.evict("x")
        remote.calls.clear()
        await notes.get("z")
        assert remote.called("get") != []

"""Blobs that stay on their device: what others never hear of, and what they hear once it is shared."""

from collections.abc import AsyncIterator

import pytest

import syncagent
from syncagent.errors import ConfigError
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
@pytest.mark.parametrize("how", ["tagged", "of a transaction"])
async def test_a_former_version_that_must_be_sent_refuses_that_the_blob_stays_here(
    world: World, how: str, content: bytes
) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        if how == "tagged":
            await notes.tag("x", await notes.put("x", b"secret 1"), "t")
        else:
            async with vault.transaction() as tx:
                tx.namespace("notes").put("x", b"secret 1")
                tx.namespace("notes").put("y", b"y")
        await notes.put("x", b"secret 2", replace=True)
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

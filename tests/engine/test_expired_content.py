"""The content of a blob that has expired: a week later it leaves a device, if the remote has it."""

import pytest

from syncagent import names
from syncagent.cache.downloads import EXPIRED_MS
from syncagent.errors import BlobNotFound, ObjectRefused, Unreachable
from syncagent.vault import Vault
from tests.engine.test_expiry import at
from tests.engine.world import Call, Fails, World, rows, statuses

pytestmark = pytest.mark.anyio

HOUR = 3600.0
WEEK = EXPIRED_MS / 1000
LARGE = bytes(range(256)) * (2 << 10)


async def held(vault: Vault) -> dict[str, bool]:
    """Of each blob of `notes` that has content: whether any of it is on the device."""
    found = await rows(
        vault,
        "SELECT blob.id, max(payload_no IS NOT NULL OR EXISTS (SELECT 1 FROM pack_chunk AS place JOIN pack"
        " ON pack.no = pack_no WHERE place.chunk_no = chunk.no AND has_file)) FROM blob"
        " JOIN version ON blob_no = blob.no JOIN version_chunk ON version_no = version.no"
        " JOIN chunk ON chunk.no = version_chunk.chunk_no GROUP BY blob.id",
    )
    return {str(blob_id): bool(is_held) for blob_id, is_held in found}


async def status_of(vault: Vault, blob_id: str) -> str:
    return (await vault.explain("notes", blob_id)).status.name


async def make(world: World, *, local_only: bool = False) -> None:
    """Two blobs that are to be gone in an hour, and one that stays, on a and b."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("small", b"soon over", expires_at=at(HOUR), local_only=local_only)
        await notes.put("large", LARGE, expires_at=at(HOUR), local_only=local_only)
        await notes.put("stays", b"for good")
        await vault.sync()
    await world.sync("b")


async def test_a_week_later_it_leaves_the_device_and_comes_back_when_the_blob_is_put_off(
    world: World,
) -> None:
    """What has expired vanishes in the background (row C1)."""
    await make(world)
    for name in ("a", "b"):
        async with world.open(name) as vault:
            world.clock.now = at(HOUR + WEEK - 1).timestamp()
            await vault.sync()
            assert await held(vault) == {"small": True, "large": True, "stays": True}
            world.clock.now += 24 * HOUR
            await vault.sync()
            assert await held(vault) == {"small": False, "large": False, "stays": True}
            assert list((world.folder / name / "packs").iterdir()) == []
            assert await status_of(vault, "large") == "REMOTE_ONLY"
            with pytest.raises(BlobNotFound):
                await vault.namespace("notes").get("small")
            later = at(10 * WEEK)
            world.clock.now += 1
            assert (await vault.sync()).fetched == 0
            if name == "a":
                continue
            await vault.namespace("notes").set_expiry("small", later)
            await vault.namespace("notes").set_expiry("large", later)
            assert (await vault.sync()).fetched == 2
            assert (await vault.namespace("notes").get("large")).data == LARGE
    remote = world.remote()
    async with world.open("a", remote) as vault:
        assert (await vault.sync()).fetched == 2
        remote.calls.clear()
        assert (await vault.namespace("notes").get("small")).data == b"soon over" and remote.calls == []


async def test_the_same_bytes_put_anew_are_wanted_again(world: World) -> None:
    await make(world)
    world.clock.now += HOUR + WEEK
    for name in ("a", "b"):
        await world.sync(name)
    async with world.open("a") as vault:
        await vault.namespace("notes").put("small", b"soon over")
        await vault.sync()
    async with world.open("b") as vault:
        assert (await held(vault))["small"] is False
        assert (await vault.sync()).fetched == 1
        assert await statuses(vault) == {"small": "SYNCED", "stays": "SYNCED"}


async def test_a_device_that_comes_late_does_not_fetch_it(world: World) -> None:
    await make(world)
    world.clock.now += HOUR + WEEK
    async with world.open("c") as vault:
        assert (await vault.sync()).fetched == 1
        assert await held(vault) == {"small": False, "large": False, "stays": True}
        assert await status_of(vault, "small") == "REMOTE_ONLY"
        assert not (await vault.status()).reasons


async def test_what_this_device_alone_has_is_kept(world: World) -> None:
    await make(world, local_only=True)
    remote = world.remote()
    remote.before = Fails(ObjectRefused("too large"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("unsent", b"never sent", expires_at=at(HOUR))
        world.clock.now += HOUR + WEEK
        await vault.sync()
        assert await held(vault) == dict.fromkeys(("small", "large", "stays", "unsent"), True)
        assert await status_of(vault, "small") == "LOCAL_ONLY"
        assert await status_of(vault, "unsent") == "PENDING_UPLOAD"


async def test_what_the_remote_does_not_show_is_kept(world: World) -> None:
    await make(world)
    world.clock.now += HOUR + WEEK
    hidden = [world.hide(name) for name in world.names(names.PACKS)]
    async with world.open("a") as vault:
        await vault.sync()
        assert await held(vault) == {"small": True, "large": True, "stays": True}
        assert await status_of(vault, "small") == "SYNCED"
    for bring_back in hidden:
        bring_back()
    remote = world.remote()
    remote.before = Fails(Unreachable("gone"), "head")
    world.clock.now += 24 * HOUR
    async with world.open("a", remote) as vault:
        await vault.sync()
        assert await status_of(vault, "small") == "SYNCED", "the sync is done, the rest can wait for a day"
        remote.before = Fails(Unreachable("gone"), "none")
        await vault.sync()
        assert await status_of(vault, "small") == "SYNCED"
        world.clock.now += 24 * HOUR
        await vault.sync()
        assert await held(vault) == {"small": False, "large": False, "stays": True}


async def test_what_is_put_off_meanwhile_is_kept(world: World) -> None:
    await make(world)
    world.clock.now += HOUR + WEEK
    remote = world.remote()
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")

        async def put_off(call: Call) -> None:
            if call.method == "head":
                await notes.set_expiry("small", at(9 * WEEK))
                await notes.set_expiry("large", at(9 * WEEK))

        remote.after = put_off
        await vault.sync()
        assert remote.called("head") and all((await held(vault)).values())
        assert set((await statuses(vault)).values()) == {"SYNCED"}


async def test_what_is_pinned_and_what_another_blob_needs_is_kept(world: World) -> None:
    await make(world)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.pin("small")
        await notes.put("twin", LARGE)
        await vault.sync()
        world.clock.now += HOUR + WEEK
        await vault.sync()
        assert await status_of(vault, "small") == "SYNCED" and await held(vault) == dict.fromkeys(
            ("small", "large", "stays", "twin"), True
        )
        assert (await notes.get("twin")).data == LARGE
    async with world.open("b") as vault:
        await vault.namespace("notes").settings(fetch="pinned")
        await vault.sync()
        assert all((await held(vault)).values())
        assert await statuses(vault) == {"stays": "SYNCED", "twin": "SYNCED"}
        assert await status_of(vault, "small") == "SYNCED"

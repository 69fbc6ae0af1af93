"""A clock set back a year or forward ten: nothing is lost, nothing waits for ever, edits still win."""

import datetime

import pytest

from syncagent import names
from syncagent.cache.profile import Credential, Profile, unlock_profile
from syncagent.crypto.keyslot import FLOOR_KDF
from syncagent.errors import ObjectRefused, Unreachable, WrongPassphrase
from tests.engine.test_rollback import contents
from tests.engine.world import NOON, Fails, World, listed, statuses

pytestmark = pytest.mark.anyio

YEAR_S = 365 * 24 * 3600.0


@pytest.mark.parametrize("jump_s", [-YEAR_S, 10 * YEAR_S], ids=["back a year", "forward ten"])
async def test_puts_before_and_after_a_jump_keep_their_order(world: World, jump_s: float) -> None:
    await world.put_and_sync("a", x=b"before", y=b"before")
    await world.sync("b")
    world.clock.now += jump_s
    await world.put_and_sync("a", x=b"after")
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("y")
        await vault.namespace("notes").put("y", b"made anew")
        await vault.sync()
    world.clock.now = NOON + 60
    for name in ("b", "a", "b"):
        await world.sync(name)
    for name in ("a", "b"):
        async with world.open(name) as vault:
            assert await contents(vault) == {"x": b"after", "y": b"made anew"}
            assert not any(blob.conflict for blob in (await listed(vault)).values())
    # And on: an edit by either wins over what the wrong clock wrote.
    await world.put_and_sync("b", x=b"by b")
    await world.sync("a")
    async with world.open("a") as vault:
        assert (await contents(vault))["x"] == b"by b"


async def test_what_failed_under_a_clock_ten_years_ahead_is_tried_when_it_is_right_again(
    world: World,
) -> None:
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("x", b"one")
        world.clock.now += 10 * YEAR_S
        assert (await vault.sync()).failed == 1
        world.clock.now = NOON
        remote.before = Fails(ObjectRefused("no"), "put", times=0)
        assert (await vault.sync()).sent == 1
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_a_sync_that_failed_then_does_not_hold_the_next_one(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(Unreachable("no"), "get", names.VAULT)
    async with world.open("a", remote) as vault:
        world.clock.now += 10 * YEAR_S
        with pytest.raises(Unreachable):
            await vault.sync()
        world.clock.now = NOON
        remote.before = Fails(Unreachable("no"), "put", times=0)
        await vault.sync()
        assert (await vault.status()).next_attempt is None


async def test_a_device_that_published_under_a_clock_ahead_goes_on_saying_what_it_has_read(
    world: World,
) -> None:
    world.clock.now += 10 * YEAR_S
    await world.put_and_sync("b", y=b"from the future")
    world.clock.now = NOON
    await world.put_and_sync("a", x=b"one")
    before = len(world.names(names.JOURNAL))
    await world.sync("b")
    assert len(world.names(names.JOURNAL)) == before + 1
    await world.sync("b")
    assert len(world.names(names.JOURNAL)) == before + 1


async def everywhere(world: World) -> None:
    for name in ("a", "b", "a"):
        await world.sync(name)


async def test_what_a_clock_ahead_has_said_beside_a_version_can_be_unsaid(world: World) -> None:
    """Tags, lifetimes and names go by the clock, so what replaces one that was ahead must come after it."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"one")
        world.clock.now += YEAR_S
        await notes.tag("x", "~0", "good")
        await notes.set_expiry("x", None, force=True)
        await vault.rename_device(vault.device_id, "from the future")
    world.clock.now = NOON + 60
    await everywhere(world)
    soon = datetime.datetime.fromtimestamp(NOON + 3600, datetime.UTC)
    async with world.open("b") as vault:
        notes = vault.namespace("notes")
        [named] = [one for one in await vault.devices() if one.name == "from the future"]
        assert (await vault.rename_device(named.id, "laptop")).name == "laptop"
        await notes.untag("x", "~0", "good")
        assert await notes.set_expiry("x", soon, force=True) == soon
        later = soon + datetime.timedelta(hours=1)
        assert await notes.set_expiry("x", later) == later, "put off from there"
    await everywhere(world)
    for name in ("a", "b"):
        async with world.open(name) as vault:
            assert "laptop" in [one.name for one in await vault.devices()]
            [version] = await vault.namespace("notes").history("x")
            assert version.tags == ()
            assert (await vault.namespace("notes").stat("x")).expires_at == later


async def test_a_blob_that_a_clock_ahead_let_expire_can_be_made_anew(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        world.clock.now += YEAR_S
        at = datetime.datetime.fromtimestamp(NOON, datetime.UTC)
        await vault.namespace("notes").set_expiry("x", at, force=True)
    world.clock.now = NOON + 60
    await everywhere(world)
    async with world.open("b") as vault:
        await vault.namespace("notes").put("x", b"two")
        assert (await vault.namespace("notes").get("x")).data == b"two"
    await everywhere(world)
    async with world.open("a") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"two"


async def test_a_passphrase_replaced_under_a_clock_ahead_can_be_replaced_again(world: World) -> None:
    async with world.open("a") as vault:
        world.clock.now += YEAR_S
        await vault.change_passphrase("from the future", kdf=FLOOR_KDF)
        await vault.sync()
    world.clock.now = NOON + 60
    await everywhere(world)
    async with world.open("b") as vault:
        await vault.change_passphrase("battery staple", kdf=FLOOR_KDF)
        await vault.sync()
    await everywhere(world)
    for name in ("a", "b"):
        profile = Profile(world.folder / name)
        unlock_profile(profile, Credential.of(passphrase="battery staple", recovery_code=None)).close()
        with pytest.raises(WrongPassphrase):
            unlock_profile(profile, Credential.of(passphrase="from the future", recovery_code=None))
    at_remote = {name.removeprefix("keys/") for name in world.names(names.KEYS)}
    assert {path.name for path in Profile(world.folder / "a").keys.iterdir()} == at_remote


async def test_a_barrier_waits_for_what_was_put_under_a_clock_ahead(world: World) -> None:
    async with world.open("a") as vault:
        world.clock.now += YEAR_S
        await vault.namespace("notes").put("x", b"from the future")
        world.clock.now = NOON + 60
        await vault.namespace("notes").put("y", b"now")
        await vault.barrier()
        assert await statuses(vault) == {"x": "SYNCED", "y": "SYNCED"}


async def test_a_tag_that_is_dated_far_ahead_is_reported(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        await vault.sync()
        world.clock.now += YEAR_S
        await vault.namespace("notes").tag("x", "~0", "good")
        await vault.sync()
    world.clock.now = NOON + 60
    [alarm] = (await world.sync("b")).alarms
    assert "ahead of this clock" in alarm.message
    assert (alarm.kind, alarm.safe[:14]) == ("ClockAhead", "it was applied")

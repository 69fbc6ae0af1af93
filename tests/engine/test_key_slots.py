"""Replacing what opens a vault may stop anywhere: the old secret or the new one opens it."""

from pathlib import Path

import pytest

import syncagent
from syncagent import names
from syncagent.errors import ObjectRefused, SyncAgentError, Unreachable, WrongPassphrase
from syncagent.remote.memory import MemoryRemote
from tests.engine.place import PASSPHRASE, Place
from tests.engine.world import Call, Fails, LedRemote, use

pytestmark = pytest.mark.anyio

NEW = "another passphrase"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def opens(place: Place, name: str, passphrase: str) -> bool:
    try:
        async with place.open(name, passphrase):
            return True
    except WrongPassphrase:
        return False


async def joins(place: Place, name: str, passphrase: str) -> bool:
    """Whether a device could join. It leaves nothing at the remote: others must not have to read it."""
    before = dict(place.store.objects)
    try:
        await place.join(name, passphrase)
    except WrongPassphrase:
        return False
    finally:
        place.store.objects.clear()
        place.store.objects.update(before)
    return True


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
async def test_a_change_that_stops_anywhere_leaves_one_that_opens(place: Place, is_after: bool) -> None:
    await place.create("one")
    await place.join("two")
    current = PASSPHRASE
    at = 0
    is_cut = True
    while is_cut:
        at += 1
        assert at < 60
        new = f"passphrase {at}"
        remote = LedRemote(MemoryRemote(place.store))

        async def cut(call: Call, at: int = at, remote: LedRemote = remote) -> None:
            if len(remote.calls) >= at:
                raise Unreachable("gone")

        if is_after:
            remote.after = cut
        else:
            remote.before = cut
        async with syncagent.open_vault(place.folder / "one", passphrase=current, remote=remote) as vault:
            try:
                await vault.change_passphrase(new, kdf=syncagent.FLOOR_KDF)
                is_cut = False
            except SyncAgentError:
                pass
        here = [secret for secret in (current, new) if await opens(place, "one", secret)]
        there = [
            secret for secret in (current, new) if await joins(place, f"check-{at}-{secret[-2:]}", secret)
        ]
        assert here and there, at
        current = here[-1]
        async with place.open("one", current) as vault:
            await vault.sync()
        # Once a sync has gone through there is exactly one, the same for all.
        final = [secret for secret in {current, new} if await opens(place, "one", secret)]
        assert final == [current]
        assert await joins(place, f"later-{at}", current)
    assert current == new and at > 5
    assert len(place.names(names.KEYS)) < 8
    # The other device takes it over with its next sync, and not before.
    assert await opens(place, "two", PASSPHRASE)
    async with place.open("two", PASSPHRASE) as vault:
        assert not (await vault.sync()).alarms
    assert await opens(place, "two", current) and not await opens(place, "two", PASSPHRASE)


async def test_of_two_changes_at_once_one_stands_and_nobody_is_locked_out(place: Place) -> None:
    created = await place.create("one")
    await place.join("two")
    async with place.open("one") as one, place.open("two") as two:
        await one.sync()
        await two.sync()
        remote = LedRemote(MemoryRemote(place.store))

        async def other_first(call: Call) -> None:
            if call.method == "put" and call.name.startswith(names.JOURNAL) and not done:
                done.append(True)
                await two.change_passphrase("of two", kdf=syncagent.FLOOR_KDF)

        done: list[bool] = []
        remote.before = other_first
        await use(one, remote)
        await one.change_passphrase("of one", kdf=syncagent.FLOOR_KDF)
        for vault in (one, two, one, two):
            await vault.sync()
    found = {
        name: [secret for secret in ("of one", "of two", PASSPHRASE) if await opens(place, name, secret)]
        for name in ("one", "two")
    }
    assert found["one"] == found["two"] and len(found["one"]) == 1
    assert await joins(place, "three", found["one"][0])
    async with syncagent.open_vault(
        place.folder / "two", recovery_code=created.recovery_code, remote=MemoryRemote(place.store)
    ) as vault:
        assert vault.id


async def test_a_remote_that_gives_back_another_slot_changes_nothing(place: Place) -> None:
    await place.create("one")
    remote = LedRemote(MemoryRemote(place.store))

    async def alter(call: Call) -> None:
        if call.method == "put" and call.name.startswith(names.KEYS):
            place.stored(call.name, b"{}")

    remote.after = alter
    async with syncagent.open_vault(place.folder / "one", passphrase=PASSPHRASE, remote=remote) as vault:
        with pytest.raises(SyncAgentError, match="another key slot"):
            await vault.change_passphrase(NEW, kdf=syncagent.FLOOR_KDF)
    assert await opens(place, "one", PASSPHRASE) and not await opens(place, "one", NEW)


async def test_a_slot_that_is_withheld_or_altered_does_not_replace_a_copy(place: Place) -> None:
    await place.create("one")
    await place.join("two")
    async with place.open("one") as vault:
        await vault.change_passphrase(NEW, kdf=syncagent.FLOOR_KDF)
        new = max(await vault.key_slots(), key=lambda slot: slot.kind == "passphrase")
    name = names.KEYS + new.id
    stored = place.store.objects.pop(name)
    async with place.open("two") as vault:
        await vault.sync()
        place.stored(name, b"altered")
        await vault.sync()
    assert await opens(place, "two", PASSPHRASE)
    place.store.objects[name] = stored
    async with place.open("two") as vault:
        await vault.sync()
    assert await opens(place, "two", NEW) and not await opens(place, "two", PASSPHRASE)


@pytest.mark.parametrize("error", [Unreachable("took longer than 300 s"), ObjectRefused("not this one")])
async def test_a_slot_that_is_never_given_stops_no_sync(place: Place, error: SyncAgentError) -> None:
    await place.create("one")
    await place.join("two")
    async with place.open("one") as vault:
        await vault.change_passphrase(NEW, kdf=syncagent.FLOOR_KDF)
    remote = LedRemote(MemoryRemote(place.store))
    remote.before = Fails(error, "get", names.KEYS)
    folder = place.folder / "two"
    async with syncagent.open_vault(folder, passphrase=PASSPHRASE, remote=remote) as vault:
        await vault.namespace("notes").put("x", b"goes out")
        assert (await vault.sync()).sent == 1
    assert await opens(place, "two", PASSPHRASE)


@pytest.mark.parametrize("error", [Unreachable("took longer than 300 s"), ObjectRefused("not this one")])
async def test_a_replaced_slot_that_cannot_be_deleted_stops_no_sync_and_is_deleted_later(
    place: Place, error: SyncAgentError
) -> None:
    await place.create("one")
    before = len(place.names(names.KEYS))
    remote = LedRemote(MemoryRemote(place.store))
    fails = remote.before = Fails(error, "delete", names.KEYS)
    async with syncagent.open_vault(place.folder / "one", passphrase=PASSPHRASE, remote=remote) as vault:
        await vault.change_passphrase(NEW, kdf=syncagent.FLOOR_KDF)
        await vault.sync()
        assert len(place.names(names.KEYS)) == before + 1
        fails.times = 0
        await vault.sync()
        assert len(place.names(names.KEYS)) == before


async def test_a_slot_replaced_while_another_device_syncs_is_not_put_back(place: Place) -> None:
    await place.create("one")
    await place.join("two")
    remote = LedRemote(MemoryRemote(place.store))
    async with place.open("one") as one, place.open("two") as two:
        await two.sync()

        async def replace(call: Call) -> None:
            """When the other has listed the slots, and before it reads the journals."""
            if call.method == "list" and call.name == names.KEYS and not done:
                done.append(True)
                await one.change_passphrase(NEW, kdf=syncagent.FLOOR_KDF)

        done: list[bool] = []
        for hook in ("before", "after"):
            done.clear()
            remote.before = remote.after = LedRemote(MemoryRemote()).before
            setattr(remote, hook, replace)
            await use(two, remote)
            assert (await two.sync()).alarms == ()
            assert done and len(place.names(names.KEYS)) == 2

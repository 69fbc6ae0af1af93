"""Creating and joining a vault: all or nothing at every step, whoever races and whatever is planted."""

import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent import names
from syncagent.cache import facts, meta, outbox
from syncagent.cache.db import Database
from syncagent.crypto.keys import RootSecret
from syncagent.crypto.keyslot import FORMAT, SlotContents, SlotKind, parse_slot, passphrase_bytes, seal_slot
from syncagent.crypto.recovery import new_recovery_code, recovery_bytes
from syncagent.engine.records import encode_vault_record
from syncagent.engine.slots import SLOTS_KEY
from syncagent.errors import (
    ConfigError,
    TooNew,
    Unreachable,
    VaultExists,
    VaultNotFound,
    WrongPassphrase,
    WrongVault,
)
from syncagent.journal.batch import encode_change
from syncagent.journal.changes import SlotsChange
from syncagent.journal.clock import tick
from syncagent.model import SlotId, VaultId
from syncagent.remote.memory import MemoryRemote
from syncagent.vault import Vault, open_vault
from tests.engine.place import PASSPHRASE, Place, slot, works

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# Creating ------------------------------------------------------------------------------------------


async def test_a_vault_is_made_and_joined(place: Place) -> None:
    created = await place.create("a")
    joined = await place.join("b")
    assert created.vault_id == joined.vault_id
    assert created.device_id != joined.device_id
    assert created.recovery_code not in repr(created)
    assert place.profiles() == ["a", "b"]
    assert len(place.names(names.KEYS)) == len(place.names(names.DEVICES)) == 2
    await works(place, "a")


@pytest.mark.parametrize("name", ["a", "other"])
async def test_a_second_vault_at_the_remote_or_the_path_is_refused(place: Place, name: str) -> None:
    await place.create("a")
    before = dict(place.store.objects)
    with pytest.raises(VaultExists):
        await place.create(name)
    assert place.store.objects == before
    assert place.profiles() == ["a"]


async def test_a_folder_with_something_in_it_is_left_alone(place: Place) -> None:
    (place.folder / "a").mkdir()
    (place.folder / "a" / "thesis.txt").write_text("mine")
    for make in (place.create, place.join):
        with pytest.raises(ConfigError):
            await make("a")
    assert (place.folder / "a" / "thesis.txt").read_text() == "mine"
    assert place.names() == []
    (place.folder / "empty").mkdir()
    await place.create("empty")
    await works(place, "empty")


# Joining -------------------------------------------------------------------------------------------


async def test_joining_nothing_says_so(place: Place) -> None:
    with pytest.raises(VaultNotFound):
        await place.join("b")
    assert place.profiles() == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("passphrase", ["wrong", " correct horse", "correct horse ", "Correct horse"])
async def test_a_wrong_passphrase_opens_nothing_and_leaves_nothing(place: Place, passphrase: str) -> None:
    await place.create("a")
    before = dict(place.store.objects)
    with pytest.raises(WrongPassphrase):
        await place.join("b", passphrase)
    with pytest.raises(WrongPassphrase):
        async with place.open("a", passphrase):
            pass
    assert place.profiles() == ["a"]
    assert place.store.objects == before


async def test_the_recovery_code_opens_and_joins(place: Place) -> None:
    created = await place.create("a")
    async with open_vault(
        place.folder / "a", recovery_code=created.recovery_code.lower(), remote=MemoryRemote(place.store)
    ) as vault:
        await vault.namespace("notes").put("x", b"x")
        await vault.sync()
    await syncagent.join_vault(place.folder / "b", remote=place.url, recovery_code=created.recovery_code)
    async with place.open("b") as vault:  # and the passphrase opens what the code has joined
        await vault.sync()
        assert (await vault.namespace("notes").get("x")).data == b"x"
    with pytest.raises(WrongPassphrase):
        await syncagent.join_vault(place.folder / "c", remote=place.url, recovery_code=new_recovery_code())
    with pytest.raises(ConfigError):
        await syncagent.join_vault(place.folder / "c", remote=place.url)


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("at", [10, 100, 200, -10])
async def test_a_tampered_slot_does_not_open_and_the_other_kind_still_does(place: Place, at: int) -> None:
    created = await place.create("a")
    for name in place.names(names.KEYS):
        data = place.store.objects[name].data
        slot_id = SlotId(bytes.fromhex(name.removeprefix(names.KEYS)))
        if parse_slot(slot_id, data).kind is SlotKind.PASSPHRASE:
            place.stored(name, data[:at] + bytes([data[at] ^ 1]) + data[at:][1:])
    with pytest.raises(WrongPassphrase):
        await place.join("b")
    assert place.profiles() == ["a"]
    await syncagent.join_vault(place.folder / "c", remote=place.url, recovery_code=created.recovery_code)


async def test_slots_of_garbage_are_passed_over(place: Place) -> None:
    await place.create("a")
    for number, data in enumerate([b"x", b"{}", b"\xff" * 4096, b"[" * 4096]):
        place.stored(names.slot_object(number.to_bytes(16, "big")), data)
    await place.join("b")
    await works(place, "b")


async def test_planted_slots_cost_bounded_work(place: Place) -> None:
    """Eight are tried: a ninth before the right one keeps it from opening, and costs nothing more."""
    created = await place.create("a")
    vault = VaultId(bytes.fromhex(created.vault_id))
    planted = [slot(SlotKind.PASSPHRASE, b"not the passphrase", vault, number) for number in range(10)]
    for slot_id, data in planted[:7]:
        place.stored(names.slot_object(slot_id), data)
    await place.join("b")
    for slot_id, data in planted[7:]:
        place.stored(names.slot_object(slot_id), data)
    started = anyio.current_time()
    with pytest.raises(WrongPassphrase):
        await place.join("c")
    assert anyio.current_time() - started < 5
    # What is planted later locks no one out who is in; what was planted before `b` joined is not copied.
    async with place.open("a"), place.open("b") as vault_b:
        await vault_b.sync()
    assert len(list((place.folder / "b" / "keys").iterdir())) == 2


async def test_a_flood_of_slot_names_is_not_read_to_its_end(place: Place) -> None:
    await place.create("a")
    for number in range(500):
        place.stored(names.slot_object(b"\xff" * 8 + number.to_bytes(8, "big")), b"x")
    led = place.led()
    await place.join("b")
    assert led.calls < 200


async def _publish_slots(vault: Vault, slots: dict[SlotId, bytes]) -> None:
    """Say which slots are in force, as changing the passphrase will."""
    ctx, _ = vault.parts()

    def publish(db: Database) -> None:
        hlc = tick(meta.hlc(db), ctx.now_ms())
        meta.put(db, meta.HLC, hlc)
        change = encode_change(
            SlotsChange({slot: hashlib.sha256(data).digest() for slot, data in slots.items()}, hlc)
        )
        outbox.enqueue_change(db, change)
        facts.set_register(db, "slots", SLOTS_KEY, change=change, hlc=hlc, device=meta.device_id(db))

    await ctx.cache.write(publish)
    await vault.sync()


async def test_a_slot_that_the_journal_no_longer_lists_was_replaced(place: Place) -> None:
    await place.create("a")
    async with place.open("a") as vault:
        ctx, _ = vault.parts()
        slot_id = SlotId(b"\xff" * 16)
        root = RootSecret(await ctx.cache.read(partial(meta.get_bytes, key=meta.ROOT)))
        contents = SlotContents(FORMAT, ctx.vault, {1: root})
        data = seal_slot(
            slot_id, SlotKind.PASSPHRASE, passphrase_bytes("new one"), contents, syncagent.FLOOR_KDF
        )
        place.stored(names.slot_object(slot_id), data)
        await _publish_slots(vault, {slot_id: data})
    with pytest.raises(WrongPassphrase, match="replaced"):
        await place.join("b")
    assert place.profiles() == ["a"]
    await place.join("b", "new one")
    assert [path.name for path in (place.folder / "b" / "keys").iterdir()] == [slot_id.hex()]


async def test_a_slot_that_was_never_listed_is_in_nobodys_way(place: Place) -> None:
    await place.create("a")
    # What a change to the same passphrase leaves that was killed once the slot was at the remote.
    for slot_id in (SlotId(bytes(16)), SlotId(b"\xff" * 16)):  # the real one lies between them
        async with place.open("a") as vault:
            ctx, _ = vault.parts()
            root = RootSecret(await ctx.cache.read(partial(meta.get_bytes, key=meta.ROOT)))
            contents = SlotContents(FORMAT, ctx.vault, {1: root})
        secret = passphrase_bytes(PASSPHRASE)
        data = seal_slot(slot_id, SlotKind.PASSPHRASE, secret, contents, syncagent.FLOOR_KDF)
        place.stored(names.slot_object(slot_id), data)
    await place.join("b")
    here = {path.name for path in (place.folder / "b" / "keys").iterdir()}
    assert here == {path.name for path in (place.folder / "a" / "keys").iterdir()}


async def test_a_slot_of_another_vault_is_the_wrong_vault(place: Place) -> None:
    await place.create("a")
    place.stored(names.VAULT, encode_vault_record(VaultId(bytes(16))))
    with pytest.raises(WrongVault):
        await place.join("b")
    place.stored(names.VAULT, b"garbage")
    with pytest.raises(TooNew):
        await place.join("b")
    assert place.profiles() == ["a"]


# Offline -------------------------------------------------------------------------------------------


class Gone(MemoryRemote):
    """A remote that cannot be reached."""

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        raise Unreachable("no connection")


@pytest.mark.parametrize("device", ["a", "b"])
async def test_a_vault_opens_puts_and_gets_without_its_remote(place: Place, device: str) -> None:
    created = await place.create("a")
    await place.join("b")
    place.store.objects.clear()
    for open_it in (
        partial(open_vault, place.folder / device, passphrase=PASSPHRASE),
        partial(open_vault, place.folder / device, recovery_code=created.recovery_code),
    ):
        async with open_it(remote=Gone()) as vault:
            await vault.namespace("notes").put("x", b"offline")
            assert (await vault.namespace("notes").get("x")).data == b"offline"
            with pytest.raises(Unreachable):
                await vault.sync()


async def test_a_device_name_out_of_bounds_is_refused_before_anything_is_made(place: Place) -> None:
    make: list[Callable[..., Awaitable[object]]] = [syncagent.create_vault, syncagent.join_vault]
    for each in make:
        for name in ("", "a\0b", "n" * 300):
            with pytest.raises(ConfigError):
                await each(place.folder / "a", remote=place.url, passphrase="x", device_name=name)
    assert place.profiles() == [] and place.names() == []


def test_a_recovery_code_is_worth_160_bits() -> None:
    assert len(recovery_bytes(new_recovery_code())) == 20


async def test_what_is_odd_about_the_journals_is_told_on_joining_and_by_the_first_sync(place: Place) -> None:
    await place.create("a")

    def later() -> float:
        return time.time() + 3 * 24 * 3600

    remote = MemoryRemote(place.store)
    async with open_vault(place.folder / "a", passphrase=PASSPHRASE, remote=remote, now=later) as vault:
        await vault.namespace("notes").put("odd", b"dated ahead")
        await vault.sync()
    joined = await place.join("b")
    assert [alarm.kind for alarm in joined.alarms] == ["ClockAhead"]
    async with place.open("b") as vault:
        assert (await vault.status()).alarms == joined.alarms
        assert (await vault.sync()).alarms == joined.alarms
        assert (await vault.sync()).alarms == ()

"""Creating and joining, interrupted at every call and by each other: all of it or nothing."""

from pathlib import Path

import anyio
import pytest

from syncagent import names
from syncagent.crypto.keyslot import SlotKind, passphrase_bytes
from syncagent.errors import Forbidden, VaultExists, WrongPassphrase
from syncagent.model import VaultId
from syncagent.vault import open_vault
from tests.engine.place import PASSPHRASE, Place, nothing, slot, works

pytestmark = pytest.mark.anyio


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_of_two_who_create_at_once_one_wins_and_the_other_leaves_no_slots(place: Place) -> None:
    failures: list[str] = []

    async def create(name: str) -> None:
        try:
            await place.create(name, f"passphrase of {name}")
        except VaultExists:
            failures.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(create, "a")
        group.start_soon(create, "b")
    [loser] = failures
    [winner] = {"a", "b"} - {loser}
    assert place.profiles() == [winner]
    assert len(place.names(names.KEYS)) == 2
    assert len(place.names(names.DEVICES)) == 1
    assert len(place.names(names.JOURNAL)) == 1
    with pytest.raises(WrongPassphrase):
        await place.join("c", f"passphrase of {loser}")
    await place.join("c", f"passphrase of {winner}")


async def _create_stopped_at(place: Place, number: int, how: str) -> bool:
    """Whether the creation was stopped; it is interrupted at the remote call of this number."""
    led = place.led()
    with anyio.CancelScope() as scope:

        def refuse(call: int) -> None:
            if call >= number:
                raise Forbidden("no more")

        def lose(call: int) -> None:
            if call == number:
                raise Forbidden("done, and denied")

        def cancel(call: int) -> None:
            if call == number:
                scope.cancel()

        if how == "refused":
            led.before = refuse
        elif how == "answer lost":
            led.after = lose
        elif how == "cancelled before":
            led.before = cancel
        else:
            led.after = cancel
        try:
            await place.create("a")
        except Forbidden:
            return True
        finally:
            led.before = led.after = nothing
    return scope.cancelled_caught or led.calls >= number


@pytest.mark.parametrize("how", ["refused", "answer lost", "cancelled before", "cancelled after"])
async def test_a_creation_interrupted_at_any_call_leaves_nothing_or_a_whole_vault(
    tmp_path: Path, how: str
) -> None:
    whole = 0
    for number in range(1, 40):
        place = Place(tmp_path / f"{number}")
        place.folder.mkdir()
        was_stopped = await _create_stopped_at(place, number, how)
        if place.profiles():
            assert place.profiles() == ["a"]
            whole += 1
        else:
            assert was_stopped
            if how != "refused":  # then it may take back what it left
                assert place.names() == []
                continue
            await place.create("a")  # and nothing is in the way of another try
        await works(place, "a")
        if not was_stopped:
            break
    assert number > 8 and whole, "every call was interrupted once"


async def test_slots_that_a_killed_creation_left_are_in_nobodys_way(place: Place) -> None:
    """Killed before the vault's object was put, tried again with the same passphrase: two slots open."""
    for number in range(3):
        slot_id, data = slot(
            SlotKind.PASSPHRASE, passphrase_bytes(PASSPHRASE), VaultId(bytes([number]) * 16), number
        )
        place.stored(names.slot_object(slot_id), data)
    created = await place.create("a")
    assert (await place.join("b")).vault_id == created.vault_id
    await works(place, "b")
    async with open_vault(place.folder / "b", recovery_code=created.recovery_code):
        pass


@pytest.mark.parametrize("how", ["refused", "cancelled"])
async def test_a_join_interrupted_at_any_call_leaves_nothing_at_the_path(tmp_path: Path, how: str) -> None:
    place = Place(tmp_path)
    await place.create("a")
    async with place.open("a") as vault:
        await vault.namespace("notes").put("x", b"x")
        await vault.sync()
    led = place.led()
    for number in range(1, 40):
        led.calls = 0
        with anyio.CancelScope() as scope:

            def interrupt(call: int, number: int = number, scope: anyio.CancelScope = scope) -> None:
                if call == number:
                    if how == "refused":
                        raise Forbidden("no more")
                    scope.cancel()

            led.before = interrupt
            try:
                await place.join("b")
            except Forbidden:
                pass
            finally:
                led.before = nothing
        if place.profiles() != ["a"]:
            break
    assert place.profiles() == ["a", "b"]
    assert number > 8
    async with place.open("b") as vault:
        assert not (await vault.sync()).alarms
        assert (await vault.namespace("notes").get("x")).data == b"x"

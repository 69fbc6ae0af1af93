"""Blobs whose history has a gap: a version that others have seen is withheld."""

from collections.abc import Callable

import pytest

from syncagent.events import ConflictAppeared, ConflictResolved
from syncagent.vault import Vault
from tests.engine.world import World, heard, kinds, listed

pytestmark = pytest.mark.anyio


async def withheld_edit(world: World) -> Callable[[], None]:
    """`x` of all three was edited by `b`, then by `c`; that of `b` is hidden. The call that shows it."""
    await world.put_and_sync("a", x=b"one")
    await world.sync("b")
    await world.sync("c")
    await world.put_and_sync("b", x=b"two")
    await world.sync("c")
    await world.put_and_sync("c", x=b"three")
    async with world.open("b") as b:
        return world.hide(world.names(f"journal/{b.device_id}/")[-1])


async def conflicts(vault: Vault) -> int:
    counted = (await vault.status()).conflicts
    assert counted == len(await vault.namespace("notes").conflicts())
    assert counted == sum(blob.conflict for blob in (await listed(vault)).values())
    return counted


async def test_an_edit_of_an_edit_that_is_withheld_is_no_conflict(world: World) -> None:
    show = await withheld_edit(world)
    async with world.open("a") as a:
        events = a.events()
        report = await a.sync()
        assert "Withheld" in kinds(report) and report.conflicts == 0
        assert await conflicts(a) == 0
        assert (await a.namespace("notes").get("x")).data == b"three"
        show()
        assert (await a.sync()).conflicts == 0
        assert await conflicts(a) == 0
        assert (await a.namespace("notes").get("x")).data == b"three"
        told = [type(one) for one in await heard(a, events)]
        assert ConflictAppeared not in told and ConflictResolved not in told


async def test_a_conflict_is_told_once_all_that_it_rests_on_has_come(world: World) -> None:
    show = await withheld_edit(world)
    await world.put("a", x=b"of a")
    async with world.open("a") as a:
        events = a.events()
        report = await a.sync()
        assert report.conflicts == 0 and await conflicts(a) == 0
        show()
        report = await a.sync()
        assert report.conflicts == 1 and await conflicts(a) == 1
        assert [(one.id, one.is_conflict) for one in report.arrivals] == [("x", True)]
        told = [type(one) for one in await heard(a, events)]
        assert told.count(ConflictAppeared) == 1
        (conflict,) = await a.namespace("notes").conflicts()
        assert len(conflict.versions) == 2
        await a.namespace("notes").resolve("x", b"both")
        assert await conflicts(a) == 0


@pytest.mark.parametrize("way", ["metadata", "if_version"])
async def test_what_names_one_version_of_an_incomplete_blob_replaces_no_other(world: World, way: str) -> None:
    show = await withheld_edit(world)
    await world.put("a", x=b"of a")
    async with world.open("a") as a:
        notes = a.namespace("notes")
        await a.sync()
        blob = await notes.get("x")
        if way == "metadata":
            await notes.set_metadata("x", {"title": "new"})
        else:
            await notes.put("x", b"four", if_version=blob.version)
        show()
        await a.sync()
        assert await conflicts(a) == 1, "the other edit was not replaced unseen"

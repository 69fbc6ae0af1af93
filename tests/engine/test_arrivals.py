"""What a sync's report says of the blobs that other devices have changed."""

import pytest

from syncagent.engine.report import ARRIVALS_MOST, Arrivals, Seen
from syncagent.errors import Unreachable
from syncagent.reports import Arrival, BlobArrival, SyncReport
from tests.engine.world import Fails, GoesAway, World

pytestmark = pytest.mark.anyio


def told(report: SyncReport) -> dict[str, tuple[str, int, bool]]:
    return {one.id: (one.kind.value, one.size, one.is_conflict) for one in report.arrivals}


async def test_new_changed_and_deleted_blobs_are_told_once(world: World) -> None:
    await world.put_and_sync("a", new=b"one", edited=b"one", gone=b"one")
    assert told(await world.sync("b")) == dict.fromkeys(("new", "edited", "gone"), ("new", 3, False))
    await world.put("a", edited=b"two and more")
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("gone")
        assert (await vault.sync()).arrivals == ()
    async with world.open("b") as vault:
        report = await vault.sync()
        assert told(report) == {"edited": ("changed", 12, False), "gone": ("deleted", 0, False)}
        assert report.arrivals[0].namespace == "notes"
        assert (await vault.sync()).arrivals == ()


async def test_a_conflict_is_told_whoever_wins(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    await world.sync("b")
    await world.put("a", x=b"older")
    world.clock.now += 1
    await world.put("b", x=b"newer!")
    await world.sync("a")
    assert told(await world.sync("b")) == {"x": ("changed", 6, True)}
    assert told(await world.sync("a")) == {"x": ("changed", 6, True)}


async def test_what_came_and_went_between_two_syncs_is_no_news(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("x")
        await vault.sync()
    report = await world.sync("b")
    assert report.arrivals == ()


async def test_what_a_failed_sync_has_brought_is_told_by_the_next(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    remote = world.remote()
    remote.before = GoesAway(Unreachable("no"), "get", "packs/")
    async with world.open("b", remote) as vault:
        with pytest.raises(Unreachable):
            await vault.sync()
        remote.before = Fails(Unreachable("no"), "get", times=0)
        assert told(await vault.sync()) == {"x": ("new", 3, False)}
        assert (await vault.sync()).arrivals == ()


def test_names_in_a_report_are_bounded_and_the_rest_is_counted() -> None:
    arrivals = Arrivals()
    arrivals.add(Seen("notes", str(number), False, True, 1) for number in range(ARRIVALS_MOST + 3))
    arrivals.add([Seen("notes", "0", True, True, 2), Seen(".settings", "notes", False, True, 1)])
    found, more = arrivals.take()
    assert (len(found), more) == (ARRIVALS_MOST, 3)
    assert found[0] == BlobArrival("notes", "0", Arrival.NEW, 2)
    assert arrivals.take() == ((), 0)

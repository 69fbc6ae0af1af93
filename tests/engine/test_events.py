"""What `Vault.events` tells, when, and what it leaves out for a listener that is slow."""

import datetime
import gc
from collections.abc import AsyncIterator, Awaitable
from functools import partial

import anyio
import pytest

from syncagent.cache import alarms
from syncagent.engine.report import NOTIFY_EVERY_S, Meter
from syncagent.errors import BadResponse, ConfigError, Unauthorized, Unreachable
from syncagent.events import (
    AttentionNeeded,
    BlobDeleted,
    BlobFetched,
    BlobSent,
    BlobStored,
    ConflictAppeared,
    ConflictResolved,
    Event,
    FlagsChanged,
    Missed,
    StateChanged,
    SyncFinished,
    SyncStarted,
)
from syncagent.reports import Alarm, Progress, SyncState
from tests.engine.stepping import Steps
from tests.engine.world import END, Fails, GateRemote, World, change, heard, statuses, use

pytestmark = pytest.mark.anyio


def ids(events: list[Event]) -> list[str]:
    """What was stored."""
    return [event.id for event in events if isinstance(event, BlobStored)]


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


async def test_what_is_put_and_deleted_here_is_told_with_its_version(world: World) -> None:
    async with world.open("a") as vault:
        events = vault.events()
        notes = vault.namespace("notes")
        first = await notes.put("x", b"one")
        second = await notes.put("x", b"two!", replace=True)
        assert await notes.put("x", b"two!") == second, "nothing new, nothing told"
        gone = await notes.delete("x")
        assert await heard(vault, events) == [
            BlobStored("notes", "x", str(first), 3, is_from_afar=False),
            BlobStored("notes", "x", str(second), 4, is_from_afar=False),
            BlobDeleted("notes", "x", str(gone), is_from_afar=False),
        ]


async def test_whatever_changes_shows_as_an_event_too(world: World) -> None:
    """An application asks `changes` when something was told, and finds nothing that was not."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.settings(fetch="on-demand")
        for blob_id in ("dated", "elsewhere"):
            await notes.put(blob_id, b"one")
        await notes.put("mine", b"one", local_only=True)
        await vault.sync()
        token = (await vault.changes()).token

        async def told(call: Awaitable[object]) -> list[str]:
            nonlocal token
            events = vault.events()
            await call
            page = await vault.changes(token)
            token = page.token
            found = await heard(vault, events)
            assert {change.id for change in page.changes} == {getattr(event, "id", "") for event in found}
            return kinds(found)

        at = datetime.datetime.fromtimestamp(world.clock.now + 1000, datetime.UTC)
        assert await told(notes.set_expiry("dated", at)) == ["BlobChanged"]
        assert await told(notes.evict("elsewhere")) == ["BlobChanged"]
        assert await told(notes.pin("elsewhere")) == ["BlobChanged"]
        assert await told(notes.put("mine", b"one", local_only=False)) == ["BlobChanged"]
        assert await told(notes.put("dated", b"two", replace=True)) == ["BlobStored"], "and no more"
        assert await told(notes.add_flags("mine", {"seen"})) == ["FlagsChanged"]
        assert await told(notes.delete("mine")) == ["BlobDeleted"], "which takes its flags away"


async def test_what_is_told_is_durable(world: World) -> None:
    async with world.open("a") as vault, world.open("a") as other:
        events = vault.events()
        async with anyio.create_task_group() as group:
            group.start_soon(partial(vault.namespace("notes").put, "x", b"one"))
            event = await anext(events)
            assert isinstance(event, BlobStored)
            # Another connection sees what is committed and nothing else.
            assert (await other.namespace("notes").get("x")).data == b"one"


async def test_a_put_that_was_cancelled_and_stored_all_the_same_is_told(world: World) -> None:
    async with world.open("a") as vault:
        events = vault.events()
        notes = vault.namespace("notes")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await notes.put("x", b"one")
        told = [event for event in await heard(vault, events) if isinstance(event, BlobStored)]
        assert bool(told) == await notes.exists("x")


async def test_a_sync_tells_what_it_sends_between_start_and_finish(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        events = vault.events()
        report = await vault.sync()
        assert await heard(vault, events) == [SyncStarted(), BlobSent("notes", "x"), SyncFinished(report)]
        await vault.sync()
        assert kinds(await heard(vault, events)) == ["SyncStarted", "SyncFinished"]


async def test_what_comes_from_afar_is_told_before_and_after_its_content(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    async with world.open("b") as vault:
        events = vault.events()
        await vault.sync()
        version = (await vault.namespace("notes").get("x")).version
        told = await heard(vault, events)
        assert told[1:-1] == [
            BlobStored("notes", "x", str(version), 3, is_from_afar=True),
            BlobFetched("notes", "x"),
        ]
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("x")
        await vault.sync()
    async with world.open("b") as vault:
        events = vault.events()
        await vault.sync()
        (gone,) = (await heard(vault, events))[1:-1]
        assert isinstance(gone, BlobDeleted) and gone.is_from_afar


async def test_progress_has_bytes_and_counts(world: World) -> None:
    """Of sending and of fetching (row A15)."""
    await world.put("a", x=b"one", y=b"two")
    async with world.open("a") as vault:
        events = vault.events()
        await vault.sync()
        await vault.__aexit__(None, None, None)
        told = [event async for event in events if isinstance(event, Progress) and event.phase == "send"]
    assert told[-1].done == told[-1].total == 2
    assert told[-1].done_bytes == told[-1].total_bytes > 0


async def test_a_conflict_is_told_when_it_appears_and_when_it_is_resolved(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    await world.sync("b")
    await world.put_and_sync("a", x=b"ours")
    world.clock.now += 1
    await world.put("b", x=b"theirs")
    async with world.open("b") as vault:
        events = vault.events()
        await vault.sync()
        assert ConflictAppeared("notes", "x") in await heard(vault, events)
        await vault.namespace("notes").put("x", b"both", replace=True)
        told = await heard(vault, events)
        assert kinds(told)[-1] == "ConflictResolved"
        assert told.count(ConflictResolved("notes", "x")) == 1
        await vault.sync()
    async with world.open("a") as vault:
        events = vault.events()
        await vault.sync()
        told = await heard(vault, events)
        appeared, resolved = ConflictAppeared("notes", "x"), ConflictResolved("notes", "x")
        assert told.index(appeared) < told.index(resolved), "it came to know of both in one sync"


async def test_flags_are_told_whoever_sets_them(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        events = vault.events()
        await change(vault, "INSERT INTO flag_tag SELECT no, 'seen', 7 FROM blob WHERE id = 'x'")
        assert await heard(vault, events) == [FlagsChanged("notes", "x")]


async def test_a_failure_tells_the_state_once_and_its_end(world: World) -> None:
    """As it happens (row D4)."""
    remote = world.remote()
    async with world.open("a", remote) as vault:
        events = vault.events()
        remote.before = Fails(Unreachable("gone"), "get", times=2)
        for _ in range(2):
            with pytest.raises(Unreachable):
                await vault.sync()
        told = await heard(vault, events)
        assert kinds(told) == ["SyncStarted", "StateChanged", "SyncFinished", "SyncStarted", "SyncFinished"]
        assert told[1] == StateChanged(SyncState.BACKING_OFF, "Unreachable: gone")
        assert isinstance(told[2], SyncFinished) and isinstance(told[2].error, Unreachable)
        await vault.sync()
        assert StateChanged(SyncState.READY) in await heard(vault, events)


async def test_what_only_the_user_can_mend_asks_for_attention_once(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote) as vault:
        events = vault.events()
        remote.before = Fails(Unauthorized("bad token", todo="get another"), "get", times=2)
        for _ in range(2):
            with pytest.raises(Unauthorized):
                await vault.sync()
        asked = [event for event in await heard(vault, events) if isinstance(event, AttentionNeeded)]
        assert [(one.kind, one.message, one.todo) for one in asked] == [
            ("Unauthorized", "bad token", "get another")
        ]


async def test_an_alarm_asks_for_attention(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    async with world.open("a") as vault:
        await world.flip(world.names(f"journal/{vault.device_id}")[-1])
    async with world.open("b") as vault:
        events = vault.events()
        report = await vault.sync()
        assert report.alarms
        await vault.sync()
        asked = [event for event in await heard(vault, events) if isinstance(event, AttentionNeeded)]
        assert [one.kind for one in asked] == [alarm.kind for alarm in report.alarms], "once"


async def test_a_sync_that_is_cancelled_is_told_as_neither(world: World) -> None:
    await world.put("a", x=b"one")
    gate = GateRemote(world.remote())
    async with world.open("a", gate) as vault:
        events = vault.events()
        async with anyio.create_task_group() as group:
            group.start_soon(vault.sync)
            await gate.wait_held(1)
            group.cancel_scope.cancel()
        assert (await heard(vault, events))[-1] == SyncFinished()


async def test_a_slow_listener_is_told_how_many_it_has_missed(world: World) -> None:
    async with world.open("a") as vault:
        slow, quick = vault.events(queue=4), vault.events()
        notes = vault.namespace("notes")
        for number in range(10):
            await notes.put(f"{number}", b"one")
        assert len(await heard(vault, quick)) == 10
        told = [await anext(slow) for _ in range(5)]
        assert told[0] == Missed(7) and told[4] is END
        assert ids(told) == ["7", "8", "9"]
        await notes.put("x", b"one")
        assert kinds(await heard(vault, slow)) == ["BlobStored"], "it is told once"


async def test_a_listener_of_few_kinds_is_not_crowded_out_by_others(world: World) -> None:
    await world.put("a", **{f"{number}": b"one" for number in range(10)})
    async with world.open("a") as vault:
        rounds, ends = vault.events(queue=4, only=(SyncStarted, SyncFinished)), vault.events(only=())
        report = await vault.sync()
        assert await heard(vault, rounds) == [SyncStarted(), SyncFinished(report)]
        assert await heard(vault, ends) == []


async def test_a_listener_hears_nothing_from_before(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("before", b"one")
        first = vault.events()
        await vault.namespace("notes").put("x", b"one")
        second = vault.events()
        await vault.namespace("notes").put("y", b"one")
        assert ids(await heard(vault, first)) == [
            "x",
            "y",
        ]
        assert ids(await heard(vault, second)) == ["y"]


async def test_what_another_process_does_is_told_with_the_next_commit(world: World) -> None:
    async with world.open("a") as vault, world.open("a") as other:
        events = vault.events()
        await other.namespace("notes").put("theirs", b"one")
        await vault.namespace("notes").put("ours", b"one")
        assert ids(await heard(vault, events)) == [
            "theirs",
            "ours",
        ]


async def test_what_another_process_does_is_told_by_a_sync_too(world: World) -> None:
    async with world.open("a") as vault, world.open("a") as other:
        events = vault.events()
        await other.namespace("notes").put("theirs", b"one")
        await vault.sync()
        told = await heard(vault, events)
        assert kinds(told) == ["BlobStored", "SyncStarted", "BlobSent", "SyncFinished"]


async def test_it_ends_when_the_vault_is_closed_and_tells_the_last(world: World) -> None:
    found: list[Event] = []

    async def listen(events: AsyncIterator[Event]) -> None:
        async for event in events:
            found.append(event)

    async with anyio.create_task_group() as group, world.open("a") as vault:
        idle = vault.events()
        group.start_soon(listen, vault.events())
        await anyio.wait_all_tasks_blocked()
        await vault.namespace("notes").put("x", b"one")
    assert kinds(found) == kinds([event async for event in idle]) == ["BlobStored"]


async def test_nothing_is_read_while_nobody_listens(world: World) -> None:
    async with world.open("a") as vault:
        events = vault.parts()[1].events
        listener = vault.events()
        await vault.namespace("notes").put("x", b"one")
        assert kinds(await heard(vault, listener)) == ["BlobStored"]
        del listener
        gc.collect()
        await vault.namespace("notes").put("y", b"one")
        await events.catch_up()
        assert events.is_behind, "nobody has asked"
        later = vault.events()
        assert await heard(vault, later) == []


async def test_a_cancelled_wait_takes_no_event(world: World) -> None:
    async with world.open("a") as vault:
        events = vault.events()
        with anyio.move_on_after(0):
            await anext(events)
        await vault.namespace("notes").put("x", b"one")
        with anyio.move_on_after(0):
            await anext(events)
        assert kinds(await heard(vault, events)) == ["BlobStored"]


async def test_a_vault_that_is_closed_has_no_events_and_a_queue_has_room(world: World) -> None:
    vault = world.open("a")
    with pytest.raises(ConfigError):
        vault.events()
    async with vault:
        with pytest.raises(ConfigError, match="one event"):
            vault.events(queue=0)


def test_progress_is_told_ten_times_a_second_at_most() -> None:
    now = 100.0
    told: list[Progress] = []
    meter = Meter("send", told.append, clock=lambda: now)
    for _ in range(1000):
        now += 0.001
        meter.advance(1, 10)
    assert len(told) == 10 == round(1 / NOTIFY_EVERY_S)
    meter.finish()
    assert told[-1].done == 1000


async def test_only_the_newest_progress_waits(world: World) -> None:
    async with world.open("a") as vault:
        events = vault.events(queue=2)
        for number in range(5):
            vault.parts()[1].events.emit(Progress("send", number, 5, 0, 0))
            vault.parts()[1].events.emit(Progress("send", number, 5, 1, 1))
        vault.parts()[1].events.emit(SyncStarted())
        found = [await anext(events), await anext(events)]
    assert found == [Progress("send", 4, 5, 1, 1), SyncStarted()]


async def test_a_sync_cancelled_anywhere_swallows_no_alarm_and_tells_its_end(world: World) -> None:
    alarm = Alarm("Tampered", "something", "all is safe", "look at it")
    at, told_at_once = 0, 0
    async with world.open("a") as vault:
        ctx, _ = vault.parts()
        await vault.sync()
        events = vault.events(only=(SyncStarted, SyncFinished, AttentionNeeded))
        while True:
            at += 1
            world.clock.now += 90_000  # the daily upkeep too
            await ctx.cache.write(partial(alarms.keep, found=[alarm]))
            report = None
            with anyio.CancelScope() as scope:
                steps = Steps(at, scope)
                report = await steps.run(vault.sync())
            told = await heard(vault, events)
            assert kinds(told)[:2] in ([], ["SyncStarted", "SyncFinished"])
            if report is None:
                report = await vault.sync()
                told = [*told, *await heard(vault, events)]
            elif steps.taken >= at:
                told_at_once += 1
            assert report.alarms == (alarm,)
            await vault.sync()  # without the alarm: the next one is new
            await heard(vault, events)
            if steps.taken < at:
                break
    assert told_at_once, "the end was cut off too"


async def test_listeners_come_to_their_end_also_where_closing_is_cut_off(world: World) -> None:
    async with world.open("a") as vault:
        _, engine = vault.parts()
        events = vault.events()
        await vault.namespace("notes").put("x", b"one")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await engine.events.aclose()
        with anyio.fail_after(30):
            async for _ in events:
                pass


async def test_tasks_that_share_a_listener_get_a_part_each_and_all_end(world: World) -> None:
    found: list[Event] = []

    async def hear() -> None:
        async for event in events:
            found.append(event)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, world.open("a") as vault:
            events = vault.events()
            for _ in range(3):
                group.start_soon(hear)
            await anyio.wait_all_tasks_blocked()
            for number in range(6):
                await vault.namespace("notes").put(str(number), b"one")
    assert sorted(ids(found)) == list("012345")


async def test_new_metadata_of_content_that_is_elsewhere_is_told_as_sent(world: World) -> None:
    async with world.open("a") as a:
        await a.namespace("notes").settings(fetch="on-demand")
        await a.namespace("notes").put("x", b"one" * 50_000)
        await a.sync()
    async with world.open("b") as b:
        await b.sync()
        assert await statuses(b) == {"x": "REMOTE_ONLY"}
        events = b.events(only=(BlobSent, BlobFetched))
        await b.namespace("notes").set_metadata("x", {"title": "X"})
        await b.sync()
        assert await heard(b, events) == [BlobSent("notes", "x")]
        await b.namespace("notes").set_metadata("x", {"title": "Y"})
        await b.namespace("notes").get("x")
        assert await heard(b, events) == [BlobFetched("notes", "x")]
        await b.sync()
        assert await heard(b, events) == [BlobSent("notes", "x")]


async def test_a_blob_is_told_as_sent_while_another_version_of_it_waits_for_content(world: World) -> None:
    async with world.open("a") as a, world.open("b") as b:
        await b.namespace("notes").put("x", b"theirs" * 50_000)
        await b.sync()
        remote = world.remote()
        remote.before = Fails(BadResponse("no"), "get", "packs/")
        await use(a, remote)
        events = a.events(only=(BlobSent, BlobFetched))
        await a.namespace("notes").put("x", b"ours")
        await a.sync()
        assert await heard(a, events) == [BlobSent("notes", "x")]
        remote.before = Fails(BadResponse("no"), "get", "nothing")
        await a.retry()
        await a.sync()
        assert await heard(a, events) == [BlobFetched("notes", "x")]


async def test_what_happens_to_the_flags_of_a_blob_together_is_told_once(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for blob_id in "xy":
            await notes.put(blob_id, b"one")
        events = vault.events()
        await notes.add_flags("x", {"a", "b", "c"})
        assert await heard(vault, events) == [FlagsChanged("notes", "x")]
        await notes.set_flags("x", {"c", "d"})
        assert await heard(vault, events) == [FlagsChanged("notes", "x")]
        await notes.update_flags(["x", "y"], add={"e", "f"})
        assert await heard(vault, events) == [FlagsChanged("notes", "x"), FlagsChanged("notes", "y")]
        await notes.add_flags("x", {"g"})
        await notes.add_flags("x", {"h"})
        assert len(await heard(vault, events)) == 2


async def test_every_change_of_a_status_is_a_change_behind_the_token_of_before(world: World) -> None:
    """Also of one that has just been told as something else, by the same commit or an earlier one."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"one" * 50_000)
        seen = (await vault.changes()).token
        for act in (
            vault.sync,
            partial(notes.evict, "x"),
            partial(notes.get, "x"),
            partial(notes.evict, "x"),
        ):
            await act()
            page = await vault.changes(seen)
            assert [one.id for one in page.changes] == ["x"]
            seen = page.token

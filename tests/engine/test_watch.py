"""What tells the background loop: the remote's long poll, other processes, and a device that wakes up."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

import anyio
import pytest

from syncagent import names
from syncagent.cache.commit import Cache
from syncagent.cache.db import Database
from syncagent.cache.place import load_place, store_place
from syncagent.engine.backoff import INTERVAL_FIRST_S, RETRY_AFTER_MOST_S, WATCHED_MOST_S
from syncagent.engine.loop import BackgroundSync
from syncagent.engine.watch import (
    ASLEEP_S,
    GATHER_S,
    LOOK_S,
    PACE_MOST_S,
    POLL_DEAD_S,
    POLL_LEAST_S,
    POLL_S,
    LocalWatch,
    RemoteWatch,
)
from syncagent.errors import RateLimited, Unreachable, UnsupportedByRemote
from syncagent.remote.base import Remote
from syncagent.remote.memory import MemoryRemote
from syncagent.vault import Vault
from tests.engine.world import LedRemote, World, statuses

pytestmark = pytest.mark.anyio

DEAD_S = POLL_S + POLL_DEAD_S
POLLS = [POLL_S, POLL_S / 2, POLL_S / 4, POLL_LEAST_S]
GUARDS = {seconds + POLL_DEAD_S for seconds in POLLS}
Answer = Callable[[], Awaitable[str]]
T = TypeVar("T")


class Polled(MemoryRemote):
    """A remote whose long polls a test answers, one after the other; the last one is never answered."""

    def __init__(self, *answers: str | Exception | Answer) -> None:
        super().__init__()
        self.answers = list(answers)
        self.cursors: list[str | None] = []
        self.timeouts: list[float] = []

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        self.timeouts.append(timeout_s)
        self.cursors.append(cursor)
        await anyio.lowlevel.checkpoint()
        if not self.answers:
            await anyio.sleep_forever()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else await answer()


class Scene:
    """A watch on a remote. Waits between polls end at once and are noted; a poll is never given up unless
    `dead` says so, once for each time.
    """

    def __init__(self, vault: Vault, *answers: str | Exception | Answer, dead: int = 0) -> None:
        self.remote = Polled(*answers)
        self.dead = dead
        self.waits: list[float] = []
        self.events: list[str] = []
        self.seconds = 0.0
        self.watch = RemoteWatch(
            vault.parts()[0],
            self._open,
            tell=lambda: self.events.append("tell"),
            back=lambda: self.events.append("back"),
            wait=self._wait,
            clock=lambda: self.seconds,
        )

    async def _open(self) -> Remote:
        return self.remote

    async def _wait(self, event: anyio.Event, seconds: float) -> bool:
        if seconds not in GUARDS:
            self.waits.append(round(seconds, 3))
            await anyio.lowlevel.checkpoint()
        elif not self.dead or self.remote.answers:
            await event.wait()
        else:
            self.dead -= 1
        return event.is_set()

    async def run(self) -> None:
        """Until nothing moves any more."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.watch.run)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()


async def test_a_change_is_told_and_nothing_else(world: World) -> None:
    async with world.open("a") as vault:
        scene = Scene(vault, "5", "5", "6")
        await scene.run()
        # The first answer may hide what came before it.
        assert scene.events == ["tell", "tell"]
        assert scene.remote.cursors == [None, "5", "5", "6"]
        assert scene.watch.is_alive


@pytest.mark.parametrize("answers", [["same"] * 12, [str(number) for number in range(12)]])
async def test_a_remote_that_answers_at_once_for_ever_is_asked_ever_less_often(
    world: World, answers: list[str]
) -> None:
    async with world.open("a") as vault:
        scene = Scene(vault, *answers)
        await scene.run()
        assert scene.waits[:7] == [GATHER_S, GATHER_S, 0.4, 0.8, 1.6, 3.2, PACE_MOST_S]
        assert set(scene.waits[6:]) == {PACE_MOST_S}


async def test_it_is_asked_quickly_again_after_news_and_after_a_quiet_time(world: World) -> None:
    async with world.open("a") as vault:

        async def news() -> str:
            scene.watch.note_news()
            return "news"

        async def late() -> str:
            scene.seconds += INTERVAL_FIRST_S + 1
            return "late"

        scene = Scene(vault, "0", "1", "2", "3", news, "5", "6", "7", late)
        await scene.run()
        assert scene.waits == [GATHER_S, GATHER_S, 0.4, 0.8, GATHER_S, 0.4, 0.8, 1.6, GATHER_S]


async def test_a_dead_poll_is_replaced_and_what_may_have_come_meanwhile_is_told(world: World) -> None:
    async with world.open("a") as vault:

        async def back() -> str:
            scene.remote.answers.append("6")
            return "5"

        scene = Scene(vault, "5", dead=1)
        async with anyio.create_task_group() as group:
            group.start_soon(scene.watch.run)
            await anyio.wait_all_tasks_blocked()
            # Nobody answered for 65 s: a sync now, and a poll that is answered at once.
            assert scene.events == ["tell", "tell"]
            assert scene.remote.cursors == [None, "5", None]
            assert not scene.watch.is_alive
            group.cancel_scope.cancel()
        scene = Scene(vault, "5", Unreachable("reset"), "6", "6")
        await scene.run()
        assert scene.events == ["tell", "tell", "back", "tell"]
        assert scene.remote.cursors == [None, "5", None, "6", "6"]


async def test_a_remote_that_does_not_answer_is_asked_ever_less_often(world: World) -> None:
    async with world.open("a") as vault:
        scene = Scene(vault, "5", *[Unreachable("no")] * 11, "5")
        await scene.run()
        delays = [1.5, 3.0, 6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 384.0, 450.0, 450.0]
        assert scene.waits == [GATHER_S, *delays, GATHER_S]
        assert scene.events == ["tell", "tell", "back"]


async def test_a_remote_that_asks_for_patience_gets_it(world: World) -> None:
    async with world.open("a") as vault:
        scene = Scene(
            vault, "5", RateLimited("slow", retry_after_s=60.0), RateLimited("x", retry_after_s=1e9)
        )
        await scene.run()
        assert scene.waits == [GATHER_S, 60.0, RETRY_AFTER_MOST_S]


async def test_a_remote_that_answers_and_then_drops_every_poll_is_asked_ever_less_often(
    world: World,
) -> None:
    async with world.open("a") as vault:
        dropped: list[str | Exception] = ["5", Unreachable("dropped")] * 5
        scene = Scene(vault, *dropped, "5", "5", Unreachable("dropped"))
        await scene.run()
        waits = [wait for wait in scene.waits if wait != GATHER_S]
        # A poll that was answered ends the series.
        assert waits == [1.5, 3.0, 6.0, 12.0, 24.0, 1.5]


async def test_polls_become_shorter_where_something_cuts_long_ones_off(world: World) -> None:
    async with world.open("a") as vault:

        async def cut_off() -> str:
            scene.seconds += INTERVAL_FIRST_S + 1
            raise Unreachable("504")

        answers: list[str | Answer] = [cut_off, "5"] * 4
        scene = Scene(vault, "5", *answers, "5")
        async with anyio.create_task_group() as group:
            group.start_soon(scene.watch.run)
            await anyio.wait_all_tasks_blocked()
            asked = zip(scene.remote.timeouts, scene.remote.cursors, strict=True)
            polls = [seconds for seconds, cursor in asked if cursor is not None]
            assert polls == [*POLLS, POLL_LEAST_S, POLL_LEAST_S]
            assert scene.waits.count(1.5) == 4  # each was cut off after a while: no reason to stay away
            # Another network may have nothing of that kind.
            scene.remote.answers.append("5")
            scene.watch.renew()
            await anyio.wait_all_tasks_blocked()
            assert scene.remote.timeouts[-1] == POLL_S
            group.cancel_scope.cancel()


async def test_a_renewed_watch_asks_anew_at_once(world: World) -> None:
    async with world.open("a") as vault:
        scene = Scene(vault, "5")
        async with anyio.create_task_group() as group:
            group.start_soon(scene.watch.run)
            await anyio.wait_all_tasks_blocked()
            scene.remote.answers.append("5")
            scene.watch.renew()
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert scene.remote.cursors == [None, "5", None, "5"]
        assert scene.waits == [GATHER_S, GATHER_S]


async def test_a_remote_that_cannot_tell_is_asked_once_until_another_takes_its_place(world: World) -> None:
    async with world.open("a") as vault:
        scene = Scene(vault, UnsupportedByRemote("no"))
        async with anyio.create_task_group() as group:
            group.start_soon(scene.watch.run)
            await anyio.wait_all_tasks_blocked()
            assert (scene.remote.cursors, scene.waits) == ([None], [])
            scene.remote.answers.append("5")
            scene.watch.renew()
            await anyio.wait_all_tasks_blocked()
            assert scene.watch.is_alive
            group.cancel_scope.cancel()


# Looking around on this device --------------------------------------------------------------------


class Looks:
    """A look around that takes place whenever a test says so."""

    def __init__(self, world: World, vault: Vault) -> None:
        self.world = world
        self.told: list[str] = []
        self._next = anyio.Event()
        self.reads = 0
        ctx = vault.parts()[0]
        self._cache = ctx.cache
        self.watch = LocalWatch(
            replace(ctx, cache=cast("Cache", self)),
            changed=lambda: self.told.append("changed"),
            resume=lambda: self.told.append("resume"),
            renew=lambda: self.told.append("renew"),
            wake=lambda: self.told.append("wake"),
            wait=self._wait,
        )

    async def read(self, operation: Callable[[Database], T], *, background: bool = False) -> T:
        """In the place of the cache."""
        self.reads += 1
        return await self._cache.read(operation, background=background)

    async def _wait(self, event: anyio.Event, seconds: float) -> bool:
        assert seconds == LOOK_S
        self._next = anyio.Event()
        await self._next.wait()
        return False

    async def look(self, after_s: float = LOOK_S) -> list[str]:
        """What a look tells, so many seconds after the one before."""
        await anyio.wait_all_tasks_blocked()
        self.told.clear()
        self.world.clock.now += after_s
        before = self._next
        before.set()
        with anyio.fail_after(20):
            while self._next is before:
                await anyio.sleep(0.001)
        return list(self.told)


async def test_a_put_by_another_process_is_noticed_and_an_own_one_is_not(world: World) -> None:
    async with world.open("a") as vault, world.open("a") as other, anyio.create_task_group() as group:
        looks = Looks(world, vault)
        group.start_soon(looks.watch.run)
        assert await looks.look() == []
        await vault.namespace("notes").put("own", b"one")
        assert await looks.look() == []
        await other.namespace("notes").put("other", b"two")
        assert await looks.look() == ["changed"]
        assert await looks.look() == []
        await other.namespace("notes").put("kept", b"three", local_only=True)
        assert await looks.look() == ["changed"]  # what was put before still waits
        await other.sync()
        assert await looks.look() == []
        await other.namespace("notes").put("kept too", b"three", local_only=True)
        assert await looks.look() == []
        await other.namespace("notes").delete("other")
        assert await looks.look() == ["changed"]
        group.cancel_scope.cancel()


@pytest.mark.skipif(os.name == "nt", reason="there the files do not tell")
async def test_the_cache_is_looked_at_only_where_its_files_have_changed(world: World) -> None:
    async with world.open("a") as vault, world.open("a") as other, anyio.create_task_group() as group:
        looks = Looks(world, vault)
        group.start_soon(looks.watch.run)
        for _ in range(4):
            await looks.look()
        asked = looks.reads
        for _ in range(5):
            assert await looks.look() == []
        assert looks.reads == asked
        await other.namespace("notes").put("other", b"two")
        assert await looks.look() == ["changed"]
        assert looks.reads == asked + 1
        for _ in range(5):
            assert await looks.look() == []
        assert looks.reads == asked + 2, "once more, and then no more"
        group.cancel_scope.cancel()


async def test_a_retry_or_a_sync_by_another_process_ends_the_wait_after_a_failure(world: World) -> None:
    remote = world.remote()

    async def fail(call: object) -> None:
        raise Unreachable("no")

    remote.before = fail
    async with (
        world.open("a", remote) as vault,
        world.open("a") as other,
        anyio.create_task_group() as group,
    ):
        looks = Looks(world, vault)
        group.start_soon(looks.watch.run)
        with pytest.raises(Unreachable):
            await vault.sync()
        assert await looks.look() == []
        await other.retry("notes")
        assert await looks.look() == ["resume"]
        await other.sync()
        assert await looks.look() == ["resume"]
        group.cancel_scope.cancel()


async def test_a_jump_of_the_clock_is_a_device_that_wakes_up(world: World) -> None:
    async with world.open("a") as vault, anyio.create_task_group() as group:
        looks = Looks(world, vault)
        group.start_soon(looks.watch.run)
        assert await looks.look(LOOK_S + ASLEEP_S) == []
        assert await looks.look(LOOK_S + ASLEEP_S + 1) == ["wake"]
        assert await looks.look(-3600) == []
        assert await looks.look() == []
        group.cancel_scope.cancel()


async def test_another_token_or_remote_set_by_another_process_is_taken_over(world: World) -> None:
    async with world.open("a") as vault, world.open("a") as other, anyio.create_task_group() as group:
        looks = Looks(world, vault)
        group.start_soon(looks.watch.run)
        assert await looks.look() == []
        place = await other.parts()[0].cache.read(load_place)
        await other.parts()[0].cache.write(partial(store_place, place=replace(place, token="new")))
        assert await looks.look() == ["renew"]
        assert await looks.look() == []
        group.cancel_scope.cancel()


async def test_a_cache_that_cannot_be_read_for_a_moment_does_not_end_it(world: World) -> None:
    async with world.open("a") as vault, anyio.create_task_group() as group:
        looks = Looks(world, vault)
        group.start_soon(looks.watch.run)
        assert await looks.look() == []
        await vault.parts()[0].cache.aclose()
        assert await looks.look() == []
        group.cancel_scope.cancel()


# Both in the loop ---------------------------------------------------------------------------------


class Counted(LedRemote):
    """Notes the cursors it is asked to watch from."""

    def __init__(self, inner: Remote) -> None:
        super().__init__(inner)
        self.cursors: list[str | None] = []

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        self.cursors.append(cursor)
        return await self.inner.wait_for_change(cursor, timeout_s)


async def test_with_a_watch_the_interval_grows_to_minutes_and_waking_up_syncs_at_once(world: World) -> None:
    remote = Counted(MemoryRemote(world.store))
    async with world.open("a", remote) as vault:
        seconds: list[float] = []
        is_asleep = anyio.Event()
        rounds: list[int] = []
        looks: list[float] = []

        async def wait(event: anyio.Event, wanted: float) -> bool:
            if wanted == LOOK_S:
                looks.append(wanted)
                await is_asleep.wait()
                if len(looks) > 1:
                    await anyio.sleep_forever()
                world.clock.now += 3600
            elif wanted == DEAD_S:
                await event.wait()
            elif wanted == GATHER_S:
                await anyio.lowlevel.checkpoint()
            elif wanted == WATCHED_MOST_S and not rounds:
                rounds.append(len(remote.called("get", names.VAULT)))
                is_asleep.set()
                await event.wait()
            elif rounds:
                await anyio.wait_all_tasks_blocked()
                rounds.append(len(remote.called("get", names.VAULT)))
                scope.cancel()
            else:
                seconds.append(wanted)
                await anyio.wait_all_tasks_blocked()
            return event.is_set()

        loop = BackgroundSync(*vault.parts(), wait)
        with anyio.CancelScope() as scope, anyio.fail_after(20):
            await loop.run()
        assert seconds[0] == 13.0
        assert seconds == sorted(seconds)
        assert seconds[-1] < WATCHED_MOST_S < seconds[-1] * 1.3
        assert rounds[1] == rounds[0] + 1
        assert remote.cursors.count(None) == 2  # the poll was replaced


async def test_a_remote_that_tells_the_truth_is_asked_again_quickly_however_often(world: World) -> None:
    pauses: list[float] = []

    async def wait(event: anyio.Event, wanted: float) -> bool:
        if wanted in (LOOK_S, DEAD_S):
            await anyio.sleep_forever()
        if wanted >= INTERVAL_FIRST_S:
            await event.wait()
        else:
            pauses.append(wanted)
            await anyio.lowlevel.checkpoint()
        return event.is_set()

    async with world.open("a") as vault, world.open("b") as other, anyio.create_task_group() as group:
        group.start_soon(BackgroundSync(*vault.parts(), wait).run)
        for number in range(8):
            await other.namespace("notes").put(str(number), b"one")
            await other.sync()
            with anyio.fail_after(20):
                while (await statuses(vault)).get(str(number)) != "SYNCED":
                    await anyio.sleep(0.001)
        group.cancel_scope.cancel()
    assert max(pauses) < PACE_MOST_S


async def test_a_put_by_another_process_is_sent_by_the_one_that_watches(world: World) -> None:
    """And a watch on this end (row D2)."""
    async with world.open("a", background=True) as vault, world.open("a") as other:
        with anyio.fail_after(20):
            await other.namespace("notes").put("x", b"one")
            while await statuses(vault) != {"x": "SYNCED"}:
                await anyio.sleep(0.01)

"""What an open vault with a watched remote costs while nothing happens: how often anything wakes up."""

from collections import Counter
from dataclasses import dataclass

import anyio
import pytest

from syncagent.engine.loop import BackgroundSync
from syncagent.engine.watch import GATHER_S, LOOK_S
from syncagent.remote.memory import MemoryRemote
from tests.engine.world import LedRemote, World

pytestmark = pytest.mark.anyio

PASSED_S = 900.0


@dataclass(eq=False, slots=True)
class Timer:
    kind: str
    until: float
    cause: anyio.Event
    event: anyio.Event


class Time:
    """Time that passes as soon as everything waits for it; counts who wakes up."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._timers: list[Timer] = []
        self.now = 0.0
        self.woken: Counter[str] = Counter()
        self.shortest_s = PASSED_S

    async def wait(self, event: anyio.Event, seconds: float) -> bool:
        """In the place of the loop's waiting."""
        kind = {LOOK_S: "look", GATHER_S: "gather"}.get(seconds, "other")
        await self._sleep(kind, seconds, event)
        return event.is_set()

    async def poll(self, seconds: float) -> None:
        """A server that has nothing to tell."""
        await self._sleep("poll", seconds, anyio.Event())

    async def pass_until(self, end: float) -> None:
        """Let time pass, from one timer to the next."""
        while self.now < end:
            while not self._is_quiet():
                await anyio.sleep(0)
            first = min(self._timers, key=lambda timer: timer.until)
            self._world.clock.now += first.until - self.now
            self.now = first.until
            self.woken[first.kind] += 1
            self._end(first)

    def _is_quiet(self) -> bool:
        """Whether all three wait: the look around, the syncs, and the watch, in a poll or after one."""
        for timer in [timer for timer in self._timers if timer.cause.is_set()]:
            self._end(timer)
        kinds = Counter(timer.kind for timer in self._timers)
        return kinds.pop("look", 0) == 1 and kinds.total() == (3 if "poll" in kinds else 2)

    def _end(self, timer: Timer) -> None:
        self._timers.remove(timer)
        timer.event.set()

    async def _sleep(self, kind: str, seconds: float, cause: anyio.Event) -> None:
        timer = Timer(kind, self.now + seconds, cause, anyio.Event())
        self._timers.append(timer)
        self.shortest_s = min(self.shortest_s, PASSED_S if kind == "gather" else seconds)
        try:
            await timer.event.wait()
        finally:
            if timer in self._timers:
                self._timers.remove(timer)


class Quiet(LedRemote):
    """A remote that is watched and where nothing happens."""

    time: Time

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        if cursor is not None:
            await self.time.poll(timeout_s)
        return "1"


async def test_an_idle_vault_wakes_up_once_a_second_at_most(world: World) -> None:
    remote = Quiet(MemoryRemote(world.store))
    remote.time = time = Time(world)
    async with world.open("a", remote) as vault:
        ctx, engine = vault.parts()
        loop = BackgroundSync(ctx, engine, time.wait, clock=lambda: time.now)
        async with anyio.create_task_group() as group:
            group.start_soon(loop.run)
            with anyio.fail_after(60):
                await time.pass_until(PASSED_S)
            group.cancel_scope.cancel()
    assert time.shortest_s >= 1.0
    assert time.woken.total() <= PASSED_S, time.woken
    assert len(remote.called("list", "devices/")) <= 20, "ever less often, down to every five minutes"

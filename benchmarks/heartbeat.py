"""How long a piece of work takes, and how long it kept the event loop from coming round meanwhile.

A task of the same event loop sleeps 1 ms again and again; what it oversleeps is
what any other task of the program would have waited. That includes waiting for
the interpreter lock while a worker thread holds it.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskStatus

T = TypeVar("T")

PERIOD_S = 0.001


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """What the work returned, its seconds, and the longest stall of the event loop within them."""

    result: T
    seconds: float
    stall_s: float


class Heartbeat:
    """The longest time between two beats, beyond their period."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last = clock()
        self.longest_s = 0.0

    def beat(self) -> None:
        now = self._clock()
        self.longest_s = max(self.longest_s, now - self._last - PERIOD_S)
        self._last = now

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        self._last = self._clock()
        while True:
            await anyio.sleep(PERIOD_S)
            self.beat()


async def timed(work: Callable[[], Awaitable[T]], clock: Callable[[], float] = time.perf_counter) -> Timed[T]:
    """Do the work beside a heartbeat."""
    heartbeat = Heartbeat(clock)
    async with anyio.create_task_group() as group:
        await group.start(heartbeat.run)
        started = clock()
        result = await work()
        seconds = clock() - started
        heartbeat.beat()  # work that never let go has kept the task from noticing
        group.cancel_scope.cancel()
    return Timed(result, seconds, heartbeat.longest_s)

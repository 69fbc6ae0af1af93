"""A process in which everything happens in one order: what a seed gives once it gives again.

One thread runs all of it: what the product hands to worker threads is done at once, between two turns of the
event loop. Random bytes come from the seed, and clocks that only measure stand still. So a run depends on
its seed alone, costs no change of threads, and every await of it is a step that can be counted.
"""

import asyncio
import contextlib
import gc
import os
import random
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import Any, TypeVar
from unittest import mock

import anyio
import anyio.lowlevel
import anyio.to_thread

T = TypeVar("T")


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop that counts its steps: the stretches from one await to the next, of whatever task."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.watch: Callable[[], None] | None = None
        """Called before each step. Nothing of the process is under way then but worker threads."""
        self._tasks = 0
        self.set_task_factory(self._task)  # type: ignore[arg-type]  # as asyncio calls it

    def time(self) -> float:
        """Seconds; of a clock that goes on while those of the product stand still."""
        return time.perf_counter()

    def call_soon(  # type: ignore[override]  # as asyncio calls it
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """See `asyncio.loop.call_soon`."""
        return super().call_soon(self._step, callback, args, context=context)

    def _task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> asyncio.Task[Any]:
        self._tasks += 1
        return _NumberedTask(self._tasks, coroutine, loop=loop, **options)

    def _step(self, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.steps += 1
        if self.watch is not None:
            self.watch()
        callback(*args)


class _NumberedTask(asyncio.Task[Any]):
    """A task that has the same place in a set each time: cancelling goes through sets of them."""

    def __init__(self, number: int, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


def _number_of_host(scope: anyio.CancelScope) -> int:
    """The same for cancel scopes: side by side, each is of another task."""
    return hash(getattr(scope, "_host_task", None))


class Alone:
    """Runs coroutines one after another in one loop; made by `alone`."""

    def __init__(self, loop: SteppedLoop, runner: asyncio.Runner) -> None:
        self.loop = loop
        self._runner = runner

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What it returns, or its exception."""
        return self._runner.run(coroutine)


@contextlib.contextmanager
def alone(seed: int, *, has_threads: bool = False) -> Iterator[Alone]:
    """A process of its own kind in this one.

    Args:
        seed: what random bytes follow from.
        has_threads: leave worker threads and the clock as they are: then two runs may differ.
    """
    dice = random.Random(seed)
    loop = SteppedLoop()
    with contextlib.ExitStack() as stack:
        # No argument leads there: a seed for ids and salts is nothing a product should be able to be given.
        stack.enter_context(mock.patch.object(os, "urandom", dice.randbytes))
        if gc.isenabled():  # what is closed when it is collected must not come at any time
            gc.disable()
            stack.callback(gc.enable)
        if not has_threads:
            stack.enter_context(mock.patch.object(anyio.to_thread, "run_sync", _at_once))
            stack.enter_context(mock.patch.object(time, "monotonic", lambda: 0.0))
        runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: loop))
        scope_type = type(runner.run(_a_scope()))
        stack.enter_context(mock.patch.object(scope_type, "__hash__", _number_of_host))
        yield Alone(loop, runner)


async def _a_scope() -> anyio.CancelScope:
    return anyio.CancelScope()


async def _at_once(
    work: Callable[..., T],
    *args: object,
    abandon_on_cancel: bool = False,
    limiter: anyio.CapacityLimiter | None = None,
) -> T:
    """As `anyio.to_thread.run_sync`, with the same places at which it may be cancelled."""
    async with limiter or anyio.to_thread.current_default_thread_limiter():
        result = work(*args)
        if abandon_on_cancel:
            await anyio.lowlevel.checkpoint()
        else:
            await anyio.lowlevel.cancel_shielded_checkpoint()
        return result

"""Jobs side by side whose first expected error is the one that leaves."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from syncagent.errors import SyncAgentError

E = TypeVar("E", bound=BaseException)


async def run_together(jobs: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run every job, begun in the order given; the first that raises cancels the others.

    Raises:
        SyncAgentError: the first of those that were raised. No group leaves the library for an
            expected failure; only a bug among them keeps the group as it is.
    """
    try:
        async with anyio.create_task_group() as group:
            for job in jobs:
                group.start_soon(job)
                # Tasks that are ready together run in any order under trio. This one comes to its first wait
                # (its place in the gate) before the next one is ready, so that what is urgent goes first.
                await anyio.lowlevel.checkpoint()
    except BaseExceptionGroup as exc:
        expected, other = exc.split(SyncAgentError)
        if expected is None or other is not None:
            raise
        raise _first(expected) from None


def leading_error(group: BaseExceptionGroup) -> BaseException:
    """The first exception of a task group whose tasks are parts of one piece of work, of which one failed.

    The group itself where nothing in it is an `Exception`: a cancellation, or the end of the program.
    """
    errors, _ = group.split(Exception)
    return group if errors is None else _first(errors)


def _first(group: BaseExceptionGroup[E]) -> E:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first

"""What the program's own functions raise must not reach the event loop: `SystemExit` would end it.

It would go down with every open vault of the process, and who waits would wait for ever. So all that a
function raises is caught where it is called, and raised where the program waits for it.
"""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

import anyio
import anyio.to_thread

from syncagent.events import Event

T = TypeVar("T")

_log = logging.getLogger(__name__)


class CallbackFailed(Exception):
    """A function of the program has raised. Does not leave this package.

    Args:
        raised: what it was. Not its cause: that is lost where an error is raised anew.
    """

    def __init__(self, raised: BaseException) -> None:
        super().__init__(type(raised).__name__)
        self.raised = raised


def what_was_raised(error: BaseException) -> BaseException:
    """The error that a caller is told: of the program's own function what that has raised."""
    return error.raised if isinstance(error, CallbackFailed) else error


def called(function: Callable[[], T]) -> T:
    """What a function of the program returns. Raises `CallbackFailed` for what is no `Exception`."""
    try:
        return function()
    except Exception:
        raise
    except BaseException as exc:
        raise CallbackFailed(exc) from exc


class Guarded(Generic[T]):
    """A function that raises nothing but `CallbackFailed`.

    Args:
        function: called with one value at a time; after it has raised, not again.
    """

    def __init__(self, function: Callable[[T], None]) -> None:
        self._function = function
        self.raised: BaseException | None = None
        """What it has raised."""

    def __call__(self, value: T) -> None:
        """Call it."""
        if self.raised is None:
            try:
                self._function(value)
            except BaseException as exc:
                self.raised = exc
        if self.raised is not None:
            raise CallbackFailed(self.raised) from self.raised


class Caller:
    """Calls back for each event, one after another, in a worker thread.

    Args:
        callback: what it raises ends this, is logged, and raised by `check`.
    """

    def __init__(self, callback: Callable[[Event], None]) -> None:
        self._callback = Guarded(callback)
        self._scope: anyio.CancelScope | None = None
        self._calling: int | None = None

    async def run(self, events: AsyncIterator[Event]) -> None:
        """Until the events end, or `stop`. Raises what reading them raises."""
        limiter = anyio.CapacityLimiter(1)  # its own: callbacks that wait must not wait for each other
        with anyio.CancelScope() as self._scope:
            async for event in events:
                try:
                    await anyio.to_thread.run_sync(self._call, event, limiter=limiter)
                except CallbackFailed as exc:
                    # Who listens for as long as the program runs never asks how it ended.
                    _log.error("listener_ended: its callback raised", exc_info=exc.raised)
                    return

    async def stop(self) -> None:
        """End it; a callback that runs is not interrupted."""
        assert self._scope is not None, "work is begun in the order in which it is asked for"
        self._scope.cancel()

    def is_here(self) -> bool:
        """Whether it is the callback that asks."""
        return self._calling == threading.get_ident()

    def check(self) -> None:
        """Raise what the callback has raised."""
        if self._callback.raised is not None:
            raise self._callback.raised

    def _call(self, event: Event) -> None:
        self._calling = threading.get_ident()
        try:
            self._callback(event)
        finally:
            self._calling = None

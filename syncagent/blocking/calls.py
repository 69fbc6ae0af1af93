"""The calls into one vault that are under way: who closes it ends them, and nobody waits for ever."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import anyio

from syncagent.blocking.thread import LoopThread
from syncagent.errors import ConfigError

T = TypeVar("T")


class Calls:
    """Runs the work of calls in the loop, until they are ended.

    Args:
        loop: where they run. What is run by it directly is not ended: iterators of events end by themselves.
    """

    def __init__(self, loop: LoopThread) -> None:
        self.loop = loop
        self._scopes: set[anyio.CancelScope] = set()
        self._is_closing = False

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """What some work gives; see `LoopThread.run`.

        Raises:
            ConfigError: the vault was closed meanwhile.
        """
        return self.loop.run(partial(self._within, work))

    def check(self) -> None:
        """See `LoopThread.check`."""
        self.loop.check()

    def end(self) -> None:
        """In the loop: cancel what is under way, and refuse what comes before `forget`."""
        self._is_closing = True
        for scope in self._scopes:
            scope.cancel()

    def forget(self) -> None:
        """In the loop: the vault is closed, and may be opened again."""
        self._is_closing = False

    async def _within(self, work: Callable[[], Awaitable[T]]) -> T:
        if not self._is_closing:
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    return await work()
                finally:
                    self._scopes.discard(scope)
        raise ConfigError(
            "this vault was closed while the call ran",
            safe="what was stored stays, also by this call if it came so far; what is pending stays pending",
            todo="close a vault when its calls have ended, or open it again",
        )

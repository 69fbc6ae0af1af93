"""A task that is cancelled at a place that a test chooses."""

import types
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


class Steps:
    """Counts how often a task waits, and cancels a scope at one of these places.

    Args:
        at: which of them, from 1 on.
        scope: what is cancelled there.
    """

    def __init__(self, at: int, scope: anyio.CancelScope) -> None:
        self.taken = 0
        self._at = at
        self._scope = scope

    @types.coroutine
    def run(self, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """What the work gives."""
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                asked = work.send(answer) if error is None else work.throw(error)
            except StopIteration as exc:
                return exc.value  # type: ignore[no-any-return]  # what the work gives
            self.taken += 1
            if self.taken == self._at:
                self._scope.cancel()
            answer = error = None
            try:
                answer = yield asked
            except BaseException as exc:
                error = exc

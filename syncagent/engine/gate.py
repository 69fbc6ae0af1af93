"""How much is under way at once: a bound on transfers and on the bytes they hold in memory."""

import contextlib
from collections import deque
from collections.abc import AsyncIterator

import anyio

TRANSFERS = 4
MOST_TRANSFERS = 8
"""More connections than this gain nothing and cost the server."""
BYTES_IN_FLIGHT = 48 << 20


class TransferGate:
    """One limit over everything that is sent and fetched.

    First come, first served, but for interactive transfers, which go ahead of all others that wait.
    """

    def __init__(self, transfers: int = TRANSFERS, bytes_in_flight: int = BYTES_IN_FLIGHT) -> None:
        self._transfers = max(1, min(transfers, MOST_TRANSFERS))
        self._bytes_in_flight = bytes_in_flight
        self._running = 0
        self._bytes = 0
        self._waiting: deque[_Waiter] = deque()

    @property
    def has_interactive_waiting(self) -> bool:
        """Whether the next place is for somebody who waits for it."""
        return bool(self._waiting and self._waiting[0].is_interactive)

    @contextlib.asynccontextmanager
    async def transfer(self, size_bytes: int, *, interactive: bool = False) -> AsyncIterator[None]:
        """Hold a place for a transfer of this size. One that exceeds the byte limit alone runs alone."""
        waiter = _Waiter(size_bytes, interactive)
        if interactive:
            self._waiting.insert(sum(other.is_interactive for other in self._waiting), waiter)
        else:
            self._waiting.append(waiter)
        self._admit()
        try:
            await waiter.event.wait()
            yield
        finally:
            if waiter.is_admitted:
                self._running -= 1
                self._bytes -= size_bytes
            else:
                self._waiting.remove(waiter)
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._running < self._transfers:
            first = self._waiting[0]
            if self._running and self._bytes + first.size_bytes > self._bytes_in_flight:
                return
            self._waiting.popleft()
            self._running += 1
            self._bytes += first.size_bytes
            first.is_admitted = True
            first.event.set()


class _Waiter:
    __slots__ = ("event", "is_admitted", "is_interactive", "size_bytes")

    def __init__(self, size_bytes: int, is_interactive: bool) -> None:
        self.size_bytes = size_bytes
        self.is_interactive = is_interactive
        self.event = anyio.Event()
        self.is_admitted = False

"""A remote around a remote that uses no more than so much of the line."""

from collections.abc import Awaitable, Callable
from time import monotonic

import anyio

from syncagent.remote.base import Body, ObjectInfo, ObjectPage, Remote, body_size

SLICE_S = 0.25
"""Longest wait at a time: a transfer that is waited for gives the others their turn so often."""


class ThrottleRemote:
    """A `Remote` whose bodies pass at a bounded rate, all transfers together.

    Bodies go whole to the inner remote: a transfer waits until its share of the
    line has been earned, then goes at the line's own speed. Over more than a few objects that is the rate
    asked for. Names, listings and errors are not counted.

    Args:
        inner: the remote that does the work; closed with this one.
        up_bytes_s: bytes a second that are put; None for as many as there are.
        down_bytes_s: bytes a second that are got; likewise.
        clock: seconds that only go forward.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        inner: Remote,
        *,
        up_bytes_s: float | None = None,
        down_bytes_s: float | None = None,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._inner = inner
        self._up = _Line(up_bytes_s, clock, sleep)
        self._down = _Line(down_bytes_s, clock, sleep)

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        """See `Remote.put`."""
        await self._up.take(body_size(body))
        await self._inner.put(name, body, overwrite=overwrite)

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Remote.get`. What an answer has used is waited for by the next one."""
        await self._down.take(0)
        data = await self._inner.get(name, start, stop)
        self._down.spend(len(data))
        return data

    async def head(self, name: str) -> ObjectInfo:
        """See `Remote.head`."""
        return await self._inner.head(name)

    async def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        await self._inner.delete(name)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        """See `Remote.list`."""
        return await self._inner.list(prefix, after=after, limit=limit)

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        """See `Remote.wait_for_change`."""
        return await self._inner.wait_for_change(cursor, timeout_s)

    async def aclose(self) -> None:
        """Close the inner remote."""
        await self._inner.aclose()


class _Line:
    """One direction. Bytes are paid for in advance or afterwards; debts are paid by waiting, in turn."""

    def __init__(
        self, bytes_s: float | None, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        if bytes_s is not None and bytes_s <= 0:
            raise ValueError(f"nothing passes at {bytes_s} bytes a second")
        self._bytes_s = bytes_s
        self._clock = clock
        self._sleep = sleep
        self._free_at = 0.0
        self._turn = anyio.Lock()

    async def take(self, size_bytes: int) -> None:
        """Wait until what was taken before has passed, and then for these bytes."""
        if self._bytes_s is None:
            return
        async with self._turn:
            await self._wait_until(self._free_at)
            # Paid as it passes, so that a transfer that is cancelled has used only its part.
            while size_bytes > 0:
                part = min(size_bytes, max(1, int(self._bytes_s * SLICE_S)))
                self.spend(part)
                size_bytes -= part
                await self._wait_until(self._free_at)

    def spend(self, size_bytes: int) -> None:
        """Note bytes that have passed, or are about to."""
        if self._bytes_s is not None:
            self._free_at = max(self._free_at, self._clock()) + size_bytes / self._bytes_s

    async def _wait_until(self, moment: float) -> None:
        while (left_s := moment - self._clock()) > 0:
            await self._sleep(min(left_s, SLICE_S))

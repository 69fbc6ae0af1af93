"""A remote around a remote that tries again what may succeed in a moment.

It hides short trouble (a dropped connection, a lost answer) and nothing else:
how a whole sync backs off is the engine's business.
"""

import random as _random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from syncagent.errors import ObjectExists, ObjectNotFound, TransientRemoteError, Unreachable, Withheld
from syncagent.remote.base import Body, ObjectInfo, ObjectPage, Remote, body_size, read_pieces

_T = TypeVar("_T")

WATCH_MARGIN_S = 10.0
"""How much later than asked for a watch may answer: the way there and back over a bad line."""


class RetryRemote:
    """A `Remote` that repeats calls failing with `TransientRemoteError`, with full jitter, doubling.

    Args:
        inner: the remote that does the work; closed with this one.
        attempts: tries in all, the first included. Four bridge about a second and a half of trouble.
        first_delay_s: longest pause after the first failure; the pause is drawn between 0 and it.
        max_delay_s: longest pause ever. A remote that asks for more patience is passed on at once.
        timeout_s: of one attempt. The largest object takes four and a half minutes at 0.5 Mbit/s.
        random: draws from [0, 1).
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        inner: Remote,
        *,
        attempts: int = 4,
        first_delay_s: float = 0.2,
        max_delay_s: float = 5.0,
        timeout_s: float = 300.0,
        random: Callable[[], float] = _random.random,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._inner = inner
        self._attempts = attempts
        self._first_delay_s = first_delay_s
        self._max_delay_s = max_delay_s
        self._timeout_s = timeout_s
        self._random = random
        self._sleep = sleep

    def once(self) -> "RetryRemote":
        """The same remote for somebody who waits: a failure is told at once. Not to be closed."""
        return RetryRemote(self._inner, attempts=1, timeout_s=self._timeout_s)

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        """See `Remote.put`.

        After a failed attempt the object may be there because of it: `ObjectExists`
        is then success if the remote holds the very bytes, and only then.
        """
        first = True

        async def attempt() -> None:
            nonlocal first
            is_repeat, first = not first, False
            try:
                await self._inner.put(name, body, overwrite=overwrite)
            except ObjectExists:
                if not (is_repeat and await self._holds(name, body)):
                    raise

        await self._retrying(f"putting {name}", attempt)

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Remote.get`."""
        return await self._retrying(f"getting {name}", lambda: self._inner.get(name, start, stop))

    async def head(self, name: str) -> ObjectInfo:
        """See `Remote.head`."""
        return await self._retrying(f"looking up {name}", lambda: self._inner.head(name))

    async def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        await self._retrying(f"deleting {name}", lambda: self._inner.delete(name))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        """See `Remote.list`."""
        return await self._retrying(
            f"listing {prefix or 'everything'}", lambda: self._inner.list(prefix, after=after, limit=limit)
        )

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        """See `Remote.wait_for_change`. Tried once: who waits must know that nobody watched for a while."""
        return await self._timed(
            "waiting for a change",
            lambda: self._inner.wait_for_change(cursor, timeout_s),
            timeout_s + min(self._timeout_s, WATCH_MARGIN_S),
        )

    async def aclose(self) -> None:
        """Close the inner remote."""
        await self._inner.aclose()

    async def _retrying(self, what: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
        longest_s = self._first_delay_s
        number = 0
        while True:
            number += 1
            try:
                return await self._timed(what, attempt, self._timeout_s)
            except Withheld:
                raise  # about what other devices say, not about this call
            except TransientRemoteError as error:
                error.attempts = number
                asked_s = error.retry_after_s or 0.0
                if number >= self._attempts or asked_s > self._max_delay_s:
                    raise
                pause_s = self._random() * min(longest_s, self._max_delay_s)
                await self._sleep(max(asked_s, pause_s))
                longest_s *= 2

    async def _timed(self, what: str, attempt: Callable[[], Awaitable[_T]], timeout_s: float) -> _T:
        try:
            with anyio.fail_after(timeout_s):
                return await attempt()
        except TimeoutError as error:
            raise Unreachable(f"{what} took longer than {timeout_s:g} s") from error

    async def _holds(self, name: str, body: Body) -> bool:
        """Whether the remote holds exactly this body; read a piece at a time."""
        try:
            if (await self._inner.head(name)).size != body_size(body):
                return False
            offset = 0
            async for piece in read_pieces(body):
                if await self._inner.get(name, offset, offset + len(piece)) != piece:
                    return False
                offset += len(piece)
        except ObjectNotFound as error:
            # There, and then not: deleted meanwhile, or answered from a stale copy. The next attempt decides.
            raise Unreachable(f"{name} exists and then does not") from error
        return True

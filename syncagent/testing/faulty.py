"""`FaultyRemote`: a remote that fails as a schedule says, to see what its callers make of it.

    remote = FaultyRemote(MemoryRemote(), script(Rule(Fault.LOSE_ANSWER, "put", "journal/", times=1)))
    remote = FaultyRemote(MemoryRemote(), seeded(7, rate=0.2))

A schedule is a function of the call and of how often that very call came before, never of
the clock or of how tasks took turns: the same seed gives the same faults.
"""

import contextlib
import enum
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import anyio

from syncagent.errors import ObjectError, ObjectRefused, Unreachable
from syncagent.remote.base import Body, ObjectInfo, ObjectPage, Remote

T = TypeVar("T")


class Fault(enum.Enum):
    """What can go wrong with one call."""

    FAIL = "fails before it has its effect"
    LOSE_ANSWER = "has its effect, and then fails"
    DUPLICATE = "has its effect twice; the first answer is given"
    TRUNCATE = "gives fewer bytes than were asked for"
    CORRUPT = "gives as many bytes, one of them another"
    STALE = "gives the page that was given before"
    SHORT_PAGE = "gives half of the page and says that there is more"
    CUT_PAGE = "gives half of the page and says that there is no more"
    SLOW = "takes a while"
    HANG = "never ends; whoever calls must have a time limit"
    REFUSE = "is refused for this object"


FAULTS: dict[str, tuple[Fault, ...]] = {
    "put": (Fault.FAIL, Fault.LOSE_ANSWER, Fault.DUPLICATE, Fault.SLOW, Fault.HANG, Fault.REFUSE),
    "get": (Fault.FAIL, Fault.TRUNCATE, Fault.CORRUPT, Fault.SLOW, Fault.HANG, Fault.REFUSE),
    "head": (Fault.FAIL, Fault.SLOW, Fault.HANG),
    "delete": (Fault.FAIL, Fault.LOSE_ANSWER, Fault.DUPLICATE, Fault.SLOW, Fault.HANG),
    "list": (Fault.FAIL, Fault.STALE, Fault.SHORT_PAGE, Fault.CUT_PAGE, Fault.SLOW, Fault.HANG),
    "wait_for_change": (Fault.FAIL, Fault.SLOW, Fault.HANG),
}
"""The faults that mean something for each call."""

HONEST = (Fault.FAIL, Fault.LOSE_ANSWER, Fault.DUPLICATE, Fault.SHORT_PAGE, Fault.SLOW)
"""Those of a bad connection to a remote that does its duty: a retry is enough against them."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a remote. `name` is the object's, or the prefix of a listing; `number` counts from 0
    the calls of this method with this name."""

    method: str
    name: str
    number: int


Schedule = Callable[[Call], Fault | None]
"""Which fault a call meets, if any."""


@dataclass(slots=True)
class Rule:
    """A fault for the calls that match.

    Args:
        fault: what happens.
        method: of the remote; any if empty.
        prefix: what the object's name begins with.
        skip: matching calls that pass first.
        times: how many then meet it; None for ever.
    """

    fault: Fault
    method: str = ""
    prefix: str = ""
    skip: int = 0
    times: int | None = None

    def meets(self, call: Call) -> bool:
        """Whether this call is one of them; counts those that match."""
        is_match = self.method in ("", call.method) and call.name.startswith(self.prefix)
        if not is_match or self.fault not in FAULTS[call.method] or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


def script(*rules: Rule) -> Schedule:
    """The first rule that a call meets, in the order given; each counts for itself."""
    own = [replace(rule) for rule in rules]
    return lambda call: next((rule.fault for rule in own if rule.meets(call)), None)


def seeded(seed: int, *, rate: float, faults: Sequence[Fault] = HONEST) -> Schedule:
    """A share of all calls meets a fault, drawn from these; the same for the same seed."""

    def schedule(call: Call) -> Fault | None:
        dice = random.Random(f"{seed}/{call.method}/{call.name}/{call.number}")  # noqa: S311 - no secret
        possible = [fault for fault in FAULTS[call.method] if fault in faults]
        return dice.choice(possible) if possible and dice.random() < rate else None

    return schedule


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that a call has met."""

    call: Call
    fault: Fault


class FaultyRemote:
    """A `Remote` around another, with faults.

    Args:
        inner: the remote that does the work; closed with this one.
        schedule: which call meets which fault.
        delay_s: how long a slow call takes longer.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        inner: Remote,
        schedule: Schedule,
        *,
        delay_s: float = 1.0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._inner = inner
        self._schedule = schedule
        self._delay_s = delay_s
        self._sleep = sleep
        self._counts: Counter[tuple[str, str]] = Counter()
        self._pages: dict[tuple[str, str, int], ObjectPage] = {}
        self.injected: list[Injected] = []
        """Every fault so far, in order."""
        self.is_offline = False
        """While true every call fails before it has its effect."""

    def heal(self) -> None:
        """No more faults, and no longer offline."""
        self._schedule = script()
        self.is_offline = False

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        """See `Remote.put`."""
        await self._call("put", name, lambda: self._inner.put(name, body, overwrite=overwrite))

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Remote.get`; the bytes may be fewer or others."""
        fault, data = await self._faulted("get", name, lambda: self._inner.get(name, start, stop))
        if fault is Fault.TRUNCATE:
            return data[: len(data) // 2]
        if fault is Fault.CORRUPT:
            middle = len(data) // 2
            return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        return data

    async def head(self, name: str) -> ObjectInfo:
        """See `Remote.head`."""
        return await self._call("head", name, lambda: self._inner.head(name))

    async def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        await self._call("delete", name, lambda: self._inner.delete(name))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        """See `Remote.list`; the page may be an older one, or a part."""
        asked = (prefix, after, limit)
        fault, page = await self._faulted(
            "list", prefix, lambda: self._inner.list(prefix, after=after, limit=limit)
        )
        if fault is Fault.STALE:
            return self._pages.get(asked, page)
        self._pages[asked] = page
        half = -(-len(page.objects) // 2)
        if fault is Fault.SHORT_PAGE and half < len(page.objects):
            return ObjectPage(page.objects[:half], more=True)
        if fault is Fault.CUT_PAGE:
            return ObjectPage(page.objects[: len(page.objects) // 2], more=False)
        return page

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        """See `Remote.wait_for_change`."""
        return await self._call("wait_for_change", "", lambda: self._inner.wait_for_change(cursor, timeout_s))

    async def aclose(self) -> None:
        """Close the inner remote; never fails."""
        await self._inner.aclose()

    async def _call(self, method: str, name: str, act: Callable[[], Awaitable[T]]) -> T:
        return (await self._faulted(method, name, act))[1]

    async def _faulted(
        self, method: str, name: str, act: Callable[[], Awaitable[T]]
    ) -> tuple[Fault | None, T]:
        """What the inner remote answers, and a fault that is left to the caller to put into the answer."""
        call = Call(method, name, self._counts[method, name])
        self._counts[method, name] += 1
        fault = Fault.FAIL if self.is_offline else self._schedule(call)
        if fault is not None:
            self.injected.append(Injected(call, fault))
        match fault:
            case Fault.FAIL:
                raise Unreachable(f"{method} {name} failed, as scheduled")
            case Fault.REFUSE:
                raise ObjectRefused(f"{method} {name} was refused, as scheduled")
            case Fault.HANG:
                await anyio.sleep_forever()
            case Fault.SLOW:
                await self._sleep(self._delay_s)
        answer = await act()
        if fault is Fault.DUPLICATE:
            with contextlib.suppress(ObjectError):  # the answer to the second is lost
                await act()
        if fault is Fault.LOSE_ANSWER:
            raise Unreachable(f"the answer to {method} {name} was lost, as scheduled")
        return fault, answer

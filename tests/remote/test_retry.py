"""What is repeated, after which pauses, and what a lost answer means."""

import enum
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from syncagent.errors import (
    BadResponse,
    Forbidden,
    InvalidName,
    ObjectExists,
    ObjectNotFound,
    RateLimited,
    SourceChanged,
    SyncAgentError,
    TransientRemoteError,
    Unreachable,
    UnsupportedByRemote,
    Withheld,
)
from syncagent.remote.base import Body, FileSlice, ObjectInfo, ObjectPage, Remote
from syncagent.remote.memory import MemoryRemote
from syncagent.remote.retry import RetryRemote

pytestmark = pytest.mark.anyio

RECORD = "devices/" + "0" * 32
BATCH = f"journal/{'0' * 32}/000000000001"
LARGE = bytes(range(256)) * (10 << 10)


class Lost(enum.Enum):
    """A call that takes effect and whose answer is lost."""

    ANSWER = enum.auto()


Step = SyncAgentError | Lost | None


class FailingRemote:
    """Fails as its script says, one step a call; after the script it works."""

    def __init__(self, inner: Remote, script: Sequence[Step]) -> None:
        self.inner = inner
        self.script = list(script)
        self.calls: list[str] = []
        self.closed = 0

    def _begin(self, call: str) -> Step:
        self.calls.append(call)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, SyncAgentError):
            raise step
        return step

    @staticmethod
    def _end(step: Step) -> None:
        if step is Lost.ANSWER:
            raise Unreachable("the answer was lost")

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        step = self._begin("put")
        await self.inner.put(name, body, overwrite=overwrite)
        self._end(step)

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        self._end(self._begin("get"))
        return await self.inner.get(name, start, stop)

    async def head(self, name: str) -> ObjectInfo:
        self._end(self._begin("head"))
        return await self.inner.head(name)

    async def delete(self, name: str) -> None:
        step = self._begin("delete")
        await self.inner.delete(name)
        self._end(step)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        self._end(self._begin("list"))
        return await self.inner.list(prefix, after=after, limit=limit)

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        self._end(self._begin("wait_for_change"))
        return await self.inner.wait_for_change(cursor, timeout_s)

    async def aclose(self) -> None:
        self.closed += 1


class Scene:
    """A retrying remote over a failing one over a store, with the pauses it takes written down."""

    def __init__(self, *script: Step, draws: Sequence[float] = (1.0,) * 9, max_delay_s: float = 5.0) -> None:
        self.store = MemoryRemote()
        self.failing = FailingRemote(self.store, script)
        self.pauses: list[float] = []
        draw = iter(draws)
        self.remote = RetryRemote(
            self.failing, max_delay_s=max_delay_s, random=lambda: next(draw), sleep=self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def unreachable() -> Unreachable:
    return Unreachable("made up")


async def test_nothing_is_repeated_without_need() -> None:
    scene = Scene()
    await scene.remote.put(RECORD, b"x")
    assert await scene.remote.get(RECORD) == b"x"
    assert scene.failing.calls == ["put", "get"]
    assert scene.pauses == []


async def test_pauses_double_up_to_the_longest() -> None:
    scene = Scene(*[unreachable()] * 3, max_delay_s=0.5)
    await scene.remote.list("")
    assert scene.failing.calls == ["list"] * 4
    assert scene.pauses == pytest.approx([0.2, 0.4, 0.5])


async def test_pauses_are_drawn_from_zero_on() -> None:
    scene = Scene(*[unreachable()] * 3, draws=(0.0, 0.5, 0.25))
    await scene.remote.list("")
    assert scene.pauses == pytest.approx([0.0, 0.2, 0.2])


async def test_the_last_failure_is_passed_on() -> None:
    failures = [unreachable() for _ in range(5)]
    scene = Scene(*failures)
    with pytest.raises(Unreachable) as caught:
        await scene.remote.get(RECORD)
    assert caught.value is failures[3]
    assert len(scene.failing.calls) == 4
    assert len(scene.pauses) == 3


@pytest.mark.parametrize("failure", [Unreachable("x"), RateLimited("x"), TransientRemoteError("x")])
async def test_each_call_is_repeated(failure: TransientRemoteError) -> None:
    scene = Scene()
    await scene.remote.put(RECORD, b"x")
    for call in (
        lambda: scene.remote.head(RECORD),
        lambda: scene.remote.get(RECORD, 0, 1),
        lambda: scene.remote.list("devices/"),
        lambda: scene.remote.put(RECORD, b"y", overwrite=True),
        lambda: scene.remote.delete(RECORD),
    ):
        scene.failing.script = [failure]
        scene.failing.calls.clear()
        await call()
        assert len(scene.failing.calls) == 2


@pytest.mark.parametrize(
    "failure",
    [
        Withheld("x"),
        Forbidden("x"),
        ObjectNotFound("x"),
        BadResponse("x"),
        UnsupportedByRemote("x"),
        InvalidName("x"),
        SourceChanged("x"),
    ],
)
async def test_what_will_not_pass_is_not_repeated(failure: SyncAgentError) -> None:
    scene = Scene(failure, failure)
    with pytest.raises(type(failure)):
        await scene.remote.get(RECORD)
    with pytest.raises(type(failure)):
        await scene.remote.put(RECORD, b"x")
    assert scene.failing.calls == ["get", "put"]
    assert scene.pauses == []


async def test_patience_asked_for_is_given() -> None:
    asked = [RateLimited("x", retry_after_s=seconds) for seconds in (3.0, 0.1, 5.0)]
    scene = Scene(*asked)
    await scene.remote.list("")
    assert scene.pauses == pytest.approx([3.0, 0.4, 5.0])  # never less than asked for, never less than drawn


async def test_too_much_patience_is_left_to_the_engine() -> None:
    scene = Scene(RateLimited("x", retry_after_s=5.1))
    with pytest.raises(RateLimited) as caught:
        await scene.remote.list("")
    assert caught.value.retry_after_s == 5.1
    assert scene.failing.calls == ["list"]
    assert scene.pauses == []


@pytest.mark.parametrize("data", [b"x", LARGE])
async def test_an_object_there_after_a_lost_answer_is_ours(data: bytes, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"before" + data + b"after")
    for body in (data, FileSlice(source, 6, 6 + len(data))):
        scene = Scene(Lost.ANSWER)
        await scene.remote.put(BATCH, body)
        assert await scene.store.get(BATCH) == data
        assert scene.failing.calls[:2] == ["put", "put"]


async def test_a_failure_before_the_effect_is_simply_repeated() -> None:
    scene = Scene(unreachable(), unreachable())
    await scene.remote.put(BATCH, b"x")
    assert scene.failing.calls == ["put"] * 3


@pytest.mark.parametrize(
    "stored",
    [b"y", LARGE[:-1], LARGE + b"\0", LARGE[:-1] + b"?", b"?" + LARGE[1:]],
    ids=["other", "shorter", "longer", "other end", "other beginning"],
)
async def test_other_bytes_after_a_lost_answer_are_not_ours(stored: bytes) -> None:
    scene = Scene(unreachable())
    await scene.store.put(BATCH, stored)
    with pytest.raises(ObjectExists):
        await scene.remote.put(BATCH, LARGE)
    assert await scene.store.get(BATCH) == stored


async def test_an_object_there_at_the_first_attempt_is_not_ours() -> None:
    scene = Scene()
    await scene.store.put(BATCH, b"x")
    with pytest.raises(ObjectExists):
        await scene.remote.put(BATCH, b"x")
    assert scene.failing.calls == ["put"]


async def test_trouble_while_comparing_is_repeated() -> None:
    scene = Scene(Lost.ANSWER, None, unreachable(), None, None, unreachable())
    await scene.remote.put(BATCH, b"x")
    assert scene.failing.calls == ["put", "put", "head", "put", "head", "get", "put", "head", "get"]


async def test_there_and_then_not_is_repeated() -> None:
    scene = Scene(Lost.ANSWER, None, ObjectNotFound("a stale copy"))
    await scene.remote.put(BATCH, b"x")
    assert scene.failing.calls == ["put", "put", "head", "put", "head", "get"]


async def test_a_lost_delete_is_repeated() -> None:
    scene = Scene(None, Lost.ANSWER)
    await scene.remote.put(RECORD, b"x")
    await scene.remote.delete(RECORD)
    with pytest.raises(ObjectNotFound):
        await scene.remote.get(RECORD)


class HangingRemote(MemoryRemote):
    """Answers nothing."""

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        await anyio.sleep_forever()
        raise AssertionError

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        await anyio.sleep_forever()
        raise AssertionError


async def test_an_attempt_that_hangs_is_unreachable() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    remote = RetryRemote(HangingRemote(), timeout_s=0, sleep=sleep)
    with pytest.raises(Unreachable, match="longer than 0 s"):
        await remote.get(RECORD)
    assert len(pauses) == 3


async def test_a_watch_is_bounded_and_not_repeated() -> None:
    """A repetition would hide that nobody has watched meanwhile."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    remote = RetryRemote(HangingRemote(), timeout_s=0, sleep=sleep)
    with pytest.raises(Unreachable, match="waiting for a change took longer than 0 s"):
        await remote.wait_for_change("1", 0)
    scene = Scene(unreachable())
    with pytest.raises(Unreachable):
        await scene.remote.wait_for_change(None, 0)
    assert (pauses, scene.pauses) == ([], [])


async def test_waiting_for_a_change_may_take_its_time() -> None:
    """Much longer than an attempt of another call."""
    store = MemoryRemote()
    remote = RetryRemote(store, timeout_s=0)
    answers: list[str] = []

    async def wait() -> None:
        answers.append(await remote.wait_for_change("0", 60))

    async with anyio.create_task_group() as waits:
        waits.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        await store.put(RECORD, b"x")
    assert answers == ["1"]


async def test_cancellation_is_not_a_failure() -> None:
    remote = RetryRemote(HangingRemote())
    async with anyio.create_task_group() as calls:
        calls.start_soon(remote.get, RECORD)
        await anyio.wait_all_tasks_blocked()
        calls.cancel_scope.cancel()


async def test_closing_closes_the_inner_remote() -> None:
    scene = Scene()
    await scene.remote.aclose()
    assert scene.failing.closed == 1

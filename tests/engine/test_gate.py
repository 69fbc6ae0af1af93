"""The one limit over all transfers: places, bytes, order, and what cancellation leaves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import TaskGroup

from syncagent.engine.gate import BYTES_IN_FLIGHT, MOST_TRANSFERS, TransferGate

pytestmark = pytest.mark.anyio

MIB = 1 << 20


class Crowd:
    """Transfers that begin in order, note when they are let in, and end when told to."""

    def __init__(self, gate: TransferGate, group: TaskGroup) -> None:
        self._gate = gate
        self._group = group
        self.inside: list[str] = []
        self.scopes: dict[str, anyio.CancelScope] = {}
        self._ends: dict[str, anyio.Event] = {}

    async def add(self, name: str, size: int = 1, *, interactive: bool = False) -> None:
        self._ends[name] = anyio.Event()
        self.scopes[name] = anyio.CancelScope()
        self._group.start_soon(self._run, name, size, interactive)
        await anyio.wait_all_tasks_blocked()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await anyio.wait_all_tasks_blocked()

    async def cancel(self, name: str) -> None:
        self.scopes[name].cancel()
        await anyio.wait_all_tasks_blocked()

    async def _run(self, name: str, size: int, interactive: bool) -> None:
        with self.scopes[name]:
            async with self._gate.transfer(size, interactive=interactive):
                self.inside.append(name)
                try:
                    await self._ends[name].wait()
                finally:
                    self.inside.remove(name)


@asynccontextmanager
async def crowd(gate: TransferGate) -> AsyncIterator[Crowd]:
    async with anyio.create_task_group() as group:
        yield Crowd(gate, group)
        group.cancel_scope.cancel()


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (4, 4), (8, 8), (20, MOST_TRANSFERS), (0, 1), (-3, 1)])
async def test_there_are_as_many_places_as_asked_for_from_one_to_eight(asked: int, given: int) -> None:
    async with crowd(TransferGate(asked)) as they:
        for number in range(12):
            await they.add(str(number))
        assert they.inside == [str(number) for number in range(given)]


async def test_the_longest_waiting_goes_next() -> None:
    async with crowd(TransferGate(1)) as they:
        for name in "abc":
            await they.add(name)
        await they.end("a")
        assert they.inside == ["b"]
        await they.end("b")
        assert they.inside == ["c"]


async def test_an_interactive_one_goes_ahead_of_all_who_wait_but_ends_none_who_run() -> None:
    async with crowd(TransferGate(1)) as they:
        for name in "abc":
            await they.add(name)
        await they.add("now", interactive=True)
        assert they.inside == ["a"]
        await they.end("a")
        assert they.inside == ["now"]
        await they.end("now")
        assert they.inside == ["b"]


async def test_interactive_ones_keep_their_order() -> None:
    async with crowd(TransferGate(1)) as they:
        await they.add("a")
        await they.add("b")
        for name in ("first", "second"):
            await they.add(name, interactive=True)
        for name in ("first", "second", "b"):
            await they.end(they.inside[0])
            assert they.inside == [name]


async def test_bytes_are_bounded_whatever_the_places() -> None:
    async with crowd(TransferGate(8)) as they:
        for name in "abcd":
            await they.add(name, 16 * MIB)
        assert they.inside == ["a", "b", "c"]
        assert BYTES_IN_FLIGHT == 48 * MIB
        await they.end("b")
        assert they.inside == ["a", "c", "d"]


async def test_one_larger_than_the_bound_runs_alone() -> None:
    async with crowd(TransferGate(8)) as they:
        await they.add("small")
        await they.add("large", 100 * MIB)
        await they.add("after")
        assert they.inside == ["small"]
        await they.end("small")
        assert they.inside == ["large"]
        await they.end("large")
        assert they.inside == ["after"]


async def test_cancelled_while_waiting_it_holds_no_place() -> None:
    async with crowd(TransferGate(1)) as they:
        for name in "abc":
            await they.add(name)
        await they.cancel("b")
        await they.end("a")
        assert they.inside == ["c"]


async def test_cancelled_while_running_it_gives_its_place_and_its_bytes_back() -> None:
    async with crowd(TransferGate(1, bytes_in_flight=10)) as they:
        await they.add("a", 10)
        await they.add("b", 10)
        await they.cancel("a")
        assert they.inside == ["b"]
        await they.end("b")
        await they.add("c", 10)
        assert they.inside == ["c"]


async def test_cancelled_in_the_moment_it_is_let_in_it_leaks_no_place() -> None:
    gate = TransferGate(1)
    async with crowd(gate) as they:
        await they.add("a")
        await they.add("b")
        # Both before the loop runs again: `b` has its place and never gets to use it.
        they._ends["a"].set()
        they.scopes["b"].cancel()
        await anyio.wait_all_tasks_blocked()
        assert they.inside == []
        await they.add("c")
        assert they.inside == ["c"]


async def test_a_large_one_that_gives_up_waiting_lets_those_behind_it_pass() -> None:
    async with crowd(TransferGate(8, bytes_in_flight=10)) as they:
        await they.add("a", 5)
        await they.add("large", 10)
        await they.add("b", 5)
        assert they.inside == ["a"]
        await they.cancel("large")
        assert they.inside == ["a", "b"]

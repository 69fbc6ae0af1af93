"""Anything that can happen, in any order: nothing is lost, and all devices end up the same."""

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from syncagent.testing.faulty import FAULTS, HONEST, Fault, Rule
from tests.engine.world import World
from tests.simulation.checks import check_all
from tests.simulation.sim import BLOBS, YEAR_S, Device, Edit, Point, Simulation, content

KINDS = st.sampled_from(["small", "small", "small", "again", "empty", "medium", "large"])
IDS = st.sampled_from(BLOBS)
DEVICE = st.integers(0, 3)
EDITS = st.lists(
    st.tuples(IDS, st.sampled_from(["small", "again", "empty", "delete"])), min_size=1, max_size=4
)
ALL_FAULTS = st.sampled_from(
    [
        (method, prefix, fault)
        for method, prefix in (
            ("put", "packs/"),
            ("put", "journal/"),
            ("get", "packs/"),
            ("get", "journal/"),
            ("list", "journal/"),
            ("list", "devices/"),
            ("list", "packs/"),
            ("head", ""),
        )
        for fault in FAULTS[method]
        if fault not in (Fault.HANG, Fault.SLOW)
    ]
)
POINTS = st.one_of(
    st.builds(Point, st.just(True), st.integers(0, 9)), st.builds(Point, st.just(False), st.integers(0, 24))
)
MISHAPS = st.one_of(
    st.tuples(st.just("crash in put"), st.tuples(st.builds(Point, st.just(True), st.integers(0, 3)), KINDS)),
    st.tuples(st.just("offline"), st.booleans()),
    st.tuples(st.just("clock"), st.sampled_from([0.0, YEAR_S, -YEAR_S])),
    st.sampled_from(
        [
            (name, None)
            for name in ("restart", "back_up", "restore", "clone", "leave", "save_remote", "restore_remote")
        ]
    ),
)


class Machine(RuleBasedStateMachine):
    """Users, their devices and a bad remote."""

    template: World

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._portal: BlockingPortal = self._stack.enter_context(start_blocking_portal())
        self.simulation: Simulation
        self._content = 0

    @initialize(devices=st.integers(2, 3), is_honest=st.booleans())
    def begin(self, devices: int, is_honest: bool) -> None:
        """In every other run nothing is put back and the remote only fails: more can be checked."""
        self._is_honest = is_honest
        self.simulation = Simulation(self.template, self._folder, ("a", "b", "c")[:devices])

    # Rules are drawn alike, so what happens often is several of them, and what is rare shares one.

    @rule(at=DEVICE, blob_id=IDS, kind=KINDS)
    def put(self, at: int, blob_id: str, kind: str) -> None:
        self._call(self.simulation.put, self._device(at), blob_id, self._fresh(kind))

    @rule(at=DEVICE, kinds=st.lists(KINDS, min_size=2, max_size=3))
    def put_again_and_again(self, at: int, kinds: list[str]) -> None:
        for kind in kinds:
            self._call(self.simulation.put, self._device(at), BLOBS[0], self._fresh(kind))

    @rule(at=DEVICE, blob_id=IDS)
    def delete(self, at: int, blob_id: str) -> None:
        self._call(self.simulation.delete, self._device(at), blob_id)

    @rule(at=DEVICE, edits=EDITS)
    def transact(self, at: int, edits: list[tuple[str, str]]) -> None:
        steps = [Edit(blob_id, None if kind == "delete" else self._fresh(kind)) for blob_id, kind in edits]
        self._call(self.simulation.transact, self._device(at), steps)

    @rule(at=DEVICE, is_set=st.booleans())
    def flag(self, at: int, is_set: bool) -> None:
        self._call(self.simulation.flag, self._device(at), BLOBS[0], "seen", is_set)

    @rule(at=DEVICE, blob_id=IDS)
    def read(self, at: int, blob_id: str) -> None:
        self._call(self.simulation.read, self._device(at), blob_id)

    @rule(at=DEVICE)
    def sync(self, at: int) -> None:
        self._call(self.simulation.sync, self._device(at))

    @rule()
    def sync_everywhere(self) -> None:
        for device in list(self.simulation.devices):
            device.is_offline = False
            self._call(self.simulation.sync, device)

    @rule(at=DEVICE, part=st.sampled_from(["send_missing", "fetch_missing"]))
    def half_sync(self, at: int, part: str) -> None:
        self._call(self.simulation.sync, self._device(at), part)

    @rule(at=DEVICE, point=POINTS)
    def crash_in_sync(self, at: int, point: Point) -> None:
        device = self._device(at)
        self._call(self.simulation.crash_in, device, point, partial(self.simulation.sync, device))

    @rule(at=DEVICE, to=DEVICE, point=POINTS, kind=KINDS)
    def crash_with_work_to_do(self, at: int, to: int, point: Point, kind: str) -> None:
        """One that sends its put, and, if it is another, one that fetches it."""
        self._device(at).is_offline = self._device(to).is_offline = False
        self.put(at, BLOBS[0], kind)
        if self._device(to) is not self._device(at):
            self.sync(at)
        self.crash_in_sync(to, point)

    @rule(at=DEVICE, fault=ALL_FAULTS, skip=st.integers(0, 3), times=st.integers(1, 4))
    def sync_with_a_fault(self, at: int, fault: tuple[str, str, Fault], skip: int, times: int) -> None:
        method, prefix, kind = fault
        if self._is_honest and kind not in HONEST:
            return
        device = self._device(at)
        self.simulation.fault(device, Rule(kind, method, prefix, skip, times))
        self.sync(at)
        self.sync(at)
        device.rules.clear()

    @rule(at=DEVICE, without=DEVICE)
    def sync_without_a_journal(self, at: int, without: int) -> None:
        device, other = self._device(at), self._device(without)
        if not self._is_honest and device is not other:
            self._call(self.simulation.sync_without, device, other)

    @rule(order=st.permutations(range(3)))
    def a_chain_of_edits_of_which_one_is_not_shown(self, order: list[int]) -> None:
        if self._is_honest or len(self.simulation.devices) < 3:
            return
        first, second, reader = order
        for at in (first, second):
            self._device(at).is_offline = False
            self.sync(at)
            self.put(at, BLOBS[0], "small")
            self.sync(at)
        self._device(reader).is_offline = False
        self.sync_without_a_journal(reader, first)

    @rule(at=DEVICE, mishap=MISHAPS)
    def mishap(self, at: int, mishap: tuple[str, Any]) -> None:
        name, value = mishap
        device, simulation = self._device(at), self.simulation
        match name:
            case "crash in put":
                point, kind = value
                step = partial(simulation.put, device, BLOBS[0], self._fresh(kind))
                self._call(simulation.crash_in, device, point, step)
            case "offline":
                device.is_offline = value
            case "restore" | "clone" | "restore_remote" | "clock" if self._is_honest:
                pass
            case "clock":
                simulation.shift_clock(device, value)
            case _:
                self._call(getattr(simulation, name), *([] if name.endswith("remote") else [device]))

    def teardown(self) -> None:
        try:
            if hasattr(self, "simulation"):
                try:
                    self._call(self._finish)
                finally:
                    self._call(self.simulation.close)
        finally:
            self._stack.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _finish(self) -> None:
        await self.simulation.heal()
        await check_all(self.simulation)

    def _call(self, step: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        self._portal.call(step, *arguments)

    def _device(self, at: int) -> Device:
        return self.simulation.devices[at % len(self.simulation.devices)]

    def _fresh(self, kind: str) -> bytes:
        self._content += 1
        return content(kind, self._content)


def play(template: World, examples: int, *, is_random: bool = False) -> None:
    """Run the machine so often; the same runs every time, unless they are to be drawn."""

    class OnTemplate(Machine):
        pass

    OnTemplate.template = template
    run_state_machine_as_test(
        OnTemplate,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=not is_random,
            print_blob=True,
            # A failing run is printed as it was: to shrink it takes hours, and hides how it came to that.
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_few_runs(template: World) -> None:
    play(template, 20)


@pytest.mark.slow
def test_many_runs(template: World) -> None:
    play(template, 200)

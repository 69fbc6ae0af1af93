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

from syncagent.testing.faulty import FAULTS, Fault, Rule
from tests.engine.world import World
from tests.simulation.checks import check_all
from tests.simulation.sim import BLOBS, YEAR_S, Device, Edit, Simulation, content

KINDS = st.sampled_from(["small", "small", "small", "again", "empty", "medium", "large"])
IDS = st.sampled_from(BLOBS)
DEVICE = st.integers(0, 3)
EDITS = st.lists(
    st.tuples(IDS, st.sampled_from(["small", "again", "empty", "delete"])), min_size=1, max_size=4
)
ALL_FAULTS = st.sampled_from(
    [
        (method, fault)
        for method, faults in FAULTS.items()
        for fault in faults
        if fault not in (Fault.HANG, Fault.SLOW) and method != "wait_for_change"
    ]
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

    @initialize(devices=st.integers(2, 3))
    def begin(self, devices: int) -> None:
        self.simulation = Simulation(self.template, self._folder, ("a", "b", "c")[:devices])

    @rule(at=DEVICE, blob_id=IDS, kind=KINDS)
    def put(self, at: int, blob_id: str, kind: str) -> None:
        self._call(self.simulation.put, self._device(at), blob_id, self._fresh(kind))

    @rule(at=DEVICE, blob_id=IDS)
    def delete(self, at: int, blob_id: str) -> None:
        self._call(self.simulation.delete, self._device(at), blob_id)

    @rule(at=DEVICE, edits=EDITS)
    def transact(self, at: int, edits: list[tuple[str, str]]) -> None:
        steps = [Edit(blob_id, None if kind == "delete" else self._fresh(kind)) for blob_id, kind in edits]
        self._call(self.simulation.transact, self._device(at), steps)

    @rule(at=DEVICE, blob_id=IDS, flag=st.sampled_from(["seen", "kept"]), is_set=st.booleans())
    def flag(self, at: int, blob_id: str, flag: str, is_set: bool) -> None:
        self._call(self.simulation.flag, self._device(at), blob_id, flag, is_set)

    @rule(at=DEVICE, blob_id=IDS)
    def read(self, at: int, blob_id: str) -> None:
        self._call(self.simulation.read, self._device(at), blob_id)

    @rule(at=DEVICE)
    def sync(self, at: int) -> None:
        self._call(self.simulation.sync, self._device(at))

    @rule(at=DEVICE)
    def sync_too(self, at: int) -> None:
        self._call(self.simulation.sync, self._device(at))

    @rule(at=DEVICE, part=st.sampled_from(["send_missing", "fetch_missing"]))
    def half_sync(self, at: int, part: str) -> None:
        self._call(self.simulation.sync, self._device(at), part)

    @rule(at=DEVICE, points=st.integers(0, 40))
    def crash_in_sync(self, at: int, points: int) -> None:
        device = self._device(at)
        self._call(self.simulation.crash_in, device, points, partial(self.simulation.sync, device))

    @rule(at=DEVICE, points=st.integers(0, 3), blob_id=IDS, kind=KINDS)
    def crash_in_put(self, at: int, points: int, blob_id: str, kind: str) -> None:
        device, data = self._device(at), self._fresh(kind)
        self._call(
            self.simulation.crash_in, device, points, partial(self.simulation.put, device, blob_id, data)
        )

    @rule(at=DEVICE)
    def restart(self, at: int) -> None:
        self._call(self.simulation.restart, self._device(at))

    @rule(at=DEVICE, is_offline=st.booleans())
    def go_offline(self, at: int, is_offline: bool) -> None:
        self._device(at).is_offline = is_offline

    @rule(
        at=DEVICE,
        fault=ALL_FAULTS,
        prefix=st.sampled_from(["", "journal/", "packs/", "devices/"]),
        skip=st.integers(0, 3),
        times=st.integers(1, 4),
    )
    def fault(self, at: int, fault: tuple[str, Fault], prefix: str, skip: int, times: int) -> None:
        self.simulation.fault(self._device(at), Rule(fault[1], fault[0], prefix, skip, times))

    @rule(at=DEVICE, seconds=st.sampled_from([0.0, YEAR_S, -YEAR_S, 3600.0, -3600.0]))
    def shift_clock(self, at: int, seconds: float) -> None:
        self.simulation.shift_clock(self._device(at), seconds)

    @rule(at=DEVICE)
    def back_up(self, at: int) -> None:
        self._call(self.simulation.back_up, self._device(at))

    @rule(at=DEVICE)
    def restore(self, at: int) -> None:
        self._call(self.simulation.restore, self._device(at))

    @rule(at=DEVICE)
    def clone(self, at: int) -> None:
        self._call(self.simulation.clone, self._device(at))

    @rule(at=DEVICE)
    def leave(self, at: int) -> None:
        self._call(self.simulation.leave, self._device(at))

    @rule()
    def save_remote(self) -> None:
        self.simulation.save_remote()

    @rule()
    def restore_remote(self) -> None:
        self.simulation.restore_remote()

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
    play(template, 300)

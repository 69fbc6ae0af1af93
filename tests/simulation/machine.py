"""The machine: users, their devices and a bad remote do anything, in any order. One seed is one run.

`play` runs it, each time from the same vault (`template.py`); `drawn.py` has what it chooses from.
"""

import gc
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from syncagent.testing.faulty import Fault, Rule
from tests.engine.world import World
from tests.simulation import holding, losing, mishaps, old, users
from tests.simulation.alone import Alone, alone
from tests.simulation.checks import check_all
from tests.simulation.crash import Point
from tests.simulation.drawn import (
    DEVICE,
    EARLY_POINTS,
    EDITS,
    FAULTY_CALLS,
    KEPT_BACK,
    KINDS,
    METADATA,
    MISHAPS,
    NAMES,
    POINTS,
    PUTS,
    SEVERAL,
    SIDE_BY_SIDE,
    SKIPPED,
    SMALL_KINDS,
)
from tests.simulation.healing import heal
from tests.simulation.model import Name
from tests.simulation.sim import BLOBS, NOTES, Device, Simulation, content
from tests.simulation.template import scratch
from tests.simulation.users import Edit

STEPS = 40


@dataclass
class Played:
    """What runs have done, and of the last one every step with its outcome."""

    done: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """Users, their devices and a bad remote."""

    template: World
    process: Alone
    played: Played
    number: Iterator[int]
    make: Callable[[World, Path, Sequence[str]], Simulation]

    def __init__(self) -> None:
        super().__init__()
        self.simulation: Simulation
        self._stack = ExitStack()
        self._content = 0
        self._has_failed = False
        # The first that hypothesis tries for a seed is the simplest there is, the same for all seeds.
        self._is_idle = next(self.number) == 0
        if not self._is_idle:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(dir=scratch())))

    @initialize(devices=st.integers(2, 3), is_honest=st.booleans())
    def begin(self, devices: int, is_honest: bool) -> None:
        """In every other run nothing is put back and the remote only fails: more can be checked."""
        self._is_honest = is_honest
        if not self._is_idle:
            self.simulation = self.make(self.template, self._folder, ("a", "b", "c")[:devices])

    # Rules are drawn alike, so what happens often is several of them, and what is rare shares one.

    @rule(at=DEVICE, name=NAMES, kind=KINDS, metadata=METADATA)
    def put(self, at: int, name: Name, kind: str, metadata: dict[str, Any]) -> None:
        self._call(users.put, at, self._edit(name, kind, metadata))

    @rule(at=DEVICE, kinds=st.lists(KINDS, min_size=2, max_size=3))
    def put_again_and_again(self, at: int, kinds: list[str]) -> None:
        for kind in kinds:
            self._call(users.put, at, self._edit(BLOBS[0], kind))

    @rule(at=DEVICE, edits=PUTS, how=SEVERAL)
    def put_several(
        self, at: int, edits: list[tuple[Name, str]], how: Callable[..., Awaitable[None]]
    ) -> None:
        """By one call, by several at once, or while a sync runs."""
        self._call(how, at, [self._edit(name, kind) for name, kind in edits])

    @rule(at=DEVICE, name=NAMES, kind=KINDS, is_changed_meanwhile=st.booleans())
    def read_and_put_if_unchanged(self, at: int, name: Name, kind: str, is_changed_meanwhile: bool) -> None:
        """What was read is kept in mind, for the next time too."""
        self._call(users.put_if_unchanged, at, self._edit(name, kind))
        self._call(users.read, at, name)
        if is_changed_meanwhile:
            self._call(users.put, at, self._edit(name, "small"))
            self._call(users.put_if_unchanged, at, self._edit(name, kind))

    @rule(at=DEVICE, name=NAMES, metadata=METADATA)
    def set_metadata(self, at: int, name: Name, metadata: dict[str, Any]) -> None:
        self._call(users.set_metadata, at, name, metadata)

    @rule(at=DEVICE, other=DEVICE, kind=KINDS, takes_a_side=st.booleans())
    def disagree_and_settle(self, at: int, other: int, kind: str, takes_a_side: bool) -> None:
        """Two put without each other's knowledge; perhaps one of them hears of it in time to end it."""
        for each in (at, other):
            self._call(users.put, each, self._edit(BLOBS[0], "small"))
        for each in (other, at):
            self._call(users.sync, each)
        self._call(partial(users.settle, takes_a_side=takes_a_side), at, self._edit(BLOBS[0], kind))

    @rule(at=DEVICE, name=NAMES, kind=st.none() | SMALL_KINDS)
    def delete(self, at: int, name: Name, kind: str | None) -> None:
        """And perhaps make it anew."""
        self._call(users.delete, at, name)
        if kind is not None:
            self._call(users.put, at, self._edit(name, kind))

    @rule(at=DEVICE, edits=EDITS)
    def transact(self, at: int, edits: list[tuple[Name, str]]) -> None:
        self._call(users.transact, at, [self._edit(name, kind) for name, kind in edits])

    @rule(at=DEVICE, is_set=st.booleans())
    def flag(self, at: int, is_set: bool) -> None:
        self._call(users.flag, at, BLOBS[0], "seen", is_set)

    @rule(at=DEVICE, name=NAMES, day=st.none() | st.integers(0, 9), is_forced=st.booleans())
    def date(self, at: int, name: Name, day: int | None, is_forced: bool) -> None:
        self._call(users.date, at, name, day, is_forced)

    @rule(at=DEVICE, kind=st.none() | KINDS, former=st.none() | KINDS, is_set=st.none() | st.booleans())
    def keep_here(self, at: int, kind: str | None, former: str | None, is_set: bool | None) -> None:
        """A blob that stays on its device; to share content with others is no reason to leave it."""
        shared = None if former is None else self._fresh(former)
        self._call(users.put_mine, at, None if kind is None else self._fresh(kind), shared)
        self._call(users.read_mine, at)
        if is_set is not None:
            self._call(users.flag_mine, at, is_set)

    @rule(at=DEVICE, name=NAMES, way=st.sampled_from(holding.WAYS), point=st.none() | EARLY_POINTS)
    def hold(self, at: int, name: Name, way: str, point: Point | None) -> None:
        """Content is given up only where the remote is honest: what it loses later is lost."""
        if self._is_idle or (way == "evict" and not self._is_honest):
            return
        if point is None:
            self._call(holding.hold, at, name, way)
        else:
            self._cut_off(holding.hold, at, point, name, way)

    @rule(at=DEVICE, other=DEVICE, name=NAMES, kind=KINDS, revises=st.booleans())
    def lose(self, at: int, other: int, name: Name, kind: str, revises: bool) -> None:
        """The remote loses what one has given up. In honest runs, or others might have lost it too."""
        if self._is_idle or not self._is_honest:
            return
        self._set_offline(at, False)
        self._call(users.put, at, self._edit(name, kind))
        as_name = BLOBS[1] if name == BLOBS[0] else BLOBS[0]
        if name.namespace == as_name.namespace or at % self._count() == other % self._count():
            lose = partial(losing.lose_and_put_again, revises=revises)
            self._call(lose, at, self._device(other), name, as_name)

    @rule(at=DEVICE, policy=st.sampled_from(holding.POLICIES))
    def set_policy(self, at: int, policy: str) -> None:
        self._call(holding.set_policy, at, NOTES, policy)

    @rule(at=DEVICE, name=NAMES)
    def read(self, at: int, name: Name) -> None:
        self._call(users.read, at, name)

    @rule(at=DEVICE, name=NAMES, back=st.integers(0, 3), is_on=st.none() | st.booleans(), edits=PUTS)
    def look_back(
        self, at: int, name: Name, back: int, is_on: bool | None, edits: list[tuple[Name, str]]
    ) -> None:
        """Read an old version, or put a tag on it; and edit on."""
        if is_on is None:
            self._call(old.read_old, at, name, back)
        else:
            self._call(old.tag, at, name, back, is_on)
            for edited, kind in edits:
                self._call(users.put, at, self._edit(edited, kind))

    @rule(at=DEVICE)
    def follow(self, at: int) -> None:
        self._call(users.follow, at)

    @rule(at=DEVICE)
    def sync(self, at: int) -> None:
        self._call(users.sync, at)

    @rule()
    def sync_everywhere(self) -> None:
        for at in range(self._count()):
            self._set_offline(at, False)
            self._call(users.sync, at)

    @rule(at=DEVICE, part=st.sampled_from(["send_missing", "fetch_missing", "retry"]))
    def half_sync(self, at: int, part: str) -> None:
        if part == "retry":
            self._call(users.retry, at)
        else:
            self._call(users.sync, at, part)

    @rule(at=DEVICE, point=POINTS)
    def cut_off_a_sync(self, at: int, point: Point) -> None:
        self._cut_off(users.sync, at, point)

    @rule(at=DEVICE, to=DEVICE, point=POINTS, kind=KINDS)
    def cut_off_with_work_to_do(self, at: int, to: int, point: Point, kind: str) -> None:
        """One that sends its put, or one that fetches another's."""
        self._set_offline(at, False)
        self._set_offline(to, False)
        self._call(users.put, at, self._edit(BLOBS[0], kind))
        if self._count() and at % self._count() != to % self._count():
            self._call(users.sync, at)
        self._cut_off(users.sync, to, point)

    @rule(at=DEVICE, point=EARLY_POINTS, name=NAMES, kind=KINDS, edits=EDITS, what=st.integers(0, 9))
    def cut_off_a_change(
        self, at: int, point: Point, name: Name, kind: str, edits: list[tuple[Name, str]], what: int
    ) -> None:
        fresh = [self._edit(name, kind) for name, kind in edits]
        match what:
            case 0 | 1:
                self._cut_off(users.put, at, point, self._edit(name, kind))
            case 2:
                self._cut_off(users.delete, at, point, name)
            case 3:
                self._cut_off(users.transact, at, point, fresh)
            case 4:
                self._cut_off(users.flag, at, point, BLOBS[0], "seen", True)
            case 5:
                self._cut_off(users.put_mine, at, point, self._fresh(kind))
            case 6:
                self._cut_off(users.follow, at, point)
            case 7:
                self._cut_off(old.tag, at, point, name, 1, True)
            case _:
                puts = [self._edit(each, "medium") for each in BLOBS[: 2 + what % 2]]
                self._cut_off(users.put_at_once, at, Point(point.kind, 3 * point.number), puts)

    @rule(at=DEVICE, point=POINTS, edits=PUTS, how=SIDE_BY_SIDE)
    def cut_off_side_by_side(
        self, at: int, point: Point, edits: list[tuple[Name, str]], how: Callable[..., Awaitable[None]]
    ) -> None:
        self._cut_off(how, at, point, [self._edit(name, kind) for name, kind in edits])

    @rule(at=DEVICE, faults=FAULTY_CALLS, skip=SKIPPED, times=st.integers(1, 4), kind=KINDS)
    def sync_with_a_fault(
        self, at: int, faults: tuple[tuple[str, str, Fault], ...], skip: int, times: int, kind: str
    ) -> None:
        """After a put elsewhere or here, so that there is something to fetch, or to send."""
        if self._is_idle:
            return
        method, prefix, what = faults[self._is_honest]
        device, other = self._device(at), self._device(at + (method == "get"))
        device.is_offline = other.is_offline = False
        self._call(users.put, self.simulation.devices.index(other), self._edit(BLOBS[1], kind))
        if device is not other:
            self._call(users.sync, self.simulation.devices.index(other))
        mishaps.fault(self.simulation, device, Rule(what, method, prefix, skip, times))
        self._call(users.sync, at)
        self._call(users.sync, at)
        device.rules.clear()

    @rule(at=DEVICE, edits=EDITS, comes_back=st.booleans())
    def work_offline(self, at: int, edits: list[tuple[Name, str]], comes_back: bool) -> None:
        self._set_offline(at, True)
        for name, kind in edits:
            if kind == "delete":
                self._call(users.delete, at, name)
            else:
                self._call(users.put, at, self._edit(name, kind))
        self._call(users.sync, at)
        self._set_offline(at, not comes_back)

    @rule(at=DEVICE, without=DEVICE, how=KEPT_BACK)
    def sync_without_a_journal(self, at: int, without: int, how: Rule) -> None:
        if not self._is_idle and not self._is_honest and self._device(at) is not self._device(without):
            self._call(mishaps.sync_without, at, self._device(without), how)

    @rule(order=st.permutations(range(3)), how=KEPT_BACK)
    def a_chain_of_edits_of_which_one_is_not_shown(self, order: list[int], how: Rule) -> None:
        if self._is_idle or self._is_honest or self._count() < 3:
            return
        first, second, reader = order
        for at in (first, second):
            self._set_offline(at, False)
            self._call(users.sync, at)
            self._call(users.put, at, self._edit(BLOBS[0], "small"))
            self._call(users.sync, at)
        self._set_offline(reader, False)
        self._call(mishaps.sync_without, reader, self._device(first), how)

    @rule(at=DEVICE, mishap=MISHAPS)
    def mishap(self, at: int, mishap: tuple[str, Any]) -> None:
        if self._is_idle:
            return
        name, value = mishap
        match name:
            case "offline":
                self._set_offline(at, value)
            case "clock":
                mishaps.shift_clock(self.simulation, self._device(at), value)
            case "days":
                mishaps.let_days_pass(self.simulation, value)
            case "restart":
                self.process.run(self.simulation.close_device(self._device(at)))
            case "restore" | "clone" | "restore_remote" if self._is_honest:
                pass
            case "save_remote" | "restore_remote":
                self.process.run(getattr(mishaps, name)(self.simulation))
            case _:
                self._call(getattr(mishaps, name), at)

    def teardown(self) -> None:
        with self._stack:
            if hasattr(self, "simulation"):
                try:
                    if not self._has_failed:
                        self.process.run(self._finish())
                finally:
                    self.process.run(self.simulation.close())
                    self.played.done += self.simulation.done
                    self.played.done["runs"] += 1
                    del self.simulation

    async def _finish(self) -> None:
        await heal(self.simulation)
        await check_all(self.simulation)
        self._note("healed", None)

    def _call(self, step: Callable[..., Awaitable[Any]], at: int, *arguments: Any) -> None:
        """Do a step on a device, and note how it went."""
        if not self._is_idle:
            self._has_failed = True  # unless it comes back: then nothing need be looked at in the end
            outcome = self.process.run(_awaited(step, self.simulation, self._device(at), *arguments))
            self._has_failed = False
            self.played.done["steps"] += 1
            what = getattr(step, "func", step).__name__
            self._note(f"{what} on {self._device(at).name}", outcome)

    def _cut_off(self, step: Callable[..., Awaitable[Any]], at: int, point: Point, *arguments: Any) -> None:
        if not self._is_idle:
            device = self._device(at)
            self._call(mishaps.cut_off, at, point, partial(step, self.simulation, device, *arguments))

    def _note(self, step: str, outcome: object) -> None:
        objects = Counter(name.partition("/")[0] for name in self.simulation.store.objects)
        sure = sorted(id.hex() for id in self.simulation.model.sure)
        self.played.log.append(f"{step}: {outcome}; {self.process.loop.steps} awaits; {objects}; {sure}")

    def _device(self, at: int) -> Device:
        return self.simulation.devices[at % self._count()]

    def _count(self) -> int:
        return 0 if self._is_idle else len(self.simulation.devices)

    def _set_offline(self, at: int, is_offline: bool) -> None:
        if not self._is_idle:
            self._device(at).is_offline = is_offline

    def _edit(self, name: Name, kind: str, metadata: dict[str, Any] | None = None) -> Edit:
        return Edit(name, None if kind == "delete" else self._fresh(kind), metadata or {})

    def _fresh(self, kind: str) -> bytes:
        self._content += 1
        return content(kind, self._content)


async def _awaited(step: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    return await step(*arguments)


def play(
    template: World,
    seeds: Iterable[int],
    *,
    has_threads: bool = False,
    make: Callable[[World, Path, Sequence[str]], Simulation] = Simulation,
) -> Played:
    """Run the machine once for each seed.

    Args:
        template: the vault to begin with.
        seeds: of the runs.
        has_threads: leave worker threads as they are; see `alone`.
        make: gives the devices and their remote, from the template, a folder and the devices' names.

    Raises what a run finds, with a note of how to play it again.
    """
    played = Played()
    for seed in seeds:
        played.log.clear()
        try:
            _play_one(template, seed, played, has_threads, make)
        except BaseException as exc:
            exc.add_note(f"to play it again: python -m tests.campaign.machine --seed {seed}")
            raise
        gc.collect()  # contents of megabytes lie in cycles, and none are collected during a run
    return played


def _play_one(
    template: World,
    seed: int,
    played: Played,
    has_threads: bool,
    make: Callable[[World, Path, Sequence[str]], Simulation],
) -> None:
    with alone(seed, has_threads=has_threads) as process:

        class OneRun(Machine):
            pass

        OneRun.template, OneRun.process, OneRun.played = template, process, played
        OneRun.number = iter(range(1_000))
        OneRun.make = staticmethod(make)
        run_state_machine_as_test(
            hypothesis.seed(seed)(OneRun),
            settings=settings(
                max_examples=2,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                # A failing run is printed as it was: to shrink it takes hours, and hides how it came to that.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )

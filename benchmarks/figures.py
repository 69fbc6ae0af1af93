"""What several runs come to: per figure the median and the spread, and whether an aim was reached.

The dataclasses are the JSON document, field for field.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.durable import ALONE, Puts
from benchmarks.machine import Machine
from benchmarks.spread import Spread, percentile
from benchmarks.steps import CALLERS, LoadRun

FORMAT = 1
"""Of the JSON document; a reader of another one must look again."""

LEAST_BLOBS_PER_S = {
    "put_many": 10_000,
    f"put, {CALLERS} callers": 5_000,
    "send": 10_000,
    "fetch": 6_000,
}
LARGE_STEPS = ("put_many", f"put, {CALLERS} callers", "send", "fetch", "read into files")
MOST_RATIO = 2.0
MOST_COMMITS = 3.0
MOST_STALL_MS = 20.0


@dataclass(frozen=True, slots=True)
class Aim:
    """What was aimed at, on a machine of 2 to 4 cores. By the median; for a stall by the worst run."""

    text: str
    reached: bool


@dataclass(frozen=True, slots=True)
class StepFigure:
    """A step over all runs. The ratio is seconds by floor seconds."""

    step: str
    seconds: Spread
    blobs_per_s: Spread
    mb_per_s: Spread
    floor_seconds: Spread
    ratio: Spread
    longest_stall_ms: Spread
    aim: Aim | None
    stall_aim: Aim


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """All steps of one load."""

    blobs: int
    size_bytes: int
    steps: list[StepFigure]


@dataclass(frozen=True, slots=True)
class PutFigure:
    """One caller's puts beside a sync. The ratio is the median put by the median of single commits."""

    beside: str
    puts: Spread
    median_ms: Spread
    p99_ms: Spread
    commit_ms: Spread
    ratio: Spread
    longest_stall_ms: Spread
    aim: Aim | None
    stall_aim: Aim


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was measured. A load that was not asked for is None, and so are its durable puts."""

    format: int
    machine: Machine
    runs: int
    small: LoadFigures | None
    large: LoadFigures | None
    durable_put: list[PutFigure] | None


def small_figures(runs: Sequence[LoadRun]) -> LoadFigures:
    """The figures of small blobs; the aims are rates."""
    return _load(runs, _rate_aim)


def large_figures(runs: Sequence[LoadRun]) -> LoadFigures:
    """The figures of large blobs; the aims are ratios."""
    return _load(runs, _ratio_aim)


def put_figures(runs: Sequence[Sequence[Puts]]) -> list[PutFigure]:
    """The figures of durable puts."""
    return [_puts(same) for same in zip(*runs, strict=True)]


def _load(runs: Sequence[LoadRun], aim_of: Callable[[str, Spread, Spread], Aim | None]) -> LoadFigures:
    blobs, size_bytes = runs[0].blobs, runs[0].size_bytes
    steps = []
    for same in zip(*(run.steps for run in runs), strict=True):
        rate = Spread.of([blobs / step.seconds for step in same])
        ratio = Spread.of([step.seconds / step.floor_seconds for step in same])
        stalls = Spread.of([step.stall_ms for step in same])
        steps.append(
            StepFigure(
                step=same[0].name,
                seconds=Spread.of([step.seconds for step in same]),
                blobs_per_s=rate,
                mb_per_s=Spread.of([size_bytes / 1e6 / step.seconds for step in same]),
                floor_seconds=Spread.of([step.floor_seconds for step in same]),
                ratio=ratio,
                longest_stall_ms=stalls,
                aim=aim_of(same[0].name, rate, ratio),
                stall_aim=_stall_aim(stalls),
            )
        )
    return LoadFigures(blobs, size_bytes, steps)


def _rate_aim(step: str, rate: Spread, _ratio: Spread) -> Aim | None:
    least = LEAST_BLOBS_PER_S.get(step)
    return None if least is None else Aim(f"{least:,} blobs/s", rate.median >= least)


def _ratio_aim(step: str, _rate: Spread, ratio: Spread) -> Aim | None:
    return Aim(f"{MOST_RATIO:g} x floor", ratio.median <= MOST_RATIO) if step in LARGE_STEPS else None


def _puts(same: Sequence[Puts]) -> PutFigure:
    medians = [statistics.median(puts.put_seconds) for puts in same]
    ratio = Spread.of([m / puts.commit_seconds for m, puts in zip(medians, same, strict=True)])
    stalls = Spread.of([puts.stall_ms for puts in same])
    return PutFigure(
        beside=same[0].beside,
        puts=Spread.of([len(puts.put_seconds) for puts in same]),
        median_ms=Spread.of([1000 * m for m in medians]),
        p99_ms=Spread.of([1000 * percentile(puts.put_seconds, 0.99) for puts in same]),
        commit_ms=Spread.of([1000 * puts.commit_seconds for puts in same]),
        ratio=ratio,
        longest_stall_ms=stalls,
        # Without a sync beside it the ratio is there to compare with.
        aim=None
        if same[0].beside == ALONE
        else Aim(f"{MOST_COMMITS:g} commits", ratio.median <= MOST_COMMITS),
        stall_aim=_stall_aim(stalls),
    )


def _stall_aim(stalls: Spread) -> Aim:
    return Aim(f"{MOST_STALL_MS:g} ms", stalls.max <= MOST_STALL_MS)

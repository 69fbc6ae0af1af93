"""What several runs over HTTP come to. The dataclasses are the JSON document, field for field."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import MOST_STALL_MS, Aim
from benchmarks.http_steps import HttpRun
from benchmarks.machine import Machine
from benchmarks.spread import Spread
from benchmarks.tables import median_text, reached_text, spread_text, table

LEAST_SMALL_PER_S = 5_000
LEAST_OF_PLAIN = 0.8
"""Of the speed of a plain transfer, for large blobs."""
MOST_DELAY_S = 1.0
"""What the delay of every answer may add to a send of small blobs."""

_FOOTER = """\
A figure is the median of all runs, then (min-max). *requests* is the most that a run made. *x floor* is the
time divided by the floor of `bench_core`. *of plain* is the speed beside that of the same bytes moved by
httpx alone in bodies of 8 MiB, four at a time, to and from the same server, with nothing sealed. *Stall* is
the longest time that the program's event loop was kept waiting, in the worst run."""


@dataclass(frozen=True, slots=True)
class HttpFigure:
    """A step over all runs."""

    step: str
    requests: int
    seconds: Spread
    blobs_per_s: Spread
    mb_per_s: Spread
    ratio: Spread
    of_plain: Spread | None
    longest_stall_ms: Spread
    aim: Aim | None
    stall_aim: Aim


@dataclass(frozen=True, slots=True)
class HttpLoad:
    """All steps of one load; seconds of the floor and of the plain transfers beside them."""

    blobs: int
    size_bytes: int
    floor_seconds: Spread
    plain_put_seconds: Spread
    plain_get_seconds: Spread
    steps: list[HttpFigure]


@dataclass(frozen=True, slots=True)
class HttpReport:
    """Everything that was measured. A load that was not asked for is None."""

    format: int
    machine: Machine
    runs: int
    small: HttpLoad | None
    large: HttpLoad | None


def http_load(runs: Sequence[HttpRun], *, is_small: bool) -> HttpLoad:
    """The figures of one load."""
    first = runs[0].load
    return HttpLoad(
        blobs=first.blobs,
        size_bytes=first.size_bytes,
        floor_seconds=Spread.of([run.load.steps[0].floor_seconds for run in runs]),
        plain_put_seconds=Spread.of([run.plain.put for run in runs]),
        plain_get_seconds=Spread.of([run.plain.get for run in runs]),
        steps=[_figure(runs, number, is_small) for number in range(len(first.steps))],
    )


def http_tables(report: HttpReport) -> str:
    """Everything that was measured, as Markdown."""
    machine = report.machine
    libraries = f"Python {machine.python}, SQLCipher {machine.sqlcipher}, {machine.backend}"
    parts = [f"{machine.cores} cores, {machine.platform}, {libraries}; runs: {report.runs}"]
    if report.small is not None:
        parts.append(_table("small blobs", report.small))
    if report.large is not None:
        parts.append(_table("large blobs", report.large))
    return "\n\n".join([*parts, _FOOTER])


def _figure(runs: Sequence[HttpRun], number: int, is_small: bool) -> HttpFigure:
    steps = [run.load.steps[number] for run in runs]
    name, blobs, size_bytes = steps[0].name, runs[0].load.blobs, runs[0].load.size_bytes
    rate = Spread.of([blobs / step.seconds for step in steps])
    stalls = Spread.of([step.stall_ms for step in steps])
    way = name.partition(",")[0]
    of_plain = None
    if way in ("send", "fetch"):
        plain = [run.plain.put if way == "send" else run.plain.get for run in runs]
        of_plain = Spread.of([seconds / step.seconds for seconds, step in zip(plain, steps, strict=True)])
    return HttpFigure(
        step=name,
        requests=max(run.requests[name] for run in runs),
        seconds=Spread.of([step.seconds for step in steps]),
        blobs_per_s=rate,
        mb_per_s=Spread.of([size_bytes / 1e6 / step.seconds for step in steps]),
        ratio=Spread.of([step.seconds / step.floor_seconds for step in steps]),
        of_plain=of_plain,
        longest_stall_ms=stalls,
        aim=_aim(runs, name, rate, of_plain, is_small),
        stall_aim=Aim(f"{MOST_STALL_MS:g} ms", stalls.max <= MOST_STALL_MS),
    )


def _aim(
    runs: Sequence[HttpRun], name: str, rate: Spread, of_plain: Spread | None, is_small: bool
) -> Aim | None:
    if name == "no-op sync" or of_plain is None:
        return None
    way, _, delay = name.partition(",")
    if not is_small:
        return Aim(f"{LEAST_OF_PLAIN:.0%} of plain", of_plain.median >= LEAST_OF_PLAIN)
    if not delay:
        return Aim(f"{LEAST_SMALL_PER_S:,} blobs/s", rate.median >= LEAST_SMALL_PER_S)
    if way != "send":
        return None
    more = Spread.of([_seconds(run, name) - _seconds(run, way) for run in runs])
    return Aim(f"{MOST_DELAY_S:g} s more", more.median <= MOST_DELAY_S)


def _seconds(run: HttpRun, name: str) -> float:
    return next(step.seconds for step in run.load.steps if step.name == name)


def _table(kind: str, load: HttpLoad) -> str:
    plain = f"{spread_text(load.plain_put_seconds)} s out, {spread_text(load.plain_get_seconds)} s back"
    floor = f"floor {spread_text(load.floor_seconds)} s; plain {plain}"
    heads = ["step", "requests", "s", "blobs/s", "MB/s", "x floor", "of plain", "aim", "reached", "stall ms"]
    rows = [
        [
            step.step,
            f"{step.requests}",
            spread_text(step.seconds),
            median_text(step.blobs_per_s),
            median_text(step.mb_per_s),
            median_text(step.ratio),
            f"{step.of_plain.median:.0%}" if step.of_plain else "",
            step.aim.text if step.aim else "",
            reached_text(step.aim),
            f"{step.longest_stall_ms.max:.1f}",
        ]
        for step in load.steps
    ]
    return f"{load.blobs:,} {kind}, {load.size_bytes / 1e6:,.0f} MB; {floor}\n\n{table(heads, rows)}"

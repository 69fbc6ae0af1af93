"""The figures as tables a person reads, in a terminal or in a document."""

import math
from collections.abc import Sequence

from benchmarks.figures import MOST_STALL_MS, Aim, LoadFigures, PutFigure, Report
from benchmarks.spread import Spread

_STALLS = f"up to {MOST_STALL_MS:g} ms"
_FOOTER = """\
A figure is the median of all runs, then (min-max). *x floor* is the time divided by the *floor*: reading,
SHA-256, AES-GCM and writing of the same bytes a MiB at a time with one fsync, measured before each step of
the same run. *Stall* is the longest time that the program's event loop was kept waiting during the step, in
the worst run. *fetch* reads journals and content on a second device; *no-op sync* and *join* move no
content, their rates count the blobs of the vault. *Durable put*: one caller puts blobs of 1 KB one after
another while a sync sends or fetches all small blobs; *commit* is a single fsynced SQLCipher transaction of
one row in the same run, *x commit* the median put divided by it. The aims are for a machine of 2 to 4
cores."""


def tables(report: Report) -> str:
    """Everything that was measured, as Markdown."""
    machine = report.machine
    libraries = f"Python {machine.python}, SQLCipher {machine.sqlcipher}, {machine.backend}"
    parts = [f"{machine.cores} cores, {machine.platform}, {libraries}; runs: {report.runs}"]
    if report.small is not None:
        parts.append(_load("small blobs", report.small))
    if report.large is not None:
        parts.append(_load("large blobs", report.large))
    if report.durable_put is not None:
        parts.append(_durable(report.durable_put))
    return "\n\n".join([*parts, _FOOTER])


def _load(kind: str, load: LoadFigures) -> str:
    floor = load.steps[0].floor_seconds
    title = f"{load.blobs:,} {kind}, {load.size_bytes / 1e6:,.0f} MB; floor {spread_text(floor)} s"
    heads = ["step", "s", "blobs/s", "MB/s", "x floor", "aim", "reached", "stall ms", _STALLS]
    rows = [
        [
            step.step,
            spread_text(step.seconds),
            median_text(step.blobs_per_s),
            median_text(step.mb_per_s),
            spread_text(step.ratio),
            step.aim.text if step.aim else "",
            reached_text(step.aim),
            f"{step.longest_stall_ms.max:.1f}",
            reached_text(step.stall_aim),
        ]
        for step in load.steps
    ]
    return f"{title}\n\n{table(heads, rows)}"


def _durable(figures: Sequence[PutFigure]) -> str:
    title = f"Durable put; commit {spread_text(figures[0].commit_ms)} ms"
    heads = ["beside", "puts", "median ms", "p99 ms", "x commit", "aim", "reached", "stall ms", _STALLS]
    rows = [
        [
            figure.beside,
            f"{figure.puts.median:,.0f}",
            spread_text(figure.median_ms),
            spread_text(figure.p99_ms),
            spread_text(figure.ratio),
            figure.aim.text if figure.aim else "",
            reached_text(figure.aim),
            f"{figure.longest_stall_ms.max:.1f}",
            reached_text(figure.stall_aim),
        ]
        for figure in figures
    ]
    return f"{title}\n\n{table(heads, rows)}"


def median_text(spread: Spread) -> str:
    return f"{spread.median:,.{_digits(spread.median)}f}"


def spread_text(spread: Spread) -> str:
    """The median to three digits, and how far the runs were apart."""
    digits = _digits(spread.median)
    median, low, high = (f"{value:,.{digits}f}" for value in (spread.median, spread.min, spread.max))
    return median if low == high else f"{median} ({low}-{high})"


def _digits(value: float) -> int:
    """Decimals that leave three digits to read."""
    return 3 if value <= 0 else max(0, min(3, 2 - math.floor(math.log10(value))))


def reached_text(aim: Aim | None) -> str:
    return "" if aim is None else "yes" if aim.reached else "**no**"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is aligned as text too: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return f"| {first[0]:{first[1]}} | " + " | ".join(f"{cell:>{width}}" for cell, width in others) + " |"

    rule = [f":{'-' * (widths[0] - 1)}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join(line(cells) for cells in (heads, rule, *rows))

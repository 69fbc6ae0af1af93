"""The core beside its floor, in one run on the same bytes: small blobs, large ones, and a put beside a sync.

    python -m benchmarks.bench_core [--runs 3] [--small 10000] [--large 4] [--backend trio] [--json FILE]

How to read what it prints is said in docs/benchmarks.md. Everything lies in a
temporary folder (TMPDIR says on which disk); the large blobs take 6 GiB there.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import anyio

from benchmarks.durable import Puts, durable_puts
from benchmarks.figures import FORMAT, Report, large_figures, put_figures, small_figures
from benchmarks.machine import find_machine
from benchmarks.steps import LoadRun, large_run, small_run
from benchmarks.tables import tables


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--runs", type=int, default=1, help="repeat; each figure is then a median")
    options.add_argument("--small", type=int, default=10_000, help="number of small blobs; 0 for none")
    options.add_argument("--large", type=int, default=4, help="number of large blobs; 0 for none")
    options.add_argument("--large-mib", type=int, default=256, help="size of a large blob in MiB")
    options.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="event loop")
    options.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    return options


async def measure(arguments: argparse.Namespace) -> Report:
    """All runs, one after another, each in a folder of its own."""
    small: list[LoadRun] = []
    large: list[LoadRun] = []
    puts: list[list[Puts]] = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as name:
            if arguments.small:
                small.append(await small_run(arguments.small, new_folder(name, "small")))
                puts.append(await durable_puts(arguments.small, new_folder(name, "durable")))
            if arguments.large:
                folder = new_folder(name, "large")
                large.append(await large_run(arguments.large, arguments.large_mib, folder))
    return Report(
        format=FORMAT,
        machine=find_machine(arguments.backend),
        runs=arguments.runs,
        small=small_figures(small) if small else None,
        large=large_figures(large) if large else None,
        durable_put=put_figures(puts) if puts else None,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    asked = parser().parse_args(arguments)
    report = anyio.run(measure, asked, backend=asked.backend)
    print(tables(report))
    if asked.json is not None:
        asked.json.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")


def new_folder(parent: str, name: str) -> Path:
    """An empty one."""
    folder = Path(parent, name)
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()

"""Sending and fetching over HTTP, beside the floor and beside a plain transfer of the same bytes.

    python -m benchmarks.bench_http [--runs 3] [--small 10000] [--large 4] [--backend trio] [--json FILE]

The server is a process of its own on this machine, and answers over loopback. How to read what is
printed is said in docs/benchmarks.md. Everything lies in a temporary folder (TMPDIR says on which disk).
"""

import json
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import anyio

from benchmarks import bench_core
from benchmarks.bench_core import new_folder
from benchmarks.figures import FORMAT
from benchmarks.http_figures import HttpReport, http_load, http_tables
from benchmarks.http_steps import HttpRun, Server, large_http_run, small_http_run
from benchmarks.machine import find_machine
from benchmarks.steps import large_load, small_load
from tests.server.running import add_user, running_server


async def measure(arguments: Namespace) -> HttpReport:
    """All runs, one after another, each with a server of its own."""
    small: list[HttpRun] = []
    large: list[HttpRun] = []
    for _ in range(arguments.runs):
        with tempfile.TemporaryDirectory() as name, running_server(Path(name, "server")) as running:
            server = Server(running.url, add_user(running.data, "benchmark"))
            if arguments.small:
                folder = new_folder(name, "small")
                small.append(await small_http_run(small_load(arguments.small, folder), folder, server))
            if arguments.large:
                folder = new_folder(name, "large")
                load = large_load(arguments.large, arguments.large_mib, folder)
                large.append(await large_http_run(load, folder, server))
    return HttpReport(
        format=FORMAT,
        machine=find_machine(arguments.backend),
        runs=arguments.runs,
        small=http_load(small, is_small=True) if small else None,
        large=http_load(large, is_small=False) if large else None,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, write the JSON."""
    parser = bench_core.parser()
    parser.description = __doc__.splitlines()[0] if __doc__ else ""
    asked = parser.parse_args(arguments)
    report = anyio.run(measure, asked, backend=asked.backend)
    print(http_tables(report))
    if asked.json is not None:
        asked.json.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

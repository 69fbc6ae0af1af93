"""Every crash point: a kill at each, and what a power cut leaves at each.

    python -m tests.campaign.crash_points [--only SCENARIO] [--jobs 3] [--seed 1] [--stop]

Prints for each scenario how many points there are and how many went wrong.
"""

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from syncagent.cache.chunks import batched
from tests.crash.scenarios import SCENARIOS
from tests.crash.server import CrashServer
from tests.simulation.template import scratch


class Campaign:
    """All points of a scenario, shared among some servers."""

    def __init__(self, servers: list[CrashServer], seed: int, *, stops: bool) -> None:
        self._servers = servers
        self._seed = seed
        self._stops = stops
        self._images = 0
        self._errors: list[str] = []

    async def play(self, scenario: str) -> int:
        """Kill and cut power everywhere; how many went wrong."""
        started = time.perf_counter()
        points = await anyio.to_thread.run_sync(self._servers[0].record, scenario)
        self._images, self._errors = 0, []
        async with anyio.create_task_group() as tasks:
            for number, server in enumerate(self._servers):
                tasks.start_soon(self._share, server, scenario, len(points), number)
        print(
            f"{scenario}: killed at {len(points)} points, {self._images} images of the disk,"
            f" {len(self._errors)} wrong, {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        for error in self._errors:
            print(error, flush=True)
        return len(self._errors)

    async def _share(self, server: CrashServer, scenario: str, points: int, number: int) -> None:
        jobs = len(self._servers)
        at = list(range(number + 1, points + 1, jobs))
        for some in batched(at, 5):
            if not (self._stops and self._errors):
                self._errors += await anyio.to_thread.run_sync(server.kill, scenario, some)
        if self._stops and self._errors:
            return
        cut = partial(server.cut_power, scenario, seed=self._seed, part=number, parts=jobs)
        found = await anyio.to_thread.run_sync(cut)
        self._images += found.images
        self._errors += found.errors


async def play_all(folder: Path, only: str, jobs: int, seed: int, stops: bool) -> int:
    """Every scenario whose name holds a text; how many points went wrong."""
    servers = [CrashServer(folder / str(number)) for number in range(jobs)]
    for server in servers:
        server.__enter__()
    try:
        campaign = Campaign(servers, seed, stops=stops)
        return sum([await campaign.play(name) for name in SCENARIOS if only in name])
    finally:
        for server in servers:
            server.__exit__(None, None, None)


def main() -> None:
    """Play all; exits with 1 if something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stop", action="store_true", help="stop soon after the first that goes wrong")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        wrong = anyio.run(
            play_all, Path(folder), arguments.only, arguments.jobs, arguments.seed, arguments.stop
        )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

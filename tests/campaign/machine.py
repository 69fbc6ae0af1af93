"""The machine of `tests/simulation` with other runs every time, for as long as one likes.

    python -m tests.campaign.machine [--minutes 60]

A run that fails is printed step by step; it becomes a test with a name.
"""

import argparse
import tempfile
import time
from pathlib import Path

import anyio

from tests.campaign.convergence import make_vault
from tests.simulation.test_machine import play

EXAMPLES = 50
"""Runs between two looks at the clock."""


def play_all(runs: int) -> None:
    """The runs of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        play(anyio.run(make_vault, Path(folder), 3), runs)


def main() -> None:
    """Play until the time is over or a run fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.minutes * 60
    runs = 0
    with tempfile.TemporaryDirectory() as folder:
        template = anyio.run(make_vault, Path(folder), 3)
        while time.monotonic() < until:
            play(template, EXAMPLES, is_random=True)
            runs += EXAMPLES
            print(f"{runs} runs", flush=True)


if __name__ == "__main__":
    main()

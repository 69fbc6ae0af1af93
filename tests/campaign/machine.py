"""The machine of `tests/simulation` for as long as one likes. A seed is a run, the same every time.

    python -m tests.campaign.machine [--minutes 60]     runs that nobody has seen yet
    python -m tests.campaign.machine --seed 17          one run, step by step
    python -m tests.campaign.machine --from 0 --runs 300

A run that fails names its seed; it becomes a test with a name.
"""

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulation.machine import play
from tests.simulation.template import made_alone


def main() -> None:
    """Play until the time is over or a run fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, help="play this one run")
    parser.add_argument("--from", type=int, dest="first", help="the first seed; else one of the present time")
    parser.add_argument("--runs", type=int, help="so many, however long it takes")
    parser.add_argument(
        "--threads", action="store_true", help="with worker threads: no two runs are the same"
    )
    arguments = parser.parse_args()
    done: Counter[str] = Counter()
    with made_alone() as template:
        if arguments.seed is not None:
            print(*play(template, [arguments.seed], has_threads=arguments.threads).log, sep="\n")
            return
        first = int(time.time()) * 1000 if arguments.first is None else arguments.first
        for seed in _seeds(first, arguments.runs, arguments.minutes):
            done += play(template, [seed], has_threads=arguments.threads).done
            if done["runs"] % 50 == 0:
                print(f"{done['runs']} runs, seeds {first} to {seed}", flush=True)
    print(*(f"{count:8} {what}" for what, count in sorted(done.items())), sep="\n")


def _seeds(first: int, runs: int | None, minutes: float) -> Iterator[int]:
    until = time.monotonic() + minutes * 60
    for number in itertools.count():
        if number == runs or (runs is None and time.monotonic() >= until):
            return
        yield first + number


if __name__ == "__main__":
    main()

"""What an open vault with a watched remote costs while nothing happens: processor time, and wake-ups.

python -m benchmarks.bench_idle --seconds 60
"""

import argparse
import asyncio
import contextlib
import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

import syncagent
from tests.samples import text_blobs

SETTLE_S = 5.0
"""For the first sync to be over."""


@dataclass(frozen=True, slots=True)
class Idle:
    """Of one process: processor time as a share of the time that passed, and how often its threads waited.

    A timer that goes off is some switches where it leads to work on the cache: to a thread and back.
    `waits_per_s` is how often the event loop has gone to sleep, None where it is not asyncio's.
    """

    share: float
    switches_per_s: float
    waits_per_s: float | None = None


async def idle_cost(seconds: float) -> Idle:
    """What this process costs from now on, while its vault is open in the background."""
    await anyio.sleep(SETTLE_S)
    with _counted_waits() as waits:
        before, switches, started = time.process_time(), _switches(), time.monotonic()
        await anyio.sleep(seconds)
        passed = time.monotonic() - started
    return Idle(
        (time.process_time() - before) / passed,
        (_switches() - switches) / passed,
        None if waits is None else len(waits) / passed,
    )


@contextlib.contextmanager
def _counted_waits() -> Iterator[list[None] | None]:
    """A list that grows whenever the running event loop waits for something."""
    try:
        selector = getattr(asyncio.get_running_loop(), "_selector", None)
    except RuntimeError:  # trio's
        selector = None
    if selector is None:
        yield None
        return
    waits: list[None] = []
    select = selector.select

    def counted(timeout: float | None = None) -> object:
        if timeout is None or timeout > 0:
            waits.append(None)
        return select(timeout)

    selector.select = counted
    try:
        yield waits
    finally:
        selector.select = select


async def idle_vault(seconds: float, blobs: int, folder: Path) -> Idle:
    """A vault of some blobs, all of them sent."""
    await syncagent.create_vault(
        folder / "vault", remote="memory:idle", passphrase="idle", kdf=syncagent.FLOOR_KDF
    )
    async with syncagent.open_vault(folder / "vault", passphrase="idle", background=True) as vault:
        await vault.namespace("notes").put_many(text_blobs(blobs))
        await vault.barrier()
        return await idle_cost(seconds)


def _switches() -> int:
    """How often a thread of this process has begun to wait for something."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--blobs", type=int, default=1000)
    parser.add_argument("--backend", default="asyncio", choices=("asyncio", "trio"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = partial(idle_vault, options.seconds, options.blobs, Path(folder))
        idle = anyio.run(work, backend=options.backend)
    waits = "" if idle.waits_per_s is None else f", {idle.waits_per_s:.2f} wake-ups of the loop"
    print(
        f"{idle.share:.3%} of one processor and {idle.switches_per_s:.1f} context switches a second{waits}"
        f" over {options.seconds:g} s, {options.blobs} blobs, {options.backend}"
    )


if __name__ == "__main__":
    main()

"""A vault with a million blobs beside one with ten thousand: opening, status, an idle sync, lists, memory.

    python -m benchmarks.bench_million [--blobs 1000000] [--folder DIR] [--runs 9]

Making the large vault takes a quarter of an hour and 2 GiB; in a `--folder` it is kept and used again.
Each vault is measured in a process of its own, whose memory is the greatest it ever had.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import anyio

from benchmarks.devices import make_vault, opened
from syncagent.cache import facts
from syncagent.cache.db import Database
from syncagent.model import SyncStatus
from syncagent.namespace import Namespace
from syncagent.vault import Vault

SMALL = 10_000
AT_ONCE = 20_000
PAGE = 100
LISTS: dict[str, dict[str, object]] = {
    "by id": {},
    "by changed, latest first": {"order_by": "changed", "descending": True},
    "by created": {"order_by": "created"},
    "by size (not indexed)": {"order_by": "size"},
    "a prefix, by id": {"prefix": "a"},
    "flag on 9 of 10, by id": {"flag": "seen"},
    "flag on 9 of 10, by changed": {"flag": "seen", "order_by": "changed"},
    "flag on 1 of 1,000, by id": {"flag": "flagged"},
    "flag on 1 of 1,000, by changed": {"flag": "flagged", "order_by": "changed"},
    "synced, by id": {"status": SyncStatus.SYNCED},
    "pending, by id (none are)": {"status": SyncStatus.PENDING_UPLOAD},
    "remote only, by id (none are)": {"status": SyncStatus.REMOTE_ONLY},
}


async def make(folder: Path, blobs: int) -> None:
    """A synced vault of tiny blobs with ids in no order, most of them `seen` and some `flagged`."""
    await make_vault(folder / "a", folder / "remote")
    async with opened(folder / "a") as vault:
        mail = vault.namespace("mail")
        for start in range(0, blobs, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, blobs))
            results = await mail.put_many([(_id(number), f"mail {number}".encode()) for number in numbers])
            assert all(result.error is None for result in results)
        await vault.sync()
        for start in range(0, blobs, AT_ONCE):
            await vault.parts()[0].cache.write(partial(_set_flags, first=start, stop=start + AT_ONCE))
    (folder / "made").touch()


def _id(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:24]


def _set_flags(db: Database, first: int, stop: int) -> None:
    for (no,) in db.all("SELECT no FROM blob WHERE no > ? AND no <= ?", (first, stop)):
        if no % 10:
            facts.add_flags(db, no, [("seen", no)], ())
        if no % 1000 == 0:
            facts.add_flags(db, no, [("flagged", no)], ())


async def measure(folder: Path, runs: int) -> dict[str, float]:
    """Everything of one vault, in milliseconds and MB."""
    found: dict[str, float] = {}
    started = time.perf_counter()
    async with opened(folder / "a") as vault:
        found["opening, with the cheapest key derivation"] = (time.perf_counter() - started) * 1000
        found["status"] = await _median_ms(vault.status, runs)
        found["sync with nothing to do"] = await _median_ms(vault.sync, runs)
        await _measure_lists(vault, runs, found)
        mail = vault.namespace("mail")
        found["count of all"] = await _median_ms(mail.count, runs)
        found["count of a flag"] = await _median_ms(partial(mail.count, flag="seen"), runs)
        found["count of a prefix, a sixteenth"] = await _median_ms(partial(mail.count, prefix="a"), runs)
    found["memory, MB"] = _peak_mb()
    return found


async def _measure_lists(vault: Vault, runs: int, found: dict[str, float]) -> None:
    mail = vault.namespace("mail")
    for name, wanted in LISTS.items():
        found[f"page of {PAGE} {name}"] = await _median_ms(partial(_page, mail, wanted, None), runs)
    after = await _middle(mail)
    found[f"page of {PAGE} by id, from the middle"] = await _median_ms(partial(_page, mail, {}, after), runs)


async def _middle(mail: Namespace) -> str | None:
    after: str | None = None
    for _ in range(await mail.count() // 20_000):
        after = (await mail.list(after=after, limit=10_000)).next
    return after


async def _page(mail: Namespace, wanted: dict[str, object], after: str | None) -> None:
    await mail.list(after=after, limit=PAGE, **wanted)  # type: ignore[arg-type]  # each of its own type


async def _median_ms(call: Callable[[], Awaitable[object]], runs: int) -> float:
    times: list[float] = []
    for _ in range(runs):
        started = time.perf_counter()
        await call()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _peak_mb() -> float:
    """Of this process alone, as Linux tells it."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def _measured(folder: Path, runs: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.bench_million",
        "--measure",
        str(folder),
        "--runs",
        str(runs),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _vault(folder: Path, blobs: int) -> Path:
    place = folder / str(blobs)
    if not (place / "made").exists():
        place.mkdir(parents=True)
        anyio.run(make, place, blobs)
    return place


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing, measure both, print a table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--blobs", type=int, default=1_000_000)
    options.add_argument("--folder", type=Path, default=None)
    options.add_argument("--runs", type=int, default=9)
    options.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    asked = options.parse_args(arguments)
    if asked.measure is not None:
        print(json.dumps(anyio.run(measure, asked.measure, asked.runs)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        small, large = (_measured(_vault(folder, n), asked.runs) for n in (SMALL, asked.blobs))
    print(f"| | {SMALL:,} blobs | {asked.blobs:,} blobs |\n|:--|--:|--:|")
    for name, value in large.items():
        print(f"| {name} | {small[name]:.1f} | {value:.1f} |")


if __name__ == "__main__":
    main()

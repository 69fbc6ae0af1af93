"""A vault with a million blobs beside one with ten thousand: opening, status, an idle sync, lists, memory.

    python -m benchmarks.bench_million [--blobs 1000000] [--folder DIR] [--runs 9]

Making the large vault takes ten minutes and 2 GiB; in a `--folder` it is kept and used again.
Each vault is measured in a process of its own, whose memory is the greatest it ever had.
"""

import argparse
import hashlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from benchmarks.bench_idle import idle_cost
from benchmarks.devices import make_vault, opened
from syncagent.cache import facts
from syncagent.cache.db import Database
from syncagent.model import SyncStatus
from syncagent.vault import Vault

Call = Callable[[], Awaitable[object]]

SMALL = 10_000
AT_ONCE = 20_000
PAGE = 100
IDLE_S = 30
FILTERS: dict[str, dict[str, Any]] = {
    "no filter": {},
    "a prefix of 9 in 10": {"prefix": "in/"},
    "a prefix of 1 in 18": {"prefix": "in/a"},
    "a prefix of 1 in 4,500": {"prefix": "in/abc"},
    "a flag on 9 in 10": {"flag": "seen"},
    "a flag on 1 in 1,000": {"flag": "flagged"},
    "a flag on three": {"flag": "rare"},
    "a prefix of 1 in 18 and a flag on 9 in 10": {"prefix": "in/a", "flag": "seen"},
    "synced (all are)": {"status": SyncStatus.SYNCED},
    "pending (none are)": {"status": SyncStatus.PENDING_UPLOAD},
    "remote only (three are)": {"status": SyncStatus.REMOTE_ONLY},
}
ORDERS = ("id", "changed", "created", "size")


async def make(folder: Path, blobs: int) -> None:
    """A synced vault of tiny blobs with ids in no order, most `seen`, some `flagged`; and one beside them."""
    await make_vault(folder / "a", folder / "remote")
    async with opened(folder / "a") as vault:
        mail = vault.namespace("mail")
        for start in range(0, blobs, AT_ONCE):
            numbers = range(start, min(start + AT_ONCE, blobs))
            results = await mail.put_many([(_id(number), f"mail {number}".encode()) for number in numbers])
            assert all(result.error is None for result in results)
        await vault.namespace("beside").put("alone", b"the only one here")
        await vault.sync()
        for start in range(0, blobs, AT_ONCE):
            await vault.parts()[0].cache.write(partial(_set_flags, first=start, stop=start + AT_ONCE))
        for number in (1, blobs // 2, blobs - 2):
            await mail.add_flags(_id(number), ["rare"])
            await mail.evict(_id(number))
        await vault.sync()
    (folder / "made").touch()


def _id(number: int) -> str:
    folder = "in" if number % 10 else "out"
    return f"{folder}/{hashlib.sha256(str(number).encode()).hexdigest()[:24]}"


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
        calls = {**_questions(vault), **_lists(vault), **await _deep_pages(vault), **_changes(vault)}
        for name, call in calls.items():
            found[name] = await _median_ms(call, runs)
    found["memory, MB"] = _peak_mb()
    async with opened(folder / "a", background=True):
        idle = await idle_cost(IDLE_S)
    found["idle with a background sync, % of a processor"] = idle.share * 100
    found["idle with a background sync, context switches a second"] = idle.switches_per_s
    return found


def _questions(vault: Vault) -> dict[str, Call]:
    mail = vault.namespace("mail")
    one = _id(5000)
    return {
        "status": vault.status,
        "sync with nothing to do": vault.sync,
        "namespaces": vault.namespaces,
        "conflicts": mail.conflicts,
        "history": partial(mail.history, one),
        "stat": partial(mail.stat, one),
        "get": partial(mail.get, one),
        "explain": partial(vault.explain, "mail", one),
        "get_many of 100": partial(mail.get_many, [_id(number) for number in range(100)]),
        "prefetch of 100 that are here": partial(
            mail.prefetch, [_id(number + 1) for number in range(1, 101)]
        ),
        f"changes, the first {PAGE}": partial(vault.changes, limit=PAGE),
    }


def _lists(vault: Vault) -> dict[str, Call]:
    mail, beside = vault.namespace("mail"), vault.namespace("beside")
    calls: dict[str, Call] = {}
    for name, wanted in FILTERS.items():
        calls[f"count: {name}"] = partial(mail.count, **wanted)
        for order in ORDERS:
            calls[f"page: {name}, by {order}"] = partial(mail.list, order_by=order, limit=PAGE, **wanted)
    for order in ORDERS:
        latest = partial(mail.list, order_by=order, descending=True, limit=PAGE)
        calls[f"page: no filter, by {order}, the other way round"] = latest
        calls[f"page: a namespace of one blob beside, by {order}"] = partial(beside.list, order_by=order)
    return calls


async def _deep_pages(vault: Vault) -> dict[str, Call]:
    """Pages from the middle."""
    mail = vault.namespace("mail")
    calls: dict[str, Call] = {}
    lists: dict[str, dict[str, Any]] = {
        "no filter, by id": {},
        "no filter, by changed": {"order_by": "changed"},
        "a flag on 9 in 10, by id": {"flag": "seen"},
    }
    for name, wanted in lists.items():
        after: str | None = None
        for _ in range(await mail.count() // 20_000):
            after = (await mail.list(after=after, limit=10_000, **wanted)).next
        calls[f"page: {name}, from the middle"] = partial(mail.list, after=after, limit=PAGE, **wanted)
    page = await vault.changes(limit=10_000)
    for _ in range(await mail.count() // 20_000):
        page = await vault.changes(page.token, limit=10_000)
    calls[f"changes, {PAGE} from the middle"] = partial(vault.changes, page.token, limit=PAGE)
    return calls


def _changes(vault: Vault) -> dict[str, Call]:
    """Calls that change the vault, each time another blob."""
    mail, beside = vault.namespace("mail"), vault.namespace("beside")
    fresh = (f"in/{uuid.uuid4().hex}" for _ in itertools.count())
    old = (_id(number) for number in itertools.count(10))

    async def put_some() -> None:
        await mail.put_many([(blob_id, blob_id.encode()) for blob_id in itertools.islice(fresh, 1000)])

    return {
        "put of a new blob": lambda: mail.put(next(fresh), b"new"),
        "put over a blob": lambda: mail.put(next(old), uuid.uuid4().bytes, replace=True),
        "a flag set": lambda: mail.add_flags(next(old), ["later"]),
        "put in the namespace of one": lambda: beside.put("alone", uuid.uuid4().bytes, replace=True),
        "put_many of 1,000": put_some,
        "sync of what a put has changed": partial(_put_and_sync, vault, fresh),
    }


async def _put_and_sync(vault: Vault, ids: Iterator[str]) -> None:
    await vault.namespace("mail").put(next(ids), b"new")
    await vault.sync()


async def _median_ms(call: Call, runs: int) -> float:
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
        print(f"| {name} | {small[name]:.3g} | {value:.3g} |")


if __name__ == "__main__":
    main()

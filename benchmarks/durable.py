"""How long one put takes to be durable while a sync of many blobs runs in the same process."""

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import anyio

import syncagent
from benchmarks.devices import join, make_vault, opened
from benchmarks.floors import commit_seconds, settle
from benchmarks.heartbeat import timed
from tests.samples import text_blobs

ALONE = "nothing"
"""What the puts without a sync are beside."""
ALONE_PUTS = 500
_LOOK_EVERY_S = 0.05
"""How often the caller looks whether the sync is through: rarely enough not to be what is measured."""
_FILLER = text_blobs(1, seed=7)[0][1][:1000].ljust(1000)


@dataclass(frozen=True, slots=True)
class Puts:
    """The puts of one caller beside one sync, in one run, and the single commits of that run."""

    beside: str
    put_seconds: list[float]
    commit_seconds: float
    stall_ms: float


async def durable_puts(blobs: int, folder: Path) -> list[Puts]:
    """Puts alone, beside a sync that sends so many blobs, and beside one that fetches them."""
    contents = text_blobs(blobs)
    await make_vault(folder / "a", folder / "remote")
    await join(folder / "b", folder / "remote")
    settle()
    commits = commit_seconds(folder)
    found = []
    async with opened(folder / "a") as vault:
        found.append(await _measured(ALONE, partial(_puts_alone, vault)))
        await vault.namespace("blobs").put_many(contents)
        settle()
        found.append(await _measured("send", partial(_puts_beside_sync, vault, blobs)))
    settle()
    commits += commit_seconds(folder)
    async with opened(folder / "b") as vault:
        settle()
        found.append(await _measured("fetch", partial(_puts_beside_sync, vault, blobs)))
    settle()
    commits += commit_seconds(folder)
    commit = statistics.median(commits)
    return [replace(puts, commit_seconds=commit) for puts in found]


async def _measured(beside: str, work: Callable[[], Awaitable[list[float]]]) -> Puts:
    done = await timed(work)
    return Puts(beside, done.result, 0.0, done.stall_s * 1000)


async def _puts_alone(vault: syncagent.Vault) -> list[float]:
    put = _Putter(vault.namespace("live"))
    return [await put.one() for _ in range(ALONE_PUTS)]


async def _puts_beside_sync(vault: syncagent.Vault, blobs: int) -> list[float]:
    """One put after another until every blob of the load is in sync, and the sync's own end after that.

    The caller has to stop first: a sync goes on for as long as something new is put.
    """
    put = _Putter(vault.namespace("live"))
    seconds: list[float] = []
    has_ended = False

    async def sync() -> None:
        nonlocal has_ended
        report = await vault.sync()
        assert not report.failed, report
        has_ended = True

    async with anyio.create_task_group() as group:
        group.start_soon(sync)
        looked_at = time.monotonic()
        while not has_ended:
            seconds.append(await put.one())
            if time.monotonic() - looked_at > _LOOK_EVERY_S:
                if await _is_through(vault, blobs):
                    break
                looked_at = time.monotonic()
    return seconds


async def _is_through(vault: syncagent.Vault, blobs: int) -> bool:
    found = (await vault.status()).namespaces.get("blobs")
    return found is not None and found.counts.get(syncagent.SyncStatus.SYNCED, 0) == blobs


class _Putter:
    """Puts small blobs, each of new content."""

    def __init__(self, namespace: syncagent.Namespace) -> None:
        self._namespace = namespace
        self._numbers = count()

    async def one(self) -> float:
        """Seconds until a blob is durable."""
        name = f"{next(self._numbers):08d}"
        content = name.encode() + _FILLER
        started = time.perf_counter()
        await self._namespace.put(name, content)
        return time.perf_counter() - started

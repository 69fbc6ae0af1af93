"""One load of blobs through every step: put, sent, fetched and read; each step timed beside its floor."""

import filecmp
import os
import random
import shutil
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

import syncagent
from benchmarks.devices import join, make_vault, opened
from benchmarks.floors import MIB, floor_seconds, settle
from benchmarks.heartbeat import timed
from tests.samples import text_blobs

T = TypeVar("T")

CALLERS = 32


@dataclass(frozen=True, slots=True)
class Step:
    """One step of one run. A step that moves no content counts the blobs of the vault."""

    name: str
    seconds: float
    floor_seconds: float
    stall_ms: float


@dataclass(frozen=True, slots=True)
class LoadRun:
    """All steps of one load in one run."""

    blobs: int
    size_bytes: int
    steps: list[Step]


async def small_run(count: int, folder: Path) -> LoadRun:
    """Every step with small blobs; a third device joins at the end."""
    load = small_load(count, folder)
    stopwatch = Stopwatch(load, folder)
    await _both_ways(load, folder, stopwatch)
    # A device that joins only now reads all journals while it joins, and has the content left to fetch.
    await stopwatch.measure("join", partial(join, folder / "c", folder / "remote"))
    async with opened(folder / "c") as vault:
        report = await stopwatch.measure("fetch after join", vault.sync)
        assert report.fetched == len(load.blobs), report
        found = await stopwatch.measure("get_many", partial(vault.namespace("blobs").get_many, load.ids))
        assert [blob.data for blob in found] == [content for _, content in load.blobs]
    return stopwatch.run()


async def large_run(count: int, size_mib: int, folder: Path) -> LoadRun:
    """Every step with large blobs, which are read from files and at last written to files."""
    load = large_load(count, size_mib, folder)
    stopwatch = Stopwatch(load, folder)
    await _both_ways(load, folder, stopwatch)
    target = folder / "read"
    target.mkdir()
    async with opened(folder / "b") as vault:
        await stopwatch.measure(
            "read into files", partial(_read_into, target, vault.namespace("blobs"), load.ids)
        )
    for (blob_id, _), source in zip(load.blobs, load.sources, strict=True):
        assert filecmp.cmp(target / blob_id, source, shallow=False), blob_id
    return stopwatch.run()


@dataclass(frozen=True, slots=True)
class Load:
    """The blobs, and files that together hold the same bytes, for the floor."""

    blobs: Sequence[tuple[str, bytes | Path]]
    sources: Sequence[Path]
    size_bytes: int

    @property
    def ids(self) -> list[str]:
        return [blob_id for blob_id, _ in self.blobs]


def small_load(count: int, folder: Path) -> Load:
    """Text-like blobs with a median of 4 KiB, from memory."""
    blobs = text_blobs(count)
    source = folder / "source"
    source.write_bytes(b"".join(content for _, content in blobs))
    return Load(blobs, [source], source.stat().st_size)


def large_load(count: int, size_mib: int, folder: Path) -> Load:
    """Files of bytes that do not compress."""
    sources = []
    for number in range(count):
        sources.append(folder / f"source-{number}")
        dice = random.Random(number)
        with sources[-1].open("wb") as file:
            for _ in range(size_mib):
                file.write(dice.randbytes(MIB))
    return Load([(f"large-{path.name}", path) for path in sources], sources, count * size_mib * MIB)


async def _both_ways(load: Load, folder: Path, stopwatch: "Stopwatch") -> None:
    """Put and sent by one device, fetched by another that had joined before there was anything."""
    await make_vault(folder / "a", folder / "remote")
    await join(folder / "b", folder / "remote")
    async with opened(folder / "a") as vault:
        blobs = vault.namespace("blobs")
        results = await stopwatch.measure("put_many", partial(blobs.put_many, load.blobs))
        assert all(result.error is None for result in results), results
        report = await stopwatch.measure("send", vault.sync)
        assert report.sent == len(load.blobs), report
        report = await stopwatch.measure("no-op sync", vault.sync)
        assert report.sent + report.fetched + report.failed == 0, report
    async with opened(folder / "b") as vault:
        report = await stopwatch.measure("fetch", vault.sync)
        assert report.fetched == len(load.blobs), report
    # In a vault of their own: where the content is known already, a put stores none.
    alone = folder / "callers"
    alone.mkdir()
    await make_vault(alone / "a", alone / "remote")
    async with opened(alone / "a") as vault:
        await stopwatch.measure(
            f"put, {CALLERS} callers", partial(_put_by_callers, vault.namespace("blobs"), load.blobs)
        )
    shutil.rmtree(alone)


async def _put_by_callers(namespace: syncagent.Namespace, blobs: Sequence[tuple[str, bytes | Path]]) -> None:
    async def caller(part: Sequence[tuple[str, bytes | Path]]) -> None:
        for blob_id, data in part:
            await namespace.put(blob_id, data)

    async with anyio.create_task_group() as group:
        for number in range(CALLERS):
            group.start_soon(caller, blobs[number::CALLERS])


async def _read_into(folder: Path, namespace: syncagent.Namespace, ids: Sequence[str]) -> None:
    for blob_id in ids:
        async with namespace.open(blob_id) as reader, await anyio.open_file(folder / blob_id, "wb") as file:
            async for chunk in reader:
                await file.write(chunk)
            await file.flush()
            await anyio.to_thread.run_sync(os.fsync, file.wrapped.fileno())


class Stopwatch:
    """Times steps one after another; the floor is measured before each, its median stands beside all."""

    def __init__(self, load: Load, folder: Path) -> None:
        self._load = load
        self._folder = folder
        self._floors: list[float] = []
        self._steps: list[Step] = []

    async def measure(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """What the work gives; how long it took is a step of the run."""
        settle()
        self._floors.append(floor_seconds(self._load.sources, self._folder))
        settle()
        done = await timed(work)
        self._steps.append(Step(name, done.seconds, 0.0, done.stall_s * 1000))
        return done.result

    def run(self) -> LoadRun:
        """All steps so far."""
        least = statistics.median(self._floors)
        steps = [replace(step, floor_seconds=least) for step in self._steps]
        return LoadRun(len(self._load.blobs), self._load.size_bytes, steps)

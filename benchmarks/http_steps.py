"""One load of blobs over HTTP: sent and fetched, beside the floor and beside a plain transfer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import syncagent
from benchmarks.devices import join, make_vault, opened
from benchmarks.plain import PlainSeconds, plain_seconds
from benchmarks.steps import Load, LoadRun, Stopwatch
from syncagent.remote import Access, open_remote
from syncagent.remote.retry import RetryRemote
from syncagent.testing import Fault, FaultyRemote

DELAY_S = 0.05
"""What is added to each answer, to see what a long line costs."""
DELAYED = f", {DELAY_S * 1000:g} ms added"
Blobs = Sequence[tuple[str, bytes | Path]]


@dataclass(frozen=True, slots=True)
class HttpRun:
    """All steps of one load in one run, the requests that each made, and the plain transfer beside them."""

    load: LoadRun
    requests: dict[str, int]
    plain: PlainSeconds


@dataclass(frozen=True, slots=True)
class Server:
    """Where a vault may be made."""

    url: str
    token: str


async def small_http_run(load: Load, folder: Path, server: Server) -> HttpRun:
    """Small blobs, and others of the same sizes once more with a delay."""
    line = _Line(load, folder, server)
    await line.begin()
    await line.both_ways(load.blobs)
    others = [(f"{blob_id} again", _other(data)) for blob_id, data in load.blobs]
    await line.both_ways(others, DELAYED, DELAY_S)
    return await line.run()


async def large_http_run(load: Load, folder: Path, server: Server) -> HttpRun:
    """Large blobs."""
    line = _Line(load, folder, server)
    await line.begin()
    await line.both_ways(load.blobs)
    return await line.run()


class _Line:
    """Two devices and the server between them."""

    def __init__(self, load: Load, folder: Path, server: Server) -> None:
        self._load = load
        self._folder = folder
        self._server = server
        self._url = f"{server.url}/{folder.parent.name.lower().replace('_', '-')}-{folder.name}"
        self._stopwatch = Stopwatch(load, folder)
        self._requests: dict[str, int] = {}

    async def begin(self) -> None:
        """Both devices join before there is anything."""
        await make_vault(self._folder / "a", self._url, token=self._server.token)
        await join(self._folder / "b", self._url, token=self._server.token)

    async def both_ways(self, blobs: Blobs, after: str = "", delay_s: float = 0.0) -> None:
        """Put and sent by one device, fetched by the other."""
        counting = await self._remote(delay_s)
        async with opened(self._folder / "a", RetryRemote(counting)) as vault:
            results = await vault.namespace("blobs").put_many(blobs)
            assert all(result.error is None for result in results), results
            report = await self._measure(f"send{after}", vault, counting)
            assert report.sent == len(blobs), report
        counting = await self._remote(delay_s)
        async with opened(self._folder / "b", RetryRemote(counting)) as vault:
            report = await self._measure(f"fetch{after}", vault, counting)
            assert report.fetched == len(blobs), report
            report = await self._measure(f"no-op sync{after}", vault, counting)
            assert report.sent + report.fetched + report.failed == 0, report

    async def run(self) -> HttpRun:
        """What was measured, and a plain transfer of the same bytes."""
        plain = await plain_seconds(self._load.sources, self._server.url, self._server.token)
        return HttpRun(self._stopwatch.run(), self._requests, plain)

    async def _remote(self, delay_s: float) -> FaultyRemote:
        """The vault's remote, as a URL gives it, with every call counted and perhaps delayed."""
        access = Access(token=self._server.token)
        inner = await open_remote(self._url, access=access, retry=False)
        return FaultyRemote(inner, lambda call: Fault.SLOW, delay_s=delay_s)

    async def _measure(
        self, name: str, vault: syncagent.Vault, counting: FaultyRemote
    ) -> syncagent.SyncReport:
        before = len(counting.injected)
        report = await self._stopwatch.measure(name, vault.sync)
        self._requests[name] = len(counting.injected) - before
        return report


def _other(data: bytes | Path) -> bytes | Path:
    return data + b"." if isinstance(data, bytes) else data

"""The shared suite on every remote of the library, bare and wrapped."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.lowlevel

from syncagent.remote import directory_url, open_remote
from syncagent.remote.base import Remote
from syncagent.remote.retry import RetryRemote
from syncagent.testing import Fault, FaultyRemote, RemoteContract, script, seeded
from syncagent.testing.faulty import HONEST


@contextlib.asynccontextmanager
async def opened(url: str, *, retry: bool) -> AsyncIterator[Remote]:
    remote = await open_remote(url, retry=retry)
    yield remote
    await remote.aclose()


class TestMemoryRemote(RemoteContract):
    def open_remote(self, folder: Path) -> contextlib.AbstractAsyncContextManager[Remote]:
        return opened(f"memory:{folder}", retry=False)


class TestDirectoryRemote(RemoteContract):
    def open_remote(self, folder: Path) -> contextlib.AbstractAsyncContextManager[Remote]:
        return opened(directory_url(folder), retry=False)


class TestRetriedMemoryRemote(RemoteContract):
    def open_remote(self, folder: Path) -> contextlib.AbstractAsyncContextManager[Remote]:
        return opened(f"memory:{folder}", retry=True)


class TestRetriedDirectoryRemote(RemoteContract):
    def open_remote(self, folder: Path) -> contextlib.AbstractAsyncContextManager[Remote]:
        return opened(directory_url(folder), retry=True)


class TestThrottledMemoryRemote(RemoteContract):
    @contextlib.asynccontextmanager
    async def open_remote(self, folder: Path) -> AsyncIterator[Remote]:
        remote = await open_remote(
            f"memory:{folder}-throttled", retry=False, up_bytes_s=1e12, down_bytes_s=1e12
        )
        yield remote
        await remote.aclose()


class TestFaultlessRemote(RemoteContract):
    """A wrapper with nothing to do shows through."""

    @contextlib.asynccontextmanager
    async def open_remote(self, folder: Path) -> AsyncIterator[Remote]:
        remote = FaultyRemote(await open_remote(f"memory:{folder}-faultless", retry=False), script())
        yield remote
        await remote.aclose()


class TestRemoteOnABadConnection(RemoteContract):
    """A third of all calls fails, loses its answer, comes twice or is slow: retries hide it."""

    @contextlib.asynccontextmanager
    async def open_remote(self, folder: Path) -> AsyncIterator[Remote]:
        inner = await open_remote(f"memory:{folder}-bad", retry=False)
        # Short pages are legal, but some tests of the suite want all they have put on one.
        faults = [fault for fault in HONEST if fault is not Fault.SHORT_PAGE]
        faulty = FaultyRemote(inner, seeded(11, rate=1 / 3, faults=faults), sleep=_no_time)
        remote = RetryRemote(faulty, attempts=20, sleep=_no_time)
        yield remote
        await remote.aclose()


async def _no_time(seconds: float) -> None:
    await anyio.lowlevel.checkpoint()

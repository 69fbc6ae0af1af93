"""The shared suite over HTTP: against the reference server in a process of its own, bare and wrapped."""

import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio.lowlevel
import pytest

from syncagent.remote import Access, open_remote
from syncagent.remote.base import Remote
from syncagent.remote.retry import RetryRemote
from syncagent.testing import Fault, FaultyRemote, RemoteContract, script, seeded
from syncagent.testing.faulty import HONEST
from tests.server.running import RunningServer, add_user, running_server

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


class OverHttp(RemoteContract):
    """Each test has a user of its own, and a folder is a vault: the same one for the same folder."""

    __test__ = False

    @pytest.fixture(autouse=True)
    def _user(self, server: RunningServer) -> None:
        self._url = server.url
        self._access = Access(token=add_user(server.data, f"user-{next(_numbers)}"))

    def open_remote(self, folder: Path) -> contextlib.AbstractAsyncContextManager[Remote]:
        raise NotImplementedError

    async def opened(self, folder: Path, **options: float | bool) -> Remote:
        vault = hashlib.sha256(str(folder).encode()).hexdigest()[:32]
        url = f"{self._url}/{vault}"
        return await open_remote(url, access=self._access, create=True, **options)  # type: ignore[arg-type]


class TestHttpRemote(OverHttp):
    __test__ = True

    @contextlib.asynccontextmanager
    async def open_remote(self, folder: Path) -> AsyncIterator[Remote]:
        remote = await self.opened(folder, retry=False)
        yield remote
        await remote.aclose()


@pytest.mark.slow
class TestRetriedHttpRemote(OverHttp):
    __test__ = True

    @contextlib.asynccontextmanager
    async def open_remote(self, folder: Path) -> AsyncIterator[Remote]:
        remote = await self.opened(folder)
        yield remote
        await remote.aclose()


@pytest.mark.slow
class TestThrottledHttpRemote(OverHttp):
    __test__ = True

    @contextlib.asynccontextmanager
    async def open_remote(self, folder: Path) -> AsyncIterator[Remote]:
        remote = await self.opened(folder, retry=False, up_bytes_s=1e12, down_bytes_s=1e12)
        yield remote
        await remote.aclose()


@pytest.mark.slow
class TestFaultlessHttpRemote(OverHttp):
    __test__ = True

    @contextlib.asynccontextmanager
    async def open_remote(self, folder: Path) -> AsyncIterator[Remote]:
        remote = FaultyRemote(await self.opened(folder, retry=False), script())
        yield remote
        await remote.aclose()


class TestHttpRemoteOnABadConnection(OverHttp):
    """A third of all calls fails, loses its answer, comes twice or is slow: retries hide it."""

    __test__ = True

    @contextlib.asynccontextmanager
    async def open_remote(self, folder: Path) -> AsyncIterator[Remote]:
        faults = [fault for fault in HONEST if fault is not Fault.SHORT_PAGE]
        faulty = FaultyRemote(
            await self.opened(folder, retry=False), seeded(11, rate=1 / 3, faults=faults), sleep=_no_time
        )
        remote = RetryRemote(faulty, attempts=20, sleep=_no_time)
        yield remote
        await remote.aclose()


async def _no_time(seconds: float) -> None:
    await anyio.lowlevel.checkpoint()

"""The shared suite on every remote of the library, bare and wrapped."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from syncagent.remote import directory_url, open_remote
from syncagent.remote.base import Remote
from syncagent.testing import RemoteContract


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

"""How many requests a sync makes, and how many of them one after another: what a slow line costs."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

import syncagent
from syncagent.remote import Access, open_remote
from syncagent.remote.http.address import read_address
from syncagent.remote.http.client import HttpClient
from syncagent.remote.http.remote import HttpRemote
from syncagent.remote.memory import named_store
from syncagent.remote.retry import RetryRemote
from tests.samples import text_blobs
from tests.server.running import RunningServer, add_user, running_server

PASSPHRASE = "few requests"


class Counting(httpx.AsyncBaseTransport):
    """Counts requests, and in which round each is: one more than the latest that was answered before it.

    With a delay added to every answer a sync takes longer by at most that delay for each round.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.rounds = 0
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        round_ = self.rounds + 1
        response = await self._inner.handle_async_request(request)
        self.requests[request.method] += 1
        self.rounds = max(self.rounds, round_)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


class Pair:
    """Two devices of a vault at a server."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder = folder
        self._address = read_address(url)
        self._token = token

    def opened(self, name: str, counting: Counting) -> syncagent.Vault:
        remote = RetryRemote(HttpRemote(HttpClient(self._address, self._token, counting)))
        return syncagent.open_vault(self.folder / name, passphrase=PASSPHRASE, remote=remote)


@pytest.fixture
async def pair(server: RunningServer, tmp_path: Path) -> AsyncIterator[Pair]:
    memory, url = f"memory:{tmp_path}", f"{server.url}/notes"
    await syncagent.create_vault(
        tmp_path / "a", remote=memory, passphrase=PASSPHRASE, kdf=syncagent.FLOOR_KDF
    )
    await syncagent.join_vault(tmp_path / "b", remote=memory, passphrase=PASSPHRASE)
    token = add_user(server.data, f"user-{abs(hash(tmp_path))}")
    remote = await open_remote(url, access=Access(token=token), create=True)
    for name, stored in named_store(str(tmp_path)).objects.items():
        await remote.put(name, stored.data)
    await remote.aclose()
    yield Pair(tmp_path, url, token)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("blobs", "most_requests", "most_rounds"),
    [(1_000, 12, 8), pytest.param(10_000, 36, 24, marks=pytest.mark.slow)],
)
@pytest.mark.anyio
async def test_small_blobs_take_few_requests_each_way(
    pair: Pair, blobs: int, most_requests: int, most_rounds: int
) -> None:
    """A few dozen for ten thousand: beside 50 ms a round all else they cost is small."""
    content = text_blobs(blobs)
    sending, fetching = Counting(), Counting()
    async with pair.opened("a", sending) as vault:
        assert not [
            result.error for result in await vault.namespace("blobs").put_many(content) if result.error
        ]
        assert (await vault.sync()).sent == blobs
    async with pair.opened("b", fetching) as vault:
        assert (await vault.sync()).fetched == blobs
    for counting in (sending, fetching):
        assert counting.requests.total() <= most_requests, counting.requests
        assert counting.rounds <= most_rounds
    assert fetching.requests["PUT"] == 1  # that it has joined


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_sync_with_nothing_to_do_asks_a_handful_of_questions(pair: Pair) -> None:
    for name in ("a", "b", "a"):
        async with pair.opened(name, Counting()) as vault:
            await vault.sync()
    counting = Counting()
    async with pair.opened("a", counting) as vault:
        await vault.sync()
    assert counting.requests == {"GET": 5}

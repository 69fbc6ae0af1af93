"""The background loop over a real server, one that restarts, and a line that goes dead without a word."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from anyio.abc import SocketAttribute, SocketStream

import syncagent
from syncagent.cache.place import load_place
from syncagent.engine.backoff import INTERVAL_FIRST_S
from syncagent.events import SyncFinished
from syncagent.server.embedded import EmbeddedServer
from syncagent.vault import Vault
from tests.engine.world import PASSPHRASE, Clock, statuses

pytestmark = pytest.mark.anyio


class Line:
    """A relay to the server. What is connected when it goes dead is neither answered nor closed any more."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._dead: set[SocketStream] = set()
        self._live: set[SocketStream] = set()
        self.wasted = 0
        """Bytes that were sent over what is dead."""

    def go_dead(self) -> None:
        self._dead |= self._live

    async def relay(self, near: SocketStream) -> None:
        async with near, await anyio.connect_tcp("127.0.0.1", self._port) as far:
            self._live.add(near)
            async with anyio.create_task_group() as group:
                group.start_soon(self._pump, near, near, far)
                await self._pump(near, far, near)
                group.cancel_scope.cancel()

    async def _pump(self, near: SocketStream, source: SocketStream, sink: SocketStream) -> None:
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                data = await source.receive()
                if near not in self._dead:
                    await sink.send(data)
                else:
                    self.wasted += len(data) * (source is near)


@contextlib.asynccontextmanager
async def line_to(server: EmbeddedServer) -> AsyncIterator[tuple[Line, str]]:
    """A line to a server, and the URL at its near end."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        line = Line(int(server.url.rpartition(":")[2]))
        group.start_soon(listener.serve, line.relay)
        yield line, f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/default"
        group.cancel_scope.cancel()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
async def devices(server: EmbeddedServer, tmp_path: Path) -> tuple[Path, Path]:
    """Two devices of a vault at the server."""
    first, second = tmp_path / "first", tmp_path / "second"
    url, token = f"{server.url}/default", server.add_user("alice")
    await syncagent.create_vault(
        first, remote=url, token=token, passphrase=PASSPHRASE, kdf=syncagent.FLOOR_KDF
    )
    await syncagent.join_vault(second, remote=url, token=token, passphrase=PASSPHRASE)
    return first, second


async def arrives(vault: Vault, blob_id: str, data: bytes, *, within_s: float = 30.0) -> None:
    with anyio.fail_after(within_s):
        while (await statuses(vault)).get(blob_id) != "SYNCED":
            await anyio.sleep(0.01)
    assert (await vault.namespace("notes").get(blob_id)).data == data


async def test_two_devices_reach_each_other_and_survive_a_restart_of_the_server(
    server: EmbeddedServer, devices: tuple[Path, Path]
) -> None:
    open_vault = syncagent.open_vault
    async with (
        open_vault(devices[0], passphrase=PASSPHRASE, background=True) as one,
        open_vault(devices[1], passphrase=PASSPHRASE, background=True) as two,
    ):
        await one.namespace("notes").put("x", b"one")
        await arrives(two, "x", b"one")
        await anyio.to_thread.run_sync(server.stop)
        await two.namespace("notes").put("y", b"two")  # nobody is there
        with anyio.fail_after(30):
            while not ((await one.status()).reasons and (await two.status()).reasons):
                await anyio.sleep(0.01)
        await anyio.to_thread.run_sync(server.start)
        await arrives(one, "y", b"two")  # both notice that it is back
        await one.barrier(timeout_s=30)


async def test_a_device_that_wakes_up_syncs_at_once_over_new_connections(
    server: EmbeddedServer, devices: tuple[Path, Path]
) -> None:
    clock = Clock()
    async with line_to(server) as (line, url), syncagent.open_vault(devices[1], passphrase=PASSPHRASE) as two:
        async with syncagent.open_vault(devices[0], passphrase=PASSPHRASE, now=clock) as one:
            await one.set_remote(url, token=await token_of(one))
        async with syncagent.open_vault(devices[0], passphrase=PASSPHRASE, now=clock, background=True) as one:
            rounds = one.events(only=(SyncFinished,))
            with anyio.fail_after(30):
                for _ in range(2):  # at once, and since the watch has begun
                    await anext(rounds)
            line.go_dead()
            await two.namespace("notes").put("x", b"while it slept")
            await two.sync()
            clock.now += 3600
            # Sooner than the next sync would be.
            await arrives(one, "x", b"while it slept", within_s=INTERVAL_FIRST_S)
            assert line.wasted == 0


async def token_of(vault: Vault) -> str:
    token = (await vault.parts()[0].cache.read(load_place)).token
    assert token is not None
    return token

"""Long polls: a thousand clients woken by one put, gone clients, restarts, and a stop that keeps nobody."""

import contextlib
import json
import re
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest

from syncagent.server.embedded import EmbeddedServer
from syncagent.server.watch import Watch
from tests.server.raw import connected, head, read_answer, status_of
from tests.server.running import RECORD, add_user, client_of, object_path, running_server

CHANGES = "/v1/vaults/default/changes"


def metric(client: httpx.Client, name: str) -> float:
    match = re.search(rf"^{name} ([0-9.]+)$", client.get("/metrics").text, re.MULTILINE)
    assert match is not None
    return float(match.group(1))


def wait_for_waiting(client: httpx.Client, wanted: int) -> None:
    """Until so many clients wait: the server says so itself."""
    for _ in range(10_000):
        if metric(client, "syncagent_waiting") == wanted:
            return
    raise AssertionError("they never waited")


@contextlib.contextmanager
def waiting(url: str, token: str, cursor: str, count: int) -> Iterator[list[socket.socket]]:
    """So many clients that have asked for a change."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(url)) for _ in range(count)]
        for one in clients:
            one.sendall(head("GET", f"{CHANGES}?cursor={cursor}&timeout=300", token))
        yield clients


def cursor_in(answer: bytes) -> str:
    assert status_of(answer) == 200
    cursor: str = json.loads(answer.partition(b"\r\n\r\n")[2])["cursor"]
    return cursor


def test_a_thousand_clients_are_woken_by_one_put(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip("so many connections are not allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    data = tmp_path / "data"
    token = add_user(data)
    with running_server(data) as server, client_of(server.url, token) as client:
        client.put("/v1/vaults/default")
        first = client.get(CHANGES).json()["cursor"]
        with waiting(server.url, token, first, 1000) as clients:
            wait_for_waiting(client, 1000)
            assert client.put(object_path(RECORD), content=b"x").status_code == 201
            cursors = {cursor_in(read_answer(one)) for one in clients}
        assert len(cursors) == 1 and first not in cursors
        wait_for_waiting(client, 0)


def test_a_client_that_has_gone_waits_no_more(server: EmbeddedServer, client: httpx.Client) -> None:
    token = client.headers["Authorization"].removeprefix("Bearer ")
    cursor = client.get(CHANGES).json()["cursor"]
    with waiting(server.url, token, cursor, 3):
        wait_for_waiting(client, 3)
    wait_for_waiting(client, 0)


def test_a_change_of_another_vault_wakes_nobody(server: EmbeddedServer, client: httpx.Client) -> None:
    token = client.headers["Authorization"].removeprefix("Bearer ")
    client.put("/v1/vaults/other")
    cursor = client.get(CHANGES).json()["cursor"]
    with waiting(server.url, token, cursor, 1) as (one,):
        wait_for_waiting(client, 1)
        client.put(object_path(RECORD, vault="other"), content=b"x")
        assert client.get(CHANGES, params={"cursor": cursor, "timeout": 0}).json()["cursor"] == cursor
        client.put(object_path(RECORD), content=b"x")
        assert cursor_in(read_answer(one)) != cursor


def test_a_put_that_fails_wakes_nobody(client: httpx.Client) -> None:
    client.put(object_path(RECORD), content=b"x")
    cursor = client.get(CHANGES).json()["cursor"]
    client.put(object_path(RECORD), content=b"y", headers={"If-None-Match": "*"})
    client.put(object_path(RECORD), content=b"y", headers={"Content-Digest": f"sha-256=:{'A' * 43}=:"})
    assert client.get(CHANGES, params={"cursor": cursor, "timeout": 0}).json()["cursor"] == cursor


def test_a_stop_answers_who_waits_and_a_cursor_from_before_is_answered_at_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EmbeddedServer(data) as server:
        token = server.add_user("alice")
        with client_of(server.url, token) as client:
            client.put("/v1/vaults/default")
            cursor = client.get(CHANGES).json()["cursor"]
            with waiting(server.url, token, cursor, 3) as clients:
                wait_for_waiting(client, 3)
                server.stop()
                assert {cursor_in(read_answer(one)) for one in clients} == {cursor}
        server.start()
        with client_of(server.url, token) as client:
            assert client.get(CHANGES, params={"cursor": cursor}).json()["cursor"] != cursor


def test_a_stop_lets_an_upload_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    token = add_user(data)
    with running_server(data) as server, client_of(server.url, token) as client:
        client.put("/v1/vaults/default")
        with connected(server.url) as slow:
            lines = ("Content-Length: 10", "Expect: 100-continue")
            slow.sendall(head("PUT", object_path(RECORD), token, *lines))
            assert slow.recv(65536).startswith(b"HTTP/1.1 100")
            server.process.terminate()
            with pytest.raises(httpx.TransportError):
                while True:  # until no new connection is taken
                    with client_of(server.url, token) as another:
                        another.get("/v1/health")
            slow.sendall(b"0123456789")
            assert status_of(read_answer(slow)) == 201
        assert server.process.wait(60) == 0
    with running_server(data) as server, client_of(server.url, token) as client:
        assert client.get(object_path(RECORD)).content == b"0123456789"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_cursors() -> None:
    watch = Watch()
    changes = watch.changes("alice/default")
    first = changes.cursor
    assert await watch.wait("alice/default", None, 60) == first
    assert await watch.wait("alice/default", "unknown", 60) == first
    assert await watch.wait("alice/default", first, 0) == first
    found: list[str] = []

    async def wait() -> None:
        found.append(await watch.wait("alice/default", first, 60))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        watch.changes("bob/default").tell()
        await anyio.wait_all_tasks_blocked()
        assert found == []
        changes.tell()
    assert found == [changes.cursor] * 3 != [first] * 3
    assert Watch().changes("alice/default").cursor not in (first, changes.cursor)
    watch.stop()
    assert await watch.wait("alice/default", changes.cursor, 60) == changes.cursor
    assert await watch.wait("carol/default", watch.changes("carol/default").cursor, 60)

"""How much one client may ask for, and how slow it may be."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from syncagent.server.embedded import EmbeddedServer
from syncagent.server.limits import Limits, Turnstile
from syncagent.server.observe import PatientLog
from syncagent.server.problem import Problem
from syncagent.server.requests import IncomingBody
from tests.server.raw import connected, exchange, head, read_all, read_answer, status_of
from tests.server.running import RECORD, batch_name, client_of, object_path, pack_name


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def limited(tmp_path: Path, limits: Limits) -> Iterator[tuple[EmbeddedServer, str]]:
    with EmbeddedServer(tmp_path / "data", limits=limits) as server:
        token = server.add_user("alice")
        with client_of(server.url, token) as client:
            client.put("/v1/vaults/default")
        yield server, token


@contextlib.contextmanager
def uploading(server: EmbeddedServer, token: str, seq: int = 1) -> Iterator[socket.socket]:
    """An upload under way that goes no further."""
    lines = ("Content-Length: 10", "Expect: 100-continue")
    with connected(server.url) as connection:
        connection.sendall(head("PUT", object_path(batch_name(seq)), token, *lines))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        yield connection


def refused(answer: httpx.Response, status: int, kind: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (status, kind)
    assert int(answer.headers["Retry-After"]) >= 1


def test_the_rate_of_a_token() -> None:
    clock = Clock()
    turnstile = Turnstile(Limits(requests_s=2, burst=5), clock=clock)

    def ask(token: str = "a") -> bool:
        try:
            with turnstile.admitted(token, is_waiting=False):
                return True
        except Problem as problem:
            assert (problem.status, problem.kind) == (429, "rate-limited")
            assert problem.headers["Retry-After"] == "1"
            return False

    assert [ask() for _ in range(7)] == [True] * 5 + [False] * 2
    assert ask("b")
    clock.now = 1.0
    assert [ask() for _ in range(3)] == [True, True, False]
    clock.now = 1000.0
    assert [ask() for _ in range(7)] == [True] * 5 + [False] * 2


def test_requests_at_once() -> None:
    turnstile = Turnstile(Limits(transfers=2, transfers_per_token=1, waiting_per_token=1))
    with turnstile.admitted("a", is_waiting=False):
        with pytest.raises(Problem, match="of this token are under way"):
            turnstile.admitted("a", is_waiting=False).__enter__()
        with turnstile.admitted("b", is_waiting=False):
            with pytest.raises(Problem) as caught:
                turnstile.admitted("c", is_waiting=False).__enter__()
            assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
            with turnstile.admitted("a", is_waiting=True):
                assert (turnstile.transfers, turnstile.waiting) == (2, 1)
                with pytest.raises(Problem, match="of this token wait"):
                    turnstile.admitted("a", is_waiting=True).__enter__()
    assert (turnstile.transfers, turnstile.waiting) == (0, 0)
    with turnstile.admitted("a", is_waiting=False):
        pass


def test_too_many_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    with (
        limited(tmp_path, Limits(requests_s=0.001, burst=3)) as (server, token),
        client_of(server.url, token) as client,
    ):
        assert client.get("/v1/vaults").status_code == 200
        assert client.get("/v1/vaults").status_code == 200
        refused(client.get("/v1/vaults"), 429, "rate-limited")
        with client_of(server.url, server.add_user("bob")) as bob:
            assert bob.get("/v1/vaults").status_code == 200
        assert client.get("/v1/health").status_code == 200


def test_too_many_transfers_at_once(tmp_path: Path) -> None:
    limits = Limits(transfers=2, transfers_per_token=1)
    with limited(tmp_path, limits) as (server, token), client_of(server.url, token) as client:
        bob = server.add_user("bob")
        with client_of(server.url, bob) as client_of_bob:
            client_of_bob.put("/v1/vaults/default")
        with uploading(server, token):
            refused(client.get("/v1/vaults"), 429, "too-many-at-once")
            with uploading(server, bob), client_of(server.url, server.add_user("carol")) as carol:
                refused(carol.get("/v1/vaults"), 503, "overloaded")
                assert carol.get("/v1/health").status_code == 200


def test_too_many_connections(tmp_path: Path) -> None:
    with limited(tmp_path, Limits(connections=2)) as (server, token):
        with connected(server.url) as first, connected(server.url) as second:
            for one in (first, second):  # taken, as an answer shows
                one.sendall(head("GET", "/v1/vaults", token))
                assert status_of(read_answer(one)) == 200
            assert exchange(server.url, head("GET", "/v1/vaults", token)) == b""
        for _ in range(100_000):  # until the server has noticed that they went
            with connected(server.url) as again, contextlib.suppress(ConnectionError):
                again.sendall(head("GET", "/v1/vaults", token, "Connection: close"))
                if status_of(read_all(again)) == 200:
                    break


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET /v1/vaults HTTP/1.1\r\nX: ", b"\r\n", b"P"],
    ids=["nothing", "headers", "an-empty-line", "a-letter"],
)
def test_headers_that_do_not_come(tmp_path: Path, beginning: bytes) -> None:
    with limited(tmp_path, Limits(header_s=0.3)) as (server, _), connected(server.url) as connection:
        connection.sendall(beginning)
        assert read_all(connection) == b""


@pytest.mark.parametrize("beginning", [b"", b"\r\n", b"GET /v1/vaults HTTP/1.1\r\nX: "])
def test_headers_that_do_not_come_after_a_first_request(tmp_path: Path, beginning: bytes) -> None:
    limits = Limits(header_s=0.3, keep_alive_s=1)
    with limited(tmp_path, limits) as (server, token), connected(server.url) as connection:
        connection.sendall(head("GET", "/v1/vaults", token))
        assert status_of(read_answer(connection)) == 200
        connection.sendall(beginning)
        assert read_all(connection) == b""


def test_a_body_that_stops(tmp_path: Path) -> None:
    with limited(tmp_path, Limits(idle_s=0.3)) as (server, token):
        with connected(server.url) as connection:
            connection.sendall(head("PUT", object_path(RECORD), token, "Content-Length: 10") + b"half")
            answer = read_all(connection)
        assert status_of(answer) == 408
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "too-slow"
        with client_of(server.url, token) as client:
            assert client.get(object_path(RECORD)).status_code == 404
            assert client.put(object_path(RECORD), content=b"x").status_code == 201


def test_a_reader_that_stops(tmp_path: Path) -> None:
    data = os.urandom(16 << 20)
    name = pack_name(data)
    with (
        limited(tmp_path, Limits(idle_s=0.3, transfers_per_token=1)) as (server, token),
        client_of(server.url, token) as client,
    ):
        assert client.put(object_path(name), content=data).status_code == 201
        with connected(server.url) as connection:
            connection.sendall(head("GET", object_path(name), token))
            assert connection.recv(1) == b"H"
            for _ in range(100_000):  # until the server has given the reader up
                if client.get("/v1/vaults").status_code != 429:
                    break
            assert len(read_all(connection)) < len(data)


class Sender:
    """A client that sends so many bytes at a time, each after so many seconds of a clock."""

    def __init__(self, clock: Clock, pieces: int, seconds: float) -> None:
        self._clock = clock
        self._pieces = pieces
        self._seconds = seconds

    async def receive(self) -> Message:
        self._clock.now += self._seconds
        self._pieces -= 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": self._pieces > 0}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("seconds", "is_taken"), [(0.0, True), (1.0, True), (2.0, False), (9.0, False)])
async def test_a_body_may_not_trickle(seconds: float, is_taken: bool) -> None:
    clock = Clock()
    # 1,000 bytes in 10 pieces: 5 s and a second for each hundred bytes
    limits = Limits(idle_s=5, slowest_bytes_s=100)
    request = Request({"type": "http", "headers": []}, Sender(clock, 10, seconds).receive)
    body = IncomingBody(request, 1000, limits, clock=clock)
    taken = 0
    try:
        while piece := await body.read():
            taken += len(piece)
    except Problem as problem:
        assert problem.kind == "too-slow"
    assert (taken == 1000) == is_taken


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_time_of_the_disk_is_not_the_clients() -> None:
    clock = Clock()
    request = Request({"type": "http", "headers": []}, Sender(clock, 10, 0.0).receive)
    body = IncomingBody(request, 1000, Limits(idle_s=1, slowest_bytes_s=1000), clock=clock)
    while await body.read():
        clock.now += 100


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("pieces", [9, 11])
async def test_a_body_of_another_length_is_none(pieces: int) -> None:
    request = Request({"type": "http", "headers": []}, Sender(Clock(), pieces, 0.0).receive)
    body = IncomingBody(request, 1000, Limits())
    with pytest.raises(Problem, match="not as long as its Content-Length"):
        while await body.read():
            pass


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_client_that_goes() -> None:
    async def receive() -> Message:
        await anyio.sleep(0)
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        await IncomingBody(Request({"type": "http", "headers": []}, receive), 10, Limits()).read()


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    with limited(tmp_path, Limits(drain_s=0.3)) as (server, token), uploading(server, token) as upload:
        server.stop()
        assert read_all(upload) == b""


def test_a_log_that_nobody_reads_stops_nobody() -> None:
    reader, writer = os.pipe()
    log, line = PatientLog(writer), b'{"line": true}\n'
    for _ in range(20_000):  # more than a pipe holds
        log(line)
    held = os.read(reader, 1 << 20)
    assert held and held == line * (len(held) // len(line))
    log(line)
    first, second = os.read(reader, 1 << 20).splitlines()
    assert json.loads(first) == {"dropped_lines": 20_000 - len(held) // len(line)}
    assert second + b"\n" == line
    os.close(reader)
    log(line)  # nor one whose reader is gone
    os.close(writer)

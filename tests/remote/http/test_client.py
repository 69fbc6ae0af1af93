"""The border to httpx: its errors, what goes out with a request, and the pool of connections."""

import base64
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.abc
import httpcore
import httpx
import pytest

from syncagent.errors import (
    BadResponse,
    CertificateRejected,
    ConfigError,
    RemoteError,
    SourceChanged,
    Unreachable,
)
from syncagent.remote import Access, open_remote
from syncagent.remote.base import FileSlice
from syncagent.remote.http.address import read_address
from syncagent.remote.http.client import MAX_CONNECTIONS, MEANINGS, HttpClient, environment_proxy, translated
from syncagent.remote.http.remote import HttpRemote
from syncagent.remote.http.wide import READ_BYTES, WideBackend
from syncagent.remote.retry import RetryRemote
from tests.remote.http.sockets import Request, ok, opened, saying, serving

pytestmark = pytest.mark.anyio

RECORD = f"devices/{'0' * 32}"
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def classes_of_httpx() -> Iterator[type[Exception]]:
    """Every exception that httpx defines, whether it is exported or not."""
    values = vars(httpx).values()
    left = [value for value in values if isinstance(value, type) and issubclass(value, Exception)]
    seen: set[type[Exception]] = set()
    while left:
        kind = left.pop()
        if kind in seen or not kind.__module__.startswith("httpx"):
            continue
        seen.add(kind)
        yield kind
        left += kind.__subclasses__()


def made(kind: type[Exception]) -> Exception:
    """An instance, however its class wants to be made."""
    request = httpx.Request("GET", "http://host")
    for arguments in (("text",), ()):
        for more in ({}, {"request": request}, {"request": request, "response": httpx.Response(500)}):
            with contextlib.suppress(TypeError):
                return kind(*arguments, **more)
    raise AssertionError(f"nobody knows how to make a {kind}")


@pytest.mark.parametrize("kind", sorted(classes_of_httpx(), key=str))
def test_every_error_of_httpx_becomes_one_of_ours(kind: type[Exception]) -> None:
    """Each class by name: a new one of another version shows here, and needs a thought."""
    assert kind in MEANINGS
    error = made(kind)
    with pytest.raises(MEANINGS[kind]) as caught, translated("https://host"):
        raise error
    assert caught.value.__cause__ is error
    assert "https://host" in str(caught.value)


def test_the_tree_is_walked() -> None:
    names = {kind.__name__ for kind in classes_of_httpx()}
    assert {"ReadTimeout", "InvalidURL", "StreamClosed", "CookieConflict", "ProxyError"} <= names


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(5, "broken"), Unreachable),
        (ssl.SSLEOFError(8, "eof"), Unreachable),
        (ssl.SSLZeroReturnError(6, "closed"), Unreachable),
        (ssl.SSLCertVerificationError(1, "bad"), CertificateRejected),
        (ConnectionResetError(), Unreachable),
    ],
)
def test_what_httpx_lets_through_becomes_one_of_ours_too(error: Exception, kind: type[RemoteError]) -> None:
    with pytest.raises(kind), translated("https://host"):
        raise error


def test_our_own_errors_and_bugs_pass() -> None:
    for error in (SourceChanged("x"), BadResponse("x"), KeyError("x")):
        with pytest.raises(type(error)) as caught, translated("https://host"):
            raise error
        assert caught.value is error


async def test_what_goes_out_with_a_request() -> None:
    async def answer(stream: anyio.abc.SocketStream, request: Request) -> None:
        await stream.send(CREATED if request.line.startswith("PUT") else ok(b"abcd"))

    async with serving(answer) as server, opened(server.url, token="t0ken") as remote:
        data = b"\x00binary\xff" * 1000
        batch = f"journal/{'0' * 32}/000000000001"
        await remote.put(batch, data)
        await remote.put(batch, data, overwrite=True)
        await remote.get(RECORD)
        await remote.get(RECORD, 1)
        await remote.get(RECORD, 1, 4)
        await remote.get(RECORD, 0, 4)
        with pytest.raises(BadResponse):
            await remote.list("devices/", after=RECORD, limit=5)
        with pytest.raises(BadResponse):
            await remote.wait_for_change("c&d=?#/ %", 7.5)
        with pytest.raises(BadResponse):
            await remote.wait_for_change(None, 7)
        put, replace, get, *parts, page, wait, first = server.requests
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert put.line == f"PUT /v1/vaults/notes/objects/{batch} HTTP/1.1"
    assert put.body == replace.body == data
    assert put.headers["content-length"] == str(len(data))
    assert put.headers["content-digest"] == f"sha-256=:{digest}:"
    assert put.headers["if-none-match"] == "*"
    assert "if-none-match" not in replace.headers
    assert "transfer-encoding" not in put.headers
    assert get.line == f"GET /v1/vaults/notes/objects/{RECORD} HTTP/1.1"
    assert "range" not in get.headers
    assert [part.headers["range"] for part in parts] == ["bytes=1-", "bytes=1-3", "bytes=0-3"]
    assert page.line == (
        f"GET /v1/vaults/notes/objects?prefix=devices%2F&after=devices%2F{'0' * 32}&limit=5 HTTP/1.1"
    )
    assert wait.line.startswith("GET /v1/vaults/notes/changes?timeout=7.5&cursor=c%26d%3D%3F%23%2F")
    assert first.line == "GET /v1/vaults/notes/changes?timeout=0 HTTP/1.1"
    for request in server.requests:
        assert request.headers["authorization"] == "Bearer t0ken"
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["host"] == f"127.0.0.1:{server.port}"
        assert request.headers["user-agent"].startswith("syncagent/")
    assert server.connections == 1


async def test_bodies_go_out_whole_and_in_pieces(tmp_path: Path) -> None:
    data = bytes(range(256)) * (9 << 10)
    source = tmp_path / "source"
    source.write_bytes(b"before" + data + b"after")
    name = f"packs/{hashlib.sha256(data).hexdigest()}"
    async with serving(saying(CREATED)) as server, opened(server.url) as remote:
        await remote.put(name, data)
        await remote.put(name, FileSlice(source, 6, 6 + len(data)))
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        for request in server.requests:
            assert request.body == data
            assert request.headers["content-digest"] == f"sha-256=:{digest}:"


async def test_a_file_that_shrinks_while_it_is_sent_is_told_and_nothing_is_complete(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(1 << 20))
    async with serving(saying(CREATED)) as server, opened(server.url) as remote:
        with pytest.raises(SourceChanged):  # its name spares reading it for the digest
            await remote.put(f"packs/{'0' * 64}", FileSlice(source, 0, 3 << 20))
        assert server.requests == []


async def test_cookies_are_not_kept() -> None:
    """A server needs none, and a jar without end is memory without end."""
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 4\r\n\r\nabcd"
    async with serving(saying(answer)) as server, opened(server.url) as remote:
        for _ in range(2):
            await remote.get(RECORD)
        assert all("cookie" not in request.headers for request in server.requests)


async def test_a_connection_is_kept_and_one_that_was_closed_meanwhile_is_not_used() -> None:
    answers = 0

    async def answer(stream: anyio.abc.SocketStream, request: Request) -> None:
        nonlocal answers
        answers += 1
        await stream.send(ok(b"abcd"))
        if answers % 3 == 0:
            raise anyio.EndOfStream

    async with serving(answer) as server, opened(server.url) as remote:
        for _ in range(9):
            assert await remote.get(RECORD) == b"abcd"
        assert server.connections == 3


async def test_a_put_on_a_connection_that_died_is_made_again() -> None:
    """As after sleep: the server closed it, and the client finds out with the request."""
    puts = 0

    async def answer(stream: anyio.abc.SocketStream, request: Request) -> None:
        nonlocal puts
        if request.line.startswith("PUT"):
            puts += 1
            if puts == 1:
                raise anyio.EndOfStream
            await stream.send(CREATED)
        else:
            await stream.send(ok(b"abcd"))

    async def no_time(seconds: float) -> None:
        await anyio.lowlevel.checkpoint()

    async with serving(answer) as server, opened(server.url) as inner:
        remote = RetryRemote(inner, sleep=no_time)
        await remote.get(RECORD)
        await remote.put(RECORD, b"x")
        assert (puts, server.connections) == (2, 2)


async def test_a_cancelled_put_ends_its_connection() -> None:
    """The server never sees the rest, and so stores nothing; the next call gets another connection."""
    began, ended = anyio.Event(), anyio.Event()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:

        async def swallow(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                    while True:
                        await stream.receive()
                        began.set()
                ended.set()

        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, swallow)
                async with opened(f"http://127.0.0.1:{port}/notes") as remote:
                    async with anyio.create_task_group() as puts:
                        puts.start_soon(remote.put, f"packs/{'0' * 64}", bytes(1 << 20))
                        await began.wait()
                        puts.cancel_scope.cancel()
                    await ended.wait()
                tasks.cancel_scope.cancel()


async def test_a_long_poll_and_eight_transfers_and_more_go_side_by_side() -> None:
    """Nothing waits for a connection that something slow has."""
    arrived = 0
    everybody = anyio.Event()

    async def answer(stream: anyio.abc.SocketStream, request: Request) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 12:
            everybody.set()
        await everybody.wait()
        await stream.send(ok(b'{"cursor":"c"}' if "/changes" in request.line else b"abcd"))

    async with serving(answer) as server, opened(server.url) as remote:
        async with anyio.create_task_group() as calls:
            calls.start_soon(remote.wait_for_change, "c", 60)
            for _ in range(11):
                calls.start_soon(remote.get, RECORD)
        assert server.connections == 12 <= MAX_CONNECTIONS


async def test_after_the_end_nothing_is_open() -> None:
    gone = anyio.Event()

    async def answer(stream: anyio.abc.SocketStream, request: Request) -> None:
        await stream.send(ok(b"abcd"))
        with contextlib.suppress(anyio.EndOfStream):
            await stream.receive()
        gone.set()
        raise anyio.EndOfStream

    async with serving(answer) as server:
        async with opened(server.url) as remote:
            await remote.get(RECORD)
        await gone.wait()
        await remote.aclose()


@contextlib.asynccontextmanager
async def proxied(url: str) -> AsyncIterator[HttpRemote]:
    remote = await open_remote(url, access=Access(token="t", plain_http=True), retry=False)
    assert isinstance(remote, HttpRemote)
    yield remote
    await remote.aclose()


async def test_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    async with serving(saying(ok(b"abcd"))) as proxy:
        for variable in ("http_proxy", "all_proxy"):
            monkeypatch.setenv(variable, f"http://user:pass@127.0.0.1:{proxy.port}")
            async with proxied("http://sync.example/notes") as remote:
                assert await remote.get(RECORD) == b"abcd"
            monkeypatch.delenv(variable)
        for request in proxy.requests:
            assert request.line.startswith("GET http://sync.example/v1/")
            assert request.headers["proxy-authorization"].startswith("Basic ")


async def test_a_proxy_that_refuses_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    refusal = b"HTTP/1.1 407 \x1bNo\r\nContent-Length: 0\r\n\r\n"
    async with serving(saying(refusal.replace(b"\x1b", b""))) as proxy:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
        async with proxied("https://sync.example/notes") as remote:
            with pytest.raises(Unreachable, match="the proxy refuses"):
                await remote.get(RECORD)
        assert proxy.requests[0].line.startswith("CONNECT sync.example:443 ")
        # The tunnel was refused: the token never went out.
        assert all("authorization" not in request.headers for request in proxy.requests)


async def test_this_machine_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token would go unencrypted to wherever the proxy is."""
    clear(monkeypatch)
    async with serving(saying(ok(b"proxy"))) as proxy, serving(saying(ok(b"direct"))) as server:
        for variable in ("http_proxy", "all_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        async with opened(server.url, token="t") as remote:
            assert await remote.get(RECORD) == b"direct"
        assert proxy.requests == []


def test_hosts_may_be_excepted(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)
    assert environment_proxy("https://sync.example") is None
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "example,10.0.0.1:8443")
    assert environment_proxy("https://sync.test") == "http://proxy:3128"
    assert environment_proxy("http://sync.test") is None
    assert environment_proxy("https://sync.example") is None
    assert environment_proxy("https://sync.example:8443") is None
    assert environment_proxy("https://10.0.0.1:8443") is None
    assert environment_proxy("https://10.0.0.1") == "http://proxy:3128"


@pytest.mark.parametrize(
    "proxy", ["ftp://me:secret@host", "socks5://me:secret@host", "http://[secret", "http://h:99999"]
)
async def test_a_proxy_that_cannot_be_used_is_told_without_its_password(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    clear(monkeypatch)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ConfigError, match="proxy") as caught:
        await open_remote("https://sync.example/notes")
    assert "secret" not in f"{caught.value} {caught.value.todo}"


def clear(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in PROXIES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


class FakeNetwork(httpcore.AsyncNetworkBackend):
    """Connections on which every read gives how much was asked for, as text."""

    async def connect_tcp(self, *args: object, **kwargs: object) -> httpcore.AsyncNetworkStream:
        class Stream(httpcore.AsyncNetworkStream):
            async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
                return b"%d" % max_bytes

            async def start_tls(self, *args: object, **kwargs: object) -> httpcore.AsyncNetworkStream:
                return self

        return Stream()


async def test_much_is_read_at_a_time() -> None:
    stream = await WideBackend(FakeNetwork()).connect_tcp("host", 1)
    encrypted = await stream.start_tls(ssl.create_default_context())
    for one in (stream, encrypted):
        assert await one.read(1 << 16) == b"%d" % READ_BYTES
        assert await one.read(1 << 24) == b"%d" % (1 << 24)


async def test_connections_are_made_by_the_backend_that_reads_much() -> None:
    """What httpx calls its parts is its own: should they be called otherwise, reads are small again."""
    remote = await open_remote("http://localhost/notes", retry=False)
    transport = vars(remote)["_client"]._transport
    assert isinstance(transport._pool._network_backend, WideBackend)
    await remote.aclose()


async def test_the_client_takes_any_transport() -> None:
    """For whoever embeds it; httpx's own one for tests too."""

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=request.url.path.encode())

    client = HttpClient(read_address("https://host/sync/notes"), "t", httpx.MockTransport(handle))
    remote = HttpRemote(client)
    assert await remote.get(RECORD) == f"/sync/v1/vaults/notes/objects/{RECORD}".encode()

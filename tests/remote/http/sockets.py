"""A server of a few lines on a real socket, for answers that no honest server gives."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import anyio
import anyio.abc

from syncagent.remote import Access, open_remote
from syncagent.remote.base import Remote

LONGEST_TEST_S = 60.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


@dataclass(frozen=True, slots=True)
class Request:
    """What came: the first line, headers by lower-case name, the body."""

    line: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[anyio.abc.SocketStream, Request], Awaitable[None]]
"""Sends whatever it likes. Returning lets the next request come; raising `anyio.EndOfStream` closes."""


def ok(body: bytes) -> bytes:
    return OK % (len(body), body)


def saying(data: bytes) -> Answering:
    """The same bytes in answer to every request, and the connection is closed."""

    async def answer(stream: anyio.abc.SocketStream, request: Request) -> None:
        await stream.send(data)
        raise anyio.EndOfStream

    return answer


@dataclass(slots=True)
class Server:
    """A running one. `requests` are those that came whole, `connections` how many were made."""

    port: int
    requests: list[Request]
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/notes"


@contextlib.asynccontextmanager
async def serving(answer: Answering) -> AsyncIterator[Server]:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
        server = Server(listener.extra(anyio.abc.SocketAttribute.local_port), [])

        async def connected(stream: anyio.abc.SocketStream) -> None:
            server.connections += 1
            async with stream:
                with contextlib.suppress(
                    anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError
                ):
                    rest = b""
                    while True:
                        request, rest = await read_request(stream, rest)
                        server.requests.append(request)
                        await answer(stream, request)

        with anyio.fail_after(LONGEST_TEST_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, connected)
                yield server
                tasks.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def served(answer: Answering, *, token: str | None = None) -> AsyncIterator[Remote]:
    """A remote, without retries, whose server answers so."""
    async with serving(answer) as server, opened(server.url, token=token) as remote:
        yield remote


@contextlib.asynccontextmanager
async def opened(url: str, *, token: str | None = None) -> AsyncIterator[Remote]:
    remote = await open_remote(url, access=Access(token=token), retry=False)
    try:
        yield remote
    finally:
        with anyio.CancelScope(shield=True):
            await remote.aclose()


async def read_request(stream: anyio.abc.SocketStream, rest: bytes = b"") -> tuple[Request, bytes]:
    """One request, and what came behind it."""
    while b"\r\n\r\n" not in rest:
        rest += await stream.receive()
    head, _, rest = rest.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {key.lower(): value.strip() for key, _, value in (one.partition(":") for one in lines)}
    length = int(headers.get("content-length", "0"))
    parts = [rest]
    while (got := sum(map(len, parts))) < length:
        parts.append(await stream.receive(1 << 20))
    body = b"".join(parts)
    return Request(line, headers, body[:length]), body[length:] if got >= length else b""

"""Connections to one server, and what becomes of them: the only file that knows httpx.

A request goes out, a bounded answer comes back. Every error of httpx and of what lies
below it leaves as one of ours (`translated`); what a status means is told by `answers.py`.

Of httpx only the transport is used, which is a pool of connections: so nothing follows a
redirect, keeps a cookie, decompresses, or adds credentials of its own.
"""

import contextlib
import math
import ssl
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import anyio.to_thread
import httpcore
import httpx

from syncagent import __version__
from syncagent.errors import (
    BadResponse,
    ConfigError,
    RemoteError,
    Unreachable,
)
from syncagent.remote.access import Access
from syncagent.remote.base import PATIENCE_S, Body, body_size, read_pieces
from syncagent.remote.http.address import Address
from syncagent.remote.http.answers import MAX_PROBLEM_BYTES, Answer, quoted
from syncagent.remote.http.tls import certificate_trouble, tls_context
from syncagent.remote.http.wide import WideBackend

MAX_CONNECTIONS = 16
"""Eight transfers, a long poll, and some calls of commands beside them: none waits for another."""
IDLE_S = 15.0
"""Age at which an idle connection is given up: before most servers and proxies close theirs, for a request
on its way meanwhile would fail. Few are left to be found dead when a laptop wakes."""

CLOSE_S = 5.0
"""How long a cancelled call may take to close its connection."""

_SMALL = 4096


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds that a phase of a request may take. `write` and `read` are for each piece, not for all.

    A server writes 16 MiB to its disk before it answers a put: reading has the time for that.
    """

    connect_s: float = 15.0
    write_s: float = 60.0
    read_s: float = 60.0
    pool_s: float = 60.0


DEFAULT_TIMEOUTS = Timeouts()

MEANINGS: dict[type[Exception], type[RemoteError]] = {
    # Every class of httpx, each named: a test looks for one that is not here.
    httpx.HTTPError: Unreachable,
    httpx.RequestError: Unreachable,
    httpx.TransportError: Unreachable,
    httpx.TimeoutException: Unreachable,
    httpx.ConnectTimeout: Unreachable,
    httpx.ReadTimeout: Unreachable,
    httpx.WriteTimeout: Unreachable,
    httpx.PoolTimeout: Unreachable,
    httpx.NetworkError: Unreachable,
    httpx.ConnectError: Unreachable,
    httpx.ReadError: Unreachable,
    httpx.WriteError: Unreachable,
    httpx.CloseError: Unreachable,
    httpx.ProxyError: Unreachable,
    # An answer that is no HTTP, or ends too early: from a connection that broke, mostly.
    httpx.ProtocolError: Unreachable,
    httpx.RemoteProtocolError: Unreachable,
    # These take a mistake of ours, or of a server that makes us do something senseless.
    httpx.LocalProtocolError: BadResponse,
    httpx.UnsupportedProtocol: BadResponse,
    httpx.DecodingError: BadResponse,
    httpx.TooManyRedirects: BadResponse,
    httpx.HTTPStatusError: BadResponse,
    httpx.InvalidURL: BadResponse,
    httpx.CookieConflict: BadResponse,
    httpx.StreamError: BadResponse,
    httpx.StreamConsumed: BadResponse,
    httpx.StreamClosed: BadResponse,
    httpx.ResponseNotRead: BadResponse,
    httpx.RequestNotRead: BadResponse,
}

_WHAT: dict[type[Exception], str] = {
    httpx.ConnectTimeout: "no connection in time",
    httpx.ReadTimeout: "no answer in time",
    httpx.WriteTimeout: "the server does not read what is sent",
    httpx.PoolTimeout: "too many requests wait for the server",
    httpx.ConnectError: "no connection",
    httpx.ProxyError: "the proxy refuses",
    httpx.RemoteProtocolError: "the answer breaks off or is no HTTP",
}


async def open_client(
    address: Address, access: Access, *, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> "HttpClient":
    """A client for the server of an address; nothing is sent yet.

    Raises:
        ConfigError: a certificate file or the environment's proxy cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody
    if address.is_encrypted:
        # Reading certificates takes tens of milliseconds.
        context = await anyio.to_thread.run_sync(tls_context, access)
    # What is sent to this machine goes past no proxy, whatever the environment says.
    transport = _transport(context, None if address.is_loopback else environment_proxy(address.origin))
    return HttpClient(address, access.token, transport, timeouts)


class HttpClient:
    """Requests to one server with one token, over one pool of connections.

    Args:
        address: where the API is.
        token: sent with every request; None for none.
        transport: makes the connections; closed with this.
        timeouts: of each phase.
    """

    def __init__(
        self,
        address: Address,
        token: str | None,
        transport: httpx.AsyncBaseTransport,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        self.address = address
        self._transport = transport
        self._timeouts = timeouts
        self._headers = {
            "Host": address.origin.partition("://")[2],
            "Accept-Encoding": "identity",
            "User-Agent": f"syncagent/{__version__}",
        }
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        most_bytes: int = 0,
        extra_read_s: float = 0.0,
    ) -> Answer:
        """Make one request, once, and read its answer to the end.

        Args:
            method: GET, PUT and so on.
            path: below the API's, beginning with a slash; quoted where it must be.
            query: names and values, not quoted.
            headers: beside those that every request has.
            body: what is sent, a piece at a time.
            most_bytes: longest body of an answer of success.
            extra_read_s: how much longer than usual the server may be silent.

        Raises:
            Unreachable: no answer; the request may have had its effect.
            CertificateRejected: the server's certificate does not verify, or it does not take ours.
            BadResponse: the answer is compressed, longer than allowed, or no answer.
            SourceChanged: the body's file is not what it was.
        """
        request = httpx.Request(
            method,
            self.address.api + path,
            params=query,
            headers={**self._headers, **(headers or {}), **_length(body)},
            stream=None if body is None else _BodyStream(body),
            extensions={"timeout": self._phases(extra_read_s)},
        )
        with translated(self.address.origin):
            response = await self._transport.handle_async_request(request)
            try:
                return await _answer(response, is_head=method == "HEAD", most_bytes=most_bytes)
            finally:
                with anyio.move_on_after(CLOSE_S, shield=True):
                    await response.aclose()

    async def aclose(self) -> None:
        """Close all connections; may be called again."""
        with contextlib.suppress(RemoteError), translated(self.address.origin):
            await self._transport.aclose()

    def _phases(self, extra_read_s: float) -> dict[str, float]:
        times, patience_s = self._timeouts, PATIENCE_S.get() or math.inf
        return {
            "connect": min(times.connect_s, patience_s),
            "write": times.write_s,
            "read": min(times.read_s, patience_s) + extra_read_s,
            "pool": times.pool_s,
        }


@contextlib.contextmanager
def translated(origin: str) -> Iterator[None]:
    """Turn what httpx, and what it lets through from below, raises into our errors."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError) as error:
        raise _translation(error, origin) from error
    except (ssl.SSLError, OSError) as error:
        # The pool lets these through when a connection breaks while it is read.
        raise _translation(error, origin) from error


def _translation(error: Exception, origin: str) -> RemoteError:
    rejected = certificate_trouble(error, origin)
    if rejected is not None:
        return rejected
    for base in type(error).__mro__:
        if base in MEANINGS:
            what = _WHAT.get(base) or type(error).__name__
            detail = f" ({quoted(str(error))})" if str(error) else ""
            return MEANINGS[base](f"{origin}: {what}{detail}")
    return Unreachable(f"{origin}: the connection broke ({quoted(str(error) or type(error).__name__)})")


async def _answer(response: httpx.Response, *, is_head: bool, most_bytes: int) -> Answer:
    headers = response.headers
    is_success = 200 <= response.status_code < 300
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BadResponse("the remote answers with compressed bytes that were not asked for")
    if is_success and "html" in headers.get("Content-Type", "").lower():
        # A login page, or a proxy that leads elsewhere: it must not look like a remote that alters things.
        raise Unreachable(
            "a web page answers, which is no sync server's",
            todo="check the remote's address, and whether this network asks for a login",
        )
    limit = most_bytes if is_success else MAX_PROBLEM_BYTES
    if is_head:
        return Answer(response.status_code, headers, b"")
    length = headers.get("Content-Length", "")
    if is_success and length.isdecimal() and int(length[:20]) > limit:
        raise BadResponse(f"the remote announces {length[:20]} bytes, {limit} are allowed")
    body = await _body(response, limit)
    if is_success and len(body) > limit:
        raise BadResponse(f"the remote answers with more than {limit} bytes")
    return Answer(response.status_code, headers, body[:limit])


async def _body(response: httpx.Response, limit: int) -> bytes:
    """The body. One longer than `limit` is given longer than that, not whole, and its connection closed."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    body = _Collected()
    try:
        async for part in response.stream:
            if body.size > limit:
                continue  # what had arrived before the connection was closed
            body.add(part)
            if body.size > limit:
                # Not left by `break`: the generators below would stay as they are, unfinished.
                await response.aclose()
    except httpx.TransportError:
        if body.size <= limit:
            raise
    return body.joined()


class _Collected:
    """Parts of a body. Small ones are put together at once: millions of them take no more memory."""

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._small = bytearray()

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if len(part) < _SMALL:
            self._small += part
            return
        self._flush()
        self._parts.append(part)

    def joined(self) -> bytes:
        self._flush()
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def _flush(self) -> None:
        if self._small:
            self._parts.append(bytes(self._small))
            self._small.clear()


class _BodyStream(httpx.AsyncByteStream):
    """A body that httpx reads a piece at a time. No generator: trio complains of one that is abandoned."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return read_pieces(self._body)


def _length(body: Body | None) -> dict[str, str]:
    """Without this header a body of unknown end would go out in the chunked coding."""
    return {} if body is None else {"Content-Length": str(body_size(body))}


def environment_proxy(origin: str) -> str | None:
    """The proxy that the environment names for a server, as every program reads it; None for none."""
    scheme, _, host = origin.partition("://")
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(host):
        return None
    proxy = proxies.get(scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _transport(context: ssl.SSLContext, proxy: str | None) -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(
        max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=IDLE_S
    )
    try:
        if proxy and urllib.parse.urlsplit(proxy).port == 0:  # what has none that can be raises ValueError
            raise ValueError("no port")
        transport = httpx.AsyncHTTPTransport(
            verify=context, trust_env=False, http2=False, limits=limits, proxy=proxy
        )
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        # Its text is not repeated: the URL of a proxy may hold a password.
        raise ConfigError(
            "the proxy that the environment names cannot be used",
            todo="check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY, or add the server to NO_PROXY",
        ) from error
    # The pool takes a backend, and httpx has no argument for it. Without, all is as before but slower.
    pool = getattr(transport, "_pool", None)
    if isinstance(backend := getattr(pool, "_network_backend", None), httpcore.AsyncNetworkBackend):
        setattr(pool, "_network_backend", WideBackend(backend))  # noqa: B010 - the pool is private
    return transport

"""Reads from the network in larger pieces than httpx asks for.

httpx's pool reads 64 KiB at a time, and each piece goes through five layers of Python: 8 MiB cost some
16 ms, which everything else in the process waits for. Four times as much at a time takes off a third.
Whoever asked for less gets more than that: the parser above takes what comes.
"""

import ssl
from collections.abc import Iterable

import httpcore

READ_BYTES = 256 << 10
"""Of one read; as much as asyncio takes from a socket at once."""


class WideBackend(httpcore.AsyncNetworkBackend):
    """Connections of another backend, with such reads."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore."""
        return _WideStream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await self._inner.sleep(seconds)


class _WideStream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        # Passed through as they are: a layer less for each call.
        self.write = inner.write  # type: ignore[method-assign]
        self.aclose = inner.aclose  # type: ignore[method-assign]
        self.get_extra_info = inner.get_extra_info  # type: ignore[method-assign]

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max(max_bytes, READ_BYTES), timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _WideStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

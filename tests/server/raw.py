"""Requests byte by byte, as no HTTP client would send them."""

import contextlib
import socket
from collections.abc import Iterator

TIMEOUT_S = 30
"""A server that is right answers or closes long before; a test of one that is not ends here."""


@contextlib.contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection to a server."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            found += piece
    return found


def read_answer(connection: socket.socket) -> bytes:
    """One answer with a Content-Length; what has come of it when the server closes before its end."""
    found = b""
    while not _is_whole(found):
        piece = connection.recv(65536)
        if not piece:
            break
        found += piece
    return found


def exchange(url: str, request: bytes) -> bytes:
    """Send bytes on a new connection and read what comes until the server closes."""
    with connected(url) as connection:
        with contextlib.suppress(ConnectionError):  # it may have closed before it has read them all
            connection.sendall(request)
        return read_all(connection)


def status_of(answer: bytes) -> int:
    """The status of the first answer; 0 for none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def head(method: str, path: str, token: str, *lines: str) -> bytes:
    """The beginning of a request, up to its body."""
    first = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}"]
    return "\r\n".join([*first, *lines, "", ""]).encode("latin-1")


def _is_whole(found: bytes) -> bool:
    headers, end, body = found.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in headers.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) >= int(value)
    return True

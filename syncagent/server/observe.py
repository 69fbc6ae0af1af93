"""What can be seen of the server at work: a log line for each request, and counts for Prometheus.

Neither holds a token, a query string, or anything of a body.
"""

import contextlib
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import Scope

_METHODS = {"GET", "HEAD", "PUT", "DELETE"}
_MOST_PATH = 200
_MOST_LINE = 2048
"""Below what a pipe takes at once (PIPE_BUF), so that a line is written whole or not at all."""
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

LineWriter = Callable[[bytes], None]


@dataclass(slots=True)
class Seen:
    """What is known of a request so far. `status` 0: no answer has begun."""

    call: str = "none"
    user: str | None = None
    token_id: str | None = None
    status: int = 0
    problem: str | None = None
    is_body_asked_for: bool = False
    received_bytes: int = 0
    sent_bytes: int = 0


class Observer:
    """Counts and logs every request.

    Args:
        write: takes a log line; None for no log.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, write: LineWriter | None) -> None:
        self._write = write
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "syncagent_requests", "Requests answered", ["method", "call", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "syncagent_request_seconds",
            "From a request's headers to the end of its answer; `changes` waits on purpose",
            ["call"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._received = Counter("syncagent_received_bytes", "Bytes of bodies taken", registry=self._registry)
        self._sent = Counter("syncagent_sent_bytes", "Bytes of bodies sent", registry=self._registry)
        self._problems = Counter(
            "syncagent_problems", "Answers that are problems", ["type"], registry=self._registry
        )
        self._gauge(
            "syncagent_requests_under_way", "Requests that are being answered", lambda: self.under_way
        )
        self.under_way = 0

    def add_gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A number that is asked for when somebody looks."""
        self._gauge(name, text, value)

    def metrics(self) -> bytes:
        """All numbers, as Prometheus reads them."""
        return generate_latest(self._registry)

    @contextlib.contextmanager
    def watching(self, scope: Scope, seen: Seen) -> Iterator[None]:
        """Around one request."""
        began = time.perf_counter()
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            seconds = time.perf_counter() - began
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._requests.labels(method, seen.call, str(seen.status)).inc()
            self._seconds.labels(seen.call).observe(seconds)
            self._received.inc(seen.received_bytes)
            self._sent.inc(seen.sent_bytes)
            if seen.problem:
                self._problems.labels(seen.problem).inc()
            if self._write is not None:
                self._write(_line(scope, seen, seconds))

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(name, text, registry=self._registry).set_function(value)


def _line(scope: Scope, seen: Seen, seconds: float) -> bytes:
    client = scope.get("client")
    document = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "client": client[0] if client else None,
        "user": seen.user,
        "token": seen.token_id,
        "method": scope["method"][:16],
        "path": scope["raw_path"][:_MOST_PATH].decode("ascii", "backslashreplace"),
        "call": seen.call,
        "status": seen.status,
        "problem": seen.problem,
        "received": seen.received_bytes,
        "sent": seen.sent_bytes,
        "ms": round(seconds * 1000, 1),
    }
    return json.dumps(document).encode() + b"\n"


class PatientLog:
    """Writes lines to a descriptor, and drops them while nobody reads there: a log never stops the server."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._dropped = 0

    def __call__(self, line: bytes) -> None:
        """Write a line, or count it as dropped."""
        if not self._is_ready():
            self._dropped += 1
            return
        if self._dropped:
            line, self._dropped = b'{"dropped_lines": %d}\n' % self._dropped + line, 0
        with contextlib.suppress(OSError):  # nobody to tell
            os.write(self._descriptor, line[:_MOST_LINE])

    def _is_ready(self) -> bool:
        if sys.platform == "win32":
            return True  # only sockets can be asked there
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(0))

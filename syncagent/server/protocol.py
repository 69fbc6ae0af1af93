"""Connections: what uvicorn leaves open about clients that are slow, endless, or no HTTP clients at all.

httptools is the parser, chosen here and not by what is installed. It takes a body at a third of
h11's cost, and is the stricter of the two: a request with two lengths, with a length and
chunks, or with folded headers is no request to it. It bounds neither headers nor time.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from syncagent.server.limits import Limits
from syncagent.server.problem import MEDIA_TYPE, malformed

_READ_BYTES = 256 << 10
"""What asyncio reads at once: headers may have come with so much of what follows them."""
_DISCARDED_BYTES = 32 << 20
"""How much of a refused body is read and thrown away, so that the client comes to read the refusal."""
_DISCARD_S = 300.0


def protocol_with(limits: Limits) -> type[HttpToolsProtocol]:
    """The connections of a server with these limits."""

    class Connection(HttpToolsProtocol):
        """One of them. At most one timer runs for what the client sends, and one for what it reads."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._in_headers = True
            self._header_bytes = 0
            self._in_body = False
            self._discarded_bytes = 0
            self._sending = ""
            self._sending_timer: Any = None
            self._reading_timer: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
            else:
                self._watch_sender()

        def connection_lost(self, exc: Exception | None) -> None:
            _stop(self._sending_timer)
            _stop(self._reading_timer)
            self._unset_keepalive_if_required()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._is_answered() and not self._in_body:
                self._in_headers = True  # of the next request, or what poses as one
            if self._in_headers:
                self._header_bytes += len(data)
            elif self._is_answered():
                self._discarded_bytes += len(data)
            most_bytes = limits.header_bytes + _READ_BYTES
            if self._header_bytes > most_bytes or self._discarded_bytes > _DISCARDED_BYTES:
                self.transport.abort()
            else:
                super().data_received(data)
                self._watch_sender()

        def on_headers_complete(self) -> None:
            self._in_headers, self._in_body = False, True
            self._header_bytes = self._discarded_bytes = 0
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._in_body = False
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch_sender()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reading_timer = self.loop.call_later(limits.idle_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            _stop(self._reading_timer)

        def send_400_response(self, msg: str) -> None:
            body = malformed("that is no HTTP request").document()
            lines = [
                "HTTP/1.1 400 Bad Request",
                f"Content-Type: {MEDIA_TYPE}",
                f"Content-Length: {len(body)}",
                "Connection: close",
                "\r\n",
            ]
            self.transport.write("\r\n".join(lines).encode() + body)
            self.transport.close()

        def _is_answered(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _watch_sender(self) -> None:
            """Run the timer of what the client is sending now, other than a body that is being taken."""
            sending, seconds = "", 0.0
            if self._in_headers:
                sending, seconds = "headers", limits.header_s
            elif self._in_body and self._is_answered():
                sending, seconds = "a body to be discarded", _DISCARD_S
            if sending != self._sending:
                _stop(self._sending_timer)
                self._sending = sending
                if sending:
                    self._sending_timer = self.loop.call_later(seconds, self.transport.abort)

    return Connection


def _stop(timer: Any) -> None:
    if timer is not None:
        timer.cancel()

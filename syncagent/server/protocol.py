"""Connections: what uvicorn leaves open about clients that are slow, endless, or no HTTP clients at all.

h11 is the parser, chosen here and not by what is installed: it bounds headers, and refuses
lengths that are no numbers, two that differ, and line folding tricks. What it lets pass and a
proxy may read otherwise (chunked with a length) is refused by `requests.check_shape`.
"""

from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from syncagent.server.limits import Limits
from syncagent.server.problem import MEDIA_TYPE, malformed

_DISCARDED_BYTES = 32 << 20
"""How much of a refused body is read and thrown away, so that the client comes to read the refusal."""
_DISCARD_S = 300.0


def protocol_with(limits: Limits) -> type[H11Protocol]:
    """The connections of a server with these limits."""

    class Connection(H11Protocol):
        """One of them. At most one timer runs for what the client sends, and one for what it reads."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._sending_timer: Any = None
            self._sending_what = ""
            self._reading_timer: Any = None
            self._discarded = 0

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
            else:
                self._watch_sender()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop(self._sending_timer)
            self._stop(self._reading_timer)
            self._unset_keepalive_if_required()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_discarding():
                self._discarded += len(data)
                if self._discarded > _DISCARDED_BYTES:
                    self.transport.abort()
            else:
                self._discarded = 0
            self._watch_sender()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch_sender()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reading_timer = self.loop.call_later(limits.idle_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop(self._reading_timer)

        def send_400_response(self, msg: str) -> None:
            problem = malformed("that is no HTTP request")
            body = problem.document()
            headers = [
                ("Content-Type", MEDIA_TYPE),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
            ]
            answer = h11.Response(status_code=problem.status, headers=headers, reason="Bad Request")
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _is_discarding(self) -> bool:
            return self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY

        def _watch_sender(self) -> None:
            """Run the timer of what the client is sending now, other than a body that is being taken."""
            what, seconds = "", 0.0
            if self._is_discarding():
                what, seconds = "discarded body", _DISCARD_S
            elif self.cycle is None or (self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]):
                what, seconds = "headers", limits.header_s
            if what != self._sending_what:
                self._stop(self._sending_timer)
                self._sending_what = what
                if what:
                    self._sending_timer = self.loop.call_later(seconds, self.transport.abort)

        @staticmethod
        def _stop(timer: Any) -> None:
            if timer is not None:
                timer.cancel()

    return Connection

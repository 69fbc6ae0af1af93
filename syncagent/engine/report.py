"""What a running sync has done so far, and who is told about it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from syncagent.model import Alarm, BlobFailure, Progress

Listener = Callable[[Progress], None]
NOTIFY_EVERY_S = 0.1
"""Progress is told at most this often: a person sees no more."""


@dataclass(slots=True)
class Tally:
    """Counts of one sync, shared by its halves."""

    sent: int = 0
    fetched: int = 0
    sent_bytes: int = 0
    fetched_bytes: int = 0
    conflicts: int = 0
    alarms: list[Alarm] = field(default_factory=list)
    failures: dict[tuple[str, str, str], BlobFailure] = field(default_factory=dict)

    def fail(self, namespace: str, blob_id: str, direction: str, error: str) -> None:
        """Note a blob's own failure; the last one a blob has had counts."""
        self.failures[namespace, blob_id, direction] = BlobFailure(namespace, blob_id, direction, error)


class Meter:
    """Progress of one half of a sync, told to a listener now and then."""

    def __init__(self, phase: str, listener: Listener | None) -> None:
        self._phase = phase
        self._listener = listener
        self._told_at = 0.0
        self.done = 0
        self.total = 0
        self.done_bytes = 0
        self.total_bytes = 0

    def expect(self, blobs: int, size_bytes: int) -> None:
        """Work that was found."""
        self.total += blobs
        self.total_bytes += size_bytes
        self._tell()

    def advance(self, blobs: int, size_bytes: int) -> None:
        """Work that is done."""
        self.done += blobs
        self.done_bytes += size_bytes
        self._tell()

    def finish(self) -> None:
        """Tell the last state, however recent the one before."""
        self._told_at = 0.0
        self._tell()

    def _tell(self) -> None:
        if self._listener is None or time.monotonic() - self._told_at < NOTIFY_EVERY_S:
            return
        self._told_at = time.monotonic()
        self._listener(Progress(self._phase, self.done, self.total, self.done_bytes, self.total_bytes))

"""What a running sync has done so far, and who is told about it."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from syncagent.model import Version
from syncagent.reports import Alarm, Arrival, BlobArrival, BlobFailure, Progress

Listener = Callable[[Progress], None]
ARRIVALS_MOST = 1000
"""Blobs named in a report: what a person looks through, and no memory to speak of."""
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


@dataclass(frozen=True, slots=True)
class Seen:
    """A blob after a version of another device was merged: how it looked and looks, and if that differs."""

    namespace: str
    id: str
    was_live: bool
    is_live: bool
    size: int
    is_other: bool = True
    is_conflict: bool = False

    @classmethod
    def of_new(cls, version: Version) -> "Seen":
        """Of a blob that was not known here."""
        return cls(version.namespace, version.blob_id, False, not version.deleted, version.size)


class Arrivals:
    """Blobs that other devices have changed since the last report; kept in memory until one tells them."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], Seen] = {}
        self._more = 0

    def add(self, found: Iterable[Seen]) -> None:
        """Take versions in the order they were merged."""
        for one in found:
            if one.namespace.startswith("."):
                continue  # internal
            key = one.namespace, one.id
            first = self._seen.get(key)
            if first is not None:
                is_other = first.is_other or one.is_other
                self._seen[key] = replace(one, was_live=first.was_live, is_other=is_other)
            elif len(self._seen) < ARRIVALS_MOST:
                self._seen[key] = one
            else:
                self._more += 1

    def take(self) -> tuple[tuple[BlobArrival, ...], int]:
        """What is to be told, and how many more there were; told once."""
        seen, self._seen = self._seen, {}
        more, self._more = self._more, 0
        return tuple(found for one in seen.values() if (found := _arrival(one)) is not None), more


def _arrival(one: Seen) -> BlobArrival | None:
    came_and_went = not one.was_live and not one.is_live
    if came_and_went or not (one.is_other or one.is_conflict):
        return None
    kind = Arrival.DELETED if not one.is_live else Arrival.CHANGED if one.was_live else Arrival.NEW
    return BlobArrival(one.namespace, one.id, kind, one.size, one.is_conflict)


class Meter:
    """Progress of one half of a sync, told to a listener now and then."""

    def __init__(
        self, phase: str, listener: Listener | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._phase = phase
        self._listener = listener
        self._clock = clock
        self._told_at = -math.inf
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
        self._told_at = -math.inf
        self._tell()

    def _tell(self) -> None:
        if self._listener is None or self._clock() - self._told_at < NOTIFY_EVERY_S:
            return
        self._told_at = self._clock()
        self._listener(Progress(self._phase, self.done, self.total, self.done_bytes, self.total_bytes))

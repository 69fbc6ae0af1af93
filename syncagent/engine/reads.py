"""How often blobs are read on this device, and when last: counted in memory, written a thousand at a time.

No read waits for it but one in a thousand. What is not written down yet is lost when the process ends without
closing its vault: these numbers help to choose what to keep here, and nothing rests on them.
"""

import contextlib
from functools import partial

from syncagent.cache import access
from syncagent.cache.access import Reads
from syncagent.cache.commit import Cache
from syncagent.errors import SyncAgentError

MOST_WAITING = 1000
"""Blobs: some milliseconds of the cache's time, and what a crash may lose."""


class ReadLog:
    """The reads of an open vault that are not written down yet."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Reads] = {}

    def note(self, namespace: str, blob_id: str, now_ms: int, *, is_kept: bool) -> bool:
        """Count a read; whether it is time to `flush`."""
        known = self._waiting.get((namespace, blob_id), Reads(0, now_ms))
        self._waiting[namespace, blob_id] = Reads(
            known.times + 1, max(known.last_at, now_ms), known.is_kept or is_kept
        )
        return len(self._waiting) >= MOST_WAITING

    async def flush(self, cache: Cache) -> None:
        """Write down what waits. What cannot be is forgotten: no call fails for it."""
        waiting, self._waiting = self._waiting, {}
        if waiting:
            with contextlib.suppress(SyncAgentError):
                await cache.write(partial(access.add, reads=waiting))

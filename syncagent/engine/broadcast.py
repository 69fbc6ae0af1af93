"""Events to whoever listens, each with a bounded queue of its own.

What has happened to blobs is read from the cache's log (`cache/news.py`) after it was committed, so
nothing can be told that is not durable, and nothing that is can be forgotten. No task runs for it: a
listener that waits for its next event is woken by a commit and reads for all. While nobody listens,
nothing is read.
"""

import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator, Collection
from functools import partial
from weakref import WeakSet

import anyio
import anyio.lowlevel

from syncagent.cache import news
from syncagent.cache.commit import Cache
from syncagent.cache.news import NewsKind, NewsRow
from syncagent.errors import SyncAgentError
from syncagent.events import (
    BlobChanged,
    BlobDeleted,
    BlobFetched,
    BlobSent,
    BlobStored,
    ConflictAppeared,
    ConflictResolved,
    Event,
    FlagsChanged,
    Missed,
)
from syncagent.reports import Progress

ROWS_AT_ONCE = 256
"""Of the log, in one read: a few milliseconds."""


class Broadcast:
    """Tells events to listeners. Belongs to one event loop.

    Args:
        cache: whose commits are told; its `on_commit` is taken.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._listeners: WeakSet[Listener] = WeakSet()
        self._turn = anyio.Lock()
        self._told_to = 0
        self.is_closed = False
        cache.on_commit = self._note_commit

    def listen(self, queue: int, only: Collection[type[Event]] | None = None) -> "Listener":
        """A new listener; it hears what happens from now on, until nobody holds it any more."""
        if not self._listeners:
            self._told_to = self._cache.stamp
        listener = Listener(self, queue, since=self._cache.stamp, only=only)
        self._listeners.add(listener)
        return listener

    def emit(self, event: Event) -> None:
        """Tell an event that is not of a blob."""
        for listener in list(self._listeners):
            listener.put(event)

    async def emit_after(self, event: Event) -> None:
        """Tell an event after those of the blobs that came before it; at once, if it is cancelled."""
        try:
            if self._listeners:
                with contextlib.suppress(SyncAgentError):  # a listener finds out by itself
                    await self.look()
                    await self.catch_up()
        finally:
            self.emit(event)

    async def look(self) -> None:
        """See what other processes have committed too: a listener that is made now does not hear of it."""
        committed = await self._cache.read(news.last_no)
        self._cache.stamp = max(self._cache.stamp, committed)

    @property
    def is_behind(self) -> bool:
        """Whether something was committed that has not been told."""
        return self._cache.stamp > self._told_to

    async def catch_up(self) -> None:
        """Tell what was committed so far. Raises `CacheDamaged` if the log cannot be read."""
        async with self._turn:
            while self._listeners and self.is_behind:
                rows = await self._cache.read(
                    partial(news.rows_after, number=self._told_to, limit=ROWS_AT_ONCE)
                )
                for row, following in itertools.zip_longest(rows, rows[1:]):
                    event = _event(row)
                    if event is None or _is_part_of(row, following):
                        continue
                    for listener in list(self._listeners):
                        if row.no > listener.since:
                            listener.put(event)
                # Where rows are missing at the end, they are gone.
                self._told_to = rows[-1].no if rows else self._cache.stamp

    async def aclose(self) -> None:
        """Tell the last, and let every listener come to its end."""
        try:
            if self._listeners:
                with contextlib.suppress(SyncAgentError):
                    await self.catch_up()
        finally:
            self.is_closed = True
            self._wake()

    def _note_commit(self) -> None:
        if self._listeners and self.is_behind:
            self._wake()

    def _wake(self) -> None:
        for listener in list(self._listeners):
            listener.wake()


class Listener(AsyncIterator[Event]):
    """Gives events one by one; tasks that share it get a part each. Made by `Broadcast.listen`."""

    def __init__(
        self, broadcast: Broadcast, queue: int, *, since: int, only: Collection[type[Event]] | None = None
    ) -> None:
        self.since = since
        """The last row of the log that it does not hear of."""
        self._broadcast = broadcast
        self._events: deque[Event] = deque()
        self._most = queue
        self._only = Event if only is None else (*only, Missed)
        self._missed = 0
        self._woken = anyio.Event()

    async def __anext__(self) -> Event:
        """The next event. Cancelled, it has taken none."""
        await anyio.lowlevel.checkpoint()  # a listener that always finds one must not hold up the loop
        while True:
            if self._woken.is_set():  # else another task waits for it
                self._woken = anyio.Event()
            if self._broadcast.is_behind and not self._broadcast.is_closed:
                await self._broadcast.catch_up()
            if self._missed:
                count, self._missed = self._missed, 0
                return Missed(count)
            if self._events:
                return self._events.popleft()
            if self._broadcast.is_closed:
                raise StopAsyncIteration
            await self._woken.wait()

    def put(self, event: Event) -> None:
        """Queue an event; without room the oldest one goes. Progress takes the place of older progress."""
        if not isinstance(event, self._only):
            return
        if isinstance(event, Progress) and self._events:
            last = self._events[-1]
            if isinstance(last, Progress) and last.phase == event.phase:
                self._events.pop()
        if len(self._events) >= self._most:
            self._events.popleft()
            self._missed += 1
        self._events.append(event)
        self.wake()

    def wake(self) -> None:
        """There is something to look at."""
        self._woken.set()


def _is_part_of(row: NewsRow, following: NewsRow | None) -> bool:
    """Whether the put or deletion that comes next says it all: what it replaces loses its status first."""
    if row.kind is not NewsKind.OTHER or following is None or following.kind is not NewsKind.MOVED:
        return False
    return (row.namespace, row.blob_id) == (following.namespace, following.blob_id)


def _event(row: NewsRow) -> Event | None:
    if row.namespace.startswith("."):
        return None  # internal
    name = row.namespace, row.blob_id
    match row.kind:
        case NewsKind.MOVED if row.version is not None:
            version = row.version.hex()
            if row.is_live:
                return BlobStored(*name, version, row.size, is_from_afar=not row.is_own)
            return BlobDeleted(*name, version, is_from_afar=not row.is_own)
        case NewsKind.SENT:
            return BlobSent(*name)
        case NewsKind.FETCHED:
            return BlobFetched(*name)
        case NewsKind.FLAGGED if not row.is_gone:  # its deletion is told, and takes them away
            return FlagsChanged(*name)
        case NewsKind.OTHER if not row.is_gone:
            return BlobChanged(*name)
        case NewsKind.DISPUTED:
            return ConflictAppeared(*name)
        case NewsKind.SETTLED:
            return ConflictResolved(*name)
    return None

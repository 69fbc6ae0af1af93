"""A remote in this process, for tests and demonstrations. Nothing outlives the process."""

import bisect
import time
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from syncagent.errors import ObjectExists, ObjectNotFound
from syncagent.names import check_object_name
from syncagent.remote.base import (
    Body,
    ObjectInfo,
    ObjectPage,
    check_get,
    check_list,
    check_put,
    range_end,
    read_pieces,
)


@dataclass(frozen=True, slots=True)
class _Stored:
    data: bytes
    created: float


@dataclass(slots=True, eq=False)
class MemoryStore:
    """The objects that several `MemoryRemote`s share, all of them in one event loop."""

    objects: dict[str, _Stored] = field(default_factory=dict)
    changes: int = 0
    waiters: set[anyio.Event] = field(default_factory=set)


_named: dict[str, MemoryStore] = {}


def named_store(name: str) -> MemoryStore:
    """The store of `memory:NAME`, the same for one name while the process lives; a fresh one for no name."""
    return _named.setdefault(name, MemoryStore()) if name else MemoryStore()


class MemoryRemote:
    """A `Remote` on a dict. Every step that changes the store is free of awaits, hence atomic."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self._store = MemoryStore() if store is None else store

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        """See `Remote.put`. Durable as long as the process."""
        check_put(name, body)
        await anyio.lowlevel.checkpoint()
        data = b"".join([piece async for piece in read_pieces(body)])
        store = self._store
        if not overwrite and name in store.objects:
            raise ObjectExists(f"{name} is there already")
        store.objects[name] = _Stored(data, time.time())
        store.changes += 1
        for waiter in store.waiters:
            waiter.set()

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Remote.get`."""
        check_get(name, start, stop)
        await anyio.lowlevel.checkpoint()
        data = self._find(name).data
        return data[start : range_end(name, len(data), start, stop)]

    async def head(self, name: str) -> ObjectInfo:
        """See `Remote.head`."""
        check_object_name(name)
        await anyio.lowlevel.checkpoint()
        stored = self._find(name)
        return ObjectInfo(name, len(stored.data), stored.created)

    async def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        check_object_name(name)
        await anyio.lowlevel.checkpoint()
        self._store.objects.pop(name, None)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        """See `Remote.list`."""
        limit = check_list(prefix, after, limit)
        await anyio.lowlevel.checkpoint()
        objects = self._store.objects
        names = sorted(name for name in objects if name.startswith(prefix))
        first = bisect.bisect_right(names, after)
        page = names[first : first + limit]
        return ObjectPage(
            tuple(ObjectInfo(name, len(objects[name].data), objects[name].created) for name in page),
            more=first + limit < len(names),
        )

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        """See `Remote.wait_for_change`. The cursor counts the puts."""
        await anyio.lowlevel.checkpoint()
        store = self._store
        if cursor == str(store.changes):
            waiter = anyio.Event()
            store.waiters.add(waiter)
            try:
                with anyio.move_on_after(timeout_s):
                    await waiter.wait()
            finally:
                store.waiters.discard(waiter)
        return str(store.changes)

    async def aclose(self) -> None:
        """See `Remote.aclose`. The store stays for other remotes on it."""
        await anyio.lowlevel.checkpoint()

    def _find(self, name: str) -> _Stored:
        stored = self._store.objects.get(name)
        if stored is None:
            raise ObjectNotFound(f"{name} is not at the remote")
        return stored

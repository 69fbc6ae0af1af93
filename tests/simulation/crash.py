"""The end of a process at a chosen point: the disk stays as it is there, and nothing of the process goes on.

A point is just before and just after every commit that writes to the cache, before and after every remote
call has its effect, and at every await. The folder is copied at the point; what the doomed process still
does to the original is thrown away with it.
"""

import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from syncagent.cache.db import Database
from syncagent.remote.base import Body, ObjectInfo, ObjectPage, Remote
from syncagent.vault import Vault

T = TypeVar("T")


class Crashed(Exception):
    """The process is gone."""


class Kind(Enum):
    """What is counted on the way to a point."""

    COMMIT = "before and after commits"
    CALL = "before and after remote calls have their effect"
    AWAIT = "awaits"
    CANCEL = "awaits, where what is done is cancelled and the process goes on"


@dataclass(frozen=True)
class Point:
    """A point of a process, counted from 0."""

    kind: Kind
    number: int


class Doom:
    """Counts the points a process passes, and ends it at one.

    Args:
        folder: the profile.
        image: where the folder is copied to.
    """

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder = folder
        self.image = image
        self.has_come = False
        self.disk = RLock()
        """Held while something reaches the disk, and while that is copied: another process may be at it."""
        self.kind = Kind.COMMIT
        self._left: int | None = None

    def set(self, point: Point) -> None:
        """End the process at a point."""
        self._left, self.kind = point.number, point.kind

    def lift(self) -> None:
        """It does not come."""
        self._left = None

    @property
    def is_at_awaits(self) -> bool:
        """Whether the point is one for which steps of the event loop must be counted."""
        return self._left is not None and self.kind in (Kind.AWAIT, Kind.CANCEL)

    def check(self) -> None:
        """`Crashed`, for a process that is gone."""
        if self.has_come:
            raise Crashed

    def is_here(self, kind: Kind) -> bool:
        """Pass a point; whether it is the last."""
        if self._left is None or kind is not self.kind:
            return False
        self._left -= 1
        return self._left == -1

    def come(self) -> None:
        """Keep the disk as it is. The caller sees to it that no commit runs in this process."""
        with self.disk:
            self.has_come = True
            self._copy()

    def _copy(self) -> None:
        # The database first: pack files that are newer than it are leftovers, older ones would be missing.
        self.image.mkdir(parents=True)
        for path in sorted(self.folder.iterdir()):
            if path.is_file() and not path.name.endswith("-shm"):
                shutil.copy2(path, self.image / path.name)
        for name in ("keys", "packs"):
            (self.image / name).mkdir()
            for path in sorted((self.folder / name).iterdir()):
                try:
                    shutil.copy2(path, self.image / name / path.name)
                except FileNotFoundError:  # renamed meanwhile: nothing committed needs it under this name
                    continue


def doomed(db: Database, doom: Doom) -> Database:
    """The database, with its commits as points."""
    execute = db.execute
    is_writing = False

    def counted(sql: str, parameters: Sequence[Any] = ()) -> int:
        nonlocal is_writing
        doom.check()
        if sql.startswith("BEGIN"):
            is_writing = sql == "BEGIN IMMEDIATE"
        if sql != "COMMIT" or not is_writing:
            return execute(sql, parameters)
        point()
        with doom.disk:
            doom.check()
            result = execute(sql, parameters)
        point()
        return result

    def point() -> None:
        if doom.is_here(Kind.COMMIT):
            doom.come()
            raise Crashed

    def closing() -> None:
        with doom.disk:  # the log is folded into the file
            close()

    close = db.close
    db.execute, db.close = counted, closing  # type: ignore[method-assign]  # of this one database
    return db


class DoomedRemote:
    """A `Remote` around another, with a point before and after each call has its effect."""

    def __init__(self, inner: Remote, doom: Doom, vault: Callable[[], Vault]) -> None:
        self._inner = inner
        self._doom = doom
        self._vault = vault

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        """See `Remote.put`."""
        await self._passed(lambda: self._inner.put(name, body, overwrite=overwrite))

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Remote.get`."""
        return await self._passed(lambda: self._inner.get(name, start, stop))

    async def head(self, name: str) -> ObjectInfo:
        """See `Remote.head`."""
        return await self._passed(lambda: self._inner.head(name))

    async def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        await self._passed(lambda: self._inner.delete(name))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        """See `Remote.list`."""
        return await self._passed(lambda: self._inner.list(prefix, after=after, limit=limit))

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        """See `Remote.wait_for_change`."""
        return await self._passed(lambda: self._inner.wait_for_change(cursor, timeout_s))

    async def aclose(self) -> None:
        """See `Remote.aclose`."""
        await self._inner.aclose()

    async def _passed(self, act: Callable[[], Awaitable[T]]) -> T:
        await self._point()
        answer = await act()
        await self._point()
        return answer

    async def _point(self) -> None:
        self._doom.check()
        if self._doom.is_here(Kind.CALL):
            await anyio.to_thread.run_sync(come_between_commits, self._doom, self._vault())
            raise Crashed


def come_between_commits(doom: Doom, vault: Vault) -> None:
    """End the process where a worker thread may be at work on the cache: once it has finished."""
    with vault.parts()[0].cache._lock:
        doom.come()

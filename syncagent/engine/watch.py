"""What tells the background loop that there is something to do: the remote's long poll, and a look around.

    RemoteWatch   one long poll after another; replaced when it is dead, paced when it says too much
    LocalWatch    once a second: has another process put something, or has this device been asleep?
                  The cache itself, which takes a thread, is looked at only where its files have changed

Neither syncs. A long poll that came to nothing costs nothing: the loop syncs now and then anyway.
"""

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio

from syncagent.cache import meta, waiting
from syncagent.cache.db import Database
from syncagent.cache.place import Place, load_place
from syncagent.engine.backoff import INTERVAL_FIRST_S, RETRY_AFTER_MOST_S, SYNC_FIRST_S, SYNC_MOST_S
from syncagent.engine.context import Context
from syncagent.errors import SyncAgentError, TransientRemoteError, UnsupportedByRemote
from syncagent.remote.base import Remote

POLL_S = 50.0
"""One long poll: shorter than what proxies and NATs usually allow a silent connection."""
POLL_LEAST_S = 12.0
"""The shortest, where something on the way cuts longer ones off."""
POLL_DEAD_S = 15.0
"""So long after its time nobody is at the other end any more: a NAT has forgotten the connection."""
GATHER_S = 0.2
"""After a change, so that a burst of puts goes out together; and the least time between two long polls."""
PACE_MOST_S = 5.0
"""Between two long polls of a remote that tells of changes and has none, or answers at once for ever."""
LOOK_S = 1.1
"""How long a put by another process may wait until it is noticed. More than a second by what long polls take:
an idle vault wakes up once a second at most."""
ASLEEP_S = 10.0
"""A jump of the clock between two looks: this device was asleep, and its connections are likely dead."""

Wait = Callable[[anyio.Event, float], Awaitable[bool]]
"""Waits for the event, at most so many seconds; whether it came."""


async def wait_for(event: anyio.Event, seconds: float) -> bool:
    """Wait for an event, at most so many seconds; whether it came."""
    with anyio.move_on_after(seconds):
        await event.wait()
    return event.is_set()


class RemoteWatch:
    """Asks the remote to say when something is stored there, for as long as `run` runs.

    Args:
        ctx: the open vault.
        remote: gives the remote that is in use.
        tell: called when something has come, or may have while nobody watched.
        back: called when a watch that was cut off works again.
        wait: for tests, as `clock` is: seconds that pass.
    """

    def __init__(
        self,
        ctx: Context,
        remote: Callable[[], Awaitable[Remote]],
        *,
        tell: Callable[[], None],
        back: Callable[[], None],
        wait: Wait = wait_for,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ctx = ctx
        self._remote = remote
        self._tell = tell
        self._back = back
        self._wait = wait
        self._clock = clock
        self._renewed = anyio.Event()
        self._vain = 0
        self._failures = 0
        self._poll_s = POLL_S
        self.is_alive = False
        """Whether the remote is watched: else only a sync finds out what has come."""

    def renew(self) -> None:
        """The connection is likely dead, or goes to another place: ask anew, now."""
        self._renewed.set()

    def note_news(self) -> None:
        """What the remote told of was true."""
        self._vain = 0

    async def run(self) -> None:
        """Poll until cancelled."""
        cursor: str | None = None
        while True:
            self._renewed = anyio.Event()
            try:
                # After a failure the present cursor is asked for: that is answered at once.
                found = await self._poll(cursor if self.is_alive else None)
            except UnsupportedByRemote:
                self.is_alive = False
                await self._renewed.wait()  # by another remote in its place
                continue
            except SyncAgentError as exc:
                await self._cut_off(exc)
                continue
            if self.is_alive:
                self._failures = 0
                if found != cursor:
                    self._tell()
                    self._vain += 1
            else:
                self.is_alive = True
                if self._failures:
                    self._back()
                if found != cursor:  # what came before the first answer, or while it was cut off
                    self._tell()
            cursor = found
            await self._wait(self._renewed, min(GATHER_S * 2 ** max(self._vain - 1, 0), PACE_MOST_S))

    async def _poll(self, cursor: str | None) -> str:
        """One question; counts it as vain if it was answered early and with nothing.

        Raises:
            SyncAgentError: it was not answered, or `renew` was called meanwhile.
        """
        remote = await self._remote()
        started = self._clock()
        answers: list[str] = []
        problems: list[SyncAgentError] = []
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                try:
                    answers.append(await remote.wait_for_change(cursor, self._poll_s))
                except SyncAgentError as exc:
                    problems.append(exc)
                group.cancel_scope.cancel()

            group.start_soon(ask)
            await self._wait(self._renewed, self._poll_s + POLL_DEAD_S)
            group.cancel_scope.cancel()
        was_long = self._clock() - started > INTERVAL_FIRST_S
        if was_long:
            self._vain = self._failures = 0
        if not answers:
            if self._renewed.is_set():
                self._poll_s = POLL_S
            elif was_long:  # cut off by what allows no connection to be silent for so long, perhaps
                self._poll_s = max(self._poll_s / 2, POLL_LEAST_S)
            raise problems[0] if problems else SyncAgentError("the remote's watch is dead")
        if answers[0] == cursor and not was_long:
            self._vain += 1
        return answers[0]

    async def _cut_off(self, error: SyncAgentError) -> None:
        """The watch has failed: what came since is found by a sync now; then ask again, later each time."""
        was_alive, self.is_alive = self.is_alive, False
        if was_alive:
            self._tell()
        if self._renewed.is_set():
            return
        self._failures += 1
        # Half of it is drawn: all devices of a server that was away come back together.
        delay_s = min(SYNC_FIRST_S * 2 ** min(self._failures, 20), SYNC_MOST_S)
        asked_s = (error.retry_after_s or 0.0) if isinstance(error, TransientRemoteError) else 0.0
        delay_s = max(delay_s * (0.5 + self._ctx.random() / 2), min(asked_s, RETRY_AFTER_MOST_S))
        await self._wait(self._renewed, delay_s)


class LocalWatch:
    """Looks around on this device once a second, for as long as `run` runs.

    Args:
        ctx: the open vault.
        changed: called when another process has put or deleted something.
        resume: called when whatever waits should be tried now: another process has made it due or has
            reached the remote.
        renew: called when the vault has another remote or token.
        wake: called when this device was asleep.
        wait: for tests.
    """

    def __init__(
        self,
        ctx: Context,
        *,
        changed: Callable[[], None],
        resume: Callable[[], None],
        renew: Callable[[], None],
        wake: Callable[[], None],
        wait: Wait = wait_for,
    ) -> None:
        self._ctx = ctx
        self._changed = changed
        self._resume = resume
        self._renew = renew
        self._wake = wake
        self._wait = wait

    async def run(self) -> None:
        """Look until cancelled."""
        never = anyio.Event()
        before: _Look | None = None
        files: _Stamp | None = None
        owed = 0
        looked_at = self._ctx.now()
        while True:
            # Not the monotonic clock, which stands still while a Linux machine sleeps.
            now = self._ctx.now()
            if now - looked_at > LOOK_S + ASLEEP_S:
                self._wake()
            looked_at = now
            files_before, files = files, _stamp(self._ctx.profile.database)
            if files is None or files != files_before:
                owed = 2  # once more later: the time of a file may stand still for some milliseconds
            if owed:
                try:
                    look = partial(_look, before=before, now_ms=self._ctx.now_ms())
                    before = await self._ctx.cache.read(look, background=True)
                except SyncAgentError:
                    pass  # whoever uses the cache is told
                else:
                    owed -= 1
                    self._tell(before)
            await self._wait(never, LOOK_S)

    def _tell(self, found: "_Look") -> None:
        if found.has_moved:
            self._renew()
        elif found.does_resume:
            self._resume()
        elif found.has_put:
            self._changed()


_Stamp = tuple[int, int, int, int]
"""When the cache's file and its log were written last, and how long they were."""


def _stamp(database: Path) -> _Stamp | None:
    """None where that cannot be told, or not in time: Windows notes the time of a file when it is closed."""
    if os.name == "nt":
        return None
    try:
        file, log = database.stat(), database.with_name(database.name + "-wal").stat()
    except OSError:
        return None
    return file.st_mtime_ns, file.st_size, log.st_mtime_ns, log.st_size


@dataclass(frozen=True, slots=True)
class _Look:
    """The cache at one moment, and what another process has done to it since the one before."""

    data_version: int
    hlc: int
    retries_asked: int
    failures: int
    place: Place
    has_moved: bool = False
    has_put: bool = False
    does_resume: bool = False


def _look(db: Database, before: _Look | None, now_ms: int) -> _Look:
    found = _Look(
        data_version=int(db.scalar("PRAGMA data_version")),  # changed by commits of others, not by our own
        hlc=meta.hlc(db),
        retries_asked=meta.find_int(db, meta.RETRIES_ASKED) or 0,
        failures=meta.find_int(db, meta.SYNC_FAILURES) or 0,
        place=load_place(db),
    )
    if before is None or found.data_version == before.data_version:
        return found
    return replace(
        found,
        has_moved=found.place != before.place,
        has_put=found.hlc != before.hlc and waiting.is_upload_due(db, now_ms),
        # By `retry`, or since a sync by hand went through.
        does_resume=found.retries_asked != before.retries_asked or found.failures < before.failures,
    )

"""The background loop of an open vault: one sync after another, for as long as the vault is open.

    a sync → wait 10 to 30 s, less after activity; a local change or the remote's watch ends the wait
    it failed → wait as long as the failure asks for; local changes do not end that wait
    three failed in a row → only a probe runs, until it succeeds or the user resumes

How many failed is kept in the cache, so that a restart, a sync by hand and `retry` count too.
"""

import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio

from syncagent.cache import meta
from syncagent.cache.db import Database
from syncagent.engine.backoff import BREAKER_FAILURES, INTERVAL_FIRST_S, RETRY_AFTER_MOST_S, interval_s
from syncagent.engine.context import Context
from syncagent.engine.engine import Engine
from syncagent.errors import SyncAgentError, UnsupportedByRemote, VaultInUse

WATCH_S = 50.0
"""One long poll: shorter than what proxies and NATs usually allow a silent connection."""
GATHER_S = 0.2
"""After a change, so that a burst of puts goes out together."""

Wait = Callable[[anyio.Event, float], Awaitable[bool]]
"""Waits for the event, at most so many seconds; whether it came."""


async def wait_for(event: anyio.Event, seconds: float) -> bool:
    """Wait for an event, at most so many seconds; whether it came."""
    with anyio.move_on_after(seconds):
        await event.wait()
    return event.is_set()


class BackgroundSync:
    """Syncs until `run` is cancelled; no expected error ends it.

    Args:
        ctx: the open vault.
        engine: runs the rounds.
        wait: for tests.
    """

    def __init__(self, ctx: Context, engine: Engine, wait: Wait = wait_for) -> None:
        self._ctx = ctx
        self._engine = engine
        self._wait = wait
        self._changed = anyio.Event()
        self._resumed = anyio.Event()

    def change(self) -> None:
        """Something was put or deleted here, or has come to the remote: the next sync is now."""
        self._changed.set()

    def resume(self) -> None:
        """The user wants a sync now, whatever has failed before."""
        self._resumed.set()
        self._changed.set()

    async def run(self) -> None:
        """Sync, wait, and again."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            await self._sync_on()

    async def _sync_on(self) -> None:
        pause_s = INTERVAL_FIRST_S
        while True:
            self._changed, self._resumed = anyio.Event(), anyio.Event()
            turn = await self._turn()
            pause_s = interval_s(pause_s, was_active=turn.was_active, has_failed=turn.has_failed)
            if turn.has_failed:
                # Bounded: the clock may have been set back since the time was noted.
                await self._wait(self._resumed, max(pause_s, min(turn.backoff_s, RETRY_AFTER_MOST_S)))
            elif await self._wait(self._changed, pause_s):
                await self._wait(self._resumed, GATHER_S)

    async def _turn(self) -> "_Turn":
        """One round, or a probe while the breaker is open."""
        report = None
        # The engine has noted what failed, with the time of the next attempt.
        with contextlib.suppress(SyncAgentError):
            try:
                if (await self._health()).failures < BREAKER_FAILURES or await self._engine.probe():
                    report = await self._engine.sync()
            except VaultInUse:
                return _Turn()  # another process does it
        if report is not None:
            return _Turn(was_active=bool(report.sent or report.fetched or report.failed or report.alarms))
        with contextlib.suppress(SyncAgentError):
            return _Turn(
                has_failed=True,
                backoff_s=(await self._health()).next_sync_ms / 1000 - self._ctx.now(),
            )
        return _Turn(has_failed=True)

    async def _health(self) -> "_Health":
        return await self._ctx.cache.read(_health)

    async def _watch(self) -> None:
        cursor: str | None = None
        while True:
            try:
                found = await (await self._engine.remote()).wait_for_change(cursor, WATCH_S)
            except UnsupportedByRemote:
                return
            except SyncAgentError:
                await self._wait(self._resumed, INTERVAL_FIRST_S)
                continue
            if cursor is not None and found != cursor:
                self.change()
            cursor = found
            await self._wait(self._resumed, GATHER_S)  # whatever it answers, and however quickly


@dataclass(frozen=True, slots=True)
class _Turn:
    was_active: bool = False
    has_failed: bool = False
    backoff_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Health:
    failures: int
    next_sync_ms: int


def _health(db: Database) -> _Health:
    find = functools.partial(meta.find_int, db)
    return _Health(find(meta.SYNC_FAILURES) or 0, find(meta.NEXT_SYNC_AT) or 0)

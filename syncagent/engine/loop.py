"""The background loop of an open vault: one sync after another, for as long as the vault is open.

    a sync → wait 10 to 30 s, or up to 5 minutes while the remote is watched; any change ends the wait
    it failed → wait as long as the failure asks for; local changes do not end that wait
    three failed in a row → only a probe runs, until it succeeds or the user resumes

How many failed is kept in the cache, so that a restart, a sync by hand and `retry` count too. Who tells of
changes: `watch.py`.
"""

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio

from syncagent.cache import meta
from syncagent.cache.db import Database
from syncagent.engine.backoff import (
    BREAKER_FAILURES,
    INTERVAL_FIRST_S,
    INTERVAL_MOST_S,
    RETRY_AFTER_MOST_S,
    WATCHED_MOST_S,
    interval_s,
)
from syncagent.engine.context import Context
from syncagent.engine.engine import Engine
from syncagent.engine.watch import GATHER_S, LocalWatch, RemoteWatch, Wait, wait_for
from syncagent.errors import SyncAgentError, VaultInUse

IN_USE_S = 0.5
"""Before the lock is tried again that another process holds for its own sync."""


class BackgroundSync:
    """Syncs until `run` is cancelled; no expected error ends it.

    Args:
        ctx: the open vault.
        engine: runs the rounds.
        wait: for tests, as `clock` is.
    """

    def __init__(
        self,
        ctx: Context,
        engine: Engine,
        wait: Wait = wait_for,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ctx = ctx
        self._engine = engine
        self._wait = wait
        self._changed = anyio.Event()
        self._resumed = anyio.Event()
        self._remote_watch = RemoteWatch(
            ctx, engine.remote, tell=self.change, back=self.resume, wait=wait, clock=clock
        )
        self._local_watch = LocalWatch(
            ctx, changed=self.change, resume=self.resume, renew=self.renew, wake=self._wake, wait=wait
        )

    def change(self) -> None:
        """Something was put or deleted here, or has come to the remote: the next sync is now."""
        self._changed.set()

    def resume(self) -> None:
        """The user wants a sync now, whatever has failed before."""
        self._resumed.set()
        self._changed.set()

    def renew(self) -> None:
        """The vault has another remote, or another token for it: try all with that."""
        self._remote_watch.renew()
        self.resume()

    async def run(self) -> None:
        """Sync, wait, and again."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._remote_watch.run)
            group.start_soon(self._local_watch.run)
            await self._sync_on()

    def _wake(self) -> None:
        """This device was asleep."""
        self._engine.forget_connections()
        self.renew()

    async def _sync_on(self) -> None:
        pause_s = INTERVAL_FIRST_S
        while True:
            self._changed, self._resumed = anyio.Event(), anyio.Event()
            turn = await self._turn()
            if turn.is_in_use:
                await self._wait(self._resumed, IN_USE_S)
                continue
            if turn.has_news:
                self._remote_watch.note_news()
            most_s = WATCHED_MOST_S if self._remote_watch.is_alive else INTERVAL_MOST_S
            pause_s = interval_s(
                pause_s, was_active=turn.was_active, has_failed=turn.has_failed, most_s=most_s
            )
            if turn.has_failed:
                # Bounded: the clock may have been set back since the time was noted.
                await self._wait(self._resumed, max(pause_s, min(turn.backoff_s, RETRY_AFTER_MOST_S)))
            elif await self._wait(self._changed, pause_s):
                await self._wait(self._resumed, GATHER_S)

    async def _turn(self) -> "_Turn":
        """One round, or a probe while the breaker is open."""
        try:
            await self._probe_if_due()
            report = await self._engine.sync()
        except VaultInUse as exc:
            self._engine.herald.wait(exc)
            return _Turn(is_in_use=True)
        except SyncAgentError:  # the engine has noted it, with the time of the next attempt
            return await self._failed()
        has_news = bool(report.fetched or report.arrivals)
        return _Turn(
            was_active=has_news or bool(report.sent or report.failed or report.alarms), has_news=has_news
        )

    async def _probe_if_due(self) -> None:
        try:
            if (await self._health()).failures >= BREAKER_FAILURES:
                await self._engine.probe()
        except VaultInUse:
            raise
        except SyncAgentError as exc:
            await self._engine.herald.fail(exc)
            raise

    async def _failed(self) -> "_Turn":
        backoff_s = 0.0
        with contextlib.suppress(SyncAgentError):
            backoff_s = (await self._health()).next_sync_ms / 1000 - self._ctx.now()
        return _Turn(has_failed=True, backoff_s=backoff_s)

    async def _health(self) -> "_Health":
        return await self._ctx.cache.read(_health)


@dataclass(frozen=True, slots=True)
class _Turn:
    """`has_news`: it brought what only another device can have made, whatever the remote says."""

    was_active: bool = False
    has_news: bool = False
    has_failed: bool = False
    is_in_use: bool = False
    backoff_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Health:
    failures: int
    next_sync_ms: int


def _health(db: Database) -> _Health:
    find = functools.partial(meta.find_int, db)
    return _Health(find(meta.SYNC_FAILURES) or 0, find(meta.NEXT_SYNC_AT) or 0)

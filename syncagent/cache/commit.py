"""Group commit by leader: many callers of an event loop, one connection, few fsyncs.

A caller appends its operation to a queue. The first one leads: it runs the
queue on the cache thread, at most `GROUP_SIZE` writes or `GROUP_S` seconds in
one transaction, one savepoint each, and wakes the others. Callers that ask for
the same operation with an item each have it run once, with all their items.
No task of its own runs behind the callers' backs, so it works the same under
asyncio and trio.

An operation gets the `Database`, must not keep it, and may be run again after
damage: it reads all it needs and changes nothing outside the database.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread

from syncagent.cache.db import DamagedConnection, Database, damaged_row
from syncagent.errors import CacheFull, ConfigError, VaultInUse

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741 - an item

GROUP_SIZE = 64
GROUP_S = 0.005
"""Longest time a transaction takes on further writes: an interactive put waits for one group at most."""


class _Job:
    __slots__ = (
        "done",
        "error",
        "event",
        "is_abandoned",
        "is_apart",
        "is_leader",
        "items",
        "operation",
        "result",
        "writes",
    )

    def __init__(
        self, operation: Callable[..., Any], writes: bool, items: Sequence[Any] | None = None
    ) -> None:
        self.operation = operation
        self.items = items  # what a shared operation gets, together with those of others
        self.writes = writes
        self.event = anyio.Event()
        self.done = False
        self.is_leader = False
        self.is_apart = False  # with others it has failed, nobody knows whose fault it is
        self.is_abandoned = False  # its caller was cancelled: it may still run, but cannot lead
        self.result: Any = None
        self.error: BaseException | None = None


class _Turn:
    """One group on the cache thread, and who finishes it: the leader, or the thread if the leader is gone."""

    def __init__(self) -> None:
        self.jobs: list[_Job] = []
        self._lock = threading.Lock()
        self._has_begun = False
        self._has_ended = False
        self._has_no_leader = False

    def begin(self) -> bool:
        """In the thread: whether the group is to run at all."""
        with self._lock:
            self._has_begun = not self._has_no_leader
            return self._has_begun

    def end(self) -> bool:
        """In the thread: whether finishing is left to it."""
        with self._lock:
            self._has_ended = True
            return self._has_no_leader

    def is_ours_to_finish(self) -> bool:
        """In the leader, when it stops waiting: not while the thread is at work."""
        with self._lock:
            self._has_no_leader = not self._has_ended
            return self._has_ended or not self._has_begun


class Cache:
    """The cache as coroutines see it: `write` and `read` run operations on the cache thread."""

    def __init__(
        self, db: Database, stamp: int = 0, stamp_of: Callable[[Database, int], int] | None = None
    ) -> None:
        self._db = db
        self._stamp_of = stamp_of  # called at the end of each transaction, with the stamp so far
        self.stamp = stamp
        """What `stamp_of` gave in the last transaction of ours that was committed."""
        self.on_commit: Callable[[], None] | None = None
        """Called on the event loop after operations were run, before their callers go on."""
        self._interactive: deque[_Job] = deque()
        self._background: deque[_Job] = deque()
        self._has_leader = False
        self._is_background_turn = False
        self._is_closed = False
        self._limiter = anyio.CapacityLimiter(1)
        self._lock = threading.Lock()  # for a thread whose leader is gone: the limiter counts it no more

    async def write(self, operation: Callable[[Database], T], *, background: bool = False) -> T:
        """Run an operation in a transaction; durable on return.

        Background operations run one a transaction, after every interactive one, and
        keep themselves under some 5 ms. If the caller is cancelled the operation may
        or may not be committed. An error of the operation undoes this operation only.

        Raises:
            CacheFull: the disk is full; nothing of the operation was kept.
            CacheDamaged: the operation met a damaged page, on a fresh connection too.
        """
        return await self._submit(_Job(operation, writes=True), background)  # type: ignore[no-any-return]  # a job carries any result

    async def write_each(self, operation: Callable[[Database, Sequence[I]], Sequence[T]], item: I) -> T:
        """As `write`, for an operation on any number of items: run once for all who ask for it at the time.

        Args:
            operation: a function that gives one result an item, for as many of the first as it has time
                for. What is wrong with one item is a result; if it raises, it is run for each item alone.
            item: the caller's own.
        """
        return await self._submit(_Job(operation, writes=True, items=(item,)), False)  # type: ignore[no-any-return]  # a job carries any result

    async def read(self, operation: Callable[[Database], T], *, background: bool = False) -> T:
        """Run an operation that only reads; it sees every write that has returned."""
        return await self._submit(_Job(operation, writes=False), background)  # type: ignore[no-any-return]  # a job carries any result

    async def aclose(self) -> None:
        """Close the connection after the operation that runs; nothing can be asked of it afterwards."""
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._close, limiter=self._limiter)

    async def _submit(self, job: _Job, background: bool) -> Any:
        if self._is_closed:
            raise ConfigError("this vault is closed: use it inside `async with open_vault(…)`")
        (self._background if background else self._interactive).append(job)
        if not self._has_leader:
            self._has_leader = job.is_leader = True
        try:
            while not job.done:
                if job.is_leader:
                    await self._lead(job)
                else:
                    await job.event.wait()
        except BaseException:
            job.is_abandoned = True
            if job.is_leader and not job.done:  # woken to lead and cancelled at once
                self._pass_on()
            raise
        if job.error is not None:
            raise job.error
        return job.result

    async def _lead(self, own: _Job) -> None:
        """Run one group and hand over.

        A shield does not hold against asyncio's own `Task.cancel`: then the thread goes on without
        us, and what we would have done after it is done by it.
        """
        turn = _Turn()
        own.event, own.is_leader = anyio.Event(), False
        try:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._take_turn, turn, limiter=self._limiter)
        finally:
            if turn.is_ours_to_finish():
                self._finish(turn)

    def _finish(self, turn: "_Turn") -> None:
        """On the event loop, once the thread is out of the cache: wake the group and the next leader."""
        for job in turn.jobs:
            job.event.set()
        if self.on_commit is not None:
            self.on_commit()
        self._pass_on()

    def _pass_on(self) -> None:
        for job in (*self._interactive, *self._background):
            if not job.is_abandoned:
                job.is_leader = True
                job.event.set()
                return
        self._has_leader = False

    # The cache thread ---------------------------------------------------------------

    def _take_turn(self, turn: "_Turn") -> None:
        if not turn.begin():
            return
        try:
            with self._lock:
                turn.jobs = self._run_group()
        finally:
            if turn.end():
                # The leader is gone. So may be its event loop; then nobody waits any more.
                with contextlib.suppress(RuntimeError):
                    anyio.from_thread.run_sync(self._finish, turn)

    def _close(self) -> None:
        with self._lock:
            self._db.close()

    def _run_group(self) -> list[_Job]:
        jobs = self._take_group()
        try:
            # Reads first: they must not see what the group has not committed yet.
            for job in jobs:
                if not job.writes:
                    self._run_alone(job)
            writes = [job for job in jobs if job.writes]
            if writes:
                self._interactive.extendleft(reversed(self._commit(writes)))
        except BaseException as exc:  # not even a fresh connection: say so to everyone who waits
            for job in jobs:
                if not job.done:
                    job.error, job.done = _as_damage(exc), True
        return [job for job in jobs if job.done]

    def _take_group(self) -> list[_Job]:
        """An interactive group and one background operation take turns, so that neither starves."""
        if self._background and (self._is_background_turn or not self._interactive):
            self._is_background_turn = False
            return [self._background.popleft()]
        self._is_background_turn = True
        jobs: list[_Job] = []
        while self._interactive and len(jobs) < GROUP_SIZE:
            jobs.append(self._interactive.popleft())
        return jobs

    def _commit(self, jobs: list[_Job]) -> list[_Job]:
        """Run the writes in one transaction; returns those there was no time for."""
        db = self._db
        started = time.monotonic()
        ran: list[_Job] = []
        try:
            try:
                db.execute("BEGIN IMMEDIATE")
            except VaultInUse as exc:  # another process kept the lock: alone, each would wait as long again
                for job in jobs:
                    job.error, job.done = exc, True
                return []
            while len(ran) < len(jobs) and not (ran and time.monotonic() - started > GROUP_S):
                together = _together(jobs, len(ran))
                ran += together
                db.execute("SAVEPOINT operation")
                try:
                    results = _results(db, together)
                except (DamagedConnection, CacheFull):
                    raise
                except BaseException as exc:
                    db.execute("ROLLBACK TO operation")
                    if len(together) > 1:  # each alone, so that nobody pays for another's mistake
                        del ran[-len(together) :]
                        for job in together:
                            job.is_apart = True
                    else:
                        together[0].error = exc
                else:
                    for job, result in zip(together, results, strict=False):
                        job.result = result
                    del ran[len(ran) - len(together) + len(results) :]
                db.execute("RELEASE operation")
            stamp = self._stamp(db)
            db.commit()
            self.stamp = stamp
        except BaseException:
            # Damage, a full disk or a lock: nobody knows whose fault it is, so each runs alone.
            db.reopen()
            ran = ran or jobs[:1]
            for job in ran:
                self._run_alone(job)
        for job in ran:
            job.done = True
        return jobs[len(ran) :]

    def _run_alone(self, job: _Job) -> None:
        job.error = None
        try:
            operation = self._write if job.writes else _read
            job.result = self._db.run(partial(operation, operation=lambda db: _results(db, [job])[0]))
        except BaseException as exc:
            job.error = _as_damage(exc)
        job.done = True

    def _write(self, db: Database, operation: Callable[[Database], T]) -> T:
        db.execute("BEGIN IMMEDIATE")
        try:
            result = operation(db)
            stamp = self._stamp(db)
            db.commit()
        except DamagedConnection:
            raise  # the connection is given up, and the transaction with it
        except BaseException:
            db.reopen()  # rolls back, also where a full disk would fail a ROLLBACK
            raise
        self.stamp = stamp
        return result

    def _stamp(self, db: Database) -> int:
        return self.stamp if self._stamp_of is None else self._stamp_of(db, self.stamp)


def _together(jobs: Sequence[_Job], first: int) -> list[_Job]:
    """The job that is next, and those after it that share its operation."""
    items = jobs[first].items
    stop = first + 1
    while items is not None and stop < len(jobs) and _goes_with(jobs[first], jobs[stop]):
        stop += 1
    return list(jobs[first:stop])


def _goes_with(first: _Job, other: _Job) -> bool:
    return other.operation is first.operation and not (first.is_apart or other.is_apart)


def _results(db: Database, jobs: Sequence[_Job]) -> Sequence[Any]:
    if jobs[0].items is None:
        return [jobs[0].operation(db)]
    results: Sequence[Any] = jobs[0].operation(db, [item for job in jobs for item in job.items or ()])
    assert results, "an operation has time for one item at least"
    return results


def _read(db: Database, operation: Callable[[Database], T]) -> T:
    """In a transaction too: an operation of several statements sees one state of the cache."""
    db.execute("BEGIN")
    try:
        result = operation(db)
    except DamagedConnection:
        raise
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")
    return result


def _as_damage(exc: BaseException) -> BaseException:
    return damaged_row(exc) if isinstance(exc, DamagedConnection) else exc

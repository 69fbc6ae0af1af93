"""What listeners are told of a sync as a whole: that it runs, how it ended, and what a user should know.

What lasts from sync to sync, such as a remote that refuses, is told when it begins.
"""

from syncagent.engine.broadcast import Broadcast
from syncagent.engine.report import Listener
from syncagent.errors import SyncAgentError, VaultInUse
from syncagent.events import AttentionNeeded, StateChanged, SyncFinished, SyncStarted, SyncWaiting
from syncagent.reports import Alarm, Progress, SyncReport, SyncState

WAITS_TOLD = 4
"""Tries of the background for the lock, two seconds of them, before it is told: most syncs are quicker."""


class Herald:
    """Tells of the syncs of one open vault.

    Args:
        events: who listens.
    """

    def __init__(self, events: Broadcast) -> None:
        self._events = events
        self._alarms: frozenset[Alarm] = frozenset()
        self._waits = 0
        self._has_told_wait = False

    def progress(self, listener: Listener | None) -> Listener:
        """Tells the progress of a sync to its caller's listener too."""

        def tell(progress: Progress) -> None:
            if listener is not None:
                listener(progress)
            self._events.emit(progress)

        return tell

    async def start(self) -> None:
        """A sync begins."""
        await self._events.emit_after(SyncStarted())

    async def finish(self, report: SyncReport) -> None:
        """It went through."""
        self._end_wait()
        await self._events.emit_after(SyncFinished(report=report))
        before, self._alarms = self._alarms, frozenset(report.alarms)
        for alarm in report.alarms:
            if alarm not in before:
                self._events.emit(AttentionNeeded(alarm.kind, alarm.message, alarm.safe, alarm.todo))

    async def fail(self, error: SyncAgentError) -> None:
        """It was stopped by an error, or could not begin."""
        if not isinstance(error, VaultInUse):
            self._end_wait()
        await self._events.emit_after(SyncFinished(error=error))

    def interrupt(self) -> None:
        """It was cancelled."""
        self._events.emit(SyncFinished())

    def wait(self, error: VaultInUse) -> None:
        """The background has found the lock taken or, which took it long, the cache locked: without a pid."""
        self._waits += 1
        if not self._has_told_wait and (self._waits == WAITS_TOLD or not error.pid):
            self._has_told_wait = True
            self._events.emit(SyncWaiting(error))

    def change_state(self, state: SyncState, error: SyncAgentError | None = None) -> None:
        """Syncing works again, or does not any more."""
        reason = "" if error is None else f"{type(error).__name__}: {error}"
        self._events.emit(StateChanged(state, reason))
        if error is not None and state is SyncState.STOPPED:
            self._events.emit(AttentionNeeded(type(error).__name__, str(error), error.safe, error.todo))

    def _end_wait(self) -> None:
        self._waits, self._has_told_wait = 0, False

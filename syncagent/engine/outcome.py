"""How a sync ended, kept in the cache for `status`, for the background loop, and for the next one."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from syncagent.cache import alarms, meta, queries
from syncagent.cache.db import Database
from syncagent.engine.backoff import STOPPED_S, sync_delay_s
from syncagent.engine.context import Context
from syncagent.errors import SyncAgentError, TransientRemoteError
from syncagent.reports import Alarm, SyncState


@dataclass(frozen=True, slots=True)
class Success:
    """The alarms that the report is to tell, and whether syncing did not work before."""

    alarms: tuple[Alarm, ...]
    is_recovery: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """What state the vault is in since, and whether that is news."""

    state: SyncState
    is_new: bool


async def note_failure(ctx: Context, error: SyncAgentError, found: Sequence[Alarm]) -> Failure:
    """A sync was stopped by an error."""
    is_transient = isinstance(error, TransientRemoteError)
    state = SyncState.BACKING_OFF if is_transient else SyncState.STOPPED
    retry_after_s = error.retry_after_s if isinstance(error, TransientRemoteError) else None
    operation = partial(
        _note_failure,
        reason=f"{type(error).__name__}: {error}",
        found=found,
        todo=error.todo,
        is_transient=is_transient,
        now_ms=ctx.now_ms(),
        random=ctx.random(),
        retry_after_s=retry_after_s,
    )
    before: str | None = None
    # The caller is about to be told; a disk too full to note it must not hide the first error.
    with contextlib.suppress(SyncAgentError):
        before = await ctx.cache.write(operation)
    is_other = queries.state_of(before) is not state
    if state is SyncState.STOPPED and before is not None:
        is_other = is_other or before.partition(":")[0] != type(error).__name__
    return Failure(state, is_other)


async def note_success(ctx: Context, found: Sequence[Alarm]) -> Success:
    """A sync went through."""
    # Read first: a sync with nothing to do must not write.
    if await ctx.cache.read(partial(_is_noted, found=found)):
        return Success(tuple(dict.fromkeys(found)), is_recovery=False)
    return await ctx.cache.write(partial(_note_success, found=found))


def _note_failure(
    db: Database,
    *,
    reason: str,
    found: Sequence[Alarm],
    todo: str,
    is_transient: bool,
    now_ms: int,
    random: float,
    retry_after_s: float | None,
) -> str | None:
    before = meta.find_text(db, meta.SYNC_REASON)
    failures = (meta.find_int(db, meta.SYNC_FAILURES) or 0) + 1
    delay_s = sync_delay_s(failures, random, retry_after_s) if is_transient else STOPPED_S
    meta.put(db, meta.SYNC_FAILURES, failures)
    meta.put(db, meta.NEXT_SYNC_AT, now_ms + int(delay_s * 1000))
    meta.put(db, meta.SYNC_REASON, reason)
    meta.put(db, meta.SYNC_TODO, todo)
    alarms.keep(db, found)
    return before


def _is_noted(db: Database, found: Sequence[Alarm]) -> bool:
    return meta.find_text(db, meta.SYNC_REASON) is None and alarms.is_quiet(db, found)


def _note_success(db: Database, found: Sequence[Alarm]) -> Success:
    is_recovery = meta.find_text(db, meta.SYNC_REASON) is not None
    for key in (meta.SYNC_FAILURES, meta.NEXT_SYNC_AT, meta.SYNC_REASON, meta.SYNC_TODO):
        meta.put(db, key, None)
    return Success(alarms.tell(db, found), is_recovery)

"""Flags of a namespace's blobs, and when they expire."""

import datetime
from collections.abc import Iterable, Sequence
from functools import partial

from syncagent import names
from syncagent.answers import FlagsResult
from syncagent.asked import checked_bool
from syncagent.blobs.inside import Inside
from syncagent.cache import expiries
from syncagent.cache.chunks import batched
from syncagent.cache.db import Database
from syncagent.engine import history, marks
from syncagent.engine.history import Name
from syncagent.engine.marks import FlagsStep
from syncagent.errors import BlobNotFound, ConfigError, InvalidName, LimitExceeded
from syncagent.journal.checks import check_flags
from syncagent.model import NEVER
from syncagent.times import utc

_BLOBS_A_COMMIT = 250
"""Some 10 ms of the cache's time, for which a put waits."""


async def get_flags(inside: Inside, blob_id: str) -> frozenset[str]:
    """The flags of a blob; see `Namespace.get_flags`."""
    blob_id = names.check_blob_id(blob_id)

    def find(db: Database) -> frozenset[str]:
        return marks.flags_of(db, marks.find_live(db, inside.name, blob_id, inside.ctx.now_ms()).no)

    return await inside.ctx.cache.read(find)


async def change_flags(
    inside: Inside,
    blob_id: str,
    *,
    add: Iterable[str] = (),
    remove: Iterable[str] = (),
    only: Iterable[str] | None = None,
) -> frozenset[str]:
    """Change the flags of one blob; see `Namespace.add_flags`."""
    step = FlagsStep(check_flags(add), check_flags(remove), None if only is None else check_flags(only))
    change = partial(_change, inside=inside, blob_id=names.check_blob_id(blob_id), step=step)
    changed = await inside.ctx.cache.write(change)
    inside.engine.note_change()
    return changed


async def set_flags(inside: Inside, blob_id: str, flags: Iterable[str]) -> frozenset[str]:
    """Let a blob have these flags alone; see `Namespace.set_flags`."""
    return await change_flags(inside, blob_id, only=check_flags(flags))


async def update_flags(
    inside: Inside, blob_ids: Iterable[str], *, add: Iterable[str], remove: Iterable[str]
) -> list[FlagsResult]:
    """Change the flags of many blobs; see `Namespace.update_flags`."""
    blob_ids = names.check_several(blob_ids)
    step = FlagsStep(check_flags(add), check_flags(remove))
    results: list[FlagsResult] = []
    for part in batched(blob_ids, _BLOBS_A_COMMIT):
        change = partial(_change_each, inside=inside, blob_ids=part, step=step)
        results += await inside.ctx.cache.write(change)
    inside.engine.note_change()
    return results


async def set_expiry(
    inside: Inside, blob_id: str, at: datetime.datetime | None, *, force: bool
) -> datetime.datetime | None:
    """Let a blob expire; see `Namespace.set_expiry`."""
    name = Name(inside.name, names.check_blob_id(blob_id))
    checked_bool(force, "force")
    at_ms = NEVER if at is None else checked_time(at)
    now_ms = inside.ctx.now_ms()
    if at_ms <= now_ms and not force:
        raise ConfigError("the time is past", todo="force=True lets the blob go at once")

    def change(db: Database) -> int | None:
        row = history.find_known(db, name)
        if row.is_deleted:
            raise BlobNotFound(f"{name} is not on this device")
        is_said = bool(expiries.known(db, row.no))  # that it never expires may have to be said, too
        if force or not is_said or at_ms != (NEVER if row.expires_at is None else row.expires_at):
            blob = marks.marked(db, row.no, name.namespace, name.id)
            marks.set_expiry(db, blob, at_ms, now_ms=now_ms, forced=force)
        return history.find_known(db, name).expires_at

    expires_at = await inside.ctx.cache.write(change)
    inside.engine.note_change()
    return None if expires_at is None else utc(expires_at)


def checked_time(at: datetime.datetime) -> int:
    """A caller's time in Unix ms, or `ConfigError`."""
    if not isinstance(at, datetime.datetime) or at.tzinfo is None:
        raise ConfigError("a time is a datetime with a time zone", safe="nothing was changed")
    return int(at.timestamp() * 1000)


def _change(db: Database, *, inside: Inside, blob_id: str, step: FlagsStep) -> frozenset[str]:
    blob = marks.find_live(db, inside.name, blob_id, inside.ctx.now_ms())
    return marks.change_flags(db, blob, step)


def _change_each(
    db: Database, *, inside: Inside, blob_ids: Sequence[str], step: FlagsStep
) -> list[FlagsResult]:
    results: list[FlagsResult] = []
    for blob_id in blob_ids:
        try:  # what these name is found before the first row is changed
            flags = _change(db, inside=inside, blob_id=names.check_blob_id(blob_id), step=step)
            results.append(FlagsResult(blob_id, flags))
        except (InvalidName, BlobNotFound, LimitExceeded) as exc:
            results.append(FlagsResult(blob_id, error=exc))
    return results

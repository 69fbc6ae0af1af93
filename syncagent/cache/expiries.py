"""What has been said of when blobs expire: only what can still count.

A change is dropped that can decide nothing any more, whatever else comes: one older than the newest forced
one, or one that another, not older, puts off as far or further. What is left of a blob, by age, is the
newest forced change, then others, each newer than the one before and less far off. So a blob that is put
off each day has one row, and what all of them come to stands at the beginning. `journal/merge.py` says the
same of many changes at once.
"""

from dataclasses import dataclass

from syncagent.cache.db import Database
from syncagent.model import NEVER, Hlc


@dataclass(frozen=True, slots=True)
class ExpiryRow:
    """One change of when a blob expires."""

    at: int
    forced: bool
    hlc: Hlc


def add(db: Database, blob: int, change: ExpiryRow, device: int) -> None:
    """Take over a change, and note what all of them come to."""
    if _counts(db, blob, change):
        _drop_outdone(db, blob, change)
        db.execute(
            "INSERT OR IGNORE INTO expiry VALUES (?, ?, ?, ?, ?)",
            (blob, change.hlc, device, change.at, change.forced),
        )
        _note(db, blob)


def forget(db: Database, blob: int, device: int) -> None:
    """Drop what a device has said of a blob, and note what is left."""
    if db.changed("DELETE FROM expiry WHERE blob_no = ? AND device_no = ?", (blob, device)):
        _note(db, blob)


def known(db: Database, blob: int) -> list[ExpiryRow]:
    """What has been said of a blob and can still count, the oldest first."""
    rows = db.all("SELECT at, forced, hlc FROM expiry WHERE blob_no = ? ORDER BY hlc", (blob,))
    return [ExpiryRow(at, bool(forced), Hlc(hlc)) for at, forced, hlc in rows]


def newest(db: Database, blob: int) -> int:
    """The clock value of the newest change; 0 where there is none."""
    return int(db.scalar("SELECT max(hlc) FROM expiry WHERE blob_no = ?", (blob,)) or 0)


def set_expires_at(db: Database, blob: int, at: int | None) -> None:
    """Note when a blob expires."""
    db.execute("UPDATE blob SET expires_at = ? WHERE no = ?", (at, blob))


def is_over(db: Database, blob: int, at: int) -> bool:
    """Whether a blob has expired by a time."""
    found = db.scalar("SELECT 1 FROM blob WHERE no = ? AND expires_at <= ?", (blob, at))
    return found is not None


def _note(db: Database, blob: int) -> None:
    # The forced one and the first of the others.
    at = db.scalar(
        "SELECT max(at) FROM (SELECT at FROM expiry WHERE blob_no = ? ORDER BY hlc LIMIT 2)", (blob,)
    )
    set_expires_at(db, blob, None if at == NEVER else at)


def _counts(db: Database, blob: int, change: ExpiryRow) -> bool:
    oldest = db.all("SELECT hlc, at, forced FROM expiry WHERE blob_no = ? ORDER BY hlc LIMIT 2", (blob,))
    for hlc, at, is_forced in oldest:
        if is_forced and (change.hlc < hlc or (change.hlc == hlc and change.at <= at)):
            return False
    if change.forced:
        return True
    later = db.scalar(
        "SELECT at FROM expiry WHERE blob_no = ? AND hlc >= ? AND NOT forced ORDER BY hlc LIMIT 1",
        (blob, change.hlc),
    )
    return later is None or later < change.at


def _drop_outdone(db: Database, blob: int, change: ExpiryRow) -> None:
    if change.forced:
        db.execute("DELETE FROM expiry WHERE blob_no = ? AND hlc < ?", (blob, change.hlc))
        db.execute("DELETE FROM expiry WHERE blob_no = ? AND hlc = ? AND forced", (blob, change.hlc))
    # The others stand one behind the other: those that it outdoes come right before it.
    kept = db.scalar(
        "SELECT hlc FROM expiry WHERE blob_no = ? AND hlc <= ? AND NOT forced AND at > ?"
        " ORDER BY hlc DESC LIMIT 1",
        (blob, change.hlc, change.at),
    )
    db.execute(
        "DELETE FROM expiry WHERE blob_no = ? AND hlc > ? AND hlc <= ? AND NOT forced",
        (blob, -1 if kept is None else kept, change.hlc),
    )

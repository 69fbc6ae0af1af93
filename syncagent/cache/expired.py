"""Blobs whose time came long enough ago for their content to be given up on this device."""

from collections.abc import Sequence
from dataclasses import dataclass

from syncagent.cache import expiries, holding
from syncagent.cache.db import Database
from syncagent.model import SyncStatus

PAGE = 500
"""Rows looked at in one go: a few milliseconds."""

_GIVEN_UP = ",".join(
    str(int(status))
    for status in (SyncStatus.SYNCED, SyncStatus.PENDING_DOWNLOAD, SyncStatus.FAILED_DOWNLOAD)
)


@dataclass(frozen=True, slots=True)
class Place:
    """How far the blobs of a namespace have been looked at, by (time, number)."""

    expires_at: int
    blob_no: int


@dataclass(frozen=True, slots=True)
class ExpiredPage:
    """Blobs of which something may be given up, and where to look next; None at the end."""

    blobs: Sequence[int]
    next: Place | None


START = Place(0, 0)


def namespaces(db: Database) -> list[int]:
    """The numbers of all namespaces."""
    return [row[0] for row in db.all("SELECT no FROM namespace ORDER BY no")]


def page(db: Database, namespace: int, *, before_ms: int, after: Place) -> ExpiredPage:
    """Blobs of a namespace that expired by a time, and whose content is here, or wanted here."""
    rows = db.all(
        "SELECT expires_at, no, NOT deleted AND NOT pinned AND winner_no IS NOT NULL"  # noqa: S608 - numbers
        f" AND status IN ({_GIVEN_UP}) FROM blob INDEXED BY blob_expires"
        " WHERE namespace_no = ?1 AND expires_at IS NOT NULL AND expires_at <= ?2"
        f" AND (expires_at, no) > (?3, ?4) ORDER BY expires_at, no LIMIT {PAGE}",
        (namespace, before_ms, after.expires_at, after.blob_no),
    )
    end = Place(rows[-1][0], rows[-1][1]) if len(rows) == PAGE else None
    return ExpiredPage([number for _, number, is_here in rows if is_here], end)


def give_up(db: Database, blob: int, *, before_ms: int, proven: set[int]) -> bool:
    """Want an expired blob's content here no more; whether that was done.

    Not where it was put off meanwhile, where this device alone has it, or where some of it is in none of
    these packs.
    """
    if not expiries.is_over(db, blob, before_ms) or holding.is_held(db, blob) or holding.has_unsent(db, blob):
        return False
    if holding.unproven(db, blob, proven):
        return False
    holding.give_up(db, blob)
    return True

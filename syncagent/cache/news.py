"""The log of what has changed in this cache, blob by blob, in the order of its commits.

Triggers write it (`schema.py`), so no code path can forget it, and a row is durable with what it
tells of. Rows get their marks at the end of the transaction: a trigger that calls a function, and be it
`random`, has SQLite keep a copy of every page that each row touches. The log tells an application what
to look at again (`changes.py`), and listeners what has happened (`engine/broadcast.py`). It is of this
device and never leaves it. Numbers have no gaps; old rows are dropped, the newest never is.
"""

import enum
from dataclasses import dataclass

from syncagent.cache.db import Database
from syncagent.model import VersionId

KEPT = 250_000
"""Rows kept: some 5 MB, and weeks of an eager user's changes."""
TRIMMED_AT_ONCE = 10_000
"""Rows of one transaction: a few milliseconds."""


class NewsKind(enum.IntEnum):
    """What has happened to a blob."""

    MOVED = 1
    DISPUTED = 2
    SETTLED = 3
    FLAGGED = 4
    SENT = 5
    FETCHED = 6
    OTHER = 7


@dataclass(frozen=True, slots=True)
class Position:
    """A row of the log; number 0 is before the first. `mark` tells it from the same number elsewhere."""

    no: int
    mark: int


@dataclass(frozen=True, slots=True)
class NewsRow:
    """One entry. The last but one are of the version that a blob has moved to, while it is known.

    `is_gone` tells of the blob as it is now, not as it was when this was written: it is deleted.
    """

    no: int
    kind: NewsKind
    namespace: str
    blob_id: str
    version: VersionId | None
    size: int
    is_live: bool
    is_own: bool
    is_gone: bool


def sql_kinds(script: str) -> str:
    """A script in which each `@name` of a kind is its number."""
    for kind in NewsKind:
        script = script.replace(f"@{kind.name.lower()}", str(kind.value))
    return script


def last(db: Database) -> Position:
    """The newest row."""
    row = db.one("SELECT no, mark FROM news ORDER BY no DESC LIMIT 1")
    return Position(0, 0) if row is None else Position(*row)


def last_no(db: Database) -> int:
    """The number of the newest row."""
    return int(db.scalar("SELECT max(no) FROM news") or 0)


def mark_new(db: Database, behind: int) -> int:
    """Give the rows that a transaction has written their marks, before it commits.

    Args:
        db: the cache, in that transaction.
        behind: the newest row that is known to have its mark.

    Returns:
        The number of the newest row.
    """
    newest = last_no(db)
    if newest > behind:
        # Rows of other processes are among these, and have theirs: 0 is that of a row without one.
        db.execute("UPDATE news SET mark = random() & 4294967295 | 1 WHERE no > ? AND mark = 0", (behind,))
    return newest


def rows_after(db: Database, number: int, limit: int) -> list[NewsRow]:
    """Rows behind a number, in order. A version that is known no more is None: others have replaced it."""
    own = db.scalar("SELECT no FROM device WHERE id = (SELECT value FROM meta WHERE key = 'device_id')")
    rows = db.all(
        "SELECT news.no, kind, namespace.name, blob.id, version.id, version.size, version.deleted,"
        " version.device_no, blob.deleted FROM news JOIN blob ON blob.no = news.blob_no"
        " JOIN namespace ON namespace.no = namespace_no"
        " LEFT JOIN version ON version.no = news.version_no AND version.blob_no = news.blob_no"
        " WHERE news.no > ? ORDER BY news.no LIMIT ?",
        (number, limit),
    )
    return [
        NewsRow(
            *(no, NewsKind(kind), name, blob, version, size or 0),
            is_live=not deleted,
            is_own=device == own,
            is_gone=bool(gone),
        )
        for no, kind, name, blob, version, size, deleted, device, gone in rows
    ]


def is_known(db: Database, position: Position) -> bool:
    """Whether everything after a position is in the log, and the position was given out by this cache."""
    if position.no == 0:
        return (db.scalar("SELECT min(no) FROM news") or 1) == 1
    return bool(db.scalar("SELECT mark FROM news WHERE no = ?", (position.no,)) == position.mark)


def trim(db: Database, keep: int = KEPT) -> int:
    """Drop some of the oldest rows beyond those kept; how many."""
    return db.changed(
        "DELETE FROM news WHERE no IN (SELECT no FROM news WHERE no <= (SELECT max(no) FROM news) - ?"
        " ORDER BY no LIMIT ?)",
        (keep, TRIMMED_AT_ONCE),
    )


def is_long(db: Database, keep: int = KEPT) -> bool:
    """Whether there is something to trim."""
    return bool(db.scalar("SELECT max(no) - min(no) >= ? FROM news", (keep,)))

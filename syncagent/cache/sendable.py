"""What of the queue can be sent or published now, by (priority, age), a part of the queue at a time.

`outbox.py` fills the queue and settles it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from syncagent.cache.chunks import IS_HERE, IS_THERE, SQL_VARIABLES, batched
from syncagent.cache.db import Database, Row
from syncagent.model import GroupId

_AHEAD_MS = 3600 * 1000
"""A clock that is put right by so much while a sync runs must not hold anything up."""
_IS_SEEN = (
    "EXISTS (SELECT 1 FROM pack_chunk AS place JOIN pack ON pack.no = place.pack_no"  # noqa: S608 - fixed text
    " WHERE place.chunk_no = version_chunk.chunk_no AND is_remote"
    f" AND seen_at BETWEEN ?1 AND ?2 + {_AHEAD_MS}{{}})"
)
"""SQL: the chunk is in a pack that was seen at the remote since ?1; ?2 is now. With room for a condition."""
_IS_ELSEWHERE = (
    "EXISTS (SELECT 1 FROM chunk WHERE chunk.no = version_chunk.chunk_no"  # noqa: S608 - fixed text
    f" AND NOT {IS_HERE} AND EXISTS (SELECT 1 FROM version_chunk AS use JOIN version AS other"
    " ON other.no = use.version_no WHERE use.chunk_no = chunk.no AND other.seq > 0"
    " AND other.no <> version_chunk.version_no))"
)
"""SQL: the chunk is not here, and another version that was published names it: a pack of it was there once.

New metadata says nothing of that content that was not said before, and cannot wait for it.
"""
_LACKS = (
    "EXISTS (SELECT 1 FROM version_chunk WHERE version_chunk.version_no = {version}"  # noqa: S608 - fixed text
    f" AND NOT {_IS_SEEN.format(' AND pack.batch_seq IS NOT NULL')} AND NOT {_IS_ELSEWHERE})"
)
"""SQL: a version has content that must be sent, or looked for, or whose pack must be named first."""
_TOUCHES = (
    "upload.group_id IN (SELECT other.group_id FROM upload AS other"
    " JOIN version AS touched ON touched.no = other.version_no"
    " JOIN blob AS named ON named.no = touched.blob_no"
    " WHERE other.group_id IS NOT NULL AND named.namespace_no = ?3)"
)
"""SQL: the row is part of a transaction that touches a namespace."""
_HAS_NEWER = (
    "EXISTS (SELECT 1 FROM pack_chunk AS old JOIN pack_chunk AS new"
    " ON new.chunk_no = old.chunk_no AND new.pack_no > old.pack_no JOIN pack AS newer"
    " ON newer.no = new.pack_no AND newer.has_file WHERE old.pack_no = pack.no)"
)
_UNSENT = (
    "SELECT upload.version_no, chunk.no, chunk.raw_length, version.size,"  # noqa: S608 - fixed text
    " (SELECT max(pack_no) FROM pack_chunk JOIN pack ON pack.no = pack_no"
    # One that the remote has altered cannot be put there again: its name is taken.
    f"   WHERE pack_chunk.chunk_no = chunk.no AND has_file AND seen_at >= 0 AND NOT {_HAS_NEWER}),"
    f" {IS_THERE}, priority, upload.no, position"
    " FROM upload JOIN version ON version.no = upload.version_no JOIN blob ON blob.no = version.blob_no"
    " JOIN version_chunk ON version_chunk.version_no = version.no JOIN chunk ON chunk.no = chunk_no"
    " WHERE upload.batch_seq IS NULL AND next_attempt_at <= ?2"
    " AND priority = ?4 AND upload.no >= ?5 AND upload.no <= ?6 AND (upload.no > ?5 OR position > ?7)"
    f" AND (?3 IS NULL OR namespace_no = ?3 OR {_TOUCHES})"
    f" AND NOT {_IS_SEEN.format('')} AND NOT {_IS_ELSEWHERE} ORDER BY upload.no, position LIMIT ?8"
)
"""SQL: chunks of the rows of a span, from a chunk of its first row on."""
_READY = (
    "SELECT upload.no, priority, upload.version_no, change FROM upload"  # noqa: S608 - fixed text
    " LEFT JOIN version ON version.no = upload.version_no LEFT JOIN blob ON blob.no = version.blob_no"
    " WHERE batch_seq IS NULL AND group_id IS NULL AND next_attempt_at <= ?2"
    " AND (?3 IS NULL OR namespace_no = ?3 OR upload.version_no IS NULL)"
    f" AND NOT {_LACKS.format(version='upload.version_no')}"
)
"""SQL: rows that may go in a batch now; since when packs were seen, the time, a namespace or null."""
_UNSEEN_IN_OUTBOX = (
    "SELECT upload.version_no, version_chunk.chunk_no FROM upload"  # noqa: S608 - fixed text
    " JOIN version_chunk ON version_chunk.version_no = upload.version_no"
    f" WHERE upload.batch_seq IS NOT NULL AND NOT {_IS_SEEN.format('')} AND NOT {_IS_ELSEWHERE}"
)
_LOOKED_AT = 10_000
"""Rows looked at for one batch: when most cannot go yet, looking at all would hold up everyone else."""
_LAST = 1 << 62
"""After every priority and number of a row."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far the queue has been read, by (priority, age): behind this row, or this chunk of its content."""

    priority: int
    no: int
    chunk: int = _LAST


START = Position(-1, 0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row of the queue: either a version or the bytes of a change."""

    no: int
    priority: int
    version_no: int | None
    change: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadyPage:
    """Rows of a part of the queue that may go in a batch; `next` is where it ends, None at the end of all."""

    rows: Sequence[Waiting]
    next: Position | None


@dataclass(frozen=True, slots=True)
class UnsentChunk:
    """A chunk that a pending version needs and the remote does not hold, or has not been seen to hold lately.

    `pack_no` is a pack file of this device that holds it, ready to be sent. `is_named` tells that there is a
    pack at the remote that should hold it.
    """

    version_no: int
    chunk_no: int
    raw_length: int
    blob_size: int
    pack_no: int | None
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class UnsentPage:
    """Chunks of a part of the queue; `next` is where it ends, None at the end of all."""

    chunks: Sequence[UnsentChunk]
    next: Position | None


def unsent_chunks(
    db: Database,
    now_ms: int,
    limit: int,
    namespace: int | None = None,
    *,
    after: Position = START,
    seen_since_ms: int = 0,
) -> UnsentPage:
    """Chunks to send next, by (priority, age, position), each once: of at most `limit` rows, at most `limit`.

    A pack file with a chunk that a newer one holds as well is not sent as it is: a put has
    sealed that chunk anew because it did not verify.
    """
    spans, end = _spans(db, after, limit)
    rows: list[Row] = []
    for span in spans:
        chunk = after.chunk if span.after == after.no else _LAST
        rows += db.all(_UNSENT, (seen_since_ms, now_ms, namespace, *span, chunk, limit - len(rows)))
        if len(rows) == limit:
            end = Position(*rows[-1][6:])
            break
    first_of = {row[1]: row for row in reversed(rows)}
    return UnsentPage([UnsentChunk(*row[:6]) for row in rows if first_of[row[1]] is row], end)


def publishable(
    db: Database,
    now_ms: int,
    limit: int,
    namespace: int | None = None,
    *,
    after: Position = START,
    seen_since_ms: int = 0,
) -> ReadyPage:
    """Rows that may go in a batch now, by (priority, age): their content is in announced packs.

    Packs count that were seen at the remote since a time. None of a transaction; see `publishable_group`.
    """
    spans, end = _spans(db, after, _LOOKED_AT)
    ready: list[Waiting] = []
    for span in spans:
        rows = db.all(
            f"{_READY} AND priority = ? AND upload.no > ? AND upload.no <= ? ORDER BY upload.no LIMIT ?",
            (seen_since_ms, now_ms, namespace, *span, limit - len(ready)),
        )
        ready += [Waiting(*row) for row in rows]
        if len(ready) == limit:
            end = Position(ready[-1].priority, ready[-1].no)
            break
    return ReadyPage(ready, end)


def publishable_of(
    db: Database,
    now_ms: int,
    versions: Sequence[int],
    namespace: int | None = None,
    *,
    seen_since_ms: int = 0,
) -> list[Waiting]:
    """Rows of those of these versions that may go in a batch now, by (priority, age); see `publishable`."""
    found: list[Waiting] = []
    for part in batched(versions, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(
            f"{_READY} AND upload.version_no IN ({marks})", (seen_since_ms, now_ms, namespace, *part)
        )
        found += [Waiting(*row) for row in rows]
    return sorted(found, key=lambda row: (row.priority, row.no))


def publishable_group(
    db: Database, now_ms: int, namespace: int | None = None, *, seen_since_ms: int = 0
) -> list[Waiting]:
    """All rows of the first transaction that may go in a batch now, in the order they were made; or none.

    Every one of them is due and has its content in announced packs, as with `publishable`. A transaction
    that touches the namespace asked for counts, whatever else it touches.
    """
    found = db.one(
        "SELECT group_id FROM upload WHERE group_id IS NOT NULL AND batch_seq IS NULL"  # noqa: S608 - fixed text
        f" AND (?3 IS NULL OR {_TOUCHES}) GROUP BY group_id HAVING max(next_attempt_at) <= ?2"
        " AND NOT EXISTS (SELECT 1 FROM upload AS member WHERE member.group_id = upload.group_id"
        f"  AND {_LACKS.format(version='member.version_no')})"
        " ORDER BY min(priority), min(no) LIMIT 1",
        (seen_since_ms, now_ms, namespace),
    )
    return [] if found is None else group_rows(db, found[0])


@dataclass(frozen=True, slots=True)
class UnseenChunk:
    """A chunk that is here, and in no pack that was seen at the remote lately."""

    version_no: int
    chunk_no: int


def unseen_in_outbox(db: Database, now_ms: int, *, seen_since_ms: int) -> list[UnseenChunk]:
    """Content of the batch in the outbox that may not be at the remote any more: it was cut long ago."""
    rows = db.all(_UNSEEN_IN_OUTBOX, (seen_since_ms, now_ms))
    return [UnseenChunk(*row) for row in rows]


def group_rows(db: Database, group: GroupId) -> list[Waiting]:
    """Every row of a transaction, in the order they were made."""
    rows = db.all(
        "SELECT no, priority, version_no, change FROM upload WHERE group_id = ? ORDER BY no", (group,)
    )
    return [Waiting(*row) for row in rows]


class _Span(NamedTuple):
    """Rows of one priority: those behind a number, up to another."""

    priority: int
    after: int
    last: int


def _spans(db: Database, after: Position, rows: int) -> tuple[list[_Span], Position | None]:
    """At most some rows of the queue behind a position, by (priority, age), and where they end; see `next`.

    One span a priority, because an index is searched by equal columns and then one range.
    """
    spans: list[_Span] = []
    priority: int | None = after.priority
    no = after.no
    while priority is not None:
        last = db.scalar(
            "SELECT no FROM upload WHERE batch_seq IS NULL AND priority = ? AND no > ?"
            " ORDER BY no LIMIT 1 OFFSET ?",
            (priority, no, rows - 1),
        )
        if last is not None:
            return [*spans, _Span(priority, no, last)], Position(priority, last)
        spans.append(_Span(priority, no, _LAST))
        rows -= db.scalar(
            "SELECT count(*) FROM upload WHERE batch_seq IS NULL AND priority = ? AND no > ?", (priority, no)
        )
        priority = db.scalar(
            "SELECT min(priority) FROM upload WHERE batch_seq IS NULL AND priority > ?", (priority,)
        )
        no = 0
    return spans, None

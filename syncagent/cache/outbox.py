"""What waits to be published: a row of `upload` is a version or a change without content.

When a batch is cut (`ownbatches.py`) its rows get the batch's number, and are gone when it is confirmed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from syncagent.cache.chunks import IS_THERE, SQL_VARIABLES, batched, load_record
from syncagent.cache.db import Database, Row
from syncagent.cache.status import Event, sql_case
from syncagent.model import DEFAULT_PRIORITY, GroupId, PackId, PackRecord

_ANNOUNCED = (
    "EXISTS (SELECT 1 FROM pack_chunk JOIN pack ON pack.no = pack_no"
    " WHERE pack_chunk.chunk_no = version_chunk.chunk_no AND is_remote AND pack.batch_seq IS NOT NULL)"
)


_TOUCHES = (
    "upload.group_id IN (SELECT other.group_id FROM upload AS other"
    " JOIN version AS touched ON touched.no = other.version_no"
    " JOIN blob AS named ON named.no = touched.blob_no"
    " WHERE other.group_id IS NOT NULL AND named.namespace_no = ?)"
)
"""SQL: the row is part of a transaction that touches a namespace."""
_HAS_NEWER = (
    "EXISTS (SELECT 1 FROM pack_chunk AS old JOIN pack_chunk AS new"
    " ON new.chunk_no = old.chunk_no AND new.pack_no > old.pack_no JOIN pack AS newer"
    " ON newer.no = new.pack_no AND newer.has_file WHERE old.pack_no = pack.no)"
)


_LAST = 1 << 62
"""After every priority and number of a row."""

_READY = (
    "SELECT upload.no, priority, upload.version_no, change FROM upload"  # noqa: S608 - fixed text
    " LEFT JOIN version ON version.no = upload.version_no LEFT JOIN blob ON blob.no = version.blob_no"
    " WHERE batch_seq IS NULL AND group_id IS NULL AND next_attempt_at <= ?"
    " AND (? IS NULL OR namespace_no = ? OR upload.version_no IS NULL)"
    " AND NOT EXISTS (SELECT 1 FROM version_chunk WHERE version_chunk.version_no = upload.version_no"
    f" AND NOT {_ANNOUNCED})"
)
"""SQL: rows that may go in a batch now; the time, and a namespace or null twice."""
_UNSENT = (
    "SELECT upload.version_no, chunk.no, chunk.raw_length, version.size,"  # noqa: S608 - fixed text
    " (SELECT max(pack_no) FROM pack_chunk JOIN pack ON pack.no = pack_no"
    f"   WHERE pack_chunk.chunk_no = chunk.no AND has_file AND NOT {_HAS_NEWER}),"
    " priority, upload.no, position"
    " FROM upload JOIN version ON version.no = upload.version_no JOIN blob ON blob.no = version.blob_no"
    " JOIN version_chunk ON version_chunk.version_no = version.no JOIN chunk ON chunk.no = chunk_no"
    " WHERE upload.batch_seq IS NULL AND next_attempt_at <= ?"
    " AND priority = ? AND upload.no >= ? AND upload.no <= ? AND (upload.no > ? OR position > ?)"
    f" AND (? IS NULL OR namespace_no = ? OR {_TOUCHES})"
    f" AND NOT {IS_THERE} ORDER BY upload.no, position LIMIT ?"
)
"""SQL: chunks of the rows of a span, from a chunk of its first row on."""
_LOOKED_AT = 10_000
"""Rows looked at for one batch: when most cannot go yet, looking at all would hold up everyone else."""


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
class Superseded:
    """A pending version and the pending version that names it as parent."""

    older_no: int
    newer_no: int


@dataclass(frozen=True, slots=True)
class UnsentChunk:
    """A chunk that a pending version needs and the remote does not hold.

    `pack_no` is a pack file of this device that holds it, ready to be sent.
    """

    version_no: int
    chunk_no: int
    raw_length: int
    blob_size: int
    pack_no: int | None


@dataclass(frozen=True, slots=True)
class UnsentPage:
    """Chunks of a part of the queue; `next` is where it ends, None at the end of all."""

    chunks: Sequence[UnsentChunk]
    next: Position | None


def enqueue_version(
    db: Database, version_no: int, *, priority: int = DEFAULT_PRIORITY, group: GroupId | None = None
) -> None:
    """Queue a version for publishing."""
    db.execute(
        "INSERT INTO upload (version_no, priority, group_id) VALUES (?, ?, ?)", (version_no, priority, group)
    )


def enqueue_versions(db: Database, rows: Iterable[tuple[int, int]]) -> None:
    """Queue versions for publishing: (number, priority) of each, oldest first."""
    db.many("INSERT INTO upload (version_no, priority) VALUES (?, ?)", rows)


def enqueue_change(
    db: Database, change: bytes, *, priority: int = DEFAULT_PRIORITY, group: GroupId | None = None
) -> None:
    """Queue a change without content."""
    db.execute("INSERT INTO upload (change, priority, group_id) VALUES (?, ?, ?)", (change, priority, group))


def forget(db: Database, version_no: int) -> None:
    """Take a version off the queue: it stays on this device."""
    db.execute("DELETE FROM upload WHERE version_no = ?", (version_no,))


def is_unpublished(db: Database, version_no: int) -> bool:
    """Whether a version waits and no batch has ever held it."""
    row = db.one(
        "SELECT 1 FROM upload JOIN version ON version.no = version_no"
        " WHERE version_no = ? AND batch_seq IS NULL AND seq = 0",
        (version_no,),
    )
    return row is not None


def settle(db: Database, version_no: int, *, device: int, seq: int) -> None:
    """Take a version off the queue: a batch of another device holds it."""
    db.execute(
        f"UPDATE version SET device_no = ?, seq = ?, status = {sql_case(Event.CONFIRMED)} WHERE no = ?",  # noqa: S608
        (device, seq, version_no),
    )
    db.execute("DELETE FROM upload WHERE version_no = ?", (version_no,))


def publish_again(db: Database, version_no: int) -> bool:
    """Queue a version once more whose content the remote has lost; whether it was not queued yet."""
    queued = db.changed(
        "INSERT OR IGNORE INTO upload (version_no, priority) VALUES (?, ?)", (version_no, DEFAULT_PRIORITY)
    )
    db.execute(
        f"UPDATE version SET status = {sql_case(Event.LOST_THERE)} WHERE no = ? AND status IS NOT NULL",  # noqa: S608
        (version_no,),
    )
    return queued > 0


def superseded(db: Database, limit: int) -> list[Superseded]:
    """Pending versions that need not be sent, because a later put on this device replaced them.

    Never one of a transaction, never one that a stored batch holds, and never one that was published
    before: others know it as it is.
    """
    rows = db.all(
        "SELECT older.version_no, newer.version_no FROM upload AS older"
        " JOIN version ON version.no = older.version_no AND version.status IS NULL AND version.seq = 0"
        " JOIN parent ON parent.parent_id = version.id"
        " JOIN upload AS newer ON newer.version_no = parent.version_no"
        " JOIN version AS heir ON heir.no = newer.version_no AND heir.seq = 0"
        " WHERE older.batch_seq IS NULL AND newer.batch_seq IS NULL"
        " AND older.group_id IS NULL AND newer.group_id IS NULL LIMIT ?",
        (limit,),
    )
    return [Superseded(*row) for row in rows]


def superseded_by(db: Database, newer: int) -> list[int]:
    """Pending versions that one pending version replaces; see `superseded`."""
    rows = db.all(
        "SELECT older.version_no FROM parent"
        " JOIN version ON version.id = parent.parent_id AND version.seq = 0"
        " JOIN version AS heir ON heir.no = parent.version_no AND heir.seq = 0"
        " JOIN upload AS older ON older.version_no = version.no"
        " JOIN upload AS newer ON newer.version_no = parent.version_no AND newer.group_id IS NULL"
        " WHERE parent.version_no = ? AND older.batch_seq IS NULL AND older.group_id IS NULL",
        (newer,),
    )
    return [row[0] for row in rows]


def replacing(db: Database, versions: Sequence[int]) -> list[int]:
    """Those of these pending versions that replace a pending one directly; see `superseded`."""
    found: list[int] = []
    for part in batched(versions, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(
            "SELECT DISTINCT parent.version_no FROM parent"  # noqa: S608 - marks
            " JOIN version ON version.id = parent.parent_id AND version.seq = 0"
            " JOIN upload AS older ON older.version_no = version.no"
            f" WHERE parent.version_no IN ({marks}) AND older.batch_seq IS NULL AND older.group_id IS NULL",
            part,
        )
        found += [row[0] for row in rows]
    return found


def publishable_group(db: Database, now_ms: int, namespace: int | None = None) -> list[Waiting]:
    """All rows of the first transaction that may go in a batch now, in the order they were made; or none.

    Every one of them is due and has its content in announced packs. A transaction that touches the
    namespace asked for counts, whatever else it touches.
    """
    found = db.one(
        "SELECT group_id FROM upload WHERE group_id IS NOT NULL AND batch_seq IS NULL"  # noqa: S608 - fixed text
        f" AND (? IS NULL OR {_TOUCHES}) GROUP BY group_id HAVING max(next_attempt_at) <= ?"
        " AND NOT EXISTS (SELECT 1 FROM upload AS member JOIN version_chunk"
        "   ON version_chunk.version_no = member.version_no"
        f"  WHERE member.group_id = upload.group_id AND NOT {_ANNOUNCED})"
        " ORDER BY min(priority), min(no) LIMIT 1",
        (namespace, namespace, now_ms),
    )
    return [] if found is None else group_rows(db, found[0])


def group_rows(db: Database, group: GroupId) -> list[Waiting]:
    """Every row of a transaction, in the order they were made."""
    rows = db.all(
        "SELECT no, priority, version_no, change FROM upload WHERE group_id = ? ORDER BY no", (group,)
    )
    return [Waiting(*row) for row in rows]


def unsent_chunks(
    db: Database, now_ms: int, limit: int, namespace: int | None = None, *, after: Position = START
) -> UnsentPage:
    """Chunks to send next, by (priority, age, position), each once: of at most `limit` rows, at most `limit`.

    A pack file with a chunk that a newer one holds as well is not sent as it is: a put has
    sealed that chunk anew because it did not verify.
    """
    spans, end = _spans(db, after, limit)
    rows: list[Row] = []
    for span in spans:
        chunk = after.chunk if span.after == after.no else _LAST
        rows += db.all(_UNSENT, (now_ms, *span, span.after, chunk, *[namespace] * 3, limit - len(rows)))
        if len(rows) == limit:
            end = Position(*rows[-1][5:])
            break
    first_of = {row[1]: row for row in reversed(rows)}
    return UnsentPage([UnsentChunk(*row[:5]) for row in rows if first_of[row[1]] is row], end)


def unannounced_packs(db: Database, limit: int) -> list[tuple[int, PackRecord]]:
    """Packs that are at the remote and that no batch has named yet, oldest first."""
    rows = db.all("SELECT no FROM pack WHERE batch_seq IS NULL AND is_remote ORDER BY no LIMIT ?", (limit,))
    return [(row[0], load_record(db, row[0])) for row in rows]


@dataclass(frozen=True, slots=True)
class AnnouncedPack:
    """A pack that a batch of this device names."""

    no: int
    id: PackId
    has_file: bool


def own_announced_packs(db: Database) -> list[AnnouncedPack]:
    """Every pack that should be at the remote because a batch of this device names it."""
    rows = db.all("SELECT no, id, has_file FROM pack WHERE is_remote AND batch_seq > 0 ORDER BY no")
    return [AnnouncedPack(row[0], PackId(row[1]), bool(row[2])) for row in rows]


def announce(db: Database, pack: int, seq: int) -> None:
    """Note that a batch names a pack."""
    db.execute("UPDATE pack SET batch_seq = ? WHERE no = ?", (seq, pack))


def publishable(
    db: Database, now_ms: int, limit: int, namespace: int | None = None, *, after: Position = START
) -> ReadyPage:
    """Rows that may go in a batch now, by (priority, age): all their content is in announced packs.

    None of a transaction; see `publishable_group`.
    """
    spans, end = _spans(db, after, _LOOKED_AT)
    ready: list[Waiting] = []
    for span in spans:
        rows = db.all(
            f"{_READY} AND priority = ? AND upload.no > ? AND upload.no <= ? ORDER BY upload.no LIMIT ?",
            (now_ms, namespace, namespace, *span, limit - len(ready)),
        )
        ready += [Waiting(*row) for row in rows]
        if len(ready) == limit:
            end = Position(ready[-1].priority, ready[-1].no)
            break
    return ReadyPage(ready, end)


def publishable_of(
    db: Database, now_ms: int, versions: Sequence[int], namespace: int | None = None
) -> list[Waiting]:
    """Rows of those of these versions that may go in a batch now, by (priority, age); see `publishable`."""
    found: list[Waiting] = []
    for part in batched(versions, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(f"{_READY} AND upload.version_no IN ({marks})", (now_ms, namespace, namespace, *part))
        found += [Waiting(*row) for row in rows]
    return sorted(found, key=lambda row: (row.priority, row.no))


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


def fail_uploads(
    db: Database, versions: Sequence[int], *, error: str, next_attempt_at: int, max_retries: int
) -> None:
    """Count one failure of their own for pending versions, and give them up past `max_retries`."""
    for part in batched(versions, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        db.execute(
            "UPDATE upload SET retries = retries + 1, last_error = ?, next_attempt_at = ?"  # noqa: S608 - marks
            f" WHERE version_no IN ({marks})",
            (error, next_attempt_at, *part),
        )
        db.execute(
            f"UPDATE version SET status = {sql_case(Event.SEND_GIVEN_UP)} WHERE status IS NOT NULL"  # noqa: S608
            f" AND no IN (SELECT version_no FROM upload WHERE retries > ? AND version_no IN ({marks}))",
            (max_retries, *part),
        )


def put_off(db: Database, row: int, *, error: str, until_ms: int) -> None:
    """Let a row of the queue wait."""
    db.execute(
        "UPDATE upload SET retries = retries + 1, last_error = ?, next_attempt_at = ? WHERE no = ?",
        (error, until_ms, row),
    )


def retries_of(db: Database, versions: Sequence[int]) -> int:
    """The most failures any of these pending versions has had."""
    return max((row[0] for v in versions for row in db.all(_RETRIES, (v,))), default=0)


def pending_with_chunk(db: Database, chunk: int) -> list[int]:
    """Pending versions that need a chunk."""
    rows = db.all(
        "SELECT DISTINCT upload.version_no FROM version_chunk"
        " JOIN upload ON upload.version_no = version_chunk.version_no"
        " WHERE chunk_no = ? AND batch_seq IS NULL",
        (chunk,),
    )
    return [row[0] for row in rows]


def unannounced_before(db: Database, before_ms: int) -> list[tuple[int, PackId]]:
    """(number, id) of packs that were PUT before a time and that no batch names."""
    rows = db.all(
        "SELECT no, id FROM pack WHERE batch_seq IS NULL AND is_remote AND put_at < ?", (before_ms,)
    )
    return [(row[0], PackId(row[1])) for row in rows]


def forget_put(db: Database, pack: int) -> None:
    """The remote no longer has a pack that no batch names: its chunks are unsent again."""
    db.execute("UPDATE pack SET is_remote = 0 WHERE no = ? AND batch_seq IS NULL", (pack,))


def next_attempt(db: Database) -> int | None:
    """The earliest time at which a waiting row is tried, in Unix ms; None when nothing waits."""
    earliest = [
        # The common case, that one is due at once, shows at the first row.
        db.scalar(
            f"SELECT CASE WHEN EXISTS (SELECT 1 FROM {table} WHERE next_attempt_at = 0) THEN 0 ELSE"  # noqa: S608 - fixed names
            f" (SELECT min(next_attempt_at) FROM {table} WHERE next_attempt_at > 0) END"
        )
        for table in ("upload", "download")
    ]
    return min((int(at) for at in earliest if at is not None), default=None)


_RETRIES = "SELECT retries FROM upload WHERE version_no = ?"

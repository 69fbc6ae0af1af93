"""What waits to be published: a row of `upload` is a version or a change without content.

When a batch is cut (`ownbatches.py`) its rows get the batch's number, and are gone when it is confirmed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from syncagent.cache.chunks import SQL_VARIABLES, batched, load_record
from syncagent.cache.db import Database
from syncagent.cache.facts import TAGS_OF_VERSION
from syncagent.cache.status import Event, sql_case
from syncagent.model import DEFAULT_PRIORITY, GroupId, PackId, PackRecord

_IS_TAGGED = f"EXISTS (SELECT 1 FROM register WHERE {TAGS_OF_VERSION})"  # noqa: S608 - fixed text


@dataclass(frozen=True, slots=True)
class Superseded:
    """A pending version and the pending version that names it as parent."""

    older_no: int
    newer_no: int


def enqueue_version(
    db: Database,
    version_no: int,
    *,
    priority: int = DEFAULT_PRIORITY,
    group: GroupId | None = None,
    is_bare: bool = False,
) -> None:
    """Queue a version for publishing; `is_bare` where its content is not here."""
    db.execute(
        "INSERT INTO upload (version_no, priority, group_id, was_bare) VALUES (?, ?, ?, ?)",
        (version_no, priority, group, is_bare),
    )


def enqueue_versions(db: Database, rows: Iterable[tuple[int, int]]) -> None:
    """Queue versions for publishing: (number, priority) of each, oldest first."""
    db.many("INSERT INTO upload (version_no, priority) VALUES (?, ?)", rows)


def enqueue_change(
    db: Database, change: bytes, *, priority: int = DEFAULT_PRIORITY, group: GroupId | None = None
) -> None:
    """Queue a change without content."""
    db.execute("INSERT INTO upload (change, priority, group_id) VALUES (?, ?, ?)", (change, priority, group))


def waiting_changes(db: Database) -> list[tuple[int, bytes]]:
    """(number, packed) of every change without content that no batch holds yet."""
    rows = db.all("SELECT no, change FROM upload WHERE version_no IS NULL AND batch_seq IS NULL ORDER BY no")
    return [(number, change) for number, change in rows]


def drop_change(db: Database, row: int) -> None:
    """Take a change without content off the queue."""
    db.execute("DELETE FROM upload WHERE no = ?", (row,))


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


@dataclass(frozen=True, slots=True)
class WaitingParent:
    """A version that waits and that no batch has held; `is_bound`: it has a tag, or is of a transaction."""

    no: int
    is_deleted: bool
    is_bound: bool


def waiting_before(db: Database, version_no: int) -> list[WaitingParent]:
    """What waits of what a version replaces directly."""
    rows = db.all(
        f"SELECT version.no, version.deleted, group_id IS NOT NULL OR {_IS_TAGGED} FROM parent"  # noqa: S608 - fixed text
        " JOIN version ON version.id = parent_id AND version.seq = 0"
        " JOIN upload ON upload.version_no = version.no AND batch_seq IS NULL"
        " WHERE parent.version_no = ?",
        (version_no,),
    )
    return [WaitingParent(number, bool(deleted), bool(bound)) for number, deleted, bound in rows]


def has_parents(db: Database, version_no: int) -> bool:
    """Whether a version replaces anything."""
    return db.one("SELECT 1 FROM parent WHERE version_no = ? LIMIT 1", (version_no,)) is not None


def is_known_elsewhere(db: Database, blob: int) -> bool:
    """Whether another device knows a version of a blob, or will when what waits is sent."""
    found = db.scalar(
        "SELECT EXISTS (SELECT 1 FROM version WHERE blob_no = ?1 AND seq > 0)"
        " OR EXISTS (SELECT 1 FROM version JOIN upload ON version_no = version.no WHERE blob_no = ?1)"
        " OR EXISTS (SELECT 1 FROM version JOIN parent ON version_no = version.no"
        "  WHERE blob_no = ?1 AND parent.seq > 0)",
        (blob,),
    )
    return bool(found)


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

    Never one of a transaction, never one that a stored batch holds, never one with a tag, and never one that
    was published before: others know it as it is.
    """
    rows = db.all(
        "SELECT older.version_no, newer.version_no FROM upload AS older"  # noqa: S608 - fixed text
        " JOIN version ON version.no = older.version_no AND version.status IS NULL AND version.seq = 0"
        " JOIN parent ON parent.parent_id = version.id"
        " JOIN upload AS newer ON newer.version_no = parent.version_no"
        " JOIN version AS heir ON heir.no = newer.version_no AND heir.seq = 0"
        " WHERE older.batch_seq IS NULL AND newer.batch_seq IS NULL"
        f" AND older.group_id IS NULL AND newer.group_id IS NULL AND NOT {_IS_TAGGED} LIMIT ?",
        (limit,),
    )
    return [Superseded(*row) for row in rows]


def superseded_by(db: Database, newer: int) -> list[int]:
    """Pending versions that one pending version replaces; see `superseded`."""
    rows = db.all(
        "SELECT older.version_no FROM parent"  # noqa: S608 - fixed text
        " JOIN version ON version.id = parent.parent_id AND version.seq = 0"
        " JOIN version AS heir ON heir.no = parent.version_no AND heir.seq = 0"
        " JOIN upload AS older ON older.version_no = version.no"
        " JOIN upload AS newer ON newer.version_no = parent.version_no AND newer.group_id IS NULL"
        " WHERE parent.version_no = ? AND older.batch_seq IS NULL AND older.group_id IS NULL"
        f" AND NOT {_IS_TAGGED}",
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
            f" WHERE parent.version_no IN ({marks}) AND older.batch_seq IS NULL AND older.group_id IS NULL"
            f" AND NOT {_IS_TAGGED}",
            part,
        )
        found += [row[0] for row in rows]
    return found


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

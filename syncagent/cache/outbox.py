"""What waits to be published, and every sealed batch this device has issued.

A row of `upload` is a version or a change without content. When a batch is cut
its rows get the batch's number and the sealed bytes are kept, in one
transaction: from then on only those very bytes are sent under that number. An
unconfirmed batch is the outbox; a confirmed one is kept for a remote that
forgets.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from syncagent.cache.chunks import IS_THERE, SQL_VARIABLES, batched, load_record
from syncagent.cache.db import Database, Row
from syncagent.cache.status import Event, sql_case
from syncagent.errors import CacheDamaged
from syncagent.model import GroupId, PackId, PackRecord

_OWN_BATCH = (
    "SELECT seq, bytes, chain, object_sha256 FROM own_batch LEFT JOIN payload ON payload.no = payload_no"
)
DEFAULT_PRIORITY = 2
"""Of 1 (first) to 4."""

_ANNOUNCED = (
    "EXISTS (SELECT 1 FROM pack_chunk JOIN pack ON pack.no = pack_no"
    " WHERE pack_chunk.chunk_no = version_chunk.chunk_no AND is_remote AND pack.batch_seq IS NOT NULL)"
)


_HAS_NEWER = (
    "EXISTS (SELECT 1 FROM pack_chunk AS old JOIN pack_chunk AS new"
    " ON new.chunk_no = old.chunk_no AND new.pack_no > old.pack_no JOIN pack AS newer"
    " ON newer.no = new.pack_no AND newer.has_file WHERE old.pack_no = pack.no)"
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row of the queue: either a version or the bytes of a change."""

    no: int
    version_no: int | None
    change: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class OwnBatch:
    """A sealed batch of this device and the chain value after it."""

    seq: int
    object: bytes = field(repr=False)
    chain: bytes


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


def enqueue_version(
    db: Database, version_no: int, *, priority: int = DEFAULT_PRIORITY, group: GroupId | None = None
) -> None:
    """Queue a version for publishing."""
    db.execute(
        "INSERT INTO upload (version_no, priority, group_id) VALUES (?, ?, ?)", (version_no, priority, group)
    )


def enqueue_change(db: Database, change: bytes, *, priority: int = DEFAULT_PRIORITY) -> None:
    """Queue a change without content."""
    db.execute("INSERT INTO upload (change, priority) VALUES (?, ?)", (change, priority))


def superseded(db: Database, limit: int) -> list[Superseded]:
    """Pending versions that need not be sent, because a later put on this device replaced them.

    Never one of a transaction, and never one that a stored batch holds.
    """
    rows = db.all(
        "SELECT older.version_no, newer.version_no FROM upload AS older"
        " JOIN version ON version.no = older.version_no AND version.status IS NULL"
        " JOIN parent ON parent.parent_id = version.id"
        " JOIN upload AS newer ON newer.version_no = parent.version_no"
        " WHERE older.batch_seq IS NULL AND newer.batch_seq IS NULL"
        " AND older.group_id IS NULL AND newer.group_id IS NULL LIMIT ?",
        (limit,),
    )
    return [Superseded(*row) for row in rows]


def superseded_by(db: Database, newer: int) -> list[int]:
    """Pending versions that one pending version replaces; see `superseded`."""
    rows = db.all(
        "SELECT older.version_no FROM parent JOIN version ON version.id = parent.parent_id"
        " JOIN upload AS older ON older.version_no = version.no"
        " JOIN upload AS newer ON newer.version_no = parent.version_no AND newer.group_id IS NULL"
        " WHERE parent.version_no = ? AND older.batch_seq IS NULL AND older.group_id IS NULL",
        (newer,),
    )
    return [row[0] for row in rows]


def unsent_chunks(db: Database, now_ms: int, limit: int, namespace: int | None = None) -> list[UnsentChunk]:
    """Chunks to send next, by (priority, age, position); each once. At most about `limit`.

    A pack file with a chunk that a newer one holds as well is not sent as it is: a put has
    sealed that chunk anew because it did not verify.
    """
    rows = db.all(
        "SELECT upload.version_no, chunk.no, chunk.raw_length, version.size, "  # noqa: S608
        f" (SELECT max(pack_no) FROM pack_chunk JOIN pack ON pack.no = pack_no"
        f"   WHERE pack_chunk.chunk_no = chunk.no AND has_file AND NOT {_HAS_NEWER})"
        " FROM upload JOIN version ON version.no = upload.version_no JOIN blob ON blob.no = version.blob_no"
        " JOIN version_chunk ON version_chunk.version_no = version.no JOIN chunk ON chunk.no = chunk_no"
        " WHERE upload.batch_seq IS NULL AND next_attempt_at <= ? AND (? IS NULL OR namespace_no = ?)"
        f" AND NOT {IS_THERE} ORDER BY priority, upload.no, position LIMIT ?",
        (now_ms, namespace, namespace, limit),
    )
    first_of = {row[1]: row for row in reversed(rows)}
    return [UnsentChunk(*row) for row in rows if first_of[row[1]] is row]


def unannounced_packs(db: Database, limit: int) -> list[tuple[int, PackRecord]]:
    """Packs that are at the remote and that no batch has named yet, oldest first."""
    rows = db.all("SELECT no FROM pack WHERE batch_seq IS NULL AND is_remote ORDER BY no LIMIT ?", (limit,))
    return [(row[0], load_record(db, row[0])) for row in rows]


def announce(db: Database, pack: int, seq: int) -> None:
    """Note that a batch names a pack."""
    db.execute("UPDATE pack SET batch_seq = ? WHERE no = ?", (seq, pack))


def publishable(db: Database, now_ms: int, limit: int, namespace: int | None = None) -> list[Waiting]:
    """Rows that may go in a batch now, by (priority, age): all their content is in announced packs."""
    rows = db.all(
        "SELECT upload.no, upload.version_no, change FROM upload"  # noqa: S608 - fixed text
        " LEFT JOIN version ON version.no = upload.version_no LEFT JOIN blob ON blob.no = version.blob_no"
        " WHERE batch_seq IS NULL AND next_attempt_at <= ?"
        " AND (? IS NULL OR namespace_no = ? OR upload.version_no IS NULL)"
        " AND NOT EXISTS (SELECT 1 FROM version_chunk WHERE version_chunk.version_no = upload.version_no"
        f" AND NOT {_ANNOUNCED}) ORDER BY priority, upload.no LIMIT ?",
        (now_ms, namespace, namespace, limit),
    )
    return [Waiting(*row) for row in rows]


def store_batch(
    db: Database, *, seq: int, sealed: bytes, object_sha256: bytes, chain: bytes, rows: Sequence[Waiting]
) -> None:
    """Put a sealed batch in the outbox and tie its rows to it."""
    payload_no = db.execute("INSERT INTO payload (bytes) VALUES (?)", (sealed,))
    db.execute(
        "INSERT INTO own_batch (seq, payload_no, object_sha256, chain) VALUES (?, ?, ?, ?)",
        (seq, payload_no, object_sha256, chain),
    )
    db.many("UPDATE upload SET batch_seq = ? WHERE no = ?", [(seq, row.no) for row in rows])
    db.many(
        "UPDATE version SET seq = ? WHERE no = ?",
        [(seq, row.version_no) for row in rows if row.version_no is not None],
    )


def unconfirmed_batch(db: Database) -> OwnBatch | None:
    """The batch in the outbox: at most one, for the next is cut after it is confirmed. Verified."""
    return _verified(db.one(f"{_OWN_BATCH} WHERE NOT confirmed ORDER BY seq LIMIT 1"))


def own_batch(db: Database, seq: int) -> OwnBatch | None:
    """One of the batches this device has issued, or None."""
    return _verified(db.one(f"{_OWN_BATCH} WHERE seq = ?", (seq,)))


def own_chain(db: Database, seq: int) -> bytes | None:
    """The chain value after one of the batches this device has issued, or None."""
    chain: bytes | None = db.scalar("SELECT chain FROM own_batch WHERE seq = ?", (seq,))
    return chain


def _verified(row: Row | None) -> OwnBatch | None:
    """Sealed bytes that are not the ones that were sealed would end this device's journal for everyone."""
    if row is None:
        return None
    seq, sealed, chain, object_sha256 = row
    if sealed is None or hashlib.sha256(sealed).digest() != object_sha256:
        raise CacheDamaged(
            f"batch {seq} of this device, kept to be sent, does not verify in the cache",
            safe="it was not sent; blobs on this device can still be read",
            todo="join the vault in a new folder and put there what is still pending here",
        )
    return OwnBatch(seq, sealed, chain)


def last_own_seq(db: Database) -> int:
    """The last sequence number issued; 0 before the first."""
    return int(db.scalar("SELECT max(seq) FROM own_batch") or 0)


def confirm_batch(db: Database, seq: int) -> int:
    """Mark a batch as published and settle the rows it holds; how many of them are versions."""
    db.execute("UPDATE own_batch SET confirmed = 1 WHERE seq = ?", (seq,))
    db.execute(
        f"UPDATE version SET status = {sql_case(Event.CONFIRMED)}"  # noqa: S608 - built from the table
        " WHERE status IS NOT NULL AND no IN (SELECT version_no FROM upload WHERE batch_seq = ?)",
        (seq,),
    )
    versions = db.changed("DELETE FROM upload WHERE batch_seq = ? AND version_no IS NOT NULL", (seq,))
    db.execute("DELETE FROM upload WHERE batch_seq = ?", (seq,))
    return versions


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
    row: Row | None = db.one(
        "SELECT min(at) FROM (SELECT min(next_attempt_at) AS at FROM upload"
        " UNION ALL SELECT min(next_attempt_at) FROM download)"
    )
    return None if row is None or row[0] is None else int(row[0])


_RETRIES = "SELECT retries FROM upload WHERE version_no = ?"

"""Rows of namespaces, devices, blobs and versions.

What these functions are not: they decide nothing. Which versions are heads and
which of them wins is worked out by the journal's merge and handed in.
"""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from syncagent.cache.chunks import SQL_VARIABLES, batched
from syncagent.cache.db import Database
from syncagent.cache.status import Event, sql_case
from syncagent.errors import CacheDamaged
from syncagent.model import DeviceId, SyncStatus, Version, VersionId

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(Version)

_READ_ELSEWHERE = "read the blob on another device, or put it again with --replace"


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A blob known by name. `winner_no` is None while only facts without a version are known."""

    no: int
    winner_no: int | None
    is_deleted: bool
    expires_at: int | None = None
    is_conflict: bool = False

    def is_live(self, now_ms: int) -> bool:
        """Whether there is a version to show that is neither deleted nor expired."""
        is_over = self.expires_at is not None and self.expires_at <= now_ms
        return self.winner_no is not None and not self.is_deleted and not is_over


@dataclass(frozen=True, slots=True)
class HeadRow:
    """What merging needs of a head, from columns that lie in the row itself."""

    no: int
    id: VersionId
    device: DeviceId
    seq: int
    hlc: int
    is_deleted: bool
    status: SyncStatus


def find_namespace(db: Database, name: str) -> int | None:
    """The number of a namespace, or None."""
    value = db.scalar("SELECT no FROM namespace WHERE name = ?", (name,))
    return None if value is None else int(value)


def namespace_no(db: Database, name: str) -> int:
    """The number of a namespace, made on first use."""
    found = find_namespace(db, name)
    return db.execute("INSERT INTO namespace (name) VALUES (?)", (name,)) if found is None else found


def device_no(db: Database, device: bytes) -> int:
    """The number of a device, made on first use."""
    found = db.scalar("SELECT no FROM device WHERE id = ?", (device,))
    return db.execute("INSERT INTO device (id) VALUES (?)", (device,)) if found is None else int(found)


def find_blob(db: Database, namespace: int, blob_id: str) -> BlobRow | None:
    """A blob by name, deleted or not."""
    row = db.one(
        "SELECT no, winner_no, deleted, expires_at, conflict FROM blob WHERE namespace_no = ? AND id = ?",
        (namespace, blob_id),
    )
    return None if row is None else BlobRow(row[0], row[1], bool(row[2]), row[3], bool(row[4]))


def blob_no(db: Database, namespace: int, blob_id: str) -> int:
    """The number of a blob, made on first use."""
    row = find_blob(db, namespace, blob_id)
    if row is not None:
        return row.no
    return db.execute("INSERT INTO blob (namespace_no, id) VALUES (?, ?)", (namespace, blob_id))


def heads(db: Database, blob: int) -> list[HeadRow]:
    """The heads of a blob, in no order."""
    rows = db.all(
        "SELECT version.no, version.id, device.id, version.seq, version.hlc, version.deleted, version.status"
        " FROM version JOIN device ON device.no = version.device_no"
        " WHERE blob_no = ? AND status IS NOT NULL",
        (blob,),
    )
    return [
        HeadRow(no, VersionId(id_), DeviceId(device), seq, hlc, bool(deleted), SyncStatus(status))
        for no, id_, device, seq, hlc, deleted, status in rows
    ]


def load_version(db: Database, version_no: int) -> Version:
    """A version's fields, verified.

    Raises:
        CacheDamaged: the stored bytes are not those that were stored.
    """
    row = db.one("SELECT packed_no, packed_sha256 FROM version WHERE no = ?", (version_no,))
    packed = None if row is None else db.large_value("SELECT bytes FROM packed WHERE no = ?", (row[0],))
    if row is None or packed is None or hashlib.sha256(packed).digest() != row[1]:
        raise CacheDamaged("a version in the cache does not verify")
    try:
        return _decoder.decode(packed)
    except msgspec.DecodeError as exc:  # verified, yet of another shape: written by a newer schema
        raise CacheDamaged("a version in the cache cannot be decoded", todo=_READ_ELSEWHERE) from exc


def packed_versions(db: Database, versions: Sequence[int]) -> dict[int, bytes]:
    """The msgpack of versions as it was stored, by number; without those that do not verify or decode."""
    return {number: packed for number, packed, _ in _verified(db, versions)}


def load_versions(db: Database, versions: Sequence[int]) -> dict[int, Version]:
    """Versions by number; without those that do not verify or decode."""
    return {number: version for number, _, version in _verified(db, versions)}


def _verified(db: Database, versions: Sequence[int]) -> Iterator[tuple[int, bytes, Version]]:
    bytes_column, join = "packed.bytes", "JOIN packed ON packed.no = packed_no"
    if db.is_suspect:  # one damaged version must not hide the others
        bytes_column, join = "packed_no", ""
    for part in batched(versions, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        for number, sha256, packed in db.all(
            f"SELECT version.no, packed_sha256, {bytes_column} FROM version {join}"  # noqa: S608 - marks
            f" WHERE version.no IN ({marks})",
            part,
        ):
            if db.is_suspect:
                packed = db.large_value("SELECT bytes FROM packed WHERE no = ?", (packed,))
            if packed is not None and hashlib.sha256(packed).digest() == sha256:
                with contextlib.suppress(msgspec.DecodeError):  # of another shape: written by a newer schema
                    yield number, packed, _decoder.decode(packed)


def find_version(db: Database, version_id: bytes) -> int | None:
    """The number of a version by its id, or None."""
    value = db.scalar("SELECT no FROM version WHERE id = ?", (version_id,))
    return None if value is None else int(value)


def blob_of_version(db: Database, version_id: bytes) -> int | None:
    """The number of the blob that a version is of, or None."""
    value = db.scalar("SELECT blob_no FROM version WHERE id = ?", (version_id,))
    return None if value is None else int(value)


def chunk_numbers(db: Database, version_no: int) -> list[int]:
    """The numbers of a version's chunks in order."""
    rows = db.all("SELECT chunk_no FROM version_chunk WHERE version_no = ? ORDER BY position", (version_no,))
    return [number for (number,) in rows]


def version_id(db: Database, version_no: int) -> VersionId:
    """The id of a version that is there."""
    return VersionId(db.scalar("SELECT id FROM version WHERE no = ?", (version_no,)))


def is_named_as_parent(db: Database, version_id: bytes, blob: int) -> bool:
    """Whether a known version of the same blob supersedes this one."""
    named = db.scalar(
        "SELECT 1 FROM parent JOIN version ON version.no = version_no"
        " WHERE parent_id = ? AND blob_no = ? LIMIT 1",
        (version_id, blob),
    )
    return named is not None


def same_fields(db: Database, version_no: int, version: Version) -> bool:
    """Whether a known version has exactly these fields."""
    stored = db.scalar("SELECT packed_sha256 FROM version WHERE no = ?", (version_no,))
    return bool(stored == hashlib.sha256(_encoder.encode(version)).digest())


def insert_version(
    db: Database,
    version: Version,
    *,
    blob: int,
    device: int,
    seq: int,
    status: SyncStatus | None,
    chunks: Sequence[int],
) -> int:
    """Store a version with its parents and chunk positions; its number. A status makes it a head."""
    packed = _encoder.encode(version)
    packed_no = db.execute("INSERT INTO packed (bytes) VALUES (?)", (packed,))
    number = db.execute(
        "INSERT INTO version (id, blob_no, device_no, seq, hlc, deleted, size, packed_no, packed_sha256,"
        " status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            version.id,
            blob,
            device,
            seq,
            version.hlc,
            version.deleted,
            version.size,
            packed_no,
            hashlib.sha256(packed).digest(),
            status,
        ),
    )
    _insert_parents(db, number, version)
    if chunks:
        db.many(
            "INSERT INTO version_chunk VALUES (?, ?, ?)",
            [(number, position, chunk) for position, chunk in enumerate(chunks)],
        )
    return number


def replace_version(db: Database, version_no: int, version: Version) -> None:
    """Give a version that was never published other parents."""
    packed = _encoder.encode(version)
    packed_no = db.execute("INSERT INTO packed (bytes) VALUES (?)", (packed,))
    old = db.scalar("SELECT packed_no FROM version WHERE no = ?", (version_no,))
    db.execute(
        "UPDATE version SET packed_no = ?, packed_sha256 = ? WHERE no = ?",
        (packed_no, hashlib.sha256(packed).digest(), version_no),
    )
    _delete_large(db, "packed", old)
    db.execute("DELETE FROM parent WHERE version_no = ?", (version_no,))
    _insert_parents(db, version_no, version)


def delete_version(db: Database, version_no: int) -> None:
    """Remove a version that no one else knows, with the content that only it had."""
    chunks = [
        row[0]
        for row in db.all(
            "SELECT DISTINCT chunk_no FROM version_chunk AS mine WHERE version_no = ? AND NOT EXISTS"
            " (SELECT 1 FROM version_chunk WHERE chunk_no = mine.chunk_no AND version_no <> ?)",
            (version_no, version_no),
        )
    ]
    packed_no = db.scalar("SELECT packed_no FROM version WHERE no = ?", (version_no,))
    for table in ("version_chunk", "parent", "upload", "download"):
        db.execute(f"DELETE FROM {table} WHERE version_no = ?", (version_no,))  # noqa: S608 - fixed names
    db.execute("DELETE FROM version WHERE no = ?", (version_no,))
    _delete_large(db, "packed", packed_no)
    for chunk in chunks:
        payload_no = db.scalar("SELECT payload_no FROM chunk WHERE no = ?", (chunk,))
        if payload_no is not None:
            db.execute("UPDATE chunk SET payload_no = NULL WHERE no = ?", (chunk,))
            _delete_large(db, "payload", payload_no)


def set_heads(
    db: Database, blob: int, *, winner_no: int, winner: Version, conflict: bool, demoted: Iterable[int]
) -> None:
    """Make the listing show a winner, and take the versions it superseded off the heads."""
    for version_no in demoted:
        db.execute("UPDATE version SET status = NULL WHERE no = ?", (version_no,))
        db.execute("DELETE FROM download WHERE version_no = ?", (version_no,))
    db.execute(
        "UPDATE blob SET winner_no = ?, deleted = ?, size = ?, created_at = ?, changed = ?, conflict = ?"
        " WHERE no = ?",
        (winner_no, winner.deleted, winner.size, winner.created_at, winner.hlc, conflict, blob),
    )


def move_status(db: Database, version_no: int, event: Event) -> None:
    """Apply an event of the transition table to one head."""
    db.execute(
        f"UPDATE version SET status = {sql_case(event)} WHERE no = ?",  # noqa: S608 - built from the table
        (version_no,),
    )


def status_of(db: Database, version_no: int) -> SyncStatus | None:
    """The status of a version; None for one that is no head."""
    code = db.scalar("SELECT status FROM version WHERE no = ?", (version_no,))
    return None if code is None else SyncStatus(code)


def add_hole(db: Database, blob: int, parent: bytes, device: bytes, seq: int) -> None:
    """Remember that a blob waits for a version that another device has published."""
    db.execute("INSERT OR IGNORE INTO hole VALUES (?, ?, ?, ?)", (blob, parent, device, seq))


def fill_holes(db: Database) -> set[int]:
    """Drop the holes whose version has come, or whose batch has (it was pruned). Blobs without one now."""
    filled = db.all(
        "DELETE FROM hole WHERE EXISTS (SELECT 1 FROM version WHERE id = hole.parent_id)"
        " OR EXISTS (SELECT 1 FROM device WHERE id = hole.device AND seq >= hole.seq) RETURNING blob_no"
    )
    return {blob for blob in {row[0] for row in filled} if not is_incomplete(db, blob)}


def is_incomplete(db: Database, blob: int) -> bool:
    """Whether a version of a blob names one that another device has published and that has not come."""
    return db.scalar("SELECT 1 FROM hole WHERE blob_no = ? LIMIT 1", (blob,)) is not None


def is_in_conflict(db: Database, blob: int) -> bool:
    """Whether a blob shows that it is in conflict."""
    return bool(db.scalar("SELECT conflict FROM blob WHERE no = ?", (blob,)))


def set_conflict(db: Database, blob: int) -> None:
    """Let a blob show that it is in conflict."""
    db.execute("UPDATE blob SET conflict = 1 WHERE no = ?", (blob,))


def has_holes(db: Database) -> bool:
    """Whether any blob is incomplete."""
    return db.scalar("SELECT 1 FROM hole LIMIT 1") is not None


def _delete_large(db: Database, table: str, number: int) -> None:
    """Delete a row that may span many pages. After damage it stays: nothing refers to it."""
    if not db.is_suspect:  # one on a damaged page cannot be deleted, even where it can be read
        db.execute(f"DELETE FROM {table} WHERE no = ?", (number,))  # noqa: S608 - fixed names


def _insert_parents(db: Database, number: int, version: Version) -> None:
    for position, parent in enumerate(version.parents):
        db.execute(
            "INSERT INTO parent VALUES (?, ?, ?, ?, ?)",
            (number, position, parent.version, parent.device, parent.seq),
        )

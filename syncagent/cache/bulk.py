"""Many blobs that are new to the cache, in a few statements.

A version of a blob of which nothing is known yet is its only head and its winner:
there is nothing to merge it with, and nothing that it could replace. Everything
else goes version by version (`blobs.py`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from syncagent.cache.chunks import SQL_VARIABLES, batched
from syncagent.cache.db import Database
from syncagent.model import ChunkId, Scope, SyncStatus, Version

_encoder = msgspec.msgpack.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True)
class SmallChunk:
    """A chunk that is kept in a row."""

    id: ChunkId
    scope: Scope
    content: bytes = field(repr=False)


def known_blobs(db: Database, namespace: int, ids: Sequence[str]) -> set[str]:
    """Which of these ids the cache knows anything about."""
    found: set[str] = set()
    for part in batched(ids, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(
            f"SELECT id FROM blob WHERE namespace_no = ? AND id IN ({marks})",  # noqa: S608 - marks
            (namespace, *part),
        )
        found.update(row[0] for row in rows)
    return found


def known_versions(db: Database, ids: Sequence[bytes]) -> set[bytes]:
    """Which of these version ids the cache has."""
    found: set[bytes] = set()
    for part in batched(ids, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(f"SELECT id FROM version WHERE id IN ({marks})", part)  # noqa: S608 - marks
        found.update(row[0] for row in rows)
    return found


def insert_small_chunks(db: Database, chunks: Sequence[SmallChunk]) -> dict[ChunkId, int]:
    """Store chunks that are not known, with their content; their numbers."""
    chunk_no, payload_no = _next_numbers(db, "chunk", "payload")
    db.many(
        "INSERT INTO payload VALUES (?, ?)",
        [(payload_no + i, chunk.content) for i, chunk in enumerate(chunks)],
    )
    db.many(
        "INSERT INTO chunk (no, id, raw_length, scope, payload_no) VALUES (?, ?, ?, ?, ?)",
        [
            (chunk_no + i, chunk.id, len(chunk.content), chunk.scope, payload_no + i)
            for i, chunk in enumerate(chunks)
        ],
    )
    return {chunk.id: chunk_no + i for i, chunk in enumerate(chunks)}


def insert_blobs(
    db: Database,
    versions: Sequence[Version],
    *,
    namespace: int,
    device: int,
    seq: int,
    status: SyncStatus,
    chunks: Mapping[ChunkId, int],
) -> range:
    """Store versions without parents of as many blobs that are not known; the numbers of the versions.

    Args:
        db: the cache, in a transaction.
        versions: each of another blob of one namespace.
        namespace: its number.
        device: the number of the device that wrote them.
        seq: its batch that holds them, 0 when not yet published.
        status: theirs; each is its blob's head.
        chunks: the number of every chunk they name.
    """
    blob_no, version_no, packed_no = _next_numbers(db, "blob", "version", "packed")
    packed = [_encoder.encode(version) for version in versions]
    db.many("INSERT INTO packed VALUES (?, ?)", [(packed_no + i, data) for i, data in enumerate(packed)])
    # Before the blobs, whose rows come complete: the triggers find nothing to bring up to date. And OR FAIL,
    # because with triggers SQLite else keeps a copy of every page a row touches, in case the row is refused.
    db.many(
        "INSERT OR FAIL INTO version (no, id, blob_no, device_no, seq, hlc, deleted, size, packed_no,"
        " packed_sha256, status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                version_no + i,
                version.id,
                blob_no + i,
                device,
                seq,
                version.hlc,
                version.deleted,
                version.size,
                packed_no + i,
                hashlib.sha256(packed[i]).digest(),
                status,
            )
            for i, version in enumerate(versions)
        ],
    )
    db.many(
        "INSERT OR FAIL INTO blob (no, namespace_no, id, winner_no, deleted, size, created_at, changed,"
        " status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                blob_no + i,
                namespace,
                version.blob_id,
                version_no + i,
                version.deleted,
                version.size,
                version.created_at,
                version.hlc,
                status,
            )
            for i, version in enumerate(versions)
        ],
    )
    db.many(
        "INSERT INTO version_chunk VALUES (?, ?, ?)",
        [
            (version_no + i, position, chunks[ChunkId(chunk_id)])
            for i, version in enumerate(versions)
            for position, chunk_id in enumerate(version.content)
        ],
    )
    return range(version_no, version_no + len(versions))


def _next_numbers(db: Database, *tables: str) -> Sequence[int]:
    """The number that the next row of each table would get, in a transaction that writes."""
    columns = ", ".join(f"(SELECT coalesce(max(no), 0) + 1 FROM {table})" for table in tables)  # noqa: S608 - fixed names
    row = db.one(f"SELECT {columns}")
    assert row is not None
    return row

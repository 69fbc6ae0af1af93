"""Every sealed batch this device has issued, byte for byte.

When a batch is cut its rows get its number and the sealed bytes are kept, in one
transaction: from then on only those very bytes are sent under that number. The
one that is not confirmed is the outbox; the others are kept for a remote that
forgets. A device that had to take a new id keeps the batches of its former ids too.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from syncagent.cache import blobs, meta
from syncagent.cache.chunks import SQL_VARIABLES, batched
from syncagent.cache.db import Database, Row
from syncagent.cache.sendable import Waiting
from syncagent.cache.status import Event, sql_case
from syncagent.errors import CacheDamaged
from syncagent.model import DeviceId

_OWN_NO = "(SELECT no FROM device JOIN meta ON meta.value = device.id WHERE meta.key = 'device_id')"
"""SQL: the number of this device's present id; null before its first change."""
_OWN_BATCH = (
    "SELECT device.id, own_batch.seq, bytes, own_batch.chain, object_sha256 FROM own_batch"
    " JOIN device ON device.no = device_no LEFT JOIN payload ON payload.no = payload_no"
)


@dataclass(frozen=True, slots=True)
class OwnBatch:
    """A sealed batch of this device and the chain value after it."""

    device: DeviceId
    seq: int
    object: bytes = field(repr=False)
    chain: bytes


def store_batch(
    db: Database, *, seq: int, sealed: bytes, object_sha256: bytes, chain: bytes, rows: Sequence[Waiting]
) -> None:
    """Put a sealed batch in the outbox and tie its rows to it."""
    payload_no = db.execute("INSERT INTO payload (bytes) VALUES (?)", (sealed,))
    device_no = blobs.device_no(db, meta.device_id(db))
    db.execute(
        "INSERT INTO own_batch (device_no, seq, payload_no, object_sha256, chain) VALUES (?, ?, ?, ?, ?)",
        (device_no, seq, payload_no, object_sha256, chain),
    )
    for part in batched([row.no for row in rows], SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        db.execute(f"UPDATE upload SET batch_seq = ? WHERE no IN ({marks})", (seq, *part))  # noqa: S608 - marks
    db.execute(
        # One that is published once more, because the remote lost its content, keeps its first number.
        "UPDATE version SET seq = ? WHERE seq = 0"
        " AND no IN (SELECT version_no FROM upload WHERE batch_seq = ?)",
        (seq, seq),
    )


def unconfirmed_batch(db: Database) -> OwnBatch | None:
    """The batch in the outbox: at most one, for the next is cut after it is confirmed. Verified."""
    return _verified(
        db.one(f"{_OWN_BATCH} WHERE NOT confirmed AND device_no = {_OWN_NO} ORDER BY own_batch.seq LIMIT 1")
    )


def own_batch(db: Database, device: DeviceId, seq: int) -> OwnBatch | None:
    """One of the batches this device has issued, under its present id or a former one; or None."""
    return _verified(db.one(f"{_OWN_BATCH} WHERE device.id = ? AND own_batch.seq = ?", (device, seq)))


def own_digest(db: Database, device: DeviceId, seq: int) -> bytes | None:
    """The SHA-256 of one of these batches, or None."""
    digest: bytes | None = db.scalar(
        "SELECT object_sha256 FROM own_batch JOIN device ON device.no = device_no"
        " WHERE device.id = ? AND own_batch.seq = ?",
        (device, seq),
    )
    return digest


def own_chain(db: Database, device: DeviceId, seq: int) -> bytes | None:
    """The chain value after one of these batches, or None."""
    chain: bytes | None = db.scalar(
        "SELECT own_batch.chain FROM own_batch JOIN device ON device.no = device_no"
        " WHERE device.id = ? AND own_batch.seq = ?",
        (device, seq),
    )
    return chain


def issued(db: Database) -> dict[DeviceId, int]:
    """The last confirmed batch issued under each id this device has had; 0 for a present one without."""
    found = {
        DeviceId(row[0]): int(row[1])
        for row in db.all(
            "SELECT device.id, max(own_batch.seq) FROM own_batch JOIN device ON device.no = device_no"
            " WHERE confirmed GROUP BY device_no"
        )
    }
    return {meta.device_id(db): 0} | found


def give_up(db: Database, after: int) -> None:
    """Take the batches of the present id after a number out: the remote holds others in their place.

    What waited for them waits to be published again.
    """
    db.execute(
        "UPDATE version SET seq = 0 WHERE no IN (SELECT version_no FROM upload WHERE batch_seq > ?)", (after,)
    )
    db.execute("UPDATE upload SET batch_seq = NULL WHERE batch_seq > ?", (after,))
    db.execute("UPDATE pack SET batch_seq = NULL WHERE batch_seq > ?", (after,))
    db.execute(f"DELETE FROM own_batch WHERE device_no = {_OWN_NO} AND seq > ?", (after,))  # noqa: S608 - fixed text


def _verified(row: Row | None) -> OwnBatch | None:
    """Sealed bytes that are not the ones that were sealed would end this device's journal for everyone."""
    if row is None:
        return None
    device, seq, sealed, chain, object_sha256 = row
    if sealed is None or hashlib.sha256(sealed).digest() != object_sha256:
        raise CacheDamaged(
            f"batch {seq} of this device, kept to be sent, does not verify in the cache",
            safe="it was not sent; blobs on this device can still be read",
            todo="join the vault in a new folder and put there what is still pending here",
        )
    return OwnBatch(DeviceId(device), seq, sealed, chain)


def last_own_seq(db: Database) -> int:
    """The last sequence number issued under the present id; 0 before the first."""
    return int(db.scalar(f"SELECT max(seq) FROM own_batch WHERE device_no = {_OWN_NO}") or 0)  # noqa: S608


def confirm_batch(db: Database, seq: int) -> int:
    """Mark a batch as published and settle the rows it holds; how many of them are versions."""
    db.execute(f"UPDATE own_batch SET confirmed = 1 WHERE device_no = {_OWN_NO} AND seq = ?", (seq,))  # noqa: S608
    db.execute(
        f"UPDATE version SET status = {sql_case(Event.CONFIRMED)}"  # noqa: S608 - built from the table
        " WHERE status IS NOT NULL AND no IN (SELECT version_no FROM upload WHERE batch_seq = ?)",
        (seq,),
    )
    versions = db.changed("DELETE FROM upload WHERE batch_seq = ? AND version_no IS NOT NULL", (seq,))
    db.execute("DELETE FROM upload WHERE batch_seq = ?", (seq,))
    return versions

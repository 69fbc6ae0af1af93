"""How far each device's journal has been read here, and what others say of it."""

from dataclasses import dataclass

from syncagent.cache.db import Database
from syncagent.model import DeviceId


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last batch of a device that was applied here (or issued, for our own) and the chain after it."""

    seq: int
    chain: bytes | None


@dataclass(frozen=True, slots=True)
class ShownHead:
    """The furthest batch of a device that any batch applied here has named, beyond our own cursor."""

    device: DeviceId
    seq: int


def cursor(db: Database, device: bytes) -> Cursor:
    """A device's cursor; (0, None) for one never read."""
    row = db.one("SELECT seq, chain FROM device WHERE id = ?", (device,))
    return Cursor(0, None) if row is None else Cursor(*row)


def cursors(db: Database) -> dict[DeviceId, int]:
    """The cursor of every known device."""
    return {DeviceId(row[0]): row[1] for row in db.all("SELECT id, seq FROM device")}


def unread(db: Database, limit: int) -> list[DeviceId]:
    """Devices of which no batch was read, those that were named first: there may be none of them."""
    rows = db.all("SELECT id FROM device WHERE seq = 0 ORDER BY no LIMIT ?", (limit,))
    return [DeviceId(row[0]) for row in rows]


def advance(db: Database, device_no: int, seq: int, chain: bytes) -> None:
    """Move a cursor; in the same transaction as what the batch changed."""
    db.execute("UPDATE device SET seq = ?, chain = ? WHERE no = ?", (seq, chain, device_no))


def owe(db: Database, device_no: int, seq: int) -> None:
    """Note that a batch changed something, which its writer wants to know was read."""
    db.execute("UPDATE device SET owed_seq = ? WHERE no = ?", (seq, device_no))


def owes(db: Database, own: DeviceId) -> bool:
    """Whether our batches have not yet said that we have read what others changed."""
    return bool(db.scalar("SELECT 1 FROM device WHERE owed_seq > announced_seq AND id <> ? LIMIT 1", (own,)))


def show_head(db: Database, device_no: int, seq: int, chain: bytes) -> None:
    """Note what another device says it has read of this one."""
    db.execute(
        "UPDATE device SET shown_seq = ?, shown_chain = ? WHERE no = ? AND shown_seq < ?",
        (seq, chain, device_no, seq),
    )


def shown_chain(db: Database, device: bytes) -> tuple[int, bytes | None]:
    """The furthest head another device has named, with the chain it named there."""
    row = db.one("SELECT shown_seq, shown_chain FROM device WHERE id = ?", (device,))
    return (0, None) if row is None else (row[0], row[1])


def beyond_cursors(db: Database) -> list[ShownHead]:
    """Journals of which another device has read more than this one was shown."""
    return [
        ShownHead(*row)
        for row in db.all("SELECT id, shown_seq FROM device WHERE shown_seq > seq ORDER BY id")
    ]


def unannounced_heads(db: Database, own: DeviceId) -> list[tuple[DeviceId, int, bytes]]:
    """(device, seq, chain) of every other journal read further than our last batch says."""
    return [
        (DeviceId(row[0]), row[1], row[2])
        for row in db.all(
            "SELECT id, seq, chain FROM device WHERE seq > announced_seq AND id <> ? ORDER BY id", (own,)
        )
    ]


def announce_heads(db: Database, own: DeviceId) -> None:
    """Note that a batch being cut names every cursor as it is now."""
    db.execute("UPDATE device SET announced_seq = seq WHERE seq > announced_seq AND id <> ?", (own,))


def become(db: Database, *, old: int, seq: int, chain: bytes | None) -> None:
    """This device takes a new id: its former journal is read from a batch on like any other.

    The first batch under the new id names every cursor.
    """
    db.execute("UPDATE device SET seq = ?, chain = ? WHERE no = ?", (seq, chain, old))
    db.execute("UPDATE device SET announced_seq = 0")

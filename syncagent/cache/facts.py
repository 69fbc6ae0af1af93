"""Facts of the journal that are not versions: flags, registers, and kinds for upkeep.

They are kept from the first release on, so that a device whose version cannot
act on a kind yet still merges it and has it when it can.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from syncagent.cache.db import Database
from syncagent.model import DeviceId, Hlc

_SIGN = 1 << 63  # SQLite's integers are signed, tags are not


@dataclass(frozen=True, slots=True)
class RegisterRow:
    """The change that stands for a key, and who wrote it."""

    change: bytes
    device: DeviceId
    hlc: Hlc


def add_flags(db: Database, blob: int, added: Iterable[tuple[str, int]], removed: Iterable[int]) -> None:
    """Union of flag tags set and tags removed; a tag that is removed sets nothing, whichever comes first."""
    db.many("INSERT OR IGNORE INTO flag_removed VALUES (?, ?)", [(blob, tag - _SIGN) for tag in removed])
    db.many(
        "INSERT OR IGNORE INTO flag_tag SELECT ?1, ?2, ?3"
        " WHERE NOT EXISTS (SELECT 1 FROM flag_removed WHERE blob_no = ?1 AND tag = ?3)",
        [(blob, flag, tag - _SIGN) for flag, tag in added],
    )


def flag_tags(db: Database, blob: int) -> list[tuple[str, int]]:
    """The flags of a blob with the tags they were set under, those not removed."""
    rows = db.all("SELECT flag, tag FROM flag_tag WHERE blob_no = ? ORDER BY flag, tag", (blob,))
    return [(flag, tag + _SIGN) for flag, tag in rows]


def removed_tags(db: Database, blob: int) -> list[int]:
    """The tags of a blob's flags that were taken away."""
    rows = db.all("SELECT tag FROM flag_removed WHERE blob_no = ? ORDER BY tag", (blob,))
    return [tag + _SIGN for (tag,) in rows]


def find_register(db: Database, kind: str, key: bytes) -> RegisterRow | None:
    """What stands for a key of a last-writer-wins kind."""
    row = db.one("SELECT change, device, hlc FROM register WHERE kind = ? AND key = ?", (kind, key))
    return None if row is None else RegisterRow(row[0], DeviceId(row[1]), Hlc(row[2]))


def registers(db: Database, kind: str) -> list[RegisterRow]:
    """Everything that stands for a kind, by key."""
    rows = db.all("SELECT change, device, hlc FROM register WHERE kind = ? ORDER BY key", (kind,))
    return [RegisterRow(row[0], DeviceId(row[1]), Hlc(row[2])) for row in rows]


TAGS_OF_VERSION = "kind = 'tag' AND key > version.id AND key < CAST(version.id || x'ff' AS BLOB)"
"""SQL: the row of `register` is of a tag on the row of `version`, or of one taken off it.

A key is the version's id and the name, and no UTF-8 has a byte 0xff.
"""


def tags_of(db: Database, blob: int) -> list[tuple[int, bytes]]:
    """(number of the version, packed change) of every tag that was put on or taken off a blob's versions."""
    rows = db.all(
        f"SELECT version.no, change FROM version JOIN register ON {TAGS_OF_VERSION}"  # noqa: S608 - fixed text
        " WHERE blob_no = ? ORDER BY version.no, key",
        (blob,),
    )
    return [(number, change) for number, change in rows]


def set_register(db: Database, kind: str, key: bytes, *, change: bytes, hlc: int, device: DeviceId) -> None:
    """Let a change stand."""
    db.execute("INSERT OR REPLACE INTO register VALUES (?, ?, ?, ?, ?)", (kind, key, hlc, device, change))


def keep_change(db: Database, *, device: int, seq: int, position: int, kind: str, change: bytes) -> None:
    """Keep a change for upkeep."""
    db.execute(
        "INSERT OR IGNORE INTO kept_change VALUES (?, ?, ?, ?, ?)", (device, seq, position, kind, change)
    )

"""Single values of the vault: who we are, our keys, the clock, how the last sync went."""

from typing import Final

from syncagent.cache.db import Database
from syncagent.errors import CacheDamaged
from syncagent.model import DeviceId, Hlc, VaultId

VAULT_ID: Final = "vault_id"
DEVICE_ID: Final = "device_id"
DEVICE_NAME: Final = "device_name"
ROOT: Final = "root_1"
REMOTE: Final = "remote"
TOKEN: Final = "remote_token"  # noqa: S105 - a key
CA_FILE: Final = "remote_ca_file"
CLIENT_CERT: Final = "remote_client_cert"
HLC: Final = "hlc"
JOINED_AT: Final = "joined_at"
LAST_PUBLISHED_AT: Final = "last_published_at"
CHANGE_CURSOR: Final = "change_cursor"
SYNC_FAILURES: Final = "sync_failures"
NEXT_SYNC_AT: Final = "next_sync_at"
SYNC_REASON: Final = "sync_reason"
SYNC_TODO: Final = "sync_todo"
RETRIES_ASKED: Final = "retries_asked"
"""How often the user has asked for a retry: another process that syncs in the background looks at it."""
DROPPED_SLOTS: Final = "dropped_slots"
"""Ids in hex of key slots that were replaced here and may still be at the remote."""
SWEPT_AT: Final = "swept_at"
IS_COPIED: Final = "is_copied"
"""Others have read batches of this device that it never issued: it needs another id."""
IS_HEALING: Final = "is_healing"
"""The remote went back, and what it lost of ours is not all there again."""
DOUBTED_AT: Final = "doubted_at"
"""When the remote was last found to have gone back or to withhold something, or was changed; Unix ms."""
STALLED_UPLOAD: Final = "stalled_upload"
STALLED_DOWNLOAD: Final = "stalled_download"
"""Versions that a sync which was given up had trouble with; see `stalled.py`."""
ALARMS: Final = "alarms"
"""See `alarms.py`."""
OWN_SLOT: Final = "own_slot"
"""The slot this device was opened with when it joined; the journal must go on listing it."""


def get_bytes(db: Database, key: str) -> bytes:
    """A value that every cache has; `CacheDamaged` without it."""
    value = db.scalar("SELECT value FROM meta WHERE key = ?", (key,))
    if value is None:
        raise CacheDamaged(f"the cache has no {key}")
    return bytes(value)


def find_text(db: Database, key: str) -> str | None:
    """A text, or None."""
    value = db.scalar("SELECT value FROM meta WHERE key = ?", (key,))
    return None if value is None else bytes(value).decode()


def find_int(db: Database, key: str) -> int | None:
    """A number, or None."""
    value = db.scalar("SELECT value FROM meta WHERE key = ?", (key,))
    return None if value is None else int.from_bytes(value, "big", signed=True)


def put(db: Database, key: str, value: bytes | str | int | None) -> None:
    """Store a value, or with None remove it."""
    if value is None:
        db.execute("DELETE FROM meta WHERE key = ?", (key,))
        return
    if isinstance(value, str):
        value = value.encode()
    elif isinstance(value, int):
        value = value.to_bytes(8, "big", signed=True)
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def vault_id(db: Database) -> VaultId:
    """The vault this cache belongs to."""
    return VaultId(get_bytes(db, VAULT_ID))


def device_id(db: Database) -> DeviceId:
    """The device this cache belongs to."""
    return DeviceId(get_bytes(db, DEVICE_ID))


def hlc(db: Database) -> Hlc:
    """The last value of the hybrid logical clock; 0 before the first."""
    return Hlc(find_int(db, HLC) or 0)

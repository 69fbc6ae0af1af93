"""What can be told without the remote: status, lists, counts. Plain synchronous reads.

`Vault` calls them on the cache thread; the command calls them directly, so that
`syncagent status` needs no event loop.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from syncagent.cache import alarms, meta, outbox
from syncagent.cache.blobs import find_namespace
from syncagent.cache.db import Database
from syncagent.cache.waiting import kind_of
from syncagent.errors import ConfigError, InvalidName, TransientRemoteError
from syncagent.model import BlobInfo, BlobPage, NamespaceStatus, SyncState, SyncStatus, VaultStatus
from syncagent.times import utc

MAX_PAGE = 10_000
_HLC_SHIFT = 16
INFO_COLUMNS = (
    "id, size, status, created_at, changed, conflict,"
    " (SELECT version.id FROM version WHERE version.no = winner_no)"
)
"""What `blob_info` takes, of the table `blob`."""


def status(db: Database, *, last_sync: float | None, now: float) -> VaultStatus:
    """Counts and reasons. Reads a few rows a namespace, whatever the number of blobs.

    Args:
        db: the open cache.
        last_sync: Unix time of the last finished sync, from the sync lock.
        now: Unix time.
    """
    namespaces: dict[str, NamespaceStatus] = {}
    totals: dict[SyncStatus, int] = dict.fromkeys(SyncStatus, 0)
    tombstones_total = 0
    for number, name in db.all("SELECT no, name FROM namespace WHERE name NOT LIKE '.%' ORDER BY name"):
        counts: dict[SyncStatus, int] = dict.fromkeys(SyncStatus, 0)
        tombstones = 0
        for deleted, code, blobs in db.all(
            "SELECT deleted, status, blobs FROM status_count WHERE namespace_no = ?", (number,)
        ):
            if not deleted:
                counts[SyncStatus(code)] += blobs
                totals[SyncStatus(code)] += blobs
            elif code in (SyncStatus.PENDING_UPLOAD, SyncStatus.FAILED_UPLOAD):
                tombstones += blobs
        tombstones_total += tombstones
        namespaces[name] = NamespaceStatus(sum(counts.values()), counts, tombstones)
    changes = int(db.scalar("SELECT count(*) FROM upload WHERE version_no IS NULL") or 0)
    waits_until = [
        at
        for at in (meta.find_int(db, meta.NEXT_SYNC_AT), outbox.next_attempt(db))
        if at is not None and at > now * 1000
    ]
    reason = meta.find_text(db, meta.SYNC_REASON)
    errors = db.all(
        "SELECT last_error, count(*) FROM (SELECT last_error FROM upload WHERE last_error IS NOT NULL"
        " UNION ALL SELECT last_error FROM download WHERE last_error IS NOT NULL)"
        " GROUP BY last_error ORDER BY 2 DESC LIMIT 5"
    )
    return VaultStatus(
        vault_id=meta.vault_id(db).hex(),
        device_id=meta.device_id(db).hex(),
        device_name=meta.find_text(db, meta.DEVICE_NAME) or "",
        remote=meta.find_text(db, meta.REMOTE) or "",
        counts=totals,
        namespaces=namespaces,
        pending_changes=changes + tombstones_total,
        conflicts=int(db.scalar("SELECT count(*) FROM blob WHERE conflict") or 0),
        last_sync=None if last_sync is None else utc(last_sync * 1000),
        next_attempt=utc(max(waits_until)) if waits_until and reason else None,
        state=_state(reason),
        todo=meta.find_text(db, meta.SYNC_TODO) or "",
        alarms=tuple(kept.alarm for kept in alarms.load(db)),
        reasons=tuple(([reason] if reason else []) + [f"{count} × {error}" for error, count in errors]),
    )


def list_blobs(
    db: Database,
    namespace: str,
    *,
    prefix: str = "",
    status: SyncStatus | None = None,
    after: str | None = None,
    limit: int = 1000,
) -> BlobPage:
    """Live blobs of a namespace by id, from the first id after `after`."""
    _check_text(prefix, after or "")
    if not 1 <= limit <= MAX_PAGE:
        raise ConfigError(f"a page has 1 to {MAX_PAGE} blobs, not {limit}")
    number = find_namespace(db, namespace)
    if number is None:
        return BlobPage((), None)
    conditions, parameters = _matching(number, prefix, status)
    if after is not None:
        conditions += " AND id > ?"
        parameters.append(after)
    rows = db.all(
        f"SELECT {INFO_COLUMNS} FROM blob WHERE {conditions} ORDER BY id LIMIT ?",  # noqa: S608 - built from fixed text
        (*parameters, limit + 1),
    )
    blobs = tuple(blob_info(namespace, row) for row in rows[:limit])
    return BlobPage(blobs, blobs[-1].id if len(rows) > limit else None)


def blob_info(namespace: str, row: Sequence[Any]) -> BlobInfo:
    """A blob from its `INFO_COLUMNS`."""
    blob_id, size, code, created_at, changed, conflict, version = row
    return BlobInfo(
        namespace=namespace,
        id=blob_id,
        size=size,
        status=SyncStatus(code),
        version=version.hex(),
        created_at=utc(created_at),
        changed_at=utc(changed >> _HLC_SHIFT),
        conflict=bool(conflict),
    )


def count_blobs(db: Database, namespace: str, *, prefix: str = "", status: SyncStatus | None = None) -> int:
    """How many live blobs match. Without a prefix it reads one counter a status."""
    _check_text(prefix)
    number = find_namespace(db, namespace)
    if number is None:
        return 0
    if not prefix:
        return int(
            db.scalar(
                "SELECT sum(blobs) FROM status_count WHERE namespace_no = ? AND NOT deleted"
                " AND (? IS NULL OR status = ?)",
                (number, status, status),
            )
            or 0
        )
    conditions, parameters = _matching(number, prefix, status)
    return int(db.scalar(f"SELECT count(*) FROM blob WHERE {conditions}", parameters) or 0)  # noqa: S608


def namespaces(db: Database) -> list[str]:
    """The user's namespaces that hold a live blob, by name."""
    rows = db.all(
        "SELECT name FROM namespace WHERE name NOT LIKE '.%' AND EXISTS (SELECT 1 FROM status_count"
        " WHERE namespace_no = namespace.no AND NOT deleted AND blobs > 0) ORDER BY name"
    )
    return [row[0] for row in rows]


def status_counts(db: Database) -> Mapping[str, int]:
    """Live blobs per status over all namespaces, counted the slow way: for tests and `verify`."""
    rows = db.all(
        "SELECT status, count(*) FROM blob WHERE NOT deleted AND status IS NOT NULL GROUP BY status"
    )
    return {SyncStatus(code).name: number for code, number in rows}


def _state(reason: str | None) -> SyncState:
    if reason is None:
        return SyncState.READY
    return SyncState.BACKING_OFF if issubclass(kind_of(reason), TransientRemoteError) else SyncState.STOPPED


def _check_text(*texts: str) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise InvalidName(f"{text[:80]!r} cannot be written as UTF-8") from exc


def _matching(namespace: int, prefix: str, status: SyncStatus | None) -> tuple[str, list[object]]:
    conditions = "namespace_no = ? AND NOT deleted AND winner_no IS NOT NULL"
    parameters: list[object] = [namespace]
    if prefix:
        # A range rather than LIKE: it uses the index and needs no escaping. Text compares by its
        # bytes, and no UTF-8 has a byte 0xff.
        conditions += " AND id >= ? AND id < CAST(? AS TEXT)"
        parameters += [prefix, prefix.encode() + b"\xff"]
    if status is not None:
        conditions += " AND status = ?"
        parameters.append(int(status))
    return conditions, parameters

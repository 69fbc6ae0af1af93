"""What can be told of the whole vault without the remote: status, namespaces. Plain synchronous reads.

`Vault` calls them on the cache thread; the command calls them directly, so that
`syncagent status` needs no event loop.
"""

from collections.abc import Mapping

from syncagent.cache import alarms, meta, outbox
from syncagent.cache.db import Database
from syncagent.cache.status import BARE
from syncagent.cache.waiting import kind_of
from syncagent.errors import TransientRemoteError
from syncagent.model import SyncStatus
from syncagent.reports import NamespaceInfo, NamespaceStatus, SyncState, VaultStatus
from syncagent.times import utc

_CONFLICTS = (
    "SELECT count(*) FROM blob WHERE conflict AND (expires_at IS NULL OR expires_at > ?)"
    " AND namespace_no NOT IN (SELECT no FROM namespace WHERE name LIKE '.%')"
)
_INTERNAL_CHANGES = (
    "SELECT sum(blobs) FROM status_count JOIN namespace ON namespace.no = namespace_no"
    " WHERE name LIKE '.%' AND status IN (?, ?)"
)
_BARE = (
    "SELECT namespace_no, count(*) FROM upload INDEXED BY upload_bare"  # noqa: S608 - from the enumeration
    " JOIN version ON version.no = version_no JOIN blob ON blob.no = blob_no"
    f" WHERE was_bare AND version.status IN ({','.join(str(int(status)) for status in BARE)})"
    " GROUP BY namespace_no"
)
_UNSENT = (int(SyncStatus.PENDING_UPLOAD), int(SyncStatus.FAILED_UPLOAD))


def status(db: Database, *, last_sync: float | None, now: float) -> VaultStatus:
    """Counts and reasons. Reads a few rows a namespace, whatever the number of blobs.

    Args:
        db: the open cache.
        last_sync: Unix time of the last finished sync, from the sync lock.
        now: Unix time.
    """
    namespaces: dict[str, NamespaceStatus] = {}
    totals: dict[SyncStatus, int] = dict.fromkeys(SyncStatus, 0)
    waiting_total = 0
    bare: dict[int, int] = dict(db.all(_BARE))
    for number, name in db.all("SELECT no, name FROM namespace WHERE name NOT LIKE '.%' ORDER BY name"):
        counts: dict[SyncStatus, int] = dict.fromkeys(SyncStatus, 0)
        waiting = bare.get(number, 0)
        for deleted, code, blobs in db.all(
            "SELECT deleted, status, blobs FROM status_count WHERE namespace_no = ?", (number,)
        ):
            if not deleted:
                counts[SyncStatus(code)] += blobs
                totals[SyncStatus(code)] += blobs
            elif code in (SyncStatus.PENDING_UPLOAD, SyncStatus.FAILED_UPLOAD):
                waiting += blobs
        waiting_total += waiting
        namespaces[name] = NamespaceStatus(sum(counts.values()), counts, waiting)
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
        pending_changes=changes + waiting_total + int(db.scalar(_INTERNAL_CHANGES, _UNSENT) or 0),
        conflicts=int(db.scalar(_CONFLICTS, (int(now * 1000),)) or 0),
        last_sync=None if last_sync is None else utc(last_sync * 1000),
        next_attempt=utc(max(waits_until)) if waits_until and reason else None,
        state=state_of(reason),
        todo=meta.find_text(db, meta.SYNC_TODO) or "",
        alarms=tuple(kept.alarm for kept in alarms.load(db)),
        reasons=tuple(([reason] if reason else []) + [f"{count} × {error}" for error, count in errors]),
    )


def namespaces(db: Database, *, now_ms: int) -> tuple[NamespaceInfo, ...]:
    """The user's namespaces that hold a live blob, by name."""
    rows = db.all(
        "SELECT name, (SELECT sum(blobs) FROM status_count WHERE namespace_no = namespace.no AND deleted = 0)"
        " - (SELECT count(*) FROM blob INDEXED BY blob_expires WHERE namespace_no = namespace.no"
        "    AND expires_at <= ? AND NOT deleted AND winner_no IS NOT NULL)"
        " FROM namespace WHERE name NOT LIKE '.%' ORDER BY name",
        (now_ms,),
    )
    return tuple(NamespaceInfo(name, blobs) for name, blobs in rows if blobs)


def status_counts(db: Database) -> Mapping[str, int]:
    """Live blobs per status over all namespaces, counted the slow way: for tests and `verify`."""
    rows = db.all(
        "SELECT status, count(*) FROM blob WHERE NOT deleted AND status IS NOT NULL GROUP BY status"
    )
    return {SyncStatus(code).name: number for code, number in rows}


def state_of(reason: str | None) -> SyncState:
    """What a kept reason of the last sync's failure, or its absence, comes to."""
    if reason is None:
        return SyncState.READY
    return SyncState.BACKING_OFF if issubclass(kind_of(reason), TransientRemoteError) else SyncState.STOPPED

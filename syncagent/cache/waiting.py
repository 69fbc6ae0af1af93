"""Why a blob waits, until when, and making it due now. `queries.py` tells of the vault, this of one blob."""

from dataclasses import dataclass

from syncagent import errors
from syncagent.cache import blobs, meta, there
from syncagent.cache.blobs import HeadRow
from syncagent.cache.db import Database
from syncagent.cache.status import PRECEDENCE, Event, sql_case
from syncagent.errors import BlobNotFound, SyncAgentError
from syncagent.model import SyncStatus
from syncagent.reports import Explanation
from syncagent.times import utc

_UPLOADS = (SyncStatus.PENDING_UPLOAD, SyncStatus.FAILED_UPLOAD)
_DOWNLOADS = (SyncStatus.PENDING_DOWNLOAD, SyncStatus.FAILED_DOWNLOAD)
_SETTLED = (SyncStatus.SYNCED, SyncStatus.REMOTE_ONLY, SyncStatus.LOCAL_ONLY)
_FAILED = (SyncStatus.FAILED_UPLOAD, SyncStatus.FAILED_DOWNLOAD)
LONGEST_MS = 25 * 3600 * 1000
"""No row waits longer than a day."""
_SYNC = "run `syncagent sync`"
_RETRY = "`syncagent retry` tries it now"


@dataclass(frozen=True, slots=True)
class _Row:
    """What a queue says of a version; times in Unix ms."""

    retries: int
    next_attempt_at: int
    error: str | None
    batch_seq: int | None
    group: bytes | None
    is_upload: bool


@dataclass(frozen=True, slots=True)
class _Cause:
    text: str
    unblock: str
    until_ms: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in this device's changes: the last version, and the last change without content that waits.

    By row, not by clock, which may be set back. A row with the number of one that is gone counts too.
    """

    version: int
    change: int


@dataclass(frozen=True, slots=True)
class Unpublished:
    """How many changes wait, and what one of them has failed with, if any has."""

    count: int
    error: str | None


def explain(db: Database, namespace: str, blob_id: str, *, now_ms: int) -> Explanation:
    """What keeps a blob from being in sync, if anything does. Works for a deleted blob too.

    Args:
        db: the open cache.
        namespace: its namespace.
        blob_id: its id.
        now_ms: Unix time in milliseconds.

    Raises:
        BlobNotFound: this device has never known a blob of this name.
    """
    number = blobs.find_namespace(db, namespace)
    row = None if number is None else blobs.find_blob(db, number, blob_id)
    heads = [] if row is None else blobs.heads(db, row.no)
    if row is None or not heads:
        raise BlobNotFound(f"{namespace}/{blob_id!r} is not on this device")
    # The head whose status the blob shows; the winner, when several have it.
    head = min(heads, key=lambda one: (PRECEDENCE.index(one.status), one.no != row.winner_no))
    queued = _queued(db, head.no, head.status)
    cause = _cause(db, row.no, head, queued)
    is_settled = head.status in _SETTLED and queued is None and not row.is_deleted
    if is_settled and row.expires_at is not None and row.expires_at <= now_ms:
        text = f"it expired at {utc(row.expires_at).isoformat(sep=' ', timespec='seconds')}"
        cause = _Cause(text, "`syncagent expire` with a later time brings it back")
    return Explanation(
        namespace=namespace,
        id=blob_id,
        status=head.status,
        version=head.id.hex(),
        deleted=head.is_deleted,
        retries=0 if queued is None else queued.retries,
        cause=cause.text,
        next_attempt=utc(cause.until_ms) if cause.until_ms > now_ms else None,
        unblock=cause.unblock,
    )


def retry(db: Database, namespace: str | None = None, blob_id: str | None = None) -> int:
    """Make what waits due now and forget its failures, also what was given up; how many rows it was.

    Args:
        db: the cache, in a transaction.
        namespace: only of this one.
        blob_id: only this blob of it.
    """
    changed = 0
    for table in ("upload", "download"):
        waits = (
            f"(retries > 0 OR next_attempt_at > 0 OR last_error IS NOT NULL) AND {_of(namespace, blob_id)}"
        )
        parameters = [value for value in (namespace, blob_id) if value is not None]
        db.execute(
            f"UPDATE version SET status = {sql_case(Event.RETRY)} WHERE status IS NOT NULL AND no IN"  # noqa: S608
            f" (SELECT version_no FROM {table} WHERE {waits})",
            parameters,
        )
        changed += db.changed(
            f"UPDATE {table} SET retries = 0, next_attempt_at = 0 WHERE {waits}",  # noqa: S608 - fixed text
            parameters,
        )
    if namespace is None:
        for key in (meta.SYNC_FAILURES, meta.NEXT_SYNC_AT):
            meta.put(db, key, None)
    meta.put(db, meta.RETRIES_ASKED, (meta.find_int(db, meta.RETRIES_ASKED) or 0) + 1)
    return changed


def mark(db: Database) -> Mark:
    """Now, as far as the queue of what is to be published goes."""
    row = db.one("SELECT (SELECT max(no) FROM version), (SELECT max(no) FROM upload)")
    assert row is not None
    return Mark(row[0] or 0, row[1] or 0)


def unpublished(db: Database, until: Mark) -> Unpublished:
    """What was put or changed up to a mark and is not known to be at the remote."""
    row = db.one(
        "SELECT count(*), max(last_error) FROM upload LEFT JOIN version ON version.no = version_no"
        " WHERE CASE WHEN version_no IS NULL THEN upload.no <= ? ELSE version_no <= ? END",
        (until.change, until.version),
    )
    assert row is not None
    return Unpublished(*row)


def is_upload_due(db: Database, now_ms: int) -> bool:
    """Whether the next sync has something to send."""
    found = db.scalar(
        "SELECT 1 FROM upload WHERE batch_seq IS NULL AND next_attempt_at <= ? LIMIT 1", (now_ms,)
    )
    return found is not None


def has_far_times(db: Database, now_ms: int) -> bool:
    """Whether a row waits longer than any delay is: its time was set by a clock that ran ahead."""
    far = now_ms + LONGEST_MS
    return any(
        db.scalar(
            # The first condition lets SQLite use the index of rows that wait.
            f"SELECT 1 FROM {table} WHERE next_attempt_at > 0 AND next_attempt_at > ? LIMIT 1",  # noqa: S608 - fixed names
            (far,),
        )
        is not None
        for table in ("upload", "download")
    )


def mend_times(db: Database, now_ms: int) -> None:
    """Make rows due whose time was set by a clock that ran ahead."""
    for table in ("upload", "download"):
        db.execute(
            f"UPDATE {table} SET next_attempt_at = 0 WHERE next_attempt_at > ?",  # noqa: S608 - fixed names
            (now_ms + LONGEST_MS,),
        )


def kind_of(error: str) -> type[SyncAgentError]:
    """The class of an error that was kept as `Class: text`."""
    kind = getattr(errors, error.partition(":")[0], None)
    return kind if isinstance(kind, type) and issubclass(kind, SyncAgentError) else SyncAgentError


def _of(namespace: str | None, blob_id: str | None) -> str:
    if namespace is None:
        return "1"
    by_id = "" if blob_id is None else " AND blob.id = ?"
    return (
        "version_no IN (SELECT version.no FROM version JOIN blob ON blob.no = blob_no"  # noqa: S608 - fixed text
        f" JOIN namespace ON namespace.no = namespace_no WHERE namespace.name = ?{by_id})"
    )


def _queued(db: Database, version_no: int, status: SyncStatus) -> _Row | None:
    """The row that a version waits in; of two the one that fails, or that of its content."""
    fetch = None
    if status in _DOWNLOADS:
        fetch = _row(
            db,
            "SELECT retries, next_attempt_at, last_error, NULL, NULL, 0 FROM download WHERE version_no = ?",
            version_no,
        )
        if fetch is not None and fetch.error is not None:
            return fetch
    send = _row(
        db,
        "SELECT retries, next_attempt_at, last_error, batch_seq, group_id, 1"
        " FROM upload WHERE version_no = ?",
        version_no,
    )
    return send if fetch is None or (send is not None and send.error is not None) else fetch


def _row(db: Database, sql: str, version_no: int) -> _Row | None:
    found = db.one(sql, (version_no,))
    return None if found is None else _Row(*found)


def _elsewhere(db: Database, head: HeadRow, waits: bool) -> _Cause:
    """Of content that is not here and not wanted."""
    text = "its content is not wanted on this device"
    unblock = _SYNC if waits else "`syncagent get` fetches it"
    if there.is_lost(db, head.no):
        text = "no pack that holds its content is known to be at the remote, and it is not on this device"
        unblock = "`syncagent put --replace` of the same content brings it back; another device may have it"
    return _Cause(f"new metadata waits to be sent; {text}" if waits else text, unblock)


def _cause(db: Database, blob_no: int, head: HeadRow, queued: _Row | None) -> _Cause:
    status = head.status
    match status:
        case SyncStatus.SYNCED:
            if db.scalar("SELECT 1 FROM hole WHERE blob_no = ?", (blob_no,)) is not None:
                text = "an edit by another device that it builds on has not been shown yet"
                return _Cause(text, _SYNC)
            return _Cause("", "")
        case SyncStatus.LOCAL_ONLY:
            unblock = "`syncagent put --shared` of the same content shares it; in Python, local_only=False"
            return _Cause("it is kept on this device only", unblock)
        case SyncStatus.REMOTE_ONLY if queued is None or queued.error is None:
            return _elsewhere(db, head, waits=queued is not None)
    if queued is not None and queued.error is not None:  # its own failure
        text = queued.error
        if queued.is_upload and status not in _UPLOADS:
            text = f"new metadata cannot be sent: {text}"
        return _Cause(text, _unblock(queued.error, status), queued.next_attempt_at)
    if queued is not None and queued.group is not None:  # all of a transaction or nothing
        other = db.one(
            "SELECT last_error, next_attempt_at FROM upload WHERE group_id = ? AND last_error IS NOT NULL"
            " ORDER BY next_attempt_at DESC LIMIT 1",
            (queued.group,),
        )
        if other is not None:
            text = f"another blob of its transaction cannot be sent: {other[0]}"
            return _Cause(text, _unblock(other[0], status), other[1])
    reason = meta.find_text(db, meta.SYNC_REASON)
    if reason is not None:  # the last sync as a whole
        return _Cause(
            f"the last sync failed: {reason}",
            meta.find_text(db, meta.SYNC_TODO) or _SYNC,
            meta.find_int(db, meta.NEXT_SYNC_AT) or 0,
        )
    if queued is not None and queued.batch_seq is not None:
        return _Cause("its batch is being published", _SYNC)
    return _Cause("no sync has come to it yet", _SYNC, 0 if queued is None else queued.next_attempt_at)


def _unblock(error: str, status: SyncStatus) -> str:
    todo = kind_of(error).default_todo
    return "; ".join(part for part in (todo, _RETRY if status in _FAILED else "") if part) or _RETRY

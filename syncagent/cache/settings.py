"""What stands in the row of a namespace: its settings, and what follows from them for its content.

The settings themselves are blobs of the namespace `.settings` (`engine/settings.py`); here they lie where
every put and every version that arrives finds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from syncagent.cache import blobs, downloads
from syncagent.cache.chunks import SQL_VARIABLES, batched
from syncagent.cache.db import Database
from syncagent.cache.status import Event, sql_case
from syncagent.model import Dedup, FetchPolicy, NamespaceSettings, SyncStatus

ROWS_AT_ONCE = 250
"""Rows looked at in one transaction when a policy has changed: some 5 ms if all of them change."""
LATELY_MS = 30 * 24 * 3600 * 1000
"""What is read once a month is still in use."""

_IS_KEPT = (
    "(pinned OR (NOT blob.deleted"  # noqa: S608 - a number
    f" AND blob.status <> {SyncStatus.REMOTE_ONLY.value}"  # given up, or read without being kept
    " AND EXISTS (SELECT 1 FROM access WHERE blob_no = blob.no AND read_at > ?)))"
)
"""SQL: of a row of `blob`, content is wanted whatever the policy: pinned, or here and read since a time."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A namespace of which some content is still wanted, or not wanted, by an earlier policy."""

    namespace_no: int
    fetch: FetchPolicy


def load(db: Database, name: str) -> NamespaceSettings:
    """The settings of a namespace; the defaults for one that is not known."""
    row = db.one("SELECT fetch, dedup, history, local_only FROM namespace WHERE name = ?", (name,))
    if row is None:
        return NamespaceSettings()
    return NamespaceSettings(FetchPolicy(row[0]), Dedup(row[1]), row[2], bool(row[3]))


def store(db: Database, namespace_no: int, settings: NamespaceSettings) -> None:
    """Let the synced settings of a namespace be these."""
    db.execute(
        # Also where a policy comes back: what came by the one between has not been looked at again.
        "UPDATE namespace SET fetch_done = CASE WHEN fetch = ?1 THEN fetch_done ELSE '' END,"
        " fetch = ?1, dedup = ?2, history = ?3 WHERE no = ?4",
        (settings.fetch.value, settings.dedup.value, settings.history, namespace_no),
    )


def set_local_only(db: Database, namespace_no: int, *, local_only: bool) -> None:
    """Whether new blobs of a namespace stay on this device."""
    db.execute("UPDATE namespace SET local_only = ? WHERE no = ?", (local_only, namespace_no))


def wants_new(db: Database, name: str) -> bool:
    """Whether the content of a blob that is not known yet is to be fetched."""
    fetch = db.scalar("SELECT fetch FROM namespace WHERE name = ?", (name,))
    return bool(fetch != FetchPolicy.ON_DEMAND.value)


def wants(db: Database, name: str, blob_id: str, *, now_ms: int) -> bool:
    """Whether the content of a blob's new version, which is not stored yet, is to be fetched."""
    if wants_new(db, name):
        return True
    found = db.scalar(
        "SELECT 1 FROM blob JOIN namespace ON namespace.no = namespace_no"  # noqa: S608 - fixed text
        f" WHERE name = ? AND id = ? AND {_IS_KEPT}",
        (name, blob_id, now_ms - LATELY_MS),
    )
    return found is not None


def wanted_before(db: Database, parents: Sequence[bytes], chunks: Sequence[int]) -> bool | None:
    """Whether content is wanted that a head among these versions has too; None if it is here, or has none.

    Of a version that replaces it with the same content, such as one with new metadata, it is no more and no
    less wanted.
    """
    statuses: set[SyncStatus] = set()
    for parent in parents:
        row = db.one("SELECT no, status FROM version WHERE id = ? AND status IS NOT NULL", (parent,))
        if row is not None and blobs.chunk_numbers(db, row[0]) == chunks:
            statuses.add(SyncStatus(row[1]))
    if SyncStatus.REMOTE_ONLY in statuses:
        return False
    return True if statuses & {SyncStatus.PENDING_DOWNLOAD, SyncStatus.FAILED_DOWNLOAD} else None


def kept_apart(db: Database) -> set[str]:
    """The namespaces whose changes go in batches of their own."""
    return {row[0] for row in db.all("SELECT name FROM namespace WHERE dedup = ?", (Dedup.NONE.value,))}


def versions_apart(db: Database, versions: Sequence[int]) -> set[int]:
    """Those of these versions that are of such a namespace."""
    found: set[int] = set()
    for part in batched(versions, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(
            "SELECT version.no FROM version JOIN blob ON blob.no = blob_no"  # noqa: S608 - marks
            f" JOIN namespace ON namespace.no = namespace_no WHERE dedup = ? AND version.no IN ({marks})",
            (Dedup.NONE.value, *part),
        )
        found.update(row[0] for row in rows)
    return found


def unsettled(db: Database) -> list[Unsettled]:
    """The namespaces whose policy has changed and is not applied to everything yet."""
    rows = db.all("SELECT no, fetch FROM namespace WHERE fetch IS NOT fetch_done")
    return [Unsettled(no, FetchPolicy(fetch)) for no, fetch in rows]


def settle_some(db: Database, wanted: Unsettled, after: int, *, now_ms: int) -> int | None:
    """Apply a policy to some versions behind this number; up to which one, None when it is applied to all."""
    number = wanted.namespace_no
    parameters: tuple[int, ...]
    if db.scalar("SELECT fetch FROM namespace WHERE no = ?", (number,)) != wanted.fetch.value:
        return None  # it has changed again
    if wanted.fetch is FetchPolicy.ON_DEMAND:
        table, event = "(SELECT version_no AS no FROM download)", Event.UNWANTED
        condition, parameters = f"NOT {_IS_KEPT}", (now_ms - LATELY_MS,)
    else:
        table, event = "(SELECT no FROM version)", Event.WANTED
        condition, parameters = f"version.status = {SyncStatus.REMOTE_ONLY.value}", ()
    last = db.scalar(
        f"SELECT max(no) FROM (SELECT no FROM {table} WHERE no > ? ORDER BY no LIMIT {ROWS_AT_ONCE})",  # noqa: S608 - fixed text
        (after,),
    )
    if last is None:
        db.execute("UPDATE namespace SET fetch_done = fetch WHERE no = ?", (number,))
        return None
    rows = db.all(
        f"SELECT version.no FROM {table} AS some JOIN version ON version.no = some.no"  # noqa: S608 - fixed text
        " JOIN blob ON blob.no = blob_no WHERE some.no > ? AND some.no <= ? AND namespace_no = ?"
        f" AND version.status IS NOT NULL AND {condition}",
        (after, last, number, *parameters),
    )
    move(db, [row[0] for row in rows], event)
    return int(last)


def move(db: Database, versions: Sequence[int], event: Event) -> None:
    """Want the content of some heads, or want it no more."""
    for part in batched(versions, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        db.execute(
            f"UPDATE version SET status = {sql_case(event)} WHERE no IN ({marks})",  # noqa: S608 - from the table
            part,
        )
        if event is Event.WANTED:
            downloads.enqueue(db, part)
        else:
            db.execute(f"DELETE FROM download WHERE version_no IN ({marks})", part)  # noqa: S608 - marks

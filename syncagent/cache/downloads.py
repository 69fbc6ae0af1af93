"""What is wanted on this device and not here yet."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from syncagent.cache.chunks import IS_HERE, SQL_VARIABLES, batched
from syncagent.cache.db import Database
from syncagent.cache.status import Event, sql_case
from syncagent.model import DEFAULT_PRIORITY

EXPIRED_MS = 7 * 24 * 3600 * 1000
"""Content of a blob that expired so long ago is not wanted here. Within a week a clock that is wrong by days
is noticed, and a device that has put the blob off comes online."""


@dataclass(frozen=True, slots=True)
class MissingChunk:
    """A chunk that a wanted version lacks on this device."""

    version_no: int
    chunk_no: int
    blob_size: int


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """A chunk in a pack at the remote: `stored_length` bytes from `offset`, the chunk at `position`."""

    chunk_no: int
    pack_no: int
    position: int
    offset: int
    stored_length: int
    pack_size: int


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """Verified content of one chunk, to be kept as a row."""

    chunk_no: int
    content: bytes = field(repr=False)


def enqueue(db: Database, versions: Iterable[int], *, priority: int = DEFAULT_PRIORITY) -> None:
    """Queue the content of versions for fetching."""
    db.many(
        "INSERT OR IGNORE INTO download (version_no, priority) VALUES (?, ?)",
        [(version, priority) for version in versions],
    )


def due(db: Database, now_ms: int, limit: int, namespace: int | None = None) -> list[int]:
    """Wanted versions whose time has come, by (priority, age); none of a blob that expired long ago."""
    rows = db.all(
        "SELECT version_no FROM download JOIN version ON version.no = version_no"
        " JOIN blob ON blob.no = blob_no WHERE next_attempt_at <= ? AND (? IS NULL OR namespace_no = ?)"
        " AND (expires_at IS NULL OR expires_at > ?)"
        " ORDER BY priority, version_no LIMIT ?",
        (now_ms, namespace, namespace, now_ms - EXPIRED_MS, limit),
    )
    return [row[0] for row in rows]


def missing_chunks(db: Database, versions: Sequence[int]) -> list[MissingChunk]:
    """Chunks of these versions that are not on this device, by version and position."""
    found: list[MissingChunk] = []
    for part in batched(versions, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(
            "SELECT version_chunk.version_no, chunk.no, version.size FROM version_chunk"  # noqa: S608 - marks
            " JOIN chunk ON chunk.no = chunk_no JOIN version ON version.no = version_chunk.version_no"
            f" WHERE version_chunk.version_no IN ({marks}) AND NOT {IS_HERE}"
            " ORDER BY version_chunk.version_no, position",
            part,
        )
        found += [MissingChunk(*row) for row in rows]
    return found


def missing_part(db: Database, version: int, first: int, stop: int) -> list[MissingChunk]:
    """As `missing_chunks`, of chunks `first` to `stop` of one version."""
    rows = db.all(
        "SELECT version_chunk.version_no, chunk.no, version.size FROM version_chunk"  # noqa: S608 - fixed text
        " JOIN chunk ON chunk.no = chunk_no JOIN version ON version.no = version_chunk.version_no"
        f" WHERE version_no = ? AND position >= ? AND position < ? AND NOT {IS_HERE} ORDER BY position",
        (version, first, stop),
    )
    return [MissingChunk(*row) for row in rows]


def chunks_of_part(db: Database, version: int, first: int, stop: int) -> list[int]:
    """The numbers of chunks `first` to `stop` of a version, in order."""
    rows = db.all(
        "SELECT chunk_no FROM version_chunk WHERE version_no = ? AND position >= ? AND position < ?"
        " ORDER BY position",
        (version, first, stop),
    )
    return [row[0] for row in rows]


def remote_places(db: Database, chunks: Sequence[int]) -> list[RemotePlace]:
    """Every known place of these chunks at the remote."""
    found: list[RemotePlace] = []
    for part in batched(chunks, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(
            "SELECT chunk_no, pack_no, position, offset, stored_length, size FROM pack_chunk"  # noqa: S608 - marks
            " JOIN pack ON pack.no = pack_no"
            # One that the remote had lost may be there again, and nothing else may hold what is not here.
            " WHERE (is_remote OR (put_at > 0 AND NOT EXISTS (SELECT 1 FROM pack_chunk AS other"
            " JOIN pack AS there ON there.no = other.pack_no"
            " WHERE other.chunk_no = pack_chunk.chunk_no AND there.is_remote)))"
            f" AND chunk_no IN ({marks})",
            part,
        )
        found += [RemotePlace(*row) for row in rows]
    return found


def scopes(db: Database, chunks: Sequence[int]) -> dict[int, bytes]:
    """The dedup scope of each chunk, which verifying its id needs."""
    found: dict[int, bytes] = {}
    for part in batched(chunks, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        found.update(db.all(f"SELECT no, scope FROM chunk WHERE no IN ({marks})", part))  # noqa: S608 - marks
    return found


def naming(db: Database, chunks: Sequence[int]) -> dict[int, list[int]]:
    """By chunk, the versions that name it."""
    found: dict[int, list[int]] = {}
    for part in batched(chunks, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        for chunk, version in db.all(
            f"SELECT chunk_no, version_no FROM version_chunk WHERE chunk_no IN ({marks})",  # noqa: S608 - marks
            part,
        ):
            found.setdefault(chunk, []).append(version)
    return found


def set_scopes(db: Database, proven: Mapping[int, bytes]) -> None:
    """Note by chunk the scope in which its content has verified."""
    db.many("UPDATE chunk SET scope = ? WHERE no = ?", [(scope, chunk) for chunk, scope in proven.items()])


def packs_of_missing(db: Database, version: int) -> list[int]:
    """Packs at the remote that hold a chunk which a version lacks here."""
    missing = [chunk.chunk_no for chunk in missing_chunks(db, [version])]
    return sorted({place.pack_no for place in remote_places(db, missing)})


def retries_of(db: Database, version: int) -> int:
    """How often fetching a version has failed for a reason of its own."""
    return int(db.scalar("SELECT retries FROM download WHERE version_no = ?", (version,)) or 0)


def store_payloads(db: Database, chunks: Sequence[StoredChunk]) -> None:
    """Keep verified content as rows, unless it has come another way meanwhile."""
    lacking: set[int] = set()
    for part in batched([chunk.chunk_no for chunk in chunks], SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(f"SELECT no FROM chunk WHERE payload_no IS NULL AND no IN ({marks})", part)  # noqa: S608 - marks
        lacking.update(row[0] for row in rows)
    contents = {chunk.chunk_no: chunk.content for chunk in chunks if chunk.chunk_no in lacking}
    first = int(db.scalar("SELECT coalesce(max(no), 0) + 1 FROM payload"))
    db.many("INSERT INTO payload VALUES (?, ?)", list(enumerate(contents.values(), start=first)))
    db.many(
        "UPDATE chunk SET payload_no = ? WHERE no = ?",
        [(payload, chunk) for payload, chunk in enumerate(contents, start=first)],
    )


def settle(db: Database, versions: Sequence[int]) -> list[int]:
    """Take versions whose content is complete off the queue; which they are."""
    settled: list[int] = []
    for part in batched(versions, SQL_VARIABLES):
        incomplete = {chunk.version_no for chunk in missing_chunks(db, part)}
        complete = [version for version in part if version not in incomplete]
        marks = ",".join("?" * len(complete))
        db.execute(
            f"UPDATE version SET status = {sql_case(Event.FETCHED_UNSENT)}"  # noqa: S608 - built from the table
            " WHERE status IS NOT NULL"
            f" AND no IN (SELECT version_no FROM upload WHERE version_no IN ({marks}))",
            complete,
        )
        db.execute(
            f"UPDATE version SET status = {sql_case(Event.FETCHED)}"  # noqa: S608 - built from the table
            f" WHERE status IS NOT NULL AND no IN ({marks})",
            complete,
        )
        db.execute(f"DELETE FROM download WHERE version_no IN ({marks})", complete)  # noqa: S608 - marks
        settled += complete
    return settled


def fail(
    db: Database,
    versions: Sequence[int],
    *,
    error: str,
    next_attempt_at: int,
    is_counted: bool,
    is_final: bool = False,
    max_retries: int = 0,
) -> None:
    """Note why versions could not be fetched and when they are tried again.

    Args:
        db: the cache, in a transaction.
        versions: numbers of versions in the queue.
        error: what happened, for `explain`.
        next_attempt_at: Unix ms.
        is_counted: whether the failure is the blob's own; past `max_retries` it is given up.
        is_final: give up at once: the content did not verify.
        max_retries: failures of its own that a blob may have.
    """
    for part in batched(versions, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        db.execute(
            "UPDATE download SET retries = retries + ?, last_error = ?, next_attempt_at = ?"  # noqa: S608 - marks
            f" WHERE version_no IN ({marks})",
            (int(is_counted), error, next_attempt_at, *part),
        )
        if is_counted or is_final:
            db.execute(
                f"UPDATE version SET status = {sql_case(Event.FETCH_GIVEN_UP)} WHERE status IS NOT NULL"  # noqa: S608
                " AND no IN (SELECT version_no FROM download WHERE (? OR retries > ?)"
                f" AND version_no IN ({marks}))",
                (is_final, max_retries, *part),
            )


def blob_names(db: Database, versions: Sequence[int]) -> list[tuple[str, str]]:
    """(namespace, blob id) of each version."""
    return [
        row
        for version in versions
        for row in db.all(
            "SELECT namespace.name, blob.id FROM version JOIN blob ON blob.no = blob_no"
            " JOIN namespace ON namespace.no = namespace_no WHERE version.no = ?",
            (version,),
        )
    ]

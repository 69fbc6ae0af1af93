"""What this device holds of a blob by the user's wish: pinned blobs, and content that is given up again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from syncagent.cache import settings
from syncagent.cache.db import Database
from syncagent.cache.status import Event
from syncagent.cache.there import PackThere
from syncagent.model import FetchPolicy, SyncStatus

SLICE_CHUNKS = 200
"""Chunks given up in one transaction: a few milliseconds."""

_UNSENT = (SyncStatus.PENDING_UPLOAD, SyncStatus.FAILED_UPLOAD, SyncStatus.LOCAL_ONLY)
_HERE = (
    "(payload_no IS NOT NULL OR EXISTS (SELECT 1 FROM pack_chunk AS place JOIN pack AS file"
    " ON file.no = place.pack_no WHERE place.chunk_no = chunk.no AND file.has_file))"
)
_OTHERS = (
    "SELECT 1 FROM version_chunk AS use JOIN version AS other ON other.no = use.version_no"  # noqa: S608 - a number
    " WHERE use.chunk_no = chunk.no AND other.blob_no <> ?"
    f" AND other.status IS NOT {int(SyncStatus.REMOTE_ONLY)}"
)
"""SQL: somebody else needs a chunk here: any version of another blob but one that is not wanted."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Pack files that no row names any more, and up to which chunk was looked; None at the end."""

    files: Sequence[bytes]
    next: int | None


def set_pinned(db: Database, blob: int, *, pinned: bool) -> None:
    """Whether a blob's content is wanted here whatever its namespace's policy."""
    db.execute("UPDATE blob SET pinned = ? WHERE no = ?", (pinned, blob))


def want(db: Database, blob: int) -> list[int]:
    """Queue what is not here of a blob's heads; the heads whose content is waited for."""
    settings.move(db, _heads(db, blob, SyncStatus.REMOTE_ONLY), Event.WANTED)
    return [
        *_heads(db, blob, SyncStatus.PENDING_DOWNLOAD),
        *_heads(db, blob, SyncStatus.FAILED_DOWNLOAD),
    ]


def is_held(db: Database, blob: int) -> bool:
    """Whether a blob's namespace is one of which nothing is evicted."""
    policy = db.scalar(
        "SELECT fetch FROM blob JOIN namespace ON namespace.no = namespace_no WHERE blob.no = ?", (blob,)
    )
    return bool(policy == FetchPolicy.PINNED.value)


def has_unsent(db: Database, blob: int) -> bool:
    """Whether something of a blob has not been published, or stays on this device."""
    marks = ",".join("?" * len(_UNSENT))
    found = db.scalar(
        f"SELECT 1 FROM version WHERE blob_no = ? AND (status IN ({marks})"  # noqa: S608 - marks
        " OR EXISTS (SELECT 1 FROM upload WHERE version_no = version.no)) LIMIT 1",
        (blob, *map(int, _UNSENT)),
    )
    return found is not None


def packs_to_prove(db: Database, blob: int) -> list[PackThere]:
    """The packs at the remote that hold what is here of a blob, as far as journals name them."""
    rows = db.all(
        "SELECT DISTINCT pack.no, pack.id, pack.size FROM version JOIN version_chunk"  # noqa: S608 - fixed text
        " ON version_no = version.no JOIN chunk ON chunk.no = version_chunk.chunk_no"
        " JOIN pack_chunk ON pack_chunk.chunk_no = chunk.no JOIN pack ON pack.no = pack_no"
        " WHERE blob_no = ? AND is_remote AND batch_seq IS NOT NULL AND seen_at >= 0"
        f" AND {_HERE} ORDER BY pack.no",
        (blob,),
    )
    return [PackThere(*row) for row in rows]


def unproven(db: Database, blob: int, proven: Collection[int]) -> int:
    """How many chunks that the heads of a blob have here are in none of these packs."""
    rows = db.all(
        "SELECT DISTINCT chunk.no FROM version JOIN version_chunk ON version_no = version.no"  # noqa: S608 - fixed text
        f" JOIN chunk ON chunk.no = chunk_no WHERE blob_no = ? AND status IS NOT NULL AND {_HERE}",
        (blob,),
    )
    return sum(not _is_in(db, chunk, proven) for (chunk,) in rows)


def give_up(db: Database, blob: int) -> None:
    """Want a blob's content here no more. The content itself is still here."""
    set_pinned(db, blob, pinned=False)
    settings.move(db, _heads(db, blob, SyncStatus.SYNCED), Event.EVICTED)
    for status in (SyncStatus.PENDING_DOWNLOAD, SyncStatus.FAILED_DOWNLOAD):
        settings.move(db, _heads(db, blob, status), Event.UNWANTED)


def drop_some(db: Database, blob: int, proven: Collection[int], after: int) -> Dropped:
    """Drop content of a blob that was given up: some chunks behind this number.

    What another blob needs stays, and so does what is in none of the proven packs. A read that has brought
    the content back in the meantime ends it.
    """
    statuses = {
        row[0]
        for row in db.all(
            "SELECT status FROM version WHERE blob_no = ? AND NOT deleted AND size > 0", (blob,)
        )
    }
    if statuses - {None, int(SyncStatus.REMOTE_ONLY)}:
        return Dropped((), None)
    rows = db.all(
        "SELECT DISTINCT chunk.no, payload_no FROM version JOIN version_chunk"  # noqa: S608 - fixed text
        " ON version_no = version.no JOIN chunk ON chunk.no = chunk_no"
        f" WHERE blob_no = ? AND chunk.no > ? AND {_HERE} AND NOT EXISTS ({_OTHERS})"
        f" ORDER BY chunk.no LIMIT {SLICE_CHUNKS}",
        (blob, after, blob),
    )
    files: list[bytes] = []
    for chunk, payload in rows:
        if not _is_in(db, chunk, proven):
            continue
        if payload is not None:
            db.execute("UPDATE chunk SET payload_no = NULL WHERE no = ?", (chunk,))
            if not db.is_suspect:  # a row on a damaged page cannot be deleted; nothing refers to it
                db.execute("DELETE FROM payload WHERE no = ?", (payload,))
        files += _drop_files(db, chunk, blob, proven)
    return Dropped(files, int(rows[-1][0]) if len(rows) == SLICE_CHUNKS else None)


def _drop_files(db: Database, chunk: int, blob: int, proven: Collection[int]) -> list[bytes]:
    """Let go of the pack files that hold a chunk, where nothing else that they hold is needed here."""
    dropped: list[bytes] = []
    for pack, pack_id, is_remote in db.all(
        "SELECT pack.no, pack.id, is_remote FROM pack_chunk JOIN pack ON pack.no = pack_no"
        " WHERE chunk_no = ? AND has_file",
        (chunk,),
    ):
        needed = db.scalar(
            "SELECT 1 FROM pack_chunk JOIN chunk ON chunk.no = chunk_no"  # noqa: S608 - fixed text
            f" WHERE pack_no = ? AND EXISTS ({_OTHERS}) LIMIT 1",
            (pack, blob),
        )
        members = db.all("SELECT chunk_no FROM pack_chunk WHERE pack_no = ?", (pack,))
        if needed is not None or not all(_is_in(db, member, proven) for (member,) in members):
            continue
        if is_remote:
            db.execute("UPDATE pack SET has_file = 0 WHERE no = ?", (pack,))
        else:  # sealed here for this device alone, from a part of what is at the remote
            db.execute("DELETE FROM pack_chunk WHERE pack_no = ?", (pack,))
            db.execute("DELETE FROM pack WHERE no = ?", (pack,))
        dropped.append(pack_id)
    return dropped


def _is_in(db: Database, chunk: int, packs: Collection[int]) -> bool:
    rows = db.all(
        # What was found to be lost since it was asked for is not there.
        "SELECT pack_no FROM pack_chunk JOIN pack ON pack.no = pack_no"
        " WHERE chunk_no = ? AND is_remote AND batch_seq IS NOT NULL",
        (chunk,),
    )
    return any(row[0] in packs for row in rows)


def _heads(db: Database, blob: int, status: SyncStatus) -> Sequence[int]:
    return [
        row[0]
        for row in db.all(
            # A deletion, or an empty blob, has no content to be here or there.
            "SELECT no FROM version WHERE blob_no = ? AND status = ? AND NOT deleted AND size > 0",
            (blob, status),
        )
    ]

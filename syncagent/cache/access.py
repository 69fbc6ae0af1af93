"""How often the content of each blob was read on this device, and when last."""

from collections.abc import Mapping
from typing import NamedTuple

from syncagent.cache import downloads
from syncagent.cache.db import Database
from syncagent.model import SyncStatus


class Reads(NamedTuple):
    """So many reads, the last of them at a time in Unix ms, and whether one was to keep the content here."""

    times: int
    last_at: int
    is_kept: bool = False


def add(db: Database, reads: Mapping[tuple[str, str], Reads]) -> None:
    """Add the reads of each (namespace, blob id); of a blob that is not known, none.

    What was not wanted here, and was here all the same when it was read, is wanted from then on: its content
    came with another blob's, or was given up and not dropped yet.
    """
    db.many(
        "INSERT INTO access SELECT blob.no, ?, ? FROM blob JOIN namespace ON namespace.no = namespace_no"
        " WHERE namespace.name = ? AND blob.id = ?"
        " ON CONFLICT (blob_no) DO UPDATE"
        " SET reads = reads + excluded.reads, read_at = max(read_at, excluded.read_at)",
        [(read.times, read.last_at, *name) for name, read in reads.items()],
    )
    for name, read in reads.items():
        if read.is_kept:
            elsewhere = db.all(
                "SELECT version.no FROM version JOIN blob ON blob.no = blob_no"
                " JOIN namespace ON namespace.no = namespace_no"
                " WHERE namespace.name = ? AND blob.id = ? AND version.status = ?",
                (*name, int(SyncStatus.REMOTE_ONLY)),
            )
            downloads.settle(db, [row[0] for row in elsewhere])

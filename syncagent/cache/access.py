"""How often the content of each blob was read on this device, and when last."""

from collections.abc import Mapping
from typing import NamedTuple

from syncagent.cache.db import Database


class Reads(NamedTuple):
    """So many reads, the last of them at a time in Unix ms."""

    times: int
    last_at: int


def add(db: Database, reads: Mapping[tuple[str, str], Reads]) -> None:
    """Add the reads of each (namespace, blob id); of a blob that is not known, none."""
    db.many(
        "INSERT INTO access SELECT blob.no, ?, ? FROM blob JOIN namespace ON namespace.no = namespace_no"
        " WHERE namespace.name = ? AND blob.id = ?"
        " ON CONFLICT (blob_no) DO UPDATE"
        " SET reads = reads + excluded.reads, read_at = max(read_at, excluded.read_at)",
        [(read.times, read.last_at, *name) for name, read in reads.items()],
    )

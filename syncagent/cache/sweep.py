"""Files that an interruption left behind, and pack files of content that was replaced before it was sent.

Nothing that a row names is touched, and nothing younger than a day. A put that
runs longer than that finds its files gone when it wants to commit, and fails:
both happen in a write transaction, so one of them comes first.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from syncagent import files
from syncagent.cache.db import Database
from syncagent.cache.packfiles import TEMPORARY, pack_path

GRACE_S = 24 * 3600.0
"""No put of ours usually takes a day from its first pack file to its commit."""
_PACK_NAME = 64


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What may be left over in a folder of pack files, by age alone."""

    temporary: tuple[Path, ...]
    packs: tuple[bytes, ...]


def find_leftovers(folder: Path) -> Leftovers:
    """Old files in the folder of pack files; for a worker thread. Most old packs are in use."""
    before = time.time() - GRACE_S
    temporary: list[Path] = []
    packs: list[bytes] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError, ValueError):  # another process was quicker, or no pack's name
                if entry.stat(follow_symlinks=False).st_mtime >= before:
                    continue
                if entry.name.endswith(TEMPORARY):
                    temporary.append(Path(entry.path))
                elif len(entry.name) == _PACK_NAME:
                    packs.append(bytes.fromhex(entry.name))
    return Leftovers(tuple(temporary), tuple(packs))


def remove_temporary(paths: Sequence[Path]) -> int:
    """Remove temporary files; how many."""
    count = 0
    for path in paths:
        with contextlib.suppress(OSError):
            files.unlink(path)
            count += 1
    return count


def unknown_packs(db: Database, ids: Sequence[bytes]) -> list[bytes]:
    """Those of these packs whose file no row names."""
    known = {row[0] for row in db.all("SELECT id FROM pack WHERE has_file")}
    return [pack_id for pack_id in ids if pack_id not in known]


def remove_unknown(db: Database, folder: Path, ids: Sequence[bytes]) -> int:
    """Remove pack files that no row names, in a write transaction; how many. Safe to be run again."""
    count = 0
    for pack_id in unknown_packs(db, ids):
        with contextlib.suppress(OSError):
            files.unlink(pack_path(folder, pack_id))
            count += 1
    return count


def forget_unused(db: Database) -> int:
    """Forget pack files that hold nothing any version needs and that were never sent; how many.

    Content of a large blob that was replaced before it was sent. The files have no row then and are
    removed as leftovers once they are old.
    """
    unused = _unused(db)
    for number in unused:
        db.execute("DELETE FROM pack_chunk WHERE pack_no = ?", (number,))
        db.execute("DELETE FROM pack WHERE no = ?", (number,))
    return len(unused)


def empty_unused(db: Database) -> None:
    """Let nobody use what `forget_unused` is going to forget: a blob that shares a part would send it all.

    The rows stay until then, for a sync that runs may know them by number.
    """
    for number in _unused(db):
        db.execute("DELETE FROM pack_chunk WHERE pack_no = ?", (number,))
        db.execute("UPDATE pack SET record_sha256 = x'' WHERE no = ?", (number,))


def _unused(db: Database) -> list[int]:
    rows = db.all(
        "SELECT no FROM pack WHERE batch_seq IS NULL AND has_file AND NOT is_remote AND NOT EXISTS"
        " (SELECT 1 FROM pack_chunk JOIN version_chunk ON version_chunk.chunk_no = pack_chunk.chunk_no"
        " WHERE pack_no = pack.no)"
    )
    return [number for (number,) in rows]

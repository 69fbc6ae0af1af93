"""Which packs were seen at the remote, and when: a journal names a pack for ever, and a remote may lose it.

`pack.seen_at` is the time; 0 once it was asked for and not given, -1 once what was given did not verify.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from syncagent.cache.chunks import SQL_VARIABLES, batched
from syncagent.cache.db import Database
from syncagent.model import PackId

NOT_GIVEN = 0
ALTERED = -1


@dataclass(frozen=True, slots=True)
class PackThere:
    """A pack that should be at the remote, with the size it must have there, and whether a batch names it."""

    no: int
    id: PackId
    size: int
    is_named: bool = True


def packs_with(db: Database, chunks: Sequence[int]) -> list[PackThere]:
    """The packs that should be at the remote and hold one of these chunks; none that was found altered."""
    found: dict[int, PackThere] = {}
    for part in batched(chunks, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(
            "SELECT DISTINCT pack.no, id, size, batch_seq IS NOT NULL"  # noqa: S608 - marks
            " FROM pack_chunk JOIN pack ON pack.no = pack_no"
            f" WHERE chunk_no IN ({marks}) AND is_remote AND seen_at >= 0",
            part,
        )
        found.update((row[0], PackThere(*row)) for row in rows)
    return list(found.values())


def those_in(db: Database, chunks: Sequence[int], packs: Sequence[int]) -> set[int]:
    """Those of some chunks that lie in one of these packs."""
    asked = set(chunks)
    return {
        row[0]
        for pack in packs
        for row in db.all("SELECT chunk_no FROM pack_chunk WHERE pack_no = ?", (pack,))
        if row[0] in asked
    }


def note_seen(db: Database, packs: Sequence[int], now_ms: int) -> None:
    """These are at the remote now."""
    db.many("UPDATE pack SET seen_at = ? WHERE no = ?", [(now_ms, pack) for pack in packs])


def note_given(db: Database, pack: int, now_ms: int) -> None:
    """This one was given, and verifies; nothing is written but where it was missed before."""
    db.execute("UPDATE pack SET seen_at = ? WHERE no = ? AND seen_at <= 0", (now_ms, pack))


def note_missed(db: Database, pack: int, *, is_altered: bool = False) -> None:
    """This one was asked for in vain."""
    value = ALTERED if is_altered else NOT_GIVEN
    db.execute("UPDATE pack SET seen_at = ? WHERE no = ? AND seen_at > ?", (value, pack, value))


def is_lost(db: Database, version_no: int) -> bool:
    """Whether a version has content that, as far as is known, no pack at the remote holds."""
    found = db.scalar(
        "SELECT 1 FROM version_chunk WHERE version_no = ? AND NOT EXISTS (SELECT 1 FROM pack_chunk AS place"
        " JOIN pack ON pack.no = place.pack_no WHERE place.chunk_no = version_chunk.chunk_no"
        " AND is_remote AND seen_at > 0) LIMIT 1",
        (version_no,),
    )
    return found is not None

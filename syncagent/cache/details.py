"""What a listing shows of blobs when it is asked for more: their flags, and their metadata."""

from collections.abc import Sequence
from dataclasses import replace

from syncagent.answers import BlobInfo
from syncagent.cache import blobs
from syncagent.cache.chunks import SQL_VARIABLES, batched
from syncagent.cache.db import Database


def with_details(db: Database, infos: Sequence[BlobInfo], numbers: Sequence[int]) -> tuple[BlobInfo, ...]:
    """The same blobs with flags and metadata; each has its number. Metadata that cannot be read is None."""
    flags: dict[int, list[str]] = {}
    winners: dict[int, int] = {}
    for part in batched(numbers, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        for number, flag in db.all(
            f"SELECT blob_no, flag FROM flag_tag WHERE blob_no IN ({marks}) AND NOT EXISTS"  # noqa: S608 - marks
            " (SELECT 1 FROM flag_removed WHERE flag_removed.blob_no = flag_tag.blob_no"
            "  AND flag_removed.tag = flag_tag.tag)",
            part,
        ):
            flags.setdefault(number, []).append(flag)
        winners |= dict(db.all(f"SELECT no, winner_no FROM blob WHERE no IN ({marks})", part))  # noqa: S608 - marks
    versions = blobs.load_versions(db, list(winners.values()))
    return tuple(
        replace(
            info,
            flags=frozenset(flags.get(number, ())),
            metadata=None if (version := versions.get(winners[number])) is None else version.metadata,
        )
        for info, number in zip(infos, numbers, strict=True)
    )

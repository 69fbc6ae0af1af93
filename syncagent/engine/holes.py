"""Versions that a blob builds on and that have not come: until they do, the blob is incomplete.

Such a blob is readable, and no conflict of it is told: what is missing may have replaced a side of it.
"""

from syncagent.cache import blobs, journals
from syncagent.cache.db import Database
from syncagent.engine.heads import complete
from syncagent.model import Version


def note_holes(db: Database, version: Version) -> None:
    """Remember which parents of a version that is about to be stored are still to come."""
    for parent in version.parents:
        is_unread = parent.seq > journals.cursor(db, parent.device).seq
        if is_unread and blobs.find_version(db, parent.version) is None:
            blob = blobs.blob_no(db, blobs.namespace_no(db, version.namespace), version.blob_id)
            blobs.add_hole(db, blob, parent.version, parent.device, parent.seq)


def fill_holes(db: Database) -> list[tuple[int, Version]]:
    """Drop what has come. Blobs that are whole now, and turn out to be in conflict, with what they show."""
    found = ((blob, complete(db, blob)) for blob in sorted(blobs.fill_holes(db)))
    return [(blob, shown) for blob, shown in found if shown is not None]

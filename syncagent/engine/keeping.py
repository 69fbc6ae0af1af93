"""How a blob comes to stay on this device, and how it is shared again.

Others hear nothing of what stays here: not of what it was before, as far as that was not sent, and not what
is said of it (`marks.py`).
"""

import msgspec

from syncagent.cache import blobs, outbox, sweep
from syncagent.cache.db import Database
from syncagent.cache.status import Event
from syncagent.engine import marks
from syncagent.engine.heads import fold_pair
from syncagent.engine.marks import Marked
from syncagent.errors import ConfigError
from syncagent.model import GroupId, Version


def keep_here(db: Database, version_no: int, blob: Marked) -> None:
    """Let nobody hear of what a version that stays here has replaced, as far as it was not sent.

    Deletions of what others know are told: that something was deleted here was acknowledged, too.

    Raises:
        ConfigError: a version among them must be sent: it has a tag, or is part of a transaction.
    """
    if _fold_away(db, version_no, blob):
        marks.withhold(db, blob)
        sweep.empty_unused(db)


def share_winner(
    db: Database, version_no: int, blob: Marked, *, priority: int, group: GroupId | None
) -> Version:
    """Send a version that stayed here, as part of a transaction if it is one's; as it is now."""
    version = blobs.load_version(db, version_no)
    if group is not None:
        version = msgspec.structs.replace(version, group=group)
        blobs.replace_version(db, version_no, version)
    blobs.move_status(db, version_no, Event.SHARED)
    outbox.enqueue_version(db, version_no, priority=priority, group=group)
    marks.share(db, blob, group=group)
    return version


def _fold_away(db: Database, version_no: int, blob: Marked) -> bool:
    """Fold what waits and was replaced into what replaced it, step by step; whether there was any."""
    is_any = False
    todo, deletions = [version_no], []
    while todo:
        newer = todo.pop()
        for older in outbox.waiting_before(db, newer):
            is_any = True
            if older.is_deleted:
                deletions.append((older, newer))
                todo.append(older.no)
            elif older.is_bound:
                raise ConfigError(
                    f"a version of {blob.namespace}/{blob.blob_id!r} that waits to be sent has a tag, or is"
                    " part of a transaction",
                    safe="nothing was stored; what waits is sent",
                    todo="put it under another name",
                )
            elif not fold_pair(db, older.no, newer):  # one of them is damaged
                outbox.forget(db, older.no)
                todo.append(older.no)
            elif newer not in todo:
                todo.append(newer)  # its parents are those of the one that is gone
    for older, newer in reversed(deletions):
        if not older.is_bound and not outbox.has_parents(db, older.no):
            fold_pair(db, older.no, newer)
    return is_any

"""What is said of a blob beside its versions: its flags, and when it expires. `merge.py` says what they mean.

Local changes and those of other devices come through here, as operations of the cache.
"""

from syncagent.cache import facts
from syncagent.cache.db import Database
from syncagent.journal import merge
from syncagent.journal.changes import ExpiresChange
from syncagent.journal.merge import Expiry


def add_expiry(db: Database, blob: int, change: ExpiresChange, device: int) -> None:
    """Take over an expiry change of a device, and note what all of them come to."""
    facts.add_expiry(db, blob, at=change.at, forced=change.forced, hlc=change.hlc, device=device)
    known = [Expiry(row.at, row.forced, row.hlc) for row in facts.expiries(db, blob)]
    facts.set_expires_at(db, blob, merge.expires_at(merge.facts_of((), expires=known)))

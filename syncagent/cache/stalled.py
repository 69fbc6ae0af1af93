"""Blobs that were being moved when a sync was given up: the next one tries them last.

A sync ends at several packs in a row that fail although the remote answers, for then it
is hardly the packs. Where it is, the same ones must not come first for ever.
"""

from syncagent.cache import meta
from syncagent.cache.db import Database

UPLOAD, DOWNLOAD = meta.STALLED_UPLOAD, meta.STALLED_DOWNLOAD
_MOST = 10_000
"""Numbers kept of one direction: a few packs of small blobs."""


def load(db: Database, direction: str) -> set[int]:
    """Versions by number; some may have been settled since."""
    text = meta.find_text(db, direction)
    return {int(number) for number in text.split()} if text else set()


def store(db: Database, direction: str, versions: set[int]) -> None:
    """Keep these in the place of those before; none removes them."""
    numbers = sorted(versions)[:_MOST]
    meta.put(db, direction, " ".join(map(str, numbers)) or None)

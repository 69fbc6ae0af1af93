"""The clock value of a change that is made here."""

from syncagent.cache import facts, meta
from syncagent.cache.db import Database
from syncagent.journal.clock import later_than, tick
from syncagent.model import Hlc


def next_hlc(db: Database, now_ms: int, *, replaces: int = 0) -> Hlc:
    """The clock value of a change that is made now, of which the newest stands.

    Args:
        db: the cache, in a transaction.
        now_ms: Unix time in milliseconds.
        replaces: the clock value of what stands. Whoever makes the change has seen that, so it comes after
            it, also where a clock that was far ahead has stamped it. The vault's own clock does not follow.
    """
    value = tick(meta.hlc(db), now_ms)
    meta.put(db, meta.HLC, value)
    return later_than(value, replaces)


def next_register_hlc(db: Database, kind: str, key: bytes, now_ms: int) -> Hlc:
    """The clock value of a change that takes the place of what stands for a key, if anything does."""
    standing = facts.find_register(db, kind, key)
    return next_hlc(db, now_ms, replaces=0 if standing is None else standing.hlc)

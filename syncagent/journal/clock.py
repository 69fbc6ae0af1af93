"""The hybrid logical clock: order between versions of devices whose clocks disagree.

An hlc is one integer, Unix milliseconds in the high 48 bits and a counter in
the low 16, so that integers compare as times do and adding one carries from
the counter into the milliseconds. It only breaks ties; nothing is lost by a
wrong clock. No clock is read here: the caller passes `now_ms`.
"""

from syncagent.model import Hlc

COUNTER_BITS = 16
MAX_AHEAD_MS = 24 * 60 * 60 * 1000
"""Beyond this an hlc is taken for the work of a broken clock: more than any time zone mistake explains."""
MAX_MS = (1 << 45) - 1
"""The last millisecond that a clock is believed: in the year 3084."""
LAST = (1 << 62) - 1
"""The last hlc of the format. No clock comes near; nothing comes after it: of two, ids and bytes decide."""


def tick(last: Hlc, now_ms: int) -> Hlc:
    """The hlc of a new local change: after `last`, and not before now.

    A `last` that is far ahead is dropped, so one day with a wrong clock does not push every later change.
    """
    now = at_ms(now_ms)
    if is_far_ahead(last, now_ms):
        return now
    return Hlc(max(last + 1, now))


def later_than(hlc: Hlc, replaced: int) -> Hlc:
    """An hlc, or the first after that of what the change replaces, where a clock far ahead has stamped it."""
    return Hlc(min(max(hlc, replaced + 1), LAST))


def observe(local: Hlc, seen: Hlc, now_ms: int) -> Hlc:
    """The local hlc after a change stamped `seen` was applied; the next `tick` comes after both.

    Idempotent, and indifferent to the order in which changes are seen.
    """
    mine = at_ms(now_ms) if is_far_ahead(local, now_ms) else local
    if is_far_ahead(seen, now_ms):
        return mine
    return max(mine, seen)


def is_far_ahead(hlc: Hlc, now_ms: int) -> bool:
    """Whether an hlc lies more than 24 hours after now: applied and reported, never adopted."""
    return hlc_ms(hlc) > now_ms + MAX_AHEAD_MS


def at_ms(now_ms: int) -> Hlc:
    """The first hlc of a millisecond. A clock before 1970 or past the format's end counts as that end."""
    return Hlc(min(max(now_ms, 0), MAX_MS) << COUNTER_BITS)


def hlc_ms(hlc: Hlc) -> int:
    """The Unix milliseconds of an hlc."""
    return hlc >> COUNTER_BITS

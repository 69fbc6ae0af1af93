"""Unix milliseconds as `datetime`."""

import datetime

_FIRST_MS = -62_135_596_800_000
_LAST_MS = 253_402_300_799_000


def utc(unix_ms: float) -> datetime.datetime:
    """The time in UTC; the format's range is wider than `datetime`'s, beyond which this is its end."""
    return datetime.datetime.fromtimestamp(min(max(unix_ms, _FIRST_MS), _LAST_MS) / 1000, datetime.UTC)

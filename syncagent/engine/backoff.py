"""How long to wait before trying again. Pure: the dice are passed in."""

SYNC_FIRST_S = 1.0
SYNC_MOST_S = 600.0
BLOB_FIRST_S = 30.0
BLOB_MOST_S = 3600.0
GIVEN_UP_S = 24 * 3600.0
RETRY_AFTER_MOST_S = 3600.0
STOPPED_S = 600.0
"""Before a stopped sync is tried again by itself: someone may have acted elsewhere, such as at the server."""
INTERVAL_FIRST_S = 10.0
INTERVAL_MOST_S = 30.0
WATCHED_MOST_S = 300.0
"""While the remote's watch works: a sync finds what it kept to itself, and tries again what is due."""
BREAKER_FAILURES = 3
"""Failed syncs in a row after which the background loop only asks whether the remote is there."""


def sync_delay_s(failures: int, random: float, retry_after_s: float | None = None) -> float:
    """Before the next sync after `failures` failed ones in a row (1 or more).

    Full jitter: anywhere from 0 to the doubling bound, so that devices that lost the
    same server do not come back together. A server's own Retry-After is a lower bound.
    """
    delay = random * _doubled(SYNC_FIRST_S, failures, SYNC_MOST_S)
    return max(delay, min(retry_after_s or 0.0, RETRY_AFTER_MOST_S))


def interval_s(
    before_s: float, *, was_active: bool, has_failed: bool, most_s: float = INTERVAL_MOST_S
) -> float:
    """From one background sync to the next: short after activity, longer while there is nothing to do."""
    if has_failed:
        return min(before_s * 1.5, INTERVAL_MOST_S)
    return INTERVAL_FIRST_S if was_active else min(before_s * 1.3, most_s)


def blob_delay_s(failures: int, random: float, max_retries: int) -> float:
    """Before the next attempt of a blob that failed `failures` times for a reason of its own."""
    if failures > max_retries:
        return GIVEN_UP_S
    bound = _doubled(BLOB_FIRST_S, failures, BLOB_MOST_S)
    return bound / 2 + random * bound / 2


def _doubled(first: float, failures: int, most: float) -> float:
    # The exponent is bounded before use: 2.0 ** 2000 would overflow.
    return min(most, first * 2.0 ** min(max(failures, 1) - 1, 30))

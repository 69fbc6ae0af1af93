"""How long to wait before trying again. Pure: the dice are passed in."""

SYNC_FIRST_S = 1.0
SYNC_MOST_S = 600.0
BLOB_FIRST_S = 30.0
BLOB_MOST_S = 3600.0
GIVEN_UP_S = 24 * 3600.0
RETRY_AFTER_MOST_S = 3600.0


def sync_delay_s(failures: int, random: float, retry_after_s: float | None = None) -> float:
    """Before the next sync after `failures` failed ones in a row (1 or more).

    Full jitter: anywhere from 0 to the doubling bound, so that devices that lost the
    same server do not come back together. A server's own Retry-After is a lower bound.
    """
    delay = random * _doubled(SYNC_FIRST_S, failures, SYNC_MOST_S)
    return max(delay, min(retry_after_s or 0.0, RETRY_AFTER_MOST_S))


def blob_delay_s(failures: int, random: float, max_retries: int) -> float:
    """Before the next attempt of a blob that failed `failures` times for a reason of its own."""
    if failures > max_retries:
        return GIVEN_UP_S
    bound = _doubled(BLOB_FIRST_S, failures, BLOB_MOST_S)
    return bound / 2 + random * bound / 2


def _doubled(first: float, failures: int, most: float) -> float:
    # The exponent is bounded before use: 2.0 ** 2000 would overflow.
    return min(most, first * 2.0 ** min(max(failures, 1) - 1, 30))

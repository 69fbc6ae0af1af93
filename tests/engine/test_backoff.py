"""How long until the next try: exact values for given dice."""

import pytest

from syncagent.engine.backoff import (
    BLOB_FIRST_S,
    BLOB_MOST_S,
    GIVEN_UP_S,
    RETRY_AFTER_MOST_S,
    SYNC_MOST_S,
    blob_delay_s,
    sync_delay_s,
)


@pytest.mark.parametrize(
    ("failures", "random", "expected"),
    [
        (1, 0.0, 0.0),
        (1, 0.5, 0.5),
        (2, 0.5, 1.0),
        (5, 0.75, 12.0),
        (10, 0.5, 256.0),
        (11, 0.5, SYNC_MOST_S / 2),
        (100_000, 0.5, SYNC_MOST_S / 2),
        (0, 0.5, 0.5),
    ],
)
def test_a_sync_waits_with_full_jitter_and_doubles_to_ten_minutes(
    failures: int, random: float, expected: float
) -> None:
    assert sync_delay_s(failures, random) == expected


@pytest.mark.parametrize(
    ("asked", "expected"), [(None, 0.5), (0.1, 0.5), (30.0, 30.0), (86_400.0, RETRY_AFTER_MOST_S)]
)
def test_a_servers_wish_is_the_least_up_to_an_hour(asked: float | None, expected: float) -> None:
    assert sync_delay_s(1, 0.5, asked) == expected


@pytest.mark.parametrize(
    ("failures", "random", "expected"),
    [
        (1, 0.0, BLOB_FIRST_S / 2),
        (1, 0.5, 22.5),
        (2, 0.5, 45.0),
        (8, 0.0, BLOB_MOST_S / 2),
        (8, 0.5, 2700.0),
        (9, 0.0, GIVEN_UP_S),
        (9, 0.9, GIVEN_UP_S),
        (100_000, 0.5, GIVEN_UP_S),
    ],
)
def test_a_blob_waits_at_least_half_its_bound_and_a_day_once_given_up(
    failures: int, random: float, expected: float
) -> None:
    assert blob_delay_s(failures, random, max_retries=8) == expected

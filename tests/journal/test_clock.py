"""The clock's cases, and that it never goes back while the local clock is sane."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncagent.journal.clock import (
    LAST,
    MAX_AHEAD_MS,
    MAX_MS,
    at_ms,
    hlc_ms,
    is_far_ahead,
    later_than,
    observe,
    tick,
)
from syncagent.model import Hlc

NOW = 1_700_000_000_000
DAY = MAX_AHEAD_MS


@pytest.mark.parametrize(
    ("last", "now_ms", "expected"),
    [
        pytest.param(0, NOW, NOW << 16, id="the first tick is now"),
        pytest.param((NOW - 5) << 16, NOW, NOW << 16, id="a later now starts the counter afresh"),
        pytest.param(NOW << 16, NOW, (NOW << 16) + 1, id="the same millisecond counts"),
        pytest.param((NOW + 5) << 16, NOW, ((NOW + 5) << 16) + 1, id="a clock set back counts on"),
        pytest.param((NOW << 16) + 0xFFFF, NOW, (NOW + 1) << 16, id="a full counter carries"),
        pytest.param((NOW + DAY) << 16, NOW, ((NOW + DAY) << 16) + 1, id="24 hours ahead is not far"),
        pytest.param((NOW + DAY + 1) << 16, NOW, NOW << 16, id="more is, and is reset"),
        pytest.param(0, -5, 1, id="a clock before 1970"),
        pytest.param(0, 1 << 60, MAX_MS << 16, id="a clock past the end of the format"),
    ],
)
def test_tick(last: int, now_ms: int, expected: int) -> None:
    assert tick(Hlc(last), now_ms) == expected


@pytest.mark.parametrize(
    ("local", "seen", "expected"),
    [
        pytest.param(NOW << 16, (NOW + 7) << 16, (NOW + 7) << 16, id="a later one is adopted"),
        pytest.param(NOW << 16, (NOW - 7) << 16, NOW << 16, id="an earlier one is not"),
        pytest.param(NOW << 16, (NOW + DAY) << 16, (NOW + DAY) << 16, id="24 hours ahead is adopted"),
        pytest.param(NOW << 16, (NOW + DAY + 1) << 16, NOW << 16, id="more is not"),
        pytest.param((NOW + DAY + 1) << 16, (NOW - 7) << 16, NOW << 16, id="a far local one is reset"),
        pytest.param((NOW + DAY + 1) << 16, (NOW + DAY + 2) << 16, NOW << 16, id="both far"),
    ],
)
def test_observe(local: int, seen: int, expected: int) -> None:
    assert observe(Hlc(local), Hlc(seen), NOW) == expected
    assert observe(observe(Hlc(local), Hlc(seen), NOW), Hlc(seen), NOW) == expected


near = st.integers(0, (NOW + DAY) << 16).map(Hlc)


@settings(derandomize=True, deadline=None)
@given(near, near)
def test_a_tick_comes_after_all_that_was_seen(local: Hlc, seen: Hlc) -> None:
    after = tick(observe(local, seen, NOW), NOW)
    assert after > max(local, seen)
    assert hlc_ms(after) >= NOW


def test_far_ahead_is_told_by_the_millisecond() -> None:
    assert not is_far_ahead(Hlc(at_ms(NOW + DAY) + 0xFFFF), NOW)
    assert is_far_ahead(at_ms(NOW + DAY + 1), NOW)


def test_a_change_comes_after_what_it_replaces_however_far_ahead_that_is() -> None:
    far = (NOW + 365 * DAY) << 16
    assert later_than(Hlc(NOW << 16), far) == far + 1
    assert later_than(Hlc(NOW << 16), (NOW << 16) - 1) == NOW << 16
    assert later_than(Hlc(NOW << 16), LAST) == LAST, "then ids and bytes decide"

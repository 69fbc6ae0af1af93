"""When a blob expires, kept as what can still count: the same as of all that was ever said, in any order."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncagent.cache import blobs, expiries
from syncagent.cache.db import Database
from syncagent.cache.expiries import ExpiryRow
from syncagent.journal.merge import Expiry, expires_at, facts_of, standing
from syncagent.model import NEVER, Hlc

CHANGES = st.builds(
    Expiry,
    st.sampled_from([0, 1, 2, 3, 4, NEVER]),
    st.sampled_from([False, False, True]),
    st.integers(1, 6).map(Hlc),
)


def add(db: Database, blob: int, changes: Sequence[Expiry]) -> int | None:
    """Say all of it; when the blob expires then."""
    for number, one in enumerate(changes):
        expiries.add(db, blob, ExpiryRow(one.at, one.forced, one.hlc), device=number % 2)
    at = db.scalar("SELECT expires_at FROM blob WHERE no = ?", (blob,))
    return None if at is None else int(at)


@pytest.fixture
def blob(db: Database) -> int:
    return blobs.blob_no(db, blobs.namespace_no(db, "notes"), "a")


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_what_they_come_to_does_not_depend_on_their_order(
    db: Database, blob: int, order: Sequence[int]
) -> None:
    said = [(90, False, 1), (NEVER, False, 2), (30, True, 3), (50, False, 4)]
    changes = [Expiry(at, forced, Hlc(hlc)) for at, forced, hlc in said]
    assert add(db, blob, [changes[index] for index in order]) == 50, "the forced one starts afresh"
    assert add(db, blob, [Expiry(NEVER, True, Hlc(5))]) is None, "for ever"


@given(st.lists(CHANGES, max_size=12))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_kept_says_the_same_as_all_that_was_said(db: Database, changes: list[Expiry]) -> None:
    db.execute("DELETE FROM expiry")
    blob = blobs.blob_no(db, blobs.namespace_no(db, "notes"), "a")
    db.execute("UPDATE blob SET expires_at = NULL")
    for count in range(len(changes) + 1):
        said = changes[:count]
        at = add(db, blob, said[-1:])
        assert at == expires_at(facts_of((), expires=said))
        kept = {Expiry(row.at, row.forced, row.hlc) for row in expiries.known(db, blob)}
        assert kept == standing(said)
    assert expiries.newest(db, blob) == max((one.hlc for one in changes), default=0)


@given(st.lists(CHANGES, max_size=8), st.lists(CHANGES, max_size=4))
def test_what_stands_is_all_that_can_count_whatever_else_comes(
    said: list[Expiry], later: list[Expiry]
) -> None:
    kept = standing(said)
    assert kept <= set(said)
    assert expires_at(facts_of((), expires=[*kept, *later])) == expires_at(
        facts_of((), expires=[*said, *later])
    )


def test_a_blob_that_is_put_off_again_and_again_has_one_row(db: Database, blob: int) -> None:
    add(db, blob, [Expiry(100 + number, False, Hlc(number)) for number in range(1, 200)])
    assert expiries.known(db, blob) == [ExpiryRow(299, False, Hlc(199))]


def test_many_changes_that_all_can_count_are_taken_over_one_by_one(db: Database, blob: int) -> None:
    """None of them looks at all the others: a journal may hold a hundred thousand."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def added(first: int, last: int) -> int:
        before = steps
        add(db, blob, [Expiry(10_000 - number, False, Hlc(number)) for number in range(first, last)])
        return steps - before

    db._live.set_progress_handler(step, 100)
    few = added(1, 200)
    added(200, 4000)
    assert added(4000, 4200) < 2 * few
    assert len(expiries.known(db, blob)) == 4199

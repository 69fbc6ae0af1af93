"""The transition table, against the same table written out once more."""

import itertools

import pytest

from syncagent.cache.db import Database
from syncagent.cache.status import PRECEDENCE, TRANSITIONS, Event, after, mermaid, sql_case, sql_rank
from syncagent.model import SyncStatus

# What each event makes of SYNCED, PENDING_UPLOAD, PENDING_DOWNLOAD, FAILED_UPLOAD, FAILED_DOWNLOAD,
# REMOTE_ONLY, LOCAL_ONLY, that is 1 to 7; and of a version not known before.
EXPECTED = {
    Event.PUT: "1 2 3 4 5 6 7; 2",
    Event.PUT_LOCAL: "1 2 3 4 5 6 7; 7",
    Event.ARRIVED_HERE: "1 2 3 4 5 6 7; 1",
    Event.ARRIVED_WANTED: "1 2 3 4 5 6 7; 3",
    Event.ARRIVED_UNWANTED: "1 2 3 4 5 6 7; 6",
    Event.CONFIRMED: "1 1 3 1 5 6 7; -",
    Event.SEND_GIVEN_UP: "1 4 3 4 5 6 7; -",
    Event.FETCHED: "1 2 1 4 1 1 7; -",
    Event.FETCHED_UNSENT: "1 2 2 4 2 2 7; -",
    Event.FETCH_GIVEN_UP: "1 2 5 4 5 6 7; -",
    Event.RETRY: "1 2 3 2 3 6 7; -",
    Event.WANTED: "1 2 3 4 5 3 7; -",
    Event.UNWANTED: "1 2 6 4 6 6 7; -",
    Event.EVICTED: "6 2 3 4 5 6 7; -",
    Event.LOST_HERE: "3 2 3 4 5 6 7; -",
    Event.LOST_THERE: "2 2 3 4 5 6 7; -",
    Event.SHARED: "1 2 3 4 5 6 2; -",
}
PAIRS = list(itertools.product(Event, [*SyncStatus, None]))


def expected(status: SyncStatus | None, event: Event) -> SyncStatus | None:
    known, _, unknown = EXPECTED[event].partition("; ")
    value = unknown if status is None else known.split()[status - 1]
    return None if value == "-" else SyncStatus(int(value))


def test_the_table_written_out_covers_every_event() -> None:
    assert set(EXPECTED) == set(Event) == set(TRANSITIONS)
    assert list(SyncStatus) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("event", "status"), PAIRS)
def test_after(event: Event, status: SyncStatus | None) -> None:
    """What leads from each of the seven statuses to which other (row A2)."""
    assert after(status, event) is expected(status, event)


def test_sql_case_is_after(db: Database) -> None:
    for event, status in PAIRS:
        if status is None:
            continue  # there is no row of an unknown version
        got = db.scalar(f"SELECT {sql_case(event)} FROM (SELECT ? AS status)", (status,))
        assert SyncStatus(got) is after(status, event)
    case = sql_case(Event.EVICTED, "head.status")
    assert db.scalar(f"SELECT {case} FROM (SELECT 1 AS status) AS head") == SyncStatus.REMOTE_ONLY


def test_what_waits_for_the_user_shows_first() -> None:
    assert [status.name for status in PRECEDENCE] == [
        "FAILED_UPLOAD",
        "PENDING_UPLOAD",
        "FAILED_DOWNLOAD",
        "PENDING_DOWNLOAD",
        "REMOTE_ONLY",
        "LOCAL_ONLY",
        "SYNCED",
    ]


def test_sql_rank_is_the_precedence(db: Database) -> None:
    rows = " UNION ALL ".join(f"SELECT {status.value} AS status" for status in SyncStatus)
    ordered = db.all(f"SELECT status FROM ({rows}) ORDER BY {sql_rank('status')}")
    assert tuple(SyncStatus(row[0]) for row in ordered) == PRECEDENCE


def test_the_diagram_has_every_arrow() -> None:
    lines = mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    arrows = {
        f"    {'[*]' if status is None else status.name} --> {result.name}: {event.value}"
        for event, status in PAIRS
        if (result := expected(status, event)) is not None and result is not status
    }
    # Arrows from a state to itself are in no column of the table.
    assert sorted(lines[1:]) == sorted(arrows)

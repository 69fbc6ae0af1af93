"""Alarms wait for a report: none is swallowed, none is told twice, and a quiet sync writes nothing."""

from syncagent.cache import alarms, meta
from syncagent.cache.db import Database
from syncagent.reports import Alarm

ONE = Alarm("Tampered", "journal 1", "one\n“two”")
TWO = Alarm("Withheld", "journal 2", "")


def told(db: Database) -> dict[str, bool]:
    return {kept.alarm.subject: kept.is_told for kept in alarms.load(db)}


def test_what_was_kept_is_told_by_the_next_report_and_once(db: Database) -> None:
    alarms.keep(db, [ONE])
    alarms.keep(db, [ONE, TWO])
    assert told(db) == {"journal 1": False, "journal 2": False}
    assert alarms.tell(db, []) == (ONE, TWO)
    assert told(db) == {"journal 1": True, "journal 2": True}, "status shows them still"
    assert alarms.tell(db, []) == ()
    assert alarms.load(db) == []


def test_what_is_found_again_is_told_again_and_once_a_report(db: Database) -> None:
    alarms.keep(db, [TWO])
    assert alarms.tell(db, [ONE, TWO, ONE]) == (ONE, TWO)
    assert alarms.tell(db, [ONE]) == (ONE,)
    assert told(db) == {"journal 1": True}


def test_keeping_what_was_told_makes_it_due_again(db: Database) -> None:
    alarms.tell(db, [ONE, TWO])
    alarms.keep(db, [ONE])
    assert told(db) == {"journal 2": True, "journal 1": False}
    assert alarms.tell(db, []) == (ONE,)


def test_the_same_alarms_again_change_nothing(db: Database) -> None:
    assert alarms.is_quiet(db, [])
    alarms.tell(db, [ONE])
    before = db.scalar("SELECT total_changes()")
    assert alarms.is_quiet(db, [ONE]) and not alarms.is_quiet(db, []) and not alarms.is_quiet(db, [ONE, TWO])
    alarms.tell(db, [ONE])
    alarms.keep(db, [])
    assert db.scalar("SELECT total_changes()") == before


def test_a_flood_is_bounded_and_still_told(db: Database) -> None:
    many = [Alarm("Tampered", f"journal {number}", "x") for number in range(5000)]
    alarms.keep(db, many)
    assert len(alarms.load(db)) == 100
    assert len(alarms.tell(db, many)) == 5000
    assert alarms.is_quiet(db, many)
    assert len(meta.find_text(db, meta.ALARMS) or "") < 12_000

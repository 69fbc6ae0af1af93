"""Facts that are not versions, single values, and how far journals were read."""

import pytest

from syncagent.cache import blobs, facts, journals, meta
from syncagent.cache.db import Database
from syncagent.cache.facts import RegisterRow
from syncagent.cache.journals import Cursor, ShownHead
from syncagent.errors import CacheDamaged
from syncagent.model import DeviceId, Hlc

from .samples import Desk

OWN, ONE, TWO = DeviceId(b"d" * 16), DeviceId(b"1" * 16), DeviceId(b"2" * 16)
MOST = (1 << 64) - 1


def test_a_flag_is_set_while_it_has_a_tag_that_nothing_removed(db: Database) -> None:
    facts.add_flags(db, 1, [("seen", 5), ("seen", MOST), ("kept", 0)], [])
    assert facts.flag_tags(db, 1) == [("kept", 0), ("seen", 5), ("seen", MOST)]
    facts.add_flags(db, 1, [("seen", 5)], [MOST])
    assert facts.flag_tags(db, 1) == [("kept", 0), ("seen", 5)]
    facts.add_flags(db, 1, [], [5, 5, 0])
    assert facts.flag_tags(db, 1) == []
    facts.add_flags(db, 1, [("seen", 5)], [])
    assert facts.flag_tags(db, 1) == [], "a tag that was removed stays removed, in whatever order they come"
    assert facts.flag_tags(db, 2) == []


def test_flags_of_one_blob_are_its_own(db: Database) -> None:
    facts.add_flags(db, 1, [("seen", 5)], [])
    facts.add_flags(db, 2, [("seen", 5)], [5])
    assert facts.flag_tags(db, 1) == [("seen", 5)]


def test_a_tag_costs_the_same_however_many_the_flag_has_had(desk: Desk) -> None:
    """A flag that is toggled for years, or one that a faulty device sets under thousands of tags."""
    desk.put("x", b"x")
    db, blob, steps = desk.db, int(desk.db.scalar("SELECT no FROM blob")), 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def cost(add: range, remove: range) -> int:
        before = steps
        facts.add_flags(db, blob, [("seen", tag) for tag in add], [])
        facts.add_flags(db, blob, [], remove)
        return steps - before

    db.execute("BEGIN")
    db._live.set_progress_handler(step, 100)
    few = cost(range(200), range(200))
    cost(range(200, 8000), range(200, 4000))  # four thousand that stand, four thousand that do not
    assert cost(range(8000, 8200), range(4000, 4200)) < 2 * few
    assert db.all("SELECT flag, id FROM blob_flag") == [("seen", "x")]
    cost(range(0), range(4200, 8200))
    before = steps
    assert facts.flag_tags(db, blob) == [] and steps <= before + 1, "what was removed is not read"
    assert db.all("SELECT * FROM blob_flag") == []
    facts.add_flags(db, blob, [("seen", 5)], [])
    assert facts.flag_tags(db, blob) == [], "that a tag was removed is not forgotten"


def test_a_register_holds_what_stands(db: Database) -> None:
    assert facts.find_register(db, "tag", b"k") is None
    facts.set_register(db, "tag", b"k", change=b"first", hlc=1, device=ONE)
    facts.set_register(db, "tag", b"k", change=b"second", hlc=2, device=TWO)
    facts.set_register(db, "tag", b"a", change=b"other", hlc=1, device=ONE)
    facts.set_register(db, "device", b"k", change=b"device", hlc=1, device=ONE)
    assert facts.registers(db, "tag") == [
        RegisterRow(b"other", ONE, Hlc(1)),
        RegisterRow(b"second", TWO, Hlc(2)),
    ]
    assert facts.registers(db, "nothing") == []


def test_a_kept_change_is_kept_once(db: Database) -> None:
    for change in (b"one", b"another"):
        facts.keep_change(db, device=1, seq=2, position=3, kind="lost", change=change)
    assert db.all("SELECT kind, change FROM kept_change") == [("lost", b"one")]


def test_values(db: Database) -> None:
    assert meta.vault_id(db) == b"v" * 16 and meta.device_id(db) == OWN
    assert meta.hlc(db) == 0 and meta.find_text(db, meta.REMOTE) is None
    for number in (0, 1, -1, (1 << 63) - 1, -(1 << 63)):
        meta.put(db, meta.HLC, number)
        assert meta.find_int(db, meta.HLC) == number
    meta.put(db, meta.REMOTE, "file:///ü")
    assert meta.find_text(db, meta.REMOTE) == "file:///ü"
    meta.put(db, meta.REMOTE, None)
    meta.put(db, meta.REMOTE, None)
    assert meta.find_text(db, meta.REMOTE) is None
    assert meta.find_int(db, meta.SYNC_FAILURES) is None


def test_a_cache_without_an_identity_is_damaged(db: Database) -> None:
    meta.put(db, meta.VAULT_ID, None)
    with pytest.raises(CacheDamaged, match="vault_id"):
        meta.vault_id(db)


def test_cursors_move(db: Database) -> None:
    assert journals.cursor(db, ONE) == Cursor(0, None)
    one = blobs.device_no(db, ONE)
    assert journals.cursor(db, ONE) == Cursor(0, None)
    journals.advance(db, one, 3, b"c" * 32)
    assert journals.cursor(db, ONE) == Cursor(3, b"c" * 32)
    assert journals.cursors(db) == {ONE: 3}


def test_what_others_have_read_and_we_have_not(db: Database) -> None:
    one, two = blobs.device_no(db, ONE), blobs.device_no(db, TWO)
    assert journals.shown_chain(db, ONE) == (0, None)
    journals.show_head(db, one, 5, b"5" * 32)
    journals.show_head(db, one, 4, b"4" * 32)
    journals.show_head(db, one, 5, b"x" * 32)
    assert journals.shown_chain(db, ONE) == (5, b"5" * 32), "the furthest, as it was first shown"
    journals.show_head(db, two, 2, b"2" * 32)
    journals.advance(db, two, 2, b"2" * 32)
    assert journals.beyond_cursors(db) == [ShownHead(ONE, 5)]
    journals.advance(db, one, 5, b"5" * 32)
    assert journals.beyond_cursors(db) == []
    assert journals.shown_chain(db, DeviceId(b"?" * 16)) == (0, None)


def test_heads_are_announced_once(db: Database) -> None:
    one, two, own = (blobs.device_no(db, device) for device in (ONE, TWO, OWN))
    for number, seq in ((one, 3), (two, 1), (own, 9)):
        journals.advance(db, number, seq, bytes(32))
    assert journals.unannounced_heads(db, OWN) == [(ONE, 3, bytes(32)), (TWO, 1, bytes(32))]
    journals.announce_heads(db, OWN)
    assert journals.unannounced_heads(db, OWN) == []
    journals.advance(db, two, 2, b"2" * 32)
    assert journals.unannounced_heads(db, OWN) == [(TWO, 2, b"2" * 32)]

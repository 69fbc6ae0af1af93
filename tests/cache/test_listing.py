"""Lists and counts against a plain model of them; what they cost; and flags, which lists are filtered by."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from syncagent.answers import BlobInfo, BlobPage, ListOrder
from syncagent.cache import expiries, facts
from syncagent.cache.db import Database
from syncagent.cache.listing import MAX_PAGE, Order, count_blobs, list_blobs
from syncagent.cache.matching import FEW, BlobFilter
from syncagent.errors import ConfigError, InvalidName
from syncagent.model import SyncStatus

from .large import ROWS, Recording, check
from .samples import NOW_MS, Desk

NOTES = BlobFilter("notes")
HIGHEST = chr(0x10FFFF)
IDS = [
    "a",
    "a%",
    "a%b",
    "a_",
    "a_b",
    "ab",
    "a\U0001f600",
    "a\U0001f600b",
    "a" + HIGHEST,
    "a" + HIGHEST * 2,
    "a" + HIGHEST + "b",
    "a\ud7ff",
    "a\ue000",
    "A",
    "b",
    HIGHEST,
    HIGHEST + "x",
    "%",
    "_",
    "é",
]


def ids(db: Database, *, order: Order = Order(), **wanted: Any) -> list[str]:  # noqa: B008 - frozen
    return [blob.id for blob in list_blobs(db, BlobFilter("notes", **wanted), order).blobs]


def walk(db: Database, wanted: BlobFilter, order: Order, limit: int, few: int = FEW) -> Iterator[BlobInfo]:
    """Every page of a list."""
    after: str | None = None
    while True:
        page = list_blobs(db, wanted, order, after=after, limit=limit, few=few)
        yield from page.blobs
        after = page.next
        if after is None:
            return
        assert len(page.blobs) == limit


@pytest.fixture
def filled(desk: Desk) -> Desk:
    desk.db.execute("BEGIN")
    for blob_id in IDS:
        desk.put(blob_id, blob_id.encode())
        desk.put(blob_id, b"of another namespace", namespace="mail")
    desk.put("ab deleted", b"")
    desk.delete("ab deleted")
    return desk


@pytest.mark.parametrize(
    "prefix", ["", "a", "a%", "a_", "%", "_", "a\U0001f600", "a" + HIGHEST, HIGHEST, "é", "z", "a\ud7ff"]
)
def test_a_prefix_is_taken_literally(filled: Desk, prefix: str) -> None:
    expected = sorted(i for i in IDS if i.startswith(prefix))
    assert ids(filled.db, prefix=prefix) == expected
    wanted = BlobFilter("notes", prefix)
    assert count_blobs(filled.db, wanted) == len(expected)
    assert [blob.id for blob in walk(filled.db, wanted, Order(), limit=2)] == expected


def test_a_page_ends_where_the_list_does(filled: Desk) -> None:
    page = list_blobs(filled.db, NOTES, limit=len(IDS))
    assert len(page.blobs) == len(IDS) and page.next is None
    page = list_blobs(filled.db, NOTES, limit=len(IDS) - 1)
    assert page.next is not None
    assert [blob.id for blob in list_blobs(filled.db, NOTES, after=page.next).blobs] == sorted(IDS)[-1:]


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE + 1])
def test_a_page_has_bounds(filled: Desk, limit: int) -> None:
    with pytest.raises(ConfigError):
        list_blobs(filled.db, NOTES, limit=limit)
    assert len(list_blobs(filled.db, NOTES, limit=MAX_PAGE).blobs) == len(IDS)


def test_what_a_listing_says_of_a_blob(desk: Desk) -> None:
    first = desk.put("a", b"one")
    second = desk.put("a", b"twotwo")
    (blob,) = list_blobs(desk.db, NOTES).blobs
    assert (blob.namespace, blob.id, blob.size, blob.version) == ("notes", "a", 6, second.id.hex())
    assert blob.created_at.timestamp() * 1000 == first.created_at
    assert blob.changed_at.timestamp() * 1000 == NOW_MS + 2
    assert blob.created_at.tzinfo is not None
    assert (blob.status, blob.conflict) == (SyncStatus.PENDING_UPLOAD, False)


def test_an_unknown_namespace_is_empty(db: Database) -> None:
    assert list_blobs(db, NOTES) == BlobPage((), None)
    assert count_blobs(db, NOTES) == 0


@pytest.mark.parametrize("wanted", [BlobFilter("notes", "\ud800"), BlobFilter("notes", flag="\ud800")])
def test_text_that_is_none_is_refused(filled: Desk, wanted: BlobFilter) -> None:
    for ask in (list_blobs, count_blobs):
        with pytest.raises(InvalidName):
            ask(filled.db, wanted)


# Where a page begins -----------------------------------------------------------------------------------


def test_a_page_is_asked_for_behind_one_of_the_same_list_only(filled: Desk) -> None:
    start = list_blobs(filled.db, NOTES, limit=3).next
    assert start is not None
    others = [
        (BlobFilter("mail"), Order()),
        (BlobFilter("notes", "a"), Order()),
        (BlobFilter("notes", status=SyncStatus.PENDING_UPLOAD), Order()),
        (BlobFilter("notes", flag="seen"), Order()),
        (NOTES, Order(ListOrder.CHANGED)),
        (NOTES, Order(descending=True)),
    ]
    for wanted, order in others:
        with pytest.raises(ConfigError, match="not the `next`"):
            list_blobs(filled.db, wanted, order, after=start)
    assert list_blobs(filled.db, NOTES, after=start, limit=1).blobs[0].id == sorted(IDS)[3]


@pytest.mark.parametrize("after", ["", "a", "a_b", "é", "\ud800", "k" * 1000, "AAAA", "k8QIAAAAAAAAAAChYQE="])
def test_garbage_for_a_page_is_refused(filled: Desk, after: str) -> None:
    with pytest.raises(ConfigError, match="not the `next`"):
        list_blobs(filled.db, NOTES, after=after)


def test_blobs_that_stay_come_once_while_others_come_go_and_change(desk: Desk) -> None:
    desk.db.execute("BEGIN")  # one fsync for all, here and below
    dice = random.Random(5)
    stay = [f"stay-{number:02}" for number in range(40)]
    for number, blob_id in enumerate(stay):
        desk.put(blob_id, bytes(number % 7))
        desk.put(f"other-{number}", b"")
    for by in ListOrder:
        for descending in (False, True):
            seen: list[str] = []
            for count, blob in enumerate(walk(desk.db, NOTES, Order(by, descending), limit=3)):
                seen.append(blob.id)
                desk.put(f"other-{dice.randrange(60)}", dice.randbytes(count % 5 + 1))
                desk.put(f"gone-{count}", b"")
                if count:
                    desk.delete(f"gone-{count - 1}")
                if count > 400:  # a list by `changed` meets, again and again, what has just changed
                    break
            assert sorted(blob_id for blob_id in seen if blob_id.startswith("stay")) == stay


# Against a model ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A blob as a plain model sees it."""

    no: int
    id: str
    size: int
    changed: int
    created: int
    status: SyncStatus
    flags: frozenset[str]


KEYS: dict[ListOrder, Callable[[Row], tuple[Any, ...]]] = {
    ListOrder.ID: lambda row: (row.id,),
    ListOrder.CHANGED: lambda row: (row.changed, row.no),
    ListOrder.CREATED: lambda row: (row.created, row.no),
    ListOrder.SIZE: lambda row: (row.size, row.no),
}


NOW = 1000
"""What expires at this time has expired."""


def crowd(desk: Desk, seed: int) -> list[Row]:
    """Blobs of every kind, and the live ones of `notes` as they should be listed."""
    dice = random.Random(seed)
    db = desk.db
    db.execute("BEGIN")
    for number in range(60):
        namespace = "notes" if number % 3 else "mail"
        desk.now_ms += dice.choice([0, 0, 5])  # some at the same time
        blob_id = f"{dice.choice('ab')}/{dice.randrange(30)}"
        desk.put(blob_id, dice.randbytes(dice.randrange(4)), namespace=namespace)
        if number % 9 == 0:
            desk.delete(blob_id, namespace=namespace)
    for (no,) in db.all("SELECT no FROM version WHERE status IS NOT NULL ORDER BY no"):
        if dice.random() < 0.7:
            db.execute("UPDATE version SET status = ? WHERE no = ?", (dice.choice(list(SyncStatus)), no))
            db.execute("INSERT OR IGNORE INTO download (version_no, priority) VALUES (?, 2)", (no,))
    for (no,) in db.all("SELECT no FROM blob ORDER BY no"):
        for flag in ("seen", "flagged"):
            if dice.random() < (0.8 if flag == "seen" else 0.1):
                facts.add_flags(db, no, [(flag, dice.randrange(1 << 63))], ())
        if dice.random() < 0.2:
            expiries.set_expires_at(db, no, dice.choice([NOW, NOW + 1]))
    for number in range(5):  # known by facts alone
        db.execute("INSERT INTO blob (namespace_no, id) SELECT no, ? FROM namespace", (f"b/1{number}x",))
    rows = db.all(
        "SELECT blob.no, blob.id, size, changed, created_at, status FROM blob JOIN namespace"
        " ON namespace.no = namespace_no WHERE name = 'notes' AND NOT deleted AND winner_no IS NOT NULL"
        " AND expires_at IS NOT ?",
        (NOW,),
    )
    return [
        Row(
            no,
            id_,
            size,
            changed,
            created,
            SyncStatus(code),
            frozenset(f for f, _ in facts.flag_tags(db, no)),
        )
        for no, id_, size, changed, created, code in rows
    ]


@pytest.mark.parametrize("few", [0, 5, FEW])
@pytest.mark.parametrize("seed", range(3))
def test_every_filter_in_every_order_is_the_models(desk: Desk, seed: int, few: int) -> None:
    """Every status and flag, in every order (row A5)."""
    rows = crowd(desk, seed)
    compared = 0
    for prefix in ("", "a", "b/1", "z"):
        for status in (None, *SyncStatus):
            for flag in (None, "seen", "flagged", "unknown"):
                wanted = BlobFilter("notes", prefix, status, flag, NOW)
                expected = [
                    row
                    for row in rows
                    if row.id.startswith(prefix)
                    and (status is None or row.status is status)
                    and (flag is None or flag in row.flags)
                ]
                assert count_blobs(desk.db, wanted, few=few) == len(expected)
                for by in ListOrder:
                    descending = bool(compared % 2)
                    found = walk(desk.db, wanted, Order(by, descending), limit=4, few=few)
                    model = sorted(expected, key=KEYS[by], reverse=descending)
                    assert [blob.id for blob in found] == [row.id for row in model], (wanted, by)
                    compared += 1
                compared += 1
    assert compared > 500


# Flags that are set ------------------------------------------------------------------------------------


def flags_by_rows(db: Database) -> list[tuple[str, str, str]]:
    """What is set on live blobs, from all that is known of flags."""
    return [
        (namespace, flag, blob_id)
        for no, namespace, blob_id in db.all(
            "SELECT blob.no, name, id FROM blob JOIN namespace ON namespace.no = namespace_no"
            " WHERE NOT deleted AND winner_no IS NOT NULL"
        )
        for flag in {flag for flag, _ in facts.flag_tags(db, no)}
    ]


def flags_as_kept(db: Database) -> list[tuple[str, str, str]]:
    """The same from the table that lists read, whose counters are checked on the way."""
    rows = db.all(
        "SELECT name, flag, blob.id FROM blob_flag JOIN namespace ON namespace.no = blob_flag.namespace_no"
        " JOIN blob ON blob.no = blob_no AND blob.id = blob_flag.id"
    )
    counted = db.all("SELECT namespace_no, flag, count(*) FROM blob_flag GROUP BY 1, 2 ORDER BY 1, 2")
    assert counted == db.all("SELECT * FROM flag_count WHERE blobs <> 0 ORDER BY 1, 2")
    return list(rows)


@pytest.mark.parametrize("seed", range(5))
def test_flags_are_listed_as_they_are_set_in_whatever_order_changes_come(desk: Desk, seed: int) -> None:
    dice = random.Random(seed)
    db = desk.db
    db.execute("BEGIN")
    space = db.execute("INSERT INTO namespace (name) VALUES ('notes')")
    for number in range(4):  # known by their flags before any version of them has come
        db.execute("INSERT INTO blob (namespace_no, id) VALUES (?, ?)", (space, f"{number}"))
    changes = 0
    for _ in range(300):
        blob_id = f"{dice.randrange(4)}"
        no = int(db.scalar("SELECT no FROM blob WHERE id = ?", (blob_id,)))
        flag, tag = dice.choice(["seen", "flagged"]), dice.randrange(6)
        match dice.randrange(6):
            case 0 | 1:
                facts.add_flags(db, no, [(flag, tag)], ())
            case 2:
                facts.add_flags(db, no, [], [tag])
            case 3:
                facts.add_flags(db, no, [(flag, tag)], [tag, tag + 1])
            case 4 if ids(db) and blob_id in ids(db):
                desk.delete(blob_id)
            case _:
                desk.put(blob_id, dice.randbytes(2))
        kept = flags_as_kept(db)
        changes += bool(kept)
        assert sorted(kept) == sorted(flags_by_rows(db))
        for name in ("seen", "flagged"):
            expected = sorted(id_ for _, one, id_ in kept if one == name)
            assert ids(db, flag=name) == expected
            assert count_blobs(db, BlobFilter("notes", flag=name)) == len(expected)
        if dice.random() < 0.03:  # tags are never used again; here they run out
            db.execute("DELETE FROM flag_tag")
            db.execute("DELETE FROM flag_removed")
            db.execute("DELETE FROM blob_flag")
    assert changes > 20


# What they cost ----------------------------------------------------------------------------------------


@pytest.fixture
def mixed(large: Recording) -> Iterator[Recording]:
    """Ten thousand blobs of which half are elsewhere and two carry flags."""
    large.execute("BEGIN")
    large.execute("UPDATE version SET status = ? WHERE no % 2 = 0", (SyncStatus.REMOTE_ONLY,))
    for flag, every in (("seen", 2), ("flagged", 4000)):
        large.execute("INSERT INTO flag_tag SELECT no, ?, no FROM blob WHERE no % ? = 0", (flag, every))
    large.asked.clear()
    yield large
    large.execute("ROLLBACK")


FAST = [
    ({}, ListOrder.ID),
    ({}, ListOrder.CHANGED),
    ({}, ListOrder.CREATED),
    ({"prefix": "blob-1"}, ListOrder.ID),
    ({"flag": "seen"}, ListOrder.ID),
    ({"flag": "seen", "prefix": "blob-1"}, ListOrder.ID),
    ({"status": SyncStatus.REMOTE_ONLY}, ListOrder.ID),
    ({"status": SyncStatus.REMOTE_ONLY, "prefix": "blob-1"}, ListOrder.ID),
    ({"status": SyncStatus.FAILED_DOWNLOAD}, ListOrder.ID),
]
"""The pairs that docs/embedding.md names."""
SORT = "USE TEMP B-TREE FOR ORDER BY"


def is_by_number(plans: list[str]) -> bool:
    """Whether those that may match are named by a subquery, and no others looked at."""
    return any(line.startswith("LIST SUBQUERY") for line in plans)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("wanted", "by"), FAST)
def test_a_page_is_read_by_an_index_and_nothing_is_sorted(
    mixed: Recording, wanted: dict[str, Any], by: ListOrder, descending: bool
) -> None:
    one = BlobFilter("notes", **wanted)
    order = Order(by, descending)
    page = list_blobs(mixed, one, order, limit=100)
    if page.next is not None:
        assert len(list_blobs(mixed, one, order, after=page.next, limit=100).blobs) == 100
    check(mixed)


def test_what_few_blobs_match_is_found_without_passing_the_others(mixed: Recording) -> None:
    mixed.execute("UPDATE version SET status = ? WHERE no = 5", (SyncStatus.FAILED_UPLOAD,))
    mixed.asked.clear()
    few: list[tuple[BlobFilter, Order]] = [
        (BlobFilter("notes", flag="flagged"), Order(ListOrder.CHANGED)),
        (BlobFilter("notes", prefix="blob-77"), Order(ListOrder.SIZE)),
        (BlobFilter("notes", status=SyncStatus.FAILED_UPLOAD), Order(ListOrder.CREATED)),
    ]
    for wanted, order in few:
        list_blobs(mixed, wanted, order, limit=100)
    # The few are sorted; no table is read from one end to the other.
    plans = check(mixed, allowed=[SORT])
    assert (
        is_by_number(plans) and "SEARCH blob USING INDEX blob_status (namespace_no=? AND status=?)" in plans
    )
    mixed.execute("DELETE FROM upload WHERE no > 3")
    mixed.asked.clear()
    wanted = BlobFilter("notes", status=SyncStatus.PENDING_UPLOAD)
    assert [blob.id for blob in list_blobs(mixed, wanted).blobs] == ["blob-1", "blob-3"]
    assert is_by_number(check(mixed, allowed=[SORT]))


@pytest.mark.parametrize("by", [ListOrder.CHANGED, ListOrder.SIZE])
def test_those_of_a_flag_are_read_and_no_others(mixed: Recording, by: ListOrder) -> None:
    mixed.execute("INSERT INTO flag_tag SELECT no, 'later', no FROM blob WHERE no % 3 = 0")
    wanted = BlobFilter("notes", flag="later")
    assert len(list_blobs(mixed, wanted, Order(by), limit=10_000).blobs) == ROWS // 3
    assert is_by_number(check(mixed, allowed=[SORT]))


def test_what_was_deleted_is_passed_by_without_being_read(mixed: Recording) -> None:
    mixed.execute("UPDATE blob SET deleted = 1 WHERE id < 'blob-9'")
    mixed.asked.clear()
    page = list_blobs(mixed, BlobFilter("notes", "blob-"), limit=10)
    assert [blob.id for blob in page.blobs][:2] == ["blob-9", "blob-90"]
    plans = check(mixed)
    assert (
        "SEARCH blob USING COVERING INDEX sqlite_autoindex_blob_1 (namespace_no=? AND id>? AND id<?)" in plans
    )
    assert "SEARCH hidden USING COVERING INDEX blob_hidden (namespace_no=? AND id=?)" in plans


def test_what_no_counter_knows_is_not_looked_for(mixed: Recording) -> None:
    for wanted in (BlobFilter("notes", flag="unknown"), BlobFilter("notes", status=SyncStatus.SYNCED)):
        assert list_blobs(mixed, wanted, Order(ListOrder.SIZE)).blobs == ()
    assert not [line for line in check(mixed) if " blob " in line or " upload" in line]


def test_those_of_a_prefix_are_read_unless_they_are_many(mixed: Recording) -> None:
    order = Order(ListOrder.CREATED)
    list_blobs(mixed, BlobFilter("notes", "blob-77"), order)
    assert is_by_number(check(mixed, allowed=[SORT]))
    list_blobs(mixed, BlobFilter("notes", "blob-"), order, few=10)
    assert not is_by_number(check(mixed, allowed=[SORT]))


@pytest.mark.parametrize("by", ListOrder)
def test_a_small_namespace_beside_a_large_one_reads_its_own(mixed: Recording, by: ListOrder) -> None:
    mixed.execute("INSERT INTO namespace (no, name) VALUES (2, 'beside')")
    mixed.execute("INSERT INTO blob (namespace_no, id, winner_no, status) VALUES (2, 'alone', 1, 1)")
    for wanted in (BlobFilter("beside"), BlobFilter("beside", "a"), BlobFilter("beside", flag="seen")):
        list_blobs(mixed, wanted, Order(by))
    check(mixed, allowed=[SORT])


def test_a_count_reads_a_counter(mixed: Recording) -> None:
    assert count_blobs(mixed, NOTES) == ROWS
    assert count_blobs(mixed, BlobFilter("notes", status=SyncStatus.REMOTE_ONLY)) == ROWS // 2
    assert count_blobs(mixed, BlobFilter("notes", flag="seen")) == ROWS // 2
    # Of the blobs themselves only those that have a time at which they expire.
    assert not any(" blob " in f"{line} " and "blob_expires" not in line for line in mixed.plans())


def test_a_count_of_a_prefix_reads_indexes_and_no_blob(mixed: Recording) -> None:
    assert count_blobs(mixed, BlobFilter("notes", "blob-9")) == 1111
    assert count_blobs(mixed, BlobFilter("notes", "blob-9", flag="seen")) == 555
    plans = [line for line in mixed.plans() if " blob " in line and "blob_expires" not in line]
    assert len(plans) == 2 and all("USING COVERING INDEX" in line for line in plans)

"""Lists, counts and status; and that none of the frequent questions reads every row."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from syncagent.cache import chunks, downloads, meta, outbox, ownbatches, queries, sendable, waiting
from syncagent.cache.db import Database, Row
from syncagent.cache.schema import migrate
from syncagent.errors import ConfigError
from syncagent.model import BlobPage, SyncStatus

from .conftest import KEY
from .samples import NOW_MS, Desk

NOW_S = NOW_MS / 1000
ROWS = 10_000
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


def ids(db: Database, **options: Any) -> list[str]:
    return [blob.id for blob in queries.list_blobs(db, "notes", **options).blobs]


@pytest.fixture
def filled(desk: Desk) -> Desk:
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
    assert queries.count_blobs(filled.db, "notes", prefix=prefix) == len(expected)
    pages: list[str] = []
    after: str | None = None
    while True:
        page = queries.list_blobs(filled.db, "notes", prefix=prefix, after=after, limit=2)
        pages += [blob.id for blob in page.blobs]
        after = page.next
        if after is None:
            break
        assert len(page.blobs) == 2
    assert pages == expected


def test_a_page_ends_where_the_list_does(filled: Desk) -> None:
    page = queries.list_blobs(filled.db, "notes", limit=len(IDS))
    assert len(page.blobs) == len(IDS) and page.next is None
    page = queries.list_blobs(filled.db, "notes", limit=len(IDS) - 1)
    assert page.next == page.blobs[-1].id == sorted(IDS)[-2]
    assert ids(filled.db, after=page.next) == sorted(IDS)[-1:]
    assert ids(filled.db, after=HIGHEST + "y") == []


@pytest.mark.parametrize("limit", [0, -1, queries.MAX_PAGE + 1])
def test_a_page_has_bounds(filled: Desk, limit: int) -> None:
    with pytest.raises(ConfigError):
        queries.list_blobs(filled.db, "notes", limit=limit)
    assert len(ids(filled.db, limit=queries.MAX_PAGE)) == len(IDS)


def test_a_listing_by_status(filled: Desk) -> None:
    version = filled.put("new", b"new")
    filled.db.execute(
        "UPDATE version SET status = ? WHERE no = ?", (SyncStatus.SYNCED, filled.number(version))
    )
    assert ids(filled.db, status=SyncStatus.SYNCED) == ["new"]
    assert queries.count_blobs(filled.db, "notes", status=SyncStatus.SYNCED) == 1
    assert queries.count_blobs(filled.db, "notes", status=SyncStatus.SYNCED, prefix="n") == 1
    assert queries.count_blobs(filled.db, "notes", status=SyncStatus.SYNCED, prefix="a") == 0
    assert queries.count_blobs(filled.db, "notes") == len(IDS) + 1


def test_what_a_listing_says_of_a_blob(desk: Desk) -> None:
    first = desk.put("a", b"one")
    second = desk.put("a", b"twotwo")
    (blob,) = queries.list_blobs(desk.db, "notes").blobs
    assert (blob.namespace, blob.id, blob.size, blob.version) == ("notes", "a", 6, second.id.hex())
    assert blob.created_at.timestamp() * 1000 == first.created_at
    assert blob.changed_at.timestamp() * 1000 == NOW_MS + 2
    assert blob.created_at.tzinfo is not None
    assert (blob.status, blob.conflict) == (SyncStatus.PENDING_UPLOAD, False)


def test_an_unknown_namespace_is_empty(db: Database) -> None:
    assert queries.list_blobs(db, "notes") == BlobPage((), None)
    assert queries.count_blobs(db, "notes") == 0
    assert queries.namespaces(db) == []


def test_namespaces_are_the_users_that_hold_a_live_blob(desk: Desk) -> None:
    for namespace in ("notes", "mail", ".settings", "gone"):
        desk.put("a", b"x", namespace=namespace)
    desk.delete("a", namespace="gone")
    assert queries.namespaces(desk.db) == ["mail", "notes"]


def test_status(desk: Desk) -> None:
    meta.put(desk.db, meta.DEVICE_NAME, "laptop")
    desk.put("a", b"1")
    desk.put("b", b"2")
    desk.delete("b")
    desk.put("a", b"3", namespace="mail")
    desk.put("mail", b"4", namespace=".settings")
    outbox.enqueue_change(desk.db, b"change")
    status = queries.status(desk.db, last_sync=None, now=NOW_S)
    assert (status.device_name, status.last_sync, status.next_attempt) == ("laptop", None, None)
    assert status.counts[SyncStatus.PENDING_UPLOAD] == 2 == sum(status.counts.values())
    assert list(status.namespaces) == ["mail", "notes"]
    assert (status.namespaces["notes"].blobs, status.namespaces["notes"].pending_changes) == (1, 1)
    assert status.pending_changes == 2 and status.conflicts == 0 and status.reasons == ()
    meta.put(desk.db, meta.NEXT_SYNC_AT, NOW_MS + 5000)
    meta.put(desk.db, meta.SYNC_REASON, "Unreachable: no")
    desk.db.execute("UPDATE upload SET last_error = 'refused' WHERE version_no IS NOT NULL")
    status = queries.status(desk.db, last_sync=NOW_S, now=NOW_S)
    assert status.next_attempt is not None and status.next_attempt.timestamp() == NOW_S + 5
    assert status.last_sync is not None and status.last_sync.timestamp() == NOW_S
    assert status.reasons[0] == "Unreachable: no" and status.reasons[1].endswith("× refused")


# Plans -------------------------------------------------------------------------------------------------


class Recording(Database):
    """Remembers the statements it is asked."""

    asked: list[tuple[str, Sequence[Any]]]

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        self.asked.append((sql, parameters))
        return super().all(sql, parameters)

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        self.asked.append((sql, parameters))
        return super().one(sql, parameters)

    def plans(self) -> list[str]:
        asked, self.asked = self.asked, []
        return [
            row[3] for sql, p in asked for row in super(Recording, self).all(f"EXPLAIN QUERY PLAN {sql}", p)
        ]


def fill(db: Database, rows: int) -> None:
    """As many blobs of one chunk each that wait to be sent, as set-based statements."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
    for sql in (
        "INSERT INTO namespace VALUES (1, 'notes')",
        "INSERT INTO device (no, id) VALUES (1, x'64')",
        numbers
        + "INSERT INTO blob (no, namespace_no, id, winner_no, size) SELECT i, 1, 'blob-' || i, i, 10 FROM n",
        numbers + "INSERT INTO packed SELECT i, randomblob(200) FROM n",
        numbers + "INSERT INTO version SELECT i, randomblob(16), i, 1, 0, i, 0, 10, i, x'00', 2 FROM n",
        numbers + "INSERT INTO chunk SELECT i, randomblob(32), 10, x'00', i FROM n",
        numbers + "INSERT INTO payload SELECT i, randomblob(10) FROM n",
        numbers + "INSERT INTO version_chunk SELECT i, 0, i FROM n",
        numbers + "INSERT INTO upload (version_no, priority) SELECT i, 1 + i % 4 FROM n",
        numbers + "INSERT INTO download (version_no, priority) SELECT i, 1 + i % 4 FROM n",
        "INSERT INTO pack VALUES (1, x'01', 1, 1, x'00', 1, 0, 0, 1)",
        numbers + "INSERT INTO pack_chunk SELECT 1, i, i, i, 1, 10, 0, 0 FROM n WHERE i % 10 = 0",
    ):
        db.execute(sql)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    path = tmp_path_factory.mktemp("large") / "cache.db"
    path.touch()
    db = Recording(path, KEY)
    db.asked = []
    db.open()
    migrate(db)
    db.execute("BEGIN")
    fill(db, ROWS)
    db.execute("COMMIT")
    db.asked.clear()
    yield db
    db.close()


def check(db: Recording, *, allowed: Sequence[str] = ()) -> None:
    plans = db.plans()
    assert plans
    bad = [
        line
        for line in plans
        if (line.startswith("SCAN") and "USING" not in line and not line.startswith("SCAN CONSTANT"))
        or "TEMP B-TREE" in line
        or "AUTOMATIC" in line
    ]
    assert [line for line in bad if line not in allowed] == []


def test_a_list_by_id_reads_its_page(large: Recording) -> None:
    assert len(queries.list_blobs(large, "notes", limit=1000).blobs) == 1000
    check(large)
    assert len(queries.list_blobs(large, "notes", prefix="blob-1", after="blob-15", limit=100).blobs) == 100
    check(large)


def test_a_count_reads_a_counter(large: Recording) -> None:
    assert queries.count_blobs(large, "notes") == ROWS
    assert queries.count_blobs(large, "notes", prefix="blob-9") == 1111
    assert queries.namespaces(large) == ["notes"]
    plans = large.plans()
    assert any("status_count" in line for line in plans)


@pytest.mark.parametrize("namespace", [None, 1])
def test_due_downloads_are_read_in_order(large: Recording, namespace: int | None) -> None:
    assert len(downloads.due(large, NOW_MS, 1000, namespace)) == 1000
    check(large)


@pytest.mark.parametrize("namespace", [None, 1])
def test_publishable_rows_are_read_in_order(large: Recording, namespace: int | None) -> None:
    first = sendable.publishable(large, NOW_MS, 1000, namespace)
    assert len(first.rows) == 1000 and first.next is not None
    assert len(sendable.publishable(large, NOW_MS, 500, namespace, after=first.next).rows) == 0
    assert len(sendable.publishable_of(large, NOW_MS, range(9), namespace)) == 0
    assert outbox.replacing(large, range(9)) == []
    check(large)


@pytest.mark.parametrize("namespace", [None, 1])
def test_unsent_chunks_are_read_in_order(large: Recording, namespace: int | None) -> None:
    first = sendable.unsent_chunks(large, NOW_MS, 1000, namespace)
    assert len(first.chunks) == 800, "of 1000 rows, a fifth of which is at the remote"
    assert first.next is not None
    assert sendable.unsent_chunks(large, NOW_MS, 1000, namespace, after=first.next).chunks
    check(large)


def test_what_is_asked_per_blob_uses_an_index(large: Recording) -> None:
    ownbatches.unconfirmed_batch(large)
    ownbatches.last_own_seq(large)
    outbox.pending_with_chunk(large, 5)
    outbox.retries_of(large, [5])
    chunks.is_here(large, 5)
    chunks.is_there(large, 5)
    chunks.is_complete(large, 5)
    chunks.heads_with_chunk(large, 10)
    downloads.missing_chunks(large, [1, 2, 3])
    downloads.remote_places(large, [1, 2, 3])
    chunks.places(large, [1, 2, 3])
    # Small sets: what is asked for is sorted, not the table.
    check(large, allowed=["USE TEMP B-TREE FOR DISTINCT", "USE TEMP B-TREE FOR ORDER BY"])


def test_what_failed_and_what_waits_is_found_without_reading_the_queues(large: Recording) -> None:
    large.execute("BEGIN")
    try:
        meta.put(large, meta.VAULT_ID, b"v" * 16)
        meta.put(large, meta.DEVICE_ID, b"d" * 16)
        large.execute("UPDATE upload SET last_error = 'Unreachable: no', next_attempt_at = 5 WHERE no = 7")
        large.execute("UPDATE download SET next_attempt_at = ? WHERE version_no = 7", (NOW_MS * 2,))
        large.asked.clear()
        queries.status(large, last_sync=None, now=0)
        assert waiting.has_far_times(large, NOW_MS) and not waiting.has_far_times(large, NOW_MS * 2)
        plans = large.plans()
        for table in ("upload", "download"):
            read = [line for line in plans if f" {table}" in line]
            assert any(f"{table}_failed" in line for line in read)
            assert any(f"{table}_later" in line for line in read)
            # Whether a row is due at once: it stops at the first.
            assert [line for line in read if "INDEX" not in line] == [f"SCAN {table}"]
    finally:
        large.execute("ROLLBACK")


def test_the_large_cache_is_what_it_is_said_to_be(large: Recording) -> None:
    assert (
        large.scalar("SELECT count(*) FROM upload") == ROWS == large.scalar("SELECT count(*) FROM download")
    )
    assert queries.status_counts(large) == {"PENDING_UPLOAD": ROWS}

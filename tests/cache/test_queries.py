"""Status and namespaces; and that none of the frequent questions reads every row."""

import pytest

from syncagent.cache import chunks, downloads, meta, outbox, ownbatches, queries, sendable, waiting
from syncagent.engine import history
from syncagent.errors import VersionNotFound
from syncagent.model import SyncStatus
from syncagent.reports import NamespaceInfo

from .large import ROWS, Recording, check
from .samples import NOW_MS, Desk

NOW_S = NOW_MS / 1000


def test_namespaces_are_the_users_that_hold_a_live_blob(desk: Desk) -> None:
    """Namespaces, with how many blobs they hold (row A5)."""
    assert queries.namespaces(desk.db, now_ms=0) == ()
    for namespace in ("notes", "mail", ".settings", "gone"):
        desk.put("a", b"x", namespace=namespace)
    desk.delete("a", namespace="gone")
    desk.put("b", b"x", namespace="mail")
    assert queries.namespaces(desk.db, now_ms=0) == (NamespaceInfo("mail", 2), NamespaceInfo("notes", 1))


def test_namespaces_are_counted_without_reading_blobs(large: Recording) -> None:
    assert queries.namespaces(large, now_ms=0) == (NamespaceInfo("notes", ROWS),)
    plans = check(large, allowed=["SCAN namespace USING INDEX sqlite_autoindex_namespace_1"])
    expired = "SEARCH blob USING COVERING INDEX blob_expires (namespace_no=? AND expires_at<?)"
    assert expired in plans, "what has expired is counted by the index"


def test_status(desk: Desk) -> None:
    """Counts, reasons, state (row D4)."""
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
    assert status.pending_changes == 3 and status.conflicts == 0 and status.reasons == ()
    meta.put(desk.db, meta.NEXT_SYNC_AT, NOW_MS + 5000)
    meta.put(desk.db, meta.SYNC_REASON, "Unreachable: no")
    desk.db.execute("UPDATE upload SET last_error = 'refused' WHERE version_no IS NOT NULL")
    status = queries.status(desk.db, last_sync=NOW_S, now=NOW_S)
    assert status.next_attempt is not None and status.next_attempt.timestamp() == NOW_S + 5
    assert status.last_sync is not None and status.last_sync.timestamp() == NOW_S
    assert status.reasons[0] == "Unreachable: no" and status.reasons[1].endswith("× refused")


# Plans -------------------------------------------------------------------------------------------------


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


def test_the_version_before_is_found_by_its_id(large: Recording) -> None:
    with pytest.raises(VersionNotFound):
        history.version_no(large, history.Name("notes", "blob-5"), "~1")
    plans = check(large, allowed=["USE TEMP B-TREE FOR ORDER BY"])
    assert "SEARCH older USING INDEX sqlite_autoindex_version_1 (id=?)" in plans


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

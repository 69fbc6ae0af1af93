"""The queue of what waits to be published, and the batches it becomes."""

import pytest

from syncagent.cache import chunks, outbox, ownbatches, sendable
from syncagent.cache.db import Database
from syncagent.cache.outbox import Superseded
from syncagent.cache.packfiles import pack_path
from syncagent.cache.sendable import START, Position
from syncagent.errors import CacheDamaged
from syncagent.model import PackRecord, SyncStatus, Version

from .samples import NOW_MS, Desk

LATER = NOW_MS + 1000


def publishable(desk: Desk, now_ms: int = LATER, limit: int = 100, namespace: int | None = None) -> list[int]:
    rows = sendable.publishable(desk.db, now_ms, limit, namespace).rows
    return [row.version_no or 0 for row in rows]


def unsent(desk: Desk, now_ms: int = LATER, limit: int = 100, namespace: int | None = None) -> list[int]:
    return [chunk.version_no for chunk in sendable.unsent_chunks(desk.db, now_ms, limit, namespace).chunks]


def numbers(desk: Desk, *versions: Version) -> list[int]:
    return [desk.number(version) for version in versions]


def waiting(db: Database) -> int:
    return int(db.scalar("SELECT count(*) FROM upload"))


def test_urgency_is_priority_then_age(desk: Desk) -> None:
    old, new = desk.put("a", b"1"), desk.put("b", b"2")
    urgent, idle = desk.put("c", b"3", priority=1), desk.put("d", b"4", priority=4)
    expected = numbers(desk, urgent, old, new, idle)
    assert unsent(desk) == expected
    assert unsent(desk, limit=2) == expected[:2]
    desk.send(b"1", b"2", b"3", b"4")
    assert unsent(desk) == []
    desk.cut_packs()
    assert publishable(desk) == expected
    assert publishable(desk, limit=1) == expected[:1]


def test_the_queue_is_read_page_by_page(desk: Desk) -> None:
    versions = [desk.put(f"{i}", b"%d" % i, priority=1 + i % 2) for i in range(7)]
    two = desk.put("two", b"one and")
    desk.db.execute(
        "INSERT INTO version_chunk VALUES (?, 1, ?)", (desk.number(two), desk.chunk_number(versions[3]))
    )
    desk.send(b"0", b"2", b"4")
    found: list[int] = []
    position: Position | None = START
    pages = 0
    while position is not None:
        page = sendable.unsent_chunks(desk.db, LATER, 1, after=position)
        found += [chunk.chunk_no for chunk in page.chunks]
        position, pages = page.next, pages + 1
    expected = [desk.chunk_number(versions[i]) for i in (6, 1, 3, 5)]
    assert found == [*expected, desk.chunk_number(two), expected[2]], "each once a page"
    assert pages > 8, "what is at the remote is passed by, a page at a time"


def test_what_is_ready_is_read_from_a_place_in_the_queue_on(desk: Desk) -> None:
    versions = [desk.put(f"{i}", b"%d" % i, priority=1 + i % 2) for i in range(6)]
    desk.send(b"0", b"3", b"4", b"5")
    desk.cut_packs()
    first = sendable.publishable(desk.db, LATER, 1)
    assert [row.version_no for row in first.rows] == numbers(desk, versions[0]) and first.next is not None
    second = sendable.publishable(desk.db, LATER, 9, after=first.next)
    assert [row.version_no for row in second.rows] == numbers(desk, versions[4], versions[3], versions[5])
    assert second.next is None
    asked = sendable.publishable_of(desk.db, LATER, numbers(desk, versions[5], versions[1], versions[4]))
    assert [row.version_no for row in asked] == numbers(desk, versions[4], versions[5])


def test_a_version_is_publishable_when_all_its_content_is_in_announced_packs(desk: Desk) -> None:
    version = desk.put("a", b"1")
    empty, tombstone = desk.put("empty", b""), desk.put("b", b"")
    always = numbers(desk, empty, tombstone)
    assert publishable(desk) == always, "no content, nothing to wait for"
    pack = desk.send(b"1")
    assert publishable(desk) == always, "a pack that no batch names may be collected"
    outbox.announce(desk.db, pack, 1)
    assert publishable(desk) == numbers(desk, version) + always
    desk.db.execute("UPDATE pack SET is_remote = 0")
    assert publishable(desk) == always


def test_a_version_with_one_chunk_missing_is_not_publishable(desk: Desk) -> None:
    version = desk.put("a", b"1")
    other = desk.chunk_number(desk.put("b", b"2"))
    desk.db.execute("INSERT INTO version_chunk VALUES (?, 1, ?)", (desk.number(version), other))
    outbox.announce(desk.db, desk.send(b"1"), 1)
    assert publishable(desk) == []
    assert [(c.version_no, c.chunk_no) for c in sendable.unsent_chunks(desk.db, LATER, 9).chunks] == [
        (desk.number(version), other)
    ], "each chunk once, with the version that is first"
    outbox.announce(desk.db, desk.send(b"2"), 2)
    assert len(publishable(desk)) == 2


def test_a_row_is_not_tried_before_its_time(desk: Desk) -> None:
    version = desk.put("a", b"1")
    outbox.fail_uploads(desk.db, [desk.number(version)], error="x", next_attempt_at=LATER + 1, max_retries=8)
    outbox.announce(desk.db, desk.send(b"1"), 1)
    assert publishable(desk) == []
    assert publishable(desk, now_ms=LATER + 1) == numbers(desk, version)
    assert outbox.next_attempt(desk.db) == LATER + 1


def test_the_earliest_attempt_of_both_queues(desk: Desk) -> None:
    assert outbox.next_attempt(desk.db) is None
    desk.db.execute("INSERT INTO download (version_no, priority, next_attempt_at) VALUES (1, 2, 50)")
    assert outbox.next_attempt(desk.db) == 50
    desk.db.execute("INSERT INTO upload (version_no, priority, next_attempt_at) VALUES (1, 2, 40)")
    assert outbox.next_attempt(desk.db) == 40


def test_one_namespace_alone(desk: Desk) -> None:
    notes, mail = desk.put("a", b"1"), desk.put("a", b"2", namespace="mail")
    outbox.enqueue_change(desk.db, b"a change of the vault")
    number = desk.db.scalar("SELECT no FROM namespace WHERE name = 'mail'")
    assert unsent(desk, namespace=number) == numbers(desk, mail)
    for pack in (desk.send(b"1"), desk.send(b"2", namespace="mail")):
        outbox.announce(desk.db, pack, 1)
    assert publishable(desk, namespace=number) == [*numbers(desk, mail), 0], "changes go with any of them"
    assert publishable(desk) == [*numbers(desk, notes, mail), 0]


def test_what_a_batch_holds_is_neither_cut_nor_folded_again(desk: Desk) -> None:
    first = desk.put("a", b"1")
    outbox.enqueue_change(desk.db, b"change")
    desk.send(b"1")
    assert desk.cut() == 1
    assert publishable(desk) == [] and unsent(desk) == []
    assert desk.db.scalar("SELECT seq FROM version WHERE id = ?", (first.id,)) == 1
    newer = desk.put("a", b"2")
    assert outbox.superseded(desk.db, 10) == []
    newest = desk.put("a", b"3")
    assert outbox.superseded(desk.db, 10) == [Superseded(*numbers(desk, newer, newest))]
    assert newer.parents[0].seq == 1, "a later put says which batch published its parent"


def test_superseded_pairs_come_by_page(desk: Desk) -> None:
    for blob_id in "abc":
        desk.put(blob_id, b"1")
        desk.put(blob_id, b"2")
    assert len(outbox.superseded(desk.db, 2)) == 2
    assert len(outbox.superseded(desk.db, 10)) == 3


def test_a_put_superseded_across_a_transaction_stays(desk: Desk) -> None:
    desk.put("a", b"1")
    newer = desk.put("a", b"2")
    desk.db.execute("UPDATE upload SET group_id = x'01' WHERE version_no = ?", (desk.number(newer),))
    assert outbox.superseded(desk.db, 10) == []


def test_confirming_settles_the_rows_of_this_batch_only(desk: Desk) -> None:
    first, second = desk.put("a", b"1"), desk.put("b", b"2")
    desk.send(b"1", b"2")
    seq = desk.cut(limit=1)
    replaced = desk.put("a", b"3")
    batch = ownbatches.unconfirmed_batch(desk.db)
    assert batch is not None and (batch.seq, batch.object) == (seq, b"sealed")
    assert ownbatches.confirm_batch(desk.db, seq) == 1
    assert ownbatches.unconfirmed_batch(desk.db) is None
    assert ownbatches.own_batch(desk.db, desk.device, seq) == batch, "kept for a remote that forgets"
    assert desk.status(first) is None, "no head any more: its status is not brought back"
    assert desk.status(second) is desk.status(replaced) is SyncStatus.PENDING_UPLOAD
    assert waiting(desk.db) == 2
    assert ownbatches.confirm_batch(desk.db, seq) == 0, "a second time changes nothing"


def test_a_batch_confirmed_after_sending_was_given_up(desk: Desk) -> None:
    version = desk.put("a", b"1")
    outbox.fail_uploads(desk.db, numbers(desk, version), error="x", next_attempt_at=0, max_retries=0)
    assert desk.status(version) is SyncStatus.FAILED_UPLOAD
    desk.send(b"1")
    ownbatches.confirm_batch(desk.db, desk.cut())
    assert desk.status(version) is SyncStatus.SYNCED


def test_failures_count_to_a_limit(desk: Desk) -> None:
    one, two = desk.put("a", b"1"), desk.put("b", b"2")
    for failure in range(1, 4):
        outbox.fail_uploads(
            desk.db, numbers(desk, one), error=f"e{failure}", next_attempt_at=7, max_retries=2
        )
        expected = SyncStatus.FAILED_UPLOAD if failure == 3 else SyncStatus.PENDING_UPLOAD
        assert desk.status(one) is expected
    assert outbox.retries_of(desk.db, numbers(desk, one, two)) == 3
    assert outbox.retries_of(desk.db, numbers(desk, two)) == 0 == outbox.retries_of(desk.db, [])
    assert desk.db.one("SELECT last_error, next_attempt_at FROM upload WHERE retries") == ("e3", 7)
    assert desk.status(two) is SyncStatus.PENDING_UPLOAD


def test_sequence_numbers_go_on(desk: Desk) -> None:
    assert ownbatches.last_own_seq(desk.db) == 0 and ownbatches.own_batch(desk.db, desk.device, 1) is None
    desk.put("a", b"")
    assert desk.cut() == 1
    ownbatches.confirm_batch(desk.db, 1)
    desk.put("b", b"")
    assert desk.cut() == 2 == ownbatches.last_own_seq(desk.db)


def test_packs_wait_for_a_batch_that_names_them(desk: Desk) -> None:
    desk.put("a", b"1")
    first, second = desk.send(b"1"), desk.send(b"2")
    record, _ = desk.pack(b"3")
    chunks.record_pack(desk.db, record, is_remote=False, has_file=True)
    assert [number for number, _ in outbox.unannounced_packs(desk.db, 10)] == [first, second]
    assert [number for number, _ in outbox.unannounced_packs(desk.db, 1)] == [first]
    assert [n for n, _ in outbox.unannounced_before(desk.db, desk.now_ms + 1)] == [first, second]
    assert outbox.unannounced_before(desk.db, desk.now_ms) == []
    outbox.announce(desk.db, first, 1)
    outbox.forget_put(desk.db, first)
    outbox.forget_put(desk.db, second)
    assert desk.db.all("SELECT is_remote FROM pack ORDER BY no") == [(1,), (0,), (0,)]


def test_pending_versions_with_a_chunk(desk: Desk) -> None:
    one, two = desk.put("a", b"1"), desk.put("b", b"1")
    chunk = desk.chunk_number(one)
    assert sorted(outbox.pending_with_chunk(desk.db, chunk)) == sorted(numbers(desk, one, two))
    desk.send(b"1")
    desk.cut(limit=1)
    assert outbox.pending_with_chunk(desk.db, chunk) == numbers(desk, two)


# Pack files ------------------------------------------------------------------------------------------


def file_of(desk: Desk, *contents: bytes) -> tuple[int, PackRecord]:
    record, data = desk.pack(*contents)
    pack_path(desk.packs, record.id).write_bytes(data)
    return chunks.record_pack(desk.db, record, is_remote=False, has_file=True), record


def packs_to_send(desk: Desk) -> list[int | None]:
    return [chunk.pack_no for chunk in sendable.unsent_chunks(desk.db, LATER, 100).chunks]


def test_a_pack_file_is_sent_as_it_is(desk: Desk) -> None:
    desk.put("a", b"1")
    desk.put("b", b"2")
    assert packs_to_send(desk) == [None, None]
    number, _ = file_of(desk, b"1", b"2")
    assert packs_to_send(desk) == [number, number]


def test_a_pack_file_of_which_a_chunk_was_sealed_anew_is_not_sent_as_it_is(desk: Desk) -> None:
    """It is damaged: only what still verifies in it is of use, chunk by chunk."""
    for blob_id in "123":
        desk.put(blob_id, blob_id.encode())
    file_of(desk, b"1", b"2", b"3")
    newer, _ = file_of(desk, b"2")
    assert packs_to_send(desk) == [None, newer, None]


def test_a_batch_that_is_damaged_in_the_outbox_is_never_sent(desk: Desk) -> None:
    """Zeroed bytes under our next number would end this device's journal for every other one."""
    desk.put("a", b"1")
    desk.send(b"1")
    seq = desk.cut()
    desk.db.execute(
        "UPDATE payload SET bytes = zeroblob(length(bytes)) WHERE no = (SELECT payload_no FROM own_batch)"
    )
    with pytest.raises(CacheDamaged):
        ownbatches.unconfirmed_batch(desk.db)
    with pytest.raises(CacheDamaged):
        ownbatches.own_batch(desk.db, desk.device, seq)
    assert ownbatches.own_chain(desk.db, desk.device, seq) is not None

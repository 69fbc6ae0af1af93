"""What is wanted here and not here yet."""

from syncagent.cache import chunks, downloads
from syncagent.cache.downloads import MissingChunk, RemotePlace, StoredChunk
from syncagent.model import SyncStatus, Version

from .samples import NOW_MS, Desk, content

LATER = NOW_MS + 1000


def wanted(desk: Desk, blob_id: str, data: bytes, *, priority: int = 2, namespace: str = "notes") -> Version:
    """A version that has arrived without its content."""
    version = desk.put(blob_id, data, namespace=namespace)
    number = desk.number(version)
    desk.db.execute("DELETE FROM upload WHERE version_no = ?", (number,))
    desk.db.execute("UPDATE chunk SET payload_no = NULL WHERE no = ?", (desk.chunk_number(version),))
    desk.db.execute("UPDATE version SET status = ? WHERE no = ?", (SyncStatus.PENDING_DOWNLOAD, number))
    downloads.enqueue(desk.db, [number], priority=priority)
    return version


def queued(desk: Desk) -> int:
    return int(desk.db.scalar("SELECT count(*) FROM download"))


def test_urgency_is_priority_then_age(desk: Desk) -> None:
    one, two = wanted(desk, "a", b"1"), wanted(desk, "b", b"2")
    urgent = wanted(desk, "c", b"3", priority=1)
    expected = [desk.number(version) for version in (urgent, one, two)]
    assert downloads.due(desk.db, LATER, 10) == expected
    assert downloads.due(desk.db, LATER, 2) == expected[:2]
    mail = wanted(desk, "a", b"1", namespace="mail")
    namespace = desk.db.scalar("SELECT no FROM namespace WHERE name = 'mail'")
    assert downloads.due(desk.db, LATER, 10, namespace) == [desk.number(mail)]
    assert downloads.due(desk.db, LATER, 10, -1) == []


def test_queueing_twice_keeps_the_first(desk: Desk) -> None:
    number = desk.number(wanted(desk, "a", b"1"))
    fail(desk, number, at=LATER + 5)
    downloads.enqueue(desk.db, [number], priority=1)
    assert queued(desk) == 1
    assert downloads.due(desk.db, LATER, 10) == []
    assert downloads.due(desk.db, LATER + 5, 10) == [number]


def fail(desk: Desk, number: int, *, at: int = 0, is_counted: bool = True, is_final: bool = False) -> None:
    downloads.fail(
        desk.db,
        [number],
        error="why",
        next_attempt_at=at,
        is_counted=is_counted,
        is_final=is_final,
        max_retries=2,
    )


def test_failures_count_to_a_limit(desk: Desk) -> None:
    version = wanted(desk, "a", b"1")
    number = desk.number(version)
    for _ in range(5):
        fail(desk, number, is_counted=False)
    assert downloads.retries_of(desk.db, number) == 0
    assert desk.status(version) is SyncStatus.PENDING_DOWNLOAD, (
        "what the remote withholds is not the blob's fault"
    )
    for _ in range(2):
        fail(desk, number)
    assert desk.status(version) is SyncStatus.PENDING_DOWNLOAD
    fail(desk, number)
    assert desk.status(version) is SyncStatus.FAILED_DOWNLOAD
    assert downloads.retries_of(desk.db, number) == 3
    assert desk.db.scalar("SELECT last_error FROM download") == "why"


def test_what_does_not_verify_is_given_up_at_once(desk: Desk) -> None:
    version, other = wanted(desk, "a", b"1"), wanted(desk, "b", b"2")
    fail(desk, desk.number(version), is_final=True)
    assert desk.status(version) is SyncStatus.FAILED_DOWNLOAD
    assert desk.status(other) is SyncStatus.PENDING_DOWNLOAD


def test_missing_chunks_and_where_they_are(desk: Desk) -> None:
    one, two = wanted(desk, "a", b"one"), wanted(desk, "b", b"two")
    here = desk.put("c", b"here")
    numbers = [desk.number(version) for version in (one, two, here)]
    chunk_one, chunk_two = desk.chunk_number(one), desk.chunk_number(two)
    missing = downloads.missing_chunks(desk.db, numbers)
    assert missing == [MissingChunk(numbers[0], chunk_one, 3), MissingChunk(numbers[1], chunk_two, 3)]
    first, second = desk.send(b"one", b"two"), desk.send(b"two")
    unsent, _ = desk.pack(b"one")
    chunks.record_pack(desk.db, unsent, is_remote=False, has_file=False)
    places = downloads.remote_places(desk.db, [chunk_one, chunk_two])
    size = desk.db.scalar("SELECT size FROM pack WHERE no = ?", (first,))
    assert places[0] == RemotePlace(chunk_one, first, 0, 40, 19, size)
    assert {(p.chunk_no, p.pack_no, p.offset) for p in places[1:]} == {
        (chunk_two, first, 59),
        (chunk_two, second, 40),
    }
    assert downloads.packs_of_missing(desk.db, numbers[1]) == [first, second]
    assert downloads.packs_of_missing(desk.db, numbers[2]) == []
    scopes = downloads.scopes(desk.db, [chunk_one, chunk_two])
    assert set(scopes.values()) == {desk.keys.namespace_scope("notes")}
    assert set(scopes) == {chunk_one, chunk_two}


def test_what_has_come_is_stored_once_and_settles_the_version(desk: Desk) -> None:
    data = content(1, 9000)
    version = wanted(desk, "a", data)
    number, chunk = desk.number(version), desk.chunk_number(version)
    assert downloads.settle(desk.db, [number]) == [] and queued(desk) == 1
    before = desk.db.scalar("SELECT count(*) FROM payload")
    downloads.store_payloads(desk.db, [StoredChunk(chunk, data), StoredChunk(chunk, data)])
    assert desk.db.scalar("SELECT count(*) FROM payload") == before + 1
    assert downloads.settle(desk.db, [number]) == [number]
    assert desk.status(version) is SyncStatus.SYNCED and queued(desk) == 0
    assert desk.read(version) == data


def test_putting_the_wanted_bytes_here_settles_the_version(desk: Desk) -> None:
    version = wanted(desk, "a", b"1")
    desk.send(b"1")
    assert desk.put("a", b"1", replace=False) == version
    assert desk.status(version) is SyncStatus.SYNCED and queued(desk) == 0


def test_it_is_here_alone_where_no_pack_that_is_known_holds_it(desk: Desk) -> None:
    version = wanted(desk, "a", b"1")
    assert desk.put("a", b"1", replace=False) == version
    assert desk.status(version) is SyncStatus.PENDING_UPLOAD and queued(desk) == 0


def test_more_versions_than_one_statement_takes(desk: Desk) -> None:
    desk.db.execute("BEGIN")
    numbers = [desk.number(wanted(desk, f"{n:04}", b"%d" % n)) for n in range(1100)]
    desk.db.execute("COMMIT")
    assert len(downloads.missing_chunks(desk.db, numbers)) == 1100
    downloads.fail(desk.db, numbers, error="x", next_attempt_at=0, is_counted=True, is_final=True)
    assert (
        desk.db.scalar("SELECT count(*) FROM version WHERE status = ?", (SyncStatus.FAILED_DOWNLOAD,)) == 1100
    )
    desk.db.execute("UPDATE chunk SET payload_no = 1")
    assert downloads.settle(desk.db, numbers) == numbers and queued(desk) == 0


def test_names_of_versions(desk: Desk) -> None:
    one, two = desk.put("a", b"1"), desk.put("b", b"2", namespace="mail")
    numbers = [desk.number(two), desk.number(one)]
    assert downloads.blob_names(desk.db, numbers) == [("mail", "b"), ("notes", "a")]

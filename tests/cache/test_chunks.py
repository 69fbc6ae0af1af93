"""Where content lies, and that reading takes whichever place is right."""

import os
from pathlib import Path

import msgspec
import pytest

from syncagent.cache import chunks, outbox
from syncagent.cache.chunks import ChunkPlaces
from syncagent.cache.packfiles import pack_path
from syncagent.errors import CacheDamaged, SourceChanged

from .samples import Desk, content, flip

DATA = content(1, 5000)


def outside(desk: Desk, path: Path, chunk: int, offset: int) -> None:
    stat = path.stat()
    file = desk.db.execute(
        "INSERT INTO outside_file (root, path, size, mtime_ns, inode) VALUES (?, ?, ?, ?, ?)",
        (str(path.parent), path.name, stat.st_size, stat.st_mtime_ns, stat.st_ino),
    )
    desk.db.execute("INSERT INTO outside_chunk VALUES (?, ?, ?)", (chunk, file, offset))


def forget_payload(desk: Desk, chunk: int) -> None:
    desk.db.execute("UPDATE chunk SET payload_no = NULL WHERE no = ?", (chunk,))


def store_pack(desk: Desk, *contents: bytes, is_remote: bool = False) -> Path:
    record, data = desk.pack(*contents)
    path = pack_path(desk.packs, record.id)
    path.write_bytes(data)
    chunks.record_pack(desk.db, record, is_remote=is_remote, has_file=True)
    return path


def test_a_chunk_is_here_or_there(desk: Desk) -> None:
    number = desk.chunk_number(desk.put("a", DATA))
    assert chunks.is_here(desk.db, number) and not chunks.is_there(desk.db, number)
    desk.send(DATA)
    assert chunks.is_there(desk.db, number)
    forget_payload(desk, number)
    assert not chunks.is_here(desk.db, number)
    store_pack(desk, DATA)
    assert chunks.is_here(desk.db, number)


def test_a_chunk_in_several_packs_is_read_from_one_that_verifies(desk: Desk) -> None:
    number = desk.chunk_number(desk.put("a", DATA))
    forget_payload(desk, number)
    first, second = store_pack(desk, b"other", DATA), store_pack(desk, DATA, b"other")
    (place,) = chunks.places(desk.db, [number])
    assert [(pack.position, len(pack.record.chunks)) for pack in place.packs] == [(1, 2), (0, 2)]
    assert desk.source.read(place) == DATA
    flip(first, 100)
    assert desk.source.read(place) == DATA
    second.unlink()
    with pytest.raises(CacheDamaged):
        desk.source.read(place)


def test_a_payload_that_does_not_verify_gives_way_to_a_pack_file(desk: Desk) -> None:
    number = desk.chunk_number(desk.put("a", DATA))
    store_pack(desk, DATA)
    desk.db.execute("UPDATE payload SET bytes = zeroblob(length(bytes))")
    (place,) = chunks.places(desk.db, [number])
    assert desk.source.read(place) == DATA


def test_a_chunk_in_an_outside_file(desk: Desk, tmp_path: Path) -> None:
    number = desk.chunk_number(desk.put("a", DATA))
    forget_payload(desk, number)
    path = tmp_path / "a file"
    path.write_bytes(b"before" + DATA + b"after")
    outside(desk, path, number, 6)
    assert chunks.is_here(desk.db, number)
    (place,) = chunks.places(desk.db, [number])
    assert desk.source.read(place) == DATA
    os.utime(path, ns=(1, 1))
    with pytest.raises(SourceChanged):
        desk.source.read(place)
    path.unlink()
    with pytest.raises(SourceChanged):
        desk.source.read(place)


def test_an_outside_file_altered_under_its_old_stat_is_not_believed(desk: Desk, tmp_path: Path) -> None:
    number = desk.chunk_number(desk.put("a", DATA))
    forget_payload(desk, number)
    path = tmp_path / "a file"
    path.write_bytes(DATA)
    outside(desk, path, number, 0)
    before = path.stat()
    flip(path, 10)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(CacheDamaged):
        desk.source.read(chunks.places(desk.db, [number])[0])


def test_what_is_nowhere_is_said_to_be(desk: Desk) -> None:
    place = ChunkPlaces(1, desk.chunk_id(desk.keys.namespace_scope("notes"), DATA), bytes(16), len(DATA))
    with pytest.raises(CacheDamaged, match="not on this device"):
        desk.source.read(place)
    with pytest.raises(CacheDamaged):
        chunks.places(desk.db, [77])
    desk.send(DATA)
    with pytest.raises(CacheDamaged):  # a pack names it, and no version: its scope is not known
        chunks.places(desk.db, [1])


def test_places_come_in_the_order_asked_for_in_any_number(desk: Desk) -> None:
    desk.db.execute("BEGIN")
    numbers = [desk.chunk_number(desk.put(f"{n}", b"%d" % n)) for n in range(1200)]
    desk.db.execute("COMMIT")
    asked = numbers[::-1] + numbers[:3]
    assert [place.no for place in chunks.places(desk.db, asked)] == asked
    assert chunks.places(desk.db, []) == []


def test_a_pack_first_then_the_version_that_needs_it(desk: Desk) -> None:
    """A journal's packs are recorded before the versions that name their chunks."""
    desk.send(DATA)
    version = desk.put("a", DATA)
    assert chunks.is_there(desk.db, desk.chunk_number(version))
    assert desk.read(version) == DATA


def test_a_pack_known_before_gains_what_is_new(desk: Desk) -> None:
    record, _ = desk.pack(DATA, b"two")
    number = chunks.record_pack(desk.db, record, is_remote=False, has_file=True)
    assert chunks.record_pack(desk.db, record, is_remote=True, has_file=False, put_at_ms=5) == number
    assert chunks.record_pack(desk.db, record, is_remote=False, has_file=False, batch_seq=3) == number
    assert chunks.record_pack(desk.db, record, is_remote=False, has_file=False, batch_seq=4) == number
    row = desk.db.one("SELECT is_remote, has_file, put_at, batch_seq FROM pack")
    assert row == (1, 1, 5, 3), "nothing known is lost, and the batch that announced it stays"
    assert chunks.load_record(desk.db, number) == record
    with pytest.raises(CacheDamaged):
        chunks.load_record(desk.db, number + 1)


def test_a_false_record_of_a_pack_takes_the_place_of_no_other(desk: Desk) -> None:
    """It may be read after a pack was put, and before the batch is cut that is to name it."""
    record, _ = desk.pack(DATA, b"two")
    ours = chunks.record_pack(desk.db, record, is_remote=True, has_file=True, put_at_ms=5)
    for false in (
        msgspec.structs.replace(record, salt=bytes(32)),
        msgspec.structs.replace(record, chunks=record.chunks[::-1]),
    ):
        other = chunks.record_pack(desk.db, false, is_remote=True, has_file=False, batch_seq=0)
        assert other != ours and chunks.load_record(desk.db, other) == false
    assert outbox.unannounced_packs(desk.db, 9) == [(ours, record)]


def test_giving_up_a_chunk_here_keeps_the_others_of_its_pack_files(desk: Desk, tmp_path: Path) -> None:
    one, two = desk.put("a", DATA), desk.put("b", b"two")
    for version in (one, two):
        forget_payload(desk, desk.chunk_number(version))
    sent, unsent = store_pack(desk, DATA, is_remote=True), store_pack(desk, DATA, b"two")
    assert sent != unsent
    (tmp_path / "file").write_bytes(DATA)
    outside(desk, tmp_path / "file", desk.chunk_number(one), 0)
    chunks.forget_here(desk.db, desk.chunk_number(one))
    assert not chunks.is_here(desk.db, desk.chunk_number(one))
    assert desk.db.scalar("SELECT count(*) FROM outside_chunk") == 0
    assert desk.read(two) == b"two"


def test_heads_with_a_chunk(desk: Desk) -> None:
    one, two, three = desk.put("a", b"1"), desk.put("b", b"2"), desk.put("c", b"3")
    old = desk.put("d", b"4")
    desk.put("d", b"5")
    desk.send(b"1", b"2", b"4")
    desk.send(b"3")
    copy = desk.put("e", b"1")
    found = chunks.heads_with_chunk(desk.db, desk.chunk_number(one))
    assert sorted(found) == sorted([desk.number(one), desk.number(copy)])
    assert not {desk.number(two), desk.number(three), desk.number(old)} & set(found)
    assert chunks.heads_with_chunk(desk.db, desk.chunk_number(old)) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_batched(size: int) -> None:
    parts = list(chunks.batched(range(7), size))
    assert [value for part in parts for value in part] == list(range(7))
    assert all(len(part) == size for part in parts[:-1]) and 1 <= len(parts[-1]) <= size
    assert list(chunks.batched([], size)) == []

"""Pack files: whole under their name or not there, and byte for byte what is sent."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncagent.cache.packfiles import (
    PackFiles,
    pack_path,
    read_pack_file,
    store_pack_file,
)
from syncagent.crypto.chunk import digest_of
from syncagent.crypto.keys import RootSecret, VaultKeys
from syncagent.crypto.pack import ChunkCompressor, CompactChunk, PackOpener, check_pack, pack_id_of
from syncagent.errors import CacheDamaged, CacheFull, ConfigError
from syncagent.model import CHUNK_SIZE, ChunkId, PackId

from .samples import content

KEYS = VaultKeys(RootSecret(b"r" * 32))
PIECES = [content(number, CHUNK_SIZE) for number in range(9)]


def chunk_id(data: bytes) -> ChunkId:
    return KEYS.chunk_id(bytes(16), digest_of(data))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def compact(*pieces: bytes) -> list[CompactChunk]:
    compressor = ChunkCompressor()
    return [compressor.compact(chunk_id(piece), piece) for piece in pieces]


def test_a_pack_file_is_the_pack_that_its_record_describes(tmp_path: Path) -> None:
    with PackFiles(tmp_path, KEYS) as files:
        records = [files.write(compact(*PIECES[:8])), files.write(compact(PIECES[8], b"text " * 99))]
        files.keep()
    assert names(tmp_path) == sorted(record.id.hex() for record in records)
    opened: list[bytes] = []
    for record in records:
        data = pack_path(tmp_path, record.id).read_bytes()
        check_pack(record, data)
        assert pack_path(tmp_path, record.id).stat().st_mode & 0o777 == 0o600
        opener = PackOpener(KEYS, record)
        for position in range(len(record.chunks)):
            part = read_pack_file(tmp_path, PackId(record.id), opener.offset(position), opener.stop(position))
            opened.append(opener.open(position, part))
    assert opened == [*PIECES, b"text " * 99]
    assert records[0].salt != records[1].salt


def test_leaving_without_keep_removes_everything(tmp_path: Path) -> None:
    with pytest.raises(KeyError), PackFiles(tmp_path, KEYS) as files:
        files.write(compact(PIECES[0]))
        files.write(compact(PIECES[1]))
        assert len(names(tmp_path)) == 2
        raise KeyError
    assert names(tmp_path) == []


def test_kept_files_can_still_be_abandoned(tmp_path: Path) -> None:
    with PackFiles(tmp_path, KEYS) as files:
        files.write(compact(PIECES[0]))
        files.keep()
    files.abandon()
    assert names(tmp_path) == []


def test_a_thread_that_outlives_its_put_leaves_no_file(tmp_path: Path) -> None:
    files = PackFiles(tmp_path, KEYS)

    def chunks() -> Iterator[CompactChunk]:
        yield from compact(PIECES[0])
        files.abandon()
        assert names(tmp_path) == []
        yield from compact(PIECES[1])

    with pytest.raises(ConfigError):  # its temporary file is gone
        files.write(chunks())
    with pytest.raises(RuntimeError, match="abandoned"):
        files.write(compact(b"x"))
    assert names(tmp_path) == []


def test_a_name_appears_when_its_content_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        real_fsync(descriptor)
        synced.append(" ".join(names(tmp_path)))

    monkeypatch.setattr(os, "fsync", fsync)
    with PackFiles(tmp_path, KEYS) as files:
        record = files.write(compact(b"x"))
        files.keep()
    assert len(synced) == 2 and synced[0].endswith(".tmp") and synced[1] == record.id.hex()


def test_nothing_is_synced_where_nothing_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fsync")
    with PackFiles(tmp_path, KEYS) as files:
        files.keep()


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(CacheFull), PackFiles(tmp_path, KEYS) as files:
        files.write(compact(b"x"))
    with pytest.raises(CacheFull):
        store_pack_file(tmp_path, pack_id_of(b"data"), b"data")
    assert names(tmp_path) == []


def test_a_fetched_pack_is_kept_as_it_is(tmp_path: Path) -> None:
    for _ in range(2):
        store_pack_file(tmp_path, pack_id_of(b"data"), b"data")
    assert names(tmp_path) == [pack_id_of(b"data").hex()]
    assert read_pack_file(tmp_path, pack_id_of(b"data"), 1, 3) == b"at"
    assert read_pack_file(tmp_path, pack_id_of(b"data"), 2, 30) == b"ta"
    with pytest.raises(CacheDamaged):
        read_pack_file(tmp_path, pack_id_of(b"other"), 0, 1)

"""Pack files: whole under their name or not there, and byte for byte what is sent."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from syncagent import files
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
from tests.conftest import no_room

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
    with PackFiles(tmp_path, KEYS) as packs:
        records = [packs.write(compact(*PIECES[:8])), packs.write(compact(PIECES[8], b"text " * 99))]
        packs.keep()
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
    with pytest.raises(KeyError), PackFiles(tmp_path, KEYS) as packs:
        packs.write(compact(PIECES[0]))
        packs.write(compact(PIECES[1]))
        assert len(names(tmp_path)) == 2
        raise KeyError
    assert names(tmp_path) == []


def test_kept_files_can_still_be_abandoned(tmp_path: Path) -> None:
    with PackFiles(tmp_path, KEYS) as packs:
        packs.write(compact(PIECES[0]))
        packs.keep()
    packs.abandon()
    assert names(tmp_path) == []


def test_a_thread_that_outlives_its_put_leaves_no_file(tmp_path: Path) -> None:
    packs = PackFiles(tmp_path, KEYS)

    def chunks() -> Iterator[CompactChunk]:
        yield from compact(PIECES[0])
        packs.abandon()
        assert names(tmp_path) == []
        yield from compact(PIECES[1])

    with pytest.raises(ConfigError):  # its temporary file is gone
        packs.write(chunks())
    with pytest.raises(RuntimeError, match="abandoned"):
        packs.write(compact(b"x"))
    assert names(tmp_path) == []


def test_a_name_appears_when_its_content_is_durable(
    tmp_path: Path, observed: Callable[[files.Observer], None]
) -> None:
    synced: list[str] = []

    def note(step: files.Step) -> None:
        if step.is_done and step.act in (files.Act.SYNC, files.Act.SYNC_FOLDER):
            synced.append(" ".join(names(tmp_path)))

    observed(note)
    with PackFiles(tmp_path, KEYS) as packs:
        record = packs.write(compact(b"x"))
        packs.keep()
    assert len(synced) == 2 and synced[0].endswith(".tmp") and synced[1] == record.id.hex()


def test_nothing_is_synced_where_nothing_was_written(
    tmp_path: Path, observed: Callable[[files.Observer], None]
) -> None:
    steps: list[files.Step] = []
    observed(steps.append)
    with PackFiles(tmp_path, KEYS) as packs:
        packs.keep()
    assert steps == []


def test_a_full_disk_leaves_no_file(tmp_path: Path, observed: Callable[[files.Observer], None]) -> None:
    observed(no_room)
    with pytest.raises(CacheFull), PackFiles(tmp_path, KEYS) as packs:
        packs.write(compact(b"x"))
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

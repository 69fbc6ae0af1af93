"""Where each chunk's content lies, and the one way to read it.

A chunk may lie in a payload row, in pack files, in outside files, and in packs
at the remote, in several of them at once. `ChunkSource` reads whichever place
gives the right bytes; what it returns has always been verified by the chunk id.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import msgspec

from syncagent.cache.db import Database
from syncagent.cache.packfiles import read_pack_file
from syncagent.crypto.chunk import verify_chunk
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.pack import PackOpener
from syncagent.errors import CacheDamaged, OpenError, SourceChanged, SyncAgentError
from syncagent.model import PACK_HEADER, ChunkId, Codec, PackedChunk, PackId, PackRecord, Scope

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()

SQL_VARIABLES = 500
"""Ids in one statement: well under SQLite's limit, and the statement cache sees few shapes."""
_OPENERS = 16
"""Pack openers kept: a blob's packs are read one after another, a few blobs at a time."""

IS_HERE = (
    "(chunk.payload_no IS NOT NULL OR EXISTS (SELECT 1 FROM pack_chunk JOIN pack ON pack.no = pack_no"
    " WHERE chunk_no = chunk.no AND has_file AND NOT is_damaged)"
    " OR EXISTS (SELECT 1 FROM outside_chunk WHERE chunk_no = chunk.no))"
)
"""SQL: the row of `chunk` has its content on this device."""
IS_THERE = (
    "EXISTS (SELECT 1 FROM pack_chunk JOIN pack ON pack.no = pack_no WHERE chunk_no = chunk.no AND is_remote)"
)
"""SQL: the row of `chunk` has its content at the remote."""


@dataclass(frozen=True, slots=True)
class PackPlace:
    """A chunk in a pack file of this device: the chunk at `position` of `record`."""

    record: PackRecord
    position: int


@dataclass(frozen=True, slots=True)
class OutsidePlace:
    """A chunk in a file outside the cache, with the stat recorded when it was read."""

    path: Path
    offset: int
    size: int
    mtime_ns: int
    inode: int


@dataclass(frozen=True, slots=True)
class ChunkPlaces:
    """Everything needed to read one chunk on this device."""

    no: int
    id: ChunkId
    scope: bytes
    raw_length: int
    payload: bytes | None = field(default=None, repr=False)
    packs: tuple[PackPlace, ...] = ()
    outside: tuple[OutsidePlace, ...] = ()


def find_chunk(db: Database, chunk_id: bytes) -> int | None:
    """The number of a chunk, or None."""
    value = db.scalar("SELECT no FROM chunk WHERE id = ?", (chunk_id,))
    return None if value is None else int(value)


def find_chunks(db: Database, ids: Sequence[ChunkId]) -> dict[ChunkId, int]:
    """The numbers of those of these chunks that are known, here or not."""
    found: dict[ChunkId, int] = {}
    for part in batched(ids, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(f"SELECT id, no FROM chunk WHERE id IN ({marks})", part)  # noqa: S608 - marks
        found.update((ChunkId(row[0]), row[1]) for row in rows)
    return found


def chunk_no(db: Database, chunk_id: bytes, *, scope: bytes, raw_length: int) -> int:
    """The number of a chunk that a version names, made on first use."""
    row = db.one("SELECT no, scope, raw_length FROM chunk WHERE id = ?", (chunk_id,))
    if row is None:
        return db.execute(
            "INSERT INTO chunk (id, scope, raw_length) VALUES (?, ?, ?)", (chunk_id, scope, raw_length)
        )
    if row[1] is None or row[2] is None:
        db.execute("UPDATE chunk SET scope = ?, raw_length = ? WHERE no = ?", (scope, raw_length, row[0]))
    return int(row[0])


@dataclass(frozen=True, slots=True)
class NamedChunk:
    """What a version says of a chunk that it names."""

    scope: Scope
    raw_length: int


def chunk_numbers(db: Database, named: Mapping[ChunkId, NamedChunk]) -> dict[ChunkId, int]:
    """As `chunk_no`, for many chunks."""
    known = find_chunks(db, list(named))
    db.many(
        "UPDATE chunk SET scope = ?, raw_length = ? WHERE no = ? AND (scope IS NULL OR raw_length IS NULL)",
        [(named[id_].scope, named[id_].raw_length, number) for id_, number in known.items()],
    )
    new = [id_ for id_ in named if id_ not in known]
    if not new:
        return known
    db.many(
        "INSERT INTO chunk (id, scope, raw_length) VALUES (?, ?, ?)",
        [(id_, named[id_].scope, named[id_].raw_length) for id_ in new],
    )
    return known | find_chunks(db, new)


def own_chunk_no(db: Database, chunk_id: bytes, *, scope: bytes, raw_length: int) -> int:
    """As `chunk_no`, for content that was hashed on this device: what others said of the id is put right."""
    number = chunk_no(db, chunk_id, scope=scope, raw_length=raw_length)
    db.execute(
        "UPDATE chunk SET scope = ?, raw_length = ? WHERE no = ? AND (scope <> ? OR raw_length <> ?)",
        (scope, raw_length, number, scope, raw_length),
    )
    return number


def is_here(db: Database, chunk: int) -> bool:
    """Whether a chunk's content is on this device."""
    return bool(db.scalar(f"SELECT {IS_HERE} FROM chunk WHERE no = ?", (chunk,)))  # noqa: S608 - fixed text


def those_here(db: Database, chunks: Sequence[int]) -> set[int]:
    """Those of these chunks whose content is on this device."""
    found: set[int] = set()
    for part in batched(chunks, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(f"SELECT no FROM chunk WHERE no IN ({marks}) AND {IS_HERE}", part)  # noqa: S608 - marks
        found.update(row[0] for row in rows)
    return found


def is_there(db: Database, chunk: int) -> bool:
    """Whether a chunk's content is at the remote."""
    return bool(db.scalar(f"SELECT {IS_THERE} FROM chunk WHERE no = ?", (chunk,)))  # noqa: S608 - fixed text


def forget_here(db: Database, chunk: int) -> None:
    """Give up the places of a chunk on this device: none of them verifies.

    Only of this chunk: a pack file may still hold others, which stay readable. The payload row may lie
    on a damaged page, where it cannot be deleted; nothing refers to it now.
    """
    db.execute("UPDATE chunk SET payload_no = NULL WHERE no = ?", (chunk,))
    db.execute("DELETE FROM outside_chunk WHERE chunk_no = ?", (chunk,))
    db.execute("UPDATE pack_chunk SET is_damaged = 1 WHERE chunk_no = ?", (chunk,))


def chunks_of(db: Database, pack: int) -> list[int]:
    """Chunks that a pack holds."""
    return [row[0] for row in db.all("SELECT chunk_no FROM pack_chunk WHERE pack_no = ?", (pack,))]


def heads_with_chunk(db: Database, chunk: int) -> list[int]:
    """Head versions whose content has a chunk."""
    rows = db.all(
        "SELECT DISTINCT version_no FROM version_chunk JOIN version ON version.no = version_no"
        " WHERE chunk_no = ? AND status IS NOT NULL",
        (chunk,),
    )
    return [row[0] for row in rows]


def is_complete(db: Database, version_no: int) -> bool:
    """Whether all content of a version is on this device."""
    missing = db.scalar(
        f"SELECT 1 FROM version_chunk JOIN chunk ON chunk.no = chunk_no"  # noqa: S608 - fixed text
        f" WHERE version_no = ? AND NOT {IS_HERE} LIMIT 1",
        (version_no,),
    )
    return missing is None


def add_payload(db: Database, chunk: int, content: bytes) -> None:
    """Give a chunk its content as a row; an older row stays where it is if it cannot be deleted."""
    payload_no = db.execute("INSERT INTO payload (bytes) VALUES (?)", (content,))
    db.execute("UPDATE chunk SET payload_no = ? WHERE no = ?", (payload_no, chunk))


def record_pack(
    db: Database,
    record: PackRecord,
    *,
    is_remote: bool,
    has_file: bool,
    put_at_ms: int = 0,
    seen_at_ms: int = 0,
    batch_seq: int | None = None,
) -> int:
    """Remember a pack and its chunks, or what is newly known of one; its number.

    Records of one pack that differ stand side by side, as if they were of two: which of them is right shows
    when the pack is opened, and until then none may take the place of another.
    """
    sha256 = hashlib.sha256(_encoder.encode(record)).digest()
    known = db.one("SELECT no FROM pack WHERE id = ? AND record_sha256 = ?", (record.id, sha256))
    if known is not None:
        db.execute(
            "UPDATE pack SET is_remote = max(is_remote, ?), has_file = max(has_file, ?),"
            " put_at = max(put_at, ?), seen_at = max(seen_at, ?), batch_seq = coalesce(batch_seq, ?)"
            " WHERE no = ?",
            (is_remote, has_file, put_at_ms, seen_at_ms, batch_seq, known[0]),
        )
        if has_file:  # the file was just written
            db.execute("UPDATE pack_chunk SET is_damaged = 0 WHERE pack_no = ? AND is_damaged", (known[0],))
        return int(known[0])
    number = db.execute(
        "INSERT INTO pack"
        " (id, record_sha256, size, epoch, salt, is_remote, has_file, put_at, seen_at, batch_seq)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(record.id, sha256, record.size, record.epoch, record.salt),
            *(is_remote, has_file, put_at_ms, seen_at_ms, batch_seq),
        ),
    )
    ids = [ChunkId(chunk.id) for chunk in record.chunks]
    numbers = find_chunks(db, ids)
    if len(numbers) < len(ids):
        db.many(
            "INSERT OR IGNORE INTO chunk (id, raw_length) VALUES (?, ?)",
            [(chunk.id, chunk.raw_length) for chunk in record.chunks if chunk.id not in numbers],
        )
        numbers = find_chunks(db, ids)
    offsets = accumulate((chunk.stored_length for chunk in record.chunks), initial=PACK_HEADER)
    db.many(
        "INSERT INTO pack_chunk VALUES (?, ?, ?, ?, ?, ?, ?, 0)",
        [
            (
                number,
                position,
                numbers[ids[position]],
                offset,
                chunk.stored_length,
                chunk.raw_length,
                chunk.codec,
            )
            for position, (chunk, offset) in enumerate(zip(record.chunks, offsets, strict=False))
        ],
    )
    return number


def load_record(db: Database, pack: int) -> PackRecord:
    """The record of a known pack."""
    row = db.one("SELECT id, size, epoch, salt FROM pack WHERE no = ?", (pack,))
    if row is None:
        raise CacheDamaged("a pack the cache refers to is not in it")
    chunks = db.all(
        "SELECT chunk.id, stored_length, pack_chunk.raw_length, codec FROM pack_chunk"
        " JOIN chunk ON chunk.no = chunk_no WHERE pack_no = ? ORDER BY position",
        (pack,),
    )
    pack_id, size, epoch, salt = row
    packed = tuple(PackedChunk(i, stored, raw, Codec(codec)) for i, stored, raw, codec in chunks)
    return PackRecord(pack_id, size, epoch, salt, packed)


def places(db: Database, chunks: Sequence[int]) -> list[ChunkPlaces]:
    """Where these chunks lie on this device, in the order asked for.

    Raises:
        CacheDamaged: a chunk is not known, or no version names it.
    """
    found: dict[int, ChunkPlaces] = {}
    records: dict[int, PackRecord] = {}
    for part in batched(chunks, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        in_packs: dict[int, list[PackPlace]] = {}
        for chunk, pack, position in db.all(
            "SELECT chunk_no, pack_no, position FROM pack_chunk JOIN pack ON pack.no = pack_no"  # noqa: S608 - marks
            f" WHERE has_file AND NOT is_damaged AND chunk_no IN ({marks})",
            part,
        ):
            if pack not in records:
                records[pack] = load_record(db, pack)
            in_packs.setdefault(chunk, []).append(PackPlace(records[pack], position))
        outside: dict[int, list[OutsidePlace]] = {}
        for chunk, root, path, offset, size, mtime_ns, inode in db.all(
            "SELECT chunk_no, root, path, offset, size, mtime_ns, inode FROM outside_chunk"  # noqa: S608 - marks
            f" JOIN outside_file ON outside_file.no = file_no WHERE chunk_no IN ({marks})",
            part,
        ):
            place = OutsidePlace(Path(root, path), offset, size, mtime_ns, inode)
            outside.setdefault(chunk, []).append(place)
        payload_column, join = "payload.bytes", "LEFT JOIN payload ON payload.no = payload_no"
        if db.is_suspect:  # one damaged payload must hide neither the others nor the chunk's other places
            payload_column, join = "payload_no", ""
        for no, chunk_id, scope, raw_length, payload in db.all(
            f"SELECT chunk.no, id, scope, raw_length, {payload_column} FROM chunk {join}"  # noqa: S608 - marks
            f" WHERE chunk.no IN ({marks})",
            part,
        ):
            if db.is_suspect and payload is not None:
                payload = db.large_value("SELECT bytes FROM payload WHERE no = ?", (payload,))
            found[no] = ChunkPlaces(
                no,
                chunk_id,
                scope,
                raw_length,
                payload,
                tuple(in_packs.get(no, ())),
                tuple(outside.get(no, ())),
            )
    for number in chunks:
        if number not in found or found[number].scope is None or found[number].raw_length is None:
            raise CacheDamaged("a chunk the cache refers to is not in it")
    return [found[number] for number in chunks]


class ChunkSource:
    """Reads chunks of this device. For worker threads, one at a time (it keeps pack openers)."""

    def __init__(self, keys: VaultKeys, packs: Path) -> None:
        self._keys = keys
        self.packs = packs
        self._openers: OrderedDict[bytes, PackOpener] = OrderedDict()

    def read(self, chunk: ChunkPlaces) -> bytes:
        """The chunk's content, verified by its id.

        Raises:
            SourceChanged: it lay only in an outside file, which has changed since.
            CacheDamaged: no place on this device holds the right bytes.
        """
        problem: SyncAgentError | None = None
        for attempt in self._attempts(chunk):
            try:
                content = attempt()
                verify_chunk(self._keys, chunk.scope, chunk.id, content)
                return content
            except (OpenError, CacheDamaged, SourceChanged) as exc:
                problem = exc
        if isinstance(problem, SourceChanged):
            raise problem
        if problem is None:
            raise CacheDamaged("the content is not on this device")
        raise CacheDamaged(f"the content in the cache does not verify: {problem}") from problem

    def _attempts(self, chunk: ChunkPlaces) -> Iterator[Callable[[], bytes]]:
        payload = chunk.payload
        if payload is not None:
            yield lambda: payload
        for place in chunk.packs:
            yield partial(self._from_pack, place)
        for outside in chunk.outside:
            yield partial(_from_outside, outside, chunk.raw_length)

    def _from_pack(self, place: PackPlace) -> bytes:
        record = place.record
        opener = self._openers.get(record.id)
        if opener is None or opener.record != record:
            opener = self._openers[record.id] = PackOpener(self._keys, record)
            if len(self._openers) > _OPENERS:
                self._openers.popitem(last=False)
        start, stop = opener.offset(place.position), opener.stop(place.position)
        return opener.open(place.position, read_pack_file(self.packs, PackId(record.id), start, stop))


def _from_outside(place: OutsidePlace, length: int) -> bytes:
    try:
        with place.path.open("rb") as file:
            stat = os.fstat(file.fileno())
            if (stat.st_size, stat.st_mtime_ns, stat.st_ino) != (place.size, place.mtime_ns, place.inode):
                raise SourceChanged("a file has changed since it was stored")
            file.seek(place.offset)
            return file.read(length)
    except OSError as exc:
        raise SourceChanged(f"a file cannot be read any more: {exc.strerror}") from exc


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Slices of at most `size` values, in order (as `itertools.batched` of Python 3.12)."""
    part: list[T] = []
    for value in values:
        part.append(value)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part

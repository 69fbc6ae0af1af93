import hashlib
import os
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncagent.crypto import pack
from syncagent.crypto.chunk import digest_of
from syncagent.crypto.keys import VAULT_SCOPE, RootSecret, VaultKeys
from syncagent.crypto.pack import (
    PACK_MAX,
    PACK_MAX_CHUNKS,
    ChunkCompressor,
    CompactChunk,
    PackCutter,
    PackOpener,
    PackSealer,
    check_pack,
    pack_id_of,
    seal_pack,
)
from syncagent.crypto.sealed import padme
from syncagent.errors import LimitExceeded, OpenError, Tampered, TooNew, Truncated
from syncagent.model import CHUNK_SIZE, PACK_HEADER, ChunkId, Codec, PackRecord

KEYS = VaultKeys(RootSecret(bytes(range(32))))


def named(*raws: bytes) -> list[tuple[ChunkId, bytes]]:
    return [(KEYS.chunk_id(VAULT_SCOPE, digest_of(raw)), raw) for raw in raws]


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


def opened(data: bytes, record: PackRecord) -> list[bytes]:
    check_pack(record, data)
    opener = PackOpener(KEYS, record)
    view = memoryview(data)
    return [opener.open(at, view[opener.offset(at) : opener.stop(at)]) for at in range(len(record.chunks))]


ONE = seal_pack(KEYS, named(noise(40), b"text " * 60, noise(40, 1)))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=2000), st.integers(1, 40)), max_size=12))
def test_what_was_sealed_opens(parts: list[tuple[bytes, int]]) -> None:
    raws = [part * repeat for part, repeat in parts]
    sealed = seal_pack(KEYS, named(*raws))
    assert opened(sealed.data, sealed.record) == raws
    assert sealed.record.size == len(sealed.data) == padme(len(sealed.data))
    assert sealed.record.id == pack_id_of(sealed.data)


def test_a_full_chunk_is_stored_or_compressed_by_what_it_saves() -> None:
    """Chunk by chunk, where it helps (row C3)."""
    raws = [noise(CHUNK_SIZE), bytes(CHUNK_SIZE), noise(950) + bytes(50), noise(800) + bytes(200), b"a"]
    sealed = seal_pack(KEYS, named(*raws))
    codecs = [chunk.codec for chunk in sealed.record.chunks]
    assert codecs == [Codec.STORED, Codec.ZSTD, Codec.STORED, Codec.ZSTD, Codec.STORED]
    assert sealed.record.chunks[0].stored_length == CHUNK_SIZE + 16
    assert opened(sealed.data, sealed.record) == raws
    # What the sealer makes is within what a record may say.
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sealed.record), type=PackRecord) == sealed.record


def test_pieces_make_the_pack_in_order() -> None:
    sealer = PackSealer(KEYS)
    assert (sealer.size, sealer.count) == (0, 0)
    pieces = [sealer.header()]
    assert sealer.size == PACK_HEADER
    for chunk_id, raw in named(b"one", noise(500)):
        pieces.append(sealer.seal(chunk_id, memoryview(raw)))
        assert sealer.size == sum(map(len, pieces))
    assert sealer.count == 2
    pieces.append(sealer.finish())
    data = b"".join(pieces)
    record = sealer.record()
    assert record.id == hashlib.sha256(data).digest()
    assert sealer.record() == record
    assert opened(data, record) == [b"one", noise(500)]


def test_chunks_are_cut_into_packs_by_what_they_take_there() -> None:
    compressor, cutter = ChunkCompressor(), PackCutter()
    raws = [noise(CHUNK_SIZE, seed) for seed in range(9)] + [bytes(CHUNK_SIZE)] * 99
    packs: list[list[CompactChunk]] = []
    for chunk_id, raw in named(*raws):
        if pack := cutter.add(compressor.compact(chunk_id, raw)):
            packs.append(pack)
    packs.append(cutter.rest())
    assert [len(pack) for pack in packs] == [8, 100]
    assert cutter.rest() == []
    for pack in packs:
        sealer = PackSealer(KEYS)
        parts = [sealer.header(), *(sealer.seal_compact(chunk) for chunk in pack), sealer.finish()]
        assert opened(b"".join(parts), sealer.record()) == raws[: len(pack)]
        assert [chunk.stored_length for chunk in pack] == [c.stored_length for c in sealer.record().chunks]
        raws = raws[len(pack) :]


def test_no_pack_is_cut_with_more_chunks_than_it_may_hold() -> None:
    cutter = PackCutter()
    chunk = ChunkCompressor().compact(*named(b"x")[0])
    sizes = [len(cutter.add(chunk)) for _ in range(PACK_MAX_CHUNKS + 1)]
    assert sizes == [0] * (PACK_MAX_CHUNKS - 1) + [PACK_MAX_CHUNKS, 0]


def test_many_chunks_compacted_at_once_are_the_ones_compacted_one_by_one() -> None:
    chunks = named(noise(3000), b"text " * 60, noise(950) + bytes(50), b"a", noise(800) + bytes(200))
    compressor = ChunkCompressor()
    assert compressor.compact_many(chunks) == [compressor.compact(*chunk) for chunk in chunks]
    assert compressor.compact_many([]) == []


def test_a_sealer_makes_one_pack_in_one_order() -> None:
    (first,) = named(b"one")
    sealer = PackSealer(KEYS)
    with pytest.raises(RuntimeError):
        sealer.seal(*first)
    with pytest.raises(RuntimeError):
        sealer.finish()
    sealer.header()
    with pytest.raises(RuntimeError):
        sealer.header()
    sealer.seal(*first)
    with pytest.raises(RuntimeError):
        sealer.record()
    sealer.finish()
    for again in (sealer.header, lambda: sealer.seal(*first), sealer.finish):
        with pytest.raises(RuntimeError):
            again()


def test_no_nonce_is_used_again_after_a_failure() -> None:
    sealer = PackSealer(KEYS)
    sealer.header()
    with pytest.raises(TypeError):
        sealer.seal(ChunkId(bytes(32)), "x")  # type: ignore[arg-type]  # a bug of a caller
    with pytest.raises(RuntimeError):
        sealer.seal(*named(b"x")[0])
    with pytest.raises(RuntimeError):
        sealer.finish()


def test_no_two_packs_share_a_salt_or_a_padding() -> None:
    first, second = (seal_pack(KEYS, named(noise(1000))) for _ in range(2))
    assert first.record.salt != second.record.salt
    assert first.data[40:] != second.data[40:]
    end = 40 + first.record.chunks[0].stored_length
    assert first.data[end:] != bytes(len(first.data) - end)


def test_a_chunk_out_of_bounds_is_refused_and_the_sealer_goes_on() -> None:
    sealer = PackSealer(KEYS)
    pieces = [sealer.header()]
    for raw in (b"", bytes(CHUNK_SIZE + 1)):
        with pytest.raises(LimitExceeded):
            sealer.seal(ChunkId(bytes(32)), raw)
    pieces.append(sealer.seal(*named(b"x")[0]))
    pieces.append(sealer.finish())
    assert opened(b"".join(pieces), sealer.record()) == [b"x"]


def test_a_pack_never_exceeds_its_maximum() -> None:
    raw = noise(CHUNK_SIZE)
    (named_chunk,) = named(raw)
    sealer = PackSealer(KEYS)
    size = len(sealer.header())
    while sealer.fits(CHUNK_SIZE):
        size += len(sealer.seal(*named_chunk))
    assert sealer.count == 15
    rest = PACK_MAX - size - 16
    assert sealer.fits(rest)
    assert not sealer.fits(rest + 1)
    with pytest.raises(LimitExceeded):
        sealer.seal(*named_chunk)
    sealer.seal(ChunkId(bytes(32)), raw[:rest])
    sealer.finish()
    assert sealer.record().size == PACK_MAX


def test_a_pack_holds_at_most_4096_chunks() -> None:
    sealer = PackSealer(KEYS)
    sealer.header()
    (chunk,) = named(b"x")
    for _ in range(PACK_MAX_CHUNKS):
        assert sealer.fits(1)
        sealer.seal(*chunk)
    assert not sealer.fits(1)
    with pytest.raises(LimitExceeded):
        sealer.seal(*chunk)
    sealer.finish()
    record = sealer.record()
    PackOpener(KEYS, record)
    size = padme(PACK_HEADER + 17 * (PACK_MAX_CHUNKS + 1))
    too_many = msgspec.structs.replace(record, size=size, chunks=(*record.chunks, record.chunks[0]))
    with pytest.raises(Tampered):
        PackOpener(KEYS, too_many)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(0, len(ONE.data) - 1), st.integers(1, 255))
def test_another_byte_anywhere_is_named(offset: int, change: int) -> None:
    data = ONE.data[:offset] + bytes([ONE.data[offset] ^ change]) + ONE.data[offset + 1 :]
    with pytest.raises(Tampered):
        check_pack(ONE.record, data)
    opener = PackOpener(KEYS, ONE.record)
    for at in range(3):
        part = data[opener.offset(at) : opener.stop(at)]
        if opener.offset(at) <= offset < opener.stop(at):
            with pytest.raises(Tampered):
                opener.open(at, part)
        else:
            assert opener.open(at, part)
    # Under its own name it is another pack, whose header is checked.
    if offset < PACK_HEADER:
        with pytest.raises(TooNew if offset < 4 else Tampered):
            check_pack(msgspec.structs.replace(ONE.record, id=pack_id_of(data)), data)


@pytest.mark.parametrize("end", range(len(ONE.data)))
def test_a_pack_that_ends_early_is_truncated(end: int) -> None:
    with pytest.raises(Truncated):
        check_pack(ONE.record, ONE.data[:end])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(0, 2), st.binary(max_size=400))
def test_any_other_range_is_a_named_error(position: int, data: bytes) -> None:
    with pytest.raises(OpenError):
        PackOpener(KEYS, ONE.record).open(position, data)


def test_a_chunk_opens_only_where_it_was_sealed() -> None:
    """What a chunk is and where it lies are authenticated with it (row A8)."""
    opener = PackOpener(KEYS, ONE.record)
    first = ONE.data[opener.offset(0) : opener.stop(0)]
    with pytest.raises(Tampered):
        opener.open(2, first)
    with pytest.raises(Tampered):
        PackOpener(VaultKeys(RootSecret(os.urandom(32))), ONE.record).open(0, first)


def test_no_memory_is_spent_on_a_record_that_claims_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = msgspec.structs.replace(ONE.record.chunks[1], raw_length=CHUNK_SIZE + 1)
    record = msgspec.structs.replace(ONE.record, chunks=(ONE.record.chunks[0], chunk, ONE.record.chunks[2]))
    monkeypatch.setattr(pack, "decompress", None)
    opener = PackOpener(KEYS, record)
    with pytest.raises(Tampered):
        opener.open(1, ONE.data[opener.offset(1) : opener.stop(1)])

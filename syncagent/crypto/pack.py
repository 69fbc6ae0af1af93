"""Packs: sealed chunks back to back in one object, opened by the record that a batch carries.

Layout (`docs/format.md#packs`):

    offset  length  field
    0       4       magic "SAP1"
    4       4       epoch, u32
    8       32      salt
    40      …       sealed chunks in order, each with its 16-byte tag
    …       …       random bytes up to the Padmé length of the whole

There is no directory in a pack, so it shows neither the number nor the sizes
of its chunks. `PackRecord` has both and never leaves a device unsealed.
"""

import enum
import hashlib
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from syncagent.crypto.frame import Bytes, decompress
from syncagent.crypto.keys import VaultKeys, check_epoch
from syncagent.crypto.sealed import padme
from syncagent.errors import LimitExceeded, Tampered, TooNew, Truncated
from syncagent.model import CHUNK_SIZE, PACK_HEADER, TAG_SIZE, ChunkId, Codec, PackedChunk, PackId, PackRecord

PACK_TARGET = 8 << 20
"""Size at which a pack is closed: large enough for one request to carry much, small enough to repeat."""
PACK_MAX = 16 << 20
PACK_MAX_CHUNKS = 4096

_MAGIC = b"SAP1"
_HEADER = struct.Struct(">4sI32s")
_CHUNK_AAD = struct.Struct(">IB")


@dataclass(frozen=True, slots=True)
class SealedPack:
    """A whole pack in memory, with the record that opens it."""

    data: bytes = field(repr=False)
    record: PackRecord


@dataclass(frozen=True, slots=True)
class CompactChunk:
    """A chunk as it goes under the seal: compressed where that saves a tenth, else as it is."""

    id: ChunkId
    raw_length: int
    codec: Codec
    body: Bytes = field(repr=False)

    @property
    def stored_length(self) -> int:
        """Bytes it takes in a pack."""
        return len(self.body) + TAG_SIZE


class ChunkCompressor:
    """Compresses chunks where it is worth it. For one thread at a time, as zstandard's objects are."""

    __slots__ = ("_zstd",)

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdCompressor(level=1, write_content_size=True)

    def compact(self, chunk_id: ChunkId, raw: Bytes) -> CompactChunk:
        """The chunk as it is to be sealed. What does not compress costs little: zstd skips over it."""
        return _shorter(chunk_id, raw, self._zstd.compress(raw))

    def compact_many(self, chunks: Sequence[tuple[ChunkId, bytes]]) -> list[CompactChunk]:
        """The same for small chunks, at most a few MiB of them, in one call of the library.

        A call for each gives the interpreter away and takes it back; with other threads at work that costs
        more than compressing a few KiB does.
        """
        if not chunks:
            return []
        frames = self._zstd.multi_compress_to_buffer([raw for _, raw in chunks])
        return [_shorter(*chunk, frames[at].tobytes()) for at, chunk in enumerate(chunks)]


def _shorter(chunk_id: ChunkId, raw: Bytes, frame: bytes) -> CompactChunk:
    if len(frame) * 10 <= len(raw) * 9:
        return CompactChunk(chunk_id, len(raw), Codec.ZSTD, frame)
    return CompactChunk(chunk_id, len(raw), Codec.STORED, raw)


class PackCutter:
    """Cuts a sequence of chunks into what goes into one pack each."""

    __slots__ = ("_pack", "_size")

    def __init__(self) -> None:
        self._pack: list[CompactChunk] = []
        self._size = PACK_HEADER

    def add(self, chunk: CompactChunk) -> list[CompactChunk]:
        """The chunks of a pack that is full with this one, else none."""
        self._pack.append(chunk)
        self._size += chunk.stored_length
        return self.rest() if self._size >= PACK_TARGET or len(self._pack) == PACK_MAX_CHUNKS else []

    def rest(self) -> list[CompactChunk]:
        """What has been added since the last full pack; the next chunk begins a new one."""
        pack = self._pack
        self._pack, self._size = [], PACK_HEADER
        return pack


class PackSealer:
    """Makes one pack piece by piece: `header()`, `seal()` per chunk, `finish()`, then `record()`.

    Every call gives bytes to append to the pack; the sealer keeps none of them.
    The salt is drawn here and the nonce is the chunk's position, so no pair of
    key and nonce occurs twice (NIST SP 800-38D, section 8.2.1): which is why a
    sealer makes one pack, in this order, and is of no use after an error.
    For one thread at a time: zstandard's objects are not thread-safe.
    """

    __slots__ = ("_aead", "_chunks", "_compressor", "_epoch", "_salt", "_sha", "_size", "_state")

    def __init__(self, keys: VaultKeys) -> None:
        self._epoch = keys.epoch
        self._salt = os.urandom(32)
        self._aead = AESGCM(keys.pack_key(self._salt))
        self._compressor = ChunkCompressor()
        self._sha = hashlib.sha256()
        self._size = 0
        self._chunks: list[PackedChunk] = []
        self._state = _State.NEW

    @property
    def size(self) -> int:
        """Bytes handed out so far."""
        return self._size

    @property
    def count(self) -> int:
        """Chunks sealed so far."""
        return len(self._chunks)

    def fits(self, raw_length: int) -> bool:
        """Whether a chunk of this length can still be sealed, compressible or not."""
        worst = max(self._size, PACK_HEADER) + raw_length + TAG_SIZE
        return worst <= PACK_MAX and len(self._chunks) < PACK_MAX_CHUNKS

    def header(self) -> bytes:
        """The first 40 bytes of the pack."""
        self._enter(_State.NEW)
        return self._leave(_HEADER.pack(_MAGIC, self._epoch, self._salt), _State.OPEN)

    def seal(self, chunk_id: ChunkId, raw: Bytes) -> bytes:
        """The sealed chunk, compressed when that saves at least a tenth.

        Raises:
            LimitExceeded: the chunk is empty, over 1 MiB, or does not fit. The sealer stays usable.
        """
        self._begin_chunk(len(raw), len(raw))
        return self._seal(self._compressor.compact(chunk_id, raw))

    def seal_compact(self, chunk: CompactChunk) -> bytes:
        """As `seal`, for a chunk that was compacted before."""
        self._begin_chunk(chunk.raw_length, len(chunk.body))
        return self._seal(chunk)

    def finish(self) -> bytes:
        """The padding, random so that its length does not show. Nothing can be sealed after it."""
        self._enter(_State.OPEN)
        # PACK_MAX is a power of two, hence its own Padmé length: padding never exceeds it.
        return self._leave(os.urandom(padme(self._size) - self._size), _State.FINISHED)

    def record(self) -> PackRecord:
        """What opens the finished pack; its id is the SHA-256 of everything handed out."""
        if self._state is not _State.FINISHED:
            raise RuntimeError("a pack has a record once it is finished")
        return PackRecord(self._sha.digest(), self._size, self._epoch, self._salt, tuple(self._chunks))

    def _begin_chunk(self, raw_length: int, body_length: int) -> None:
        if not 1 <= raw_length <= CHUNK_SIZE or not self.fits(body_length):
            raise LimitExceeded(
                f"a chunk of {raw_length} bytes does not fit into a pack of {self._size} bytes"
            )
        self._enter(_State.OPEN)

    def _seal(self, chunk: CompactChunk) -> bytes:
        sealed = self._aead.encrypt(
            _nonce(len(self._chunks)), chunk.body, chunk.id + _CHUNK_AAD.pack(chunk.raw_length, chunk.codec)
        )
        self._chunks.append(PackedChunk(chunk.id, len(sealed), chunk.raw_length, chunk.codec))
        return self._leave(sealed, _State.OPEN)

    def _enter(self, expected: "_State") -> None:
        # Left again only on success: a second thread or a call after a failure cannot repeat a nonce.
        if self._state is not expected:
            raise RuntimeError(f"this sealer is {self._state.name.lower()}, not {expected.name.lower()}")
        self._state = _State.BUSY

    def _leave(self, output: bytes, state: "_State") -> bytes:
        self._sha.update(output)
        self._size += len(output)
        self._state = state
        return output


class PackOpener:
    """Opens chunks of one pack, in any order, from the pack's bytes or from ranges of it.

    For one thread at a time, like `PackSealer`.

    Raises:
        TooNew: the record's epoch is unknown.
        Tampered: the record's sizes do not add up.
    """

    __slots__ = ("_aead", "_decompressor", "_offsets", "record")

    def __init__(self, keys: VaultKeys, record: PackRecord) -> None:
        self.record = record
        self._offsets = _offsets(record)
        self._aead = AESGCM(keys.pack_key(record.salt))
        self._decompressor = zstandard.ZstdDecompressor()

    def offset(self, position: int) -> int:
        """Where the chunk at `position` begins in the pack."""
        return self._offsets[position]

    def stop(self, position: int) -> int:
        """Where it ends, exclusive."""
        return self._offsets[position + 1]

    def open(self, position: int, sealed: Bytes) -> bytes:
        """The content of the chunk at `position`: exactly what was sealed there under that chunk id.

        That the id fits the content is for `chunk.verify_chunk`, which needs the version's scope.

        Args:
            position: the chunk's index in the record.
            sealed: bytes `offset(position)` to `stop(position)` of the pack.

        Raises:
            Truncated: `sealed` is shorter than the record says.
            Tampered: it is longer, altered, or from another place; or it does not decompress to its length.
            TooNew: the record names an unknown codec.
        """
        chunk = self.record.chunks[position]
        where = f"chunk {position} of pack {self.record.id.hex()}"
        if len(sealed) < chunk.stored_length:
            raise Truncated(f"{where} ends after {len(sealed)} of {chunk.stored_length} bytes")
        if not 1 <= chunk.raw_length <= CHUNK_SIZE:
            raise Tampered(f"{where} claims {chunk.raw_length} bytes of content")
        aad = chunk.id + _CHUNK_AAD.pack(chunk.raw_length, chunk.codec)
        try:
            content = self._aead.decrypt(_nonce(position), sealed, aad)
        except InvalidTag as exc:
            raise Tampered(f"{where} does not open: altered, moved, or of another vault") from exc
        if chunk.codec == Codec.ZSTD:
            content = decompress(self._decompressor, content, chunk.raw_length)
        elif chunk.codec != Codec.STORED:
            raise TooNew(f"{where} has an unknown codec: made by a newer syncagent, or altered")
        if len(content) != chunk.raw_length:
            raise Tampered(f"{where} holds {len(content)} bytes, not {chunk.raw_length}")
        return content


def seal_pack(keys: VaultKeys, chunks: Iterable[tuple[ChunkId, bytes]]) -> SealedPack:
    """One pack of these chunks, in memory. `LimitExceeded` when they do not fit into one."""
    sealer = PackSealer(keys)
    parts = [sealer.header()]
    parts += [sealer.seal(chunk_id, raw) for chunk_id, raw in chunks]
    parts.append(sealer.finish())
    return SealedPack(b"".join(parts), sealer.record())


def check_pack(record: PackRecord, data: Bytes) -> None:
    """Nothing, or why `data` is not the pack that `record` describes. Opens no chunk and needs no key.

    Raises:
        Truncated: shorter than the record says.
        Tampered: another SHA-256, epoch or salt; or the record's sizes do not add up.
        TooNew: the record has an unknown epoch, or the pack it describes an unknown magic.
    """
    name = f"pack {record.id.hex()}"
    _offsets(record)
    if len(data) < record.size:
        raise Truncated(f"{name} ends after {len(data)} of {record.size} bytes")
    if hashlib.sha256(data).digest() != record.id:
        raise Tampered(f"{name} holds other bytes than its name says")
    magic, epoch, salt = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise TooNew(f"{name} has an unknown layout: made by a newer syncagent, or altered")
    if epoch != record.epoch or salt != record.salt:
        raise Tampered(f"{name} has another epoch or salt than its record")


def pack_id_of(data: Bytes) -> PackId:
    """The id, and so the name, of a pack with these bytes."""
    return PackId(hashlib.sha256(data).digest())


class _State(enum.Enum):
    NEW = enum.auto()
    OPEN = enum.auto()
    BUSY = enum.auto()
    FINISHED = enum.auto()


def _offsets(record: PackRecord) -> list[int]:
    """Where each chunk begins, and where the last one ends."""
    check_epoch(record.epoch)
    offsets = list(accumulate((chunk.stored_length for chunk in record.chunks), initial=PACK_HEADER))
    if record.size != padme(offsets[-1]) or record.size > PACK_MAX or len(record.chunks) > PACK_MAX_CHUNKS:
        raise Tampered(f"the record of pack {record.id.hex()} does not add up")
    return offsets


def _nonce(position: int) -> bytes:
    """The position as u96: unique per key, because a key belongs to one pack and a position to one chunk."""
    return position.to_bytes(12, "big")

"""Chunks: digests and ids of content cut at fixed offsets of 1 MiB.

Fixed offsets, because cut points that follow the content would show which
file it is. See `docs/format.md#chunks`.
"""

import hashlib
import hmac
from collections.abc import Iterable

from syncagent.crypto.frame import Bytes
from syncagent.crypto.keys import VaultKeys
from syncagent.errors import Tampered
from syncagent.model import CHUNK_SIZE, ChunkId


def digest_of(raw: Bytes) -> bytes:
    """SHA-256 of a chunk's plaintext."""
    return hashlib.sha256(raw).digest()


def content_digest(digests: Iterable[bytes]) -> bytes:
    """SHA-256 of the chunk digests in order; of nothing, for empty content."""
    return hashlib.sha256(b"".join(digests)).digest()


def chunk_count(size: int) -> int:
    """How many chunks content of `size` bytes has: none for empty content."""
    return -(-size // CHUNK_SIZE)


def verify_chunk(keys: VaultKeys, scope: bytes, chunk_id: ChunkId, raw: Bytes) -> None:
    """Nothing, or `Tampered` where `raw` is not the content that `chunk_id` names within `scope`."""
    if not hmac.compare_digest(keys.chunk_id(scope, digest_of(raw)), chunk_id):
        raise Tampered(f"chunk {chunk_id.hex()} holds other bytes than its id says")

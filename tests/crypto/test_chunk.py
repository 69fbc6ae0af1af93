import hashlib

import pytest

from syncagent.crypto.chunk import chunk_count, content_digest, digest_of, verify_chunk
from syncagent.crypto.keys import VAULT_SCOPE, RootSecret, VaultKeys, random_scope
from syncagent.errors import Tampered
from syncagent.model import CHUNK_SIZE, ChunkId

KEYS = VaultKeys(RootSecret(bytes(range(32))))


@pytest.mark.parametrize(
    ("size", "count"),
    [(0, 0), (1, 1), (CHUNK_SIZE, 1), (CHUNK_SIZE + 1, 2), (64 << 30, 65536)],
)
def test_content_is_cut_at_each_mebibyte(size: int, count: int) -> None:
    assert chunk_count(size) == count


def test_the_content_digest_is_over_digests_in_order() -> None:
    first, second = digest_of(b"first"), digest_of(memoryview(b"second"))
    assert content_digest([first, second]) == hashlib.sha256(first + second).digest()
    assert content_digest(iter([second, first])) != content_digest([first, second])
    assert content_digest([]) == hashlib.sha256(b"").digest()


def test_a_chunk_is_verified_within_its_scope() -> None:
    """An id is checked against the content (row C2)."""
    chunk_id = KEYS.chunk_id(VAULT_SCOPE, digest_of(b"content"))
    verify_chunk(KEYS, VAULT_SCOPE, chunk_id, b"content")
    verify_chunk(KEYS, VAULT_SCOPE, chunk_id, memoryview(b"content"))
    for scope, wrong_id, raw in (
        (VAULT_SCOPE, chunk_id, b"Content"),
        (VAULT_SCOPE, chunk_id, b""),
        (random_scope(), chunk_id, b"content"),
        (VAULT_SCOPE, ChunkId(digest_of(b"content")), b"content"),
        (VAULT_SCOPE, ChunkId(chunk_id[:31]), b"content"),
    ):
        with pytest.raises(Tampered):
            verify_chunk(KEYS, scope, wrong_id, raw)

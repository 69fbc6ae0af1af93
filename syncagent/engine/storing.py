"""Content of a put comes to lie in the cache, in a transaction with the version that names it."""

import os
from dataclasses import dataclass, field

from syncagent.cache import chunks
from syncagent.cache.chunks import ChunkSource
from syncagent.cache.db import Database
from syncagent.cache.packfiles import pack_path
from syncagent.crypto.chunk import chunk_count, content_digest
from syncagent.crypto.keys import VaultKeys
from syncagent.errors import CacheDamaged, ConfigError, SourceChanged
from syncagent.model import CHUNK_SIZE, ChunkId, PackRecord, Scope, Version


@dataclass(frozen=True, slots=True)
class NewContent:
    """Content ready to be stored: small content itself, or the pack files it was sealed into."""

    size: int
    content_digest: bytes
    scope: Scope
    chunks: tuple[ChunkId, ...]
    digests: tuple[bytes, ...]
    """Of the chunks, in order: from them follow their ids in any scope."""
    payload: bytes | None = field(default=None, repr=False)
    packs: tuple[PackRecord, ...] = ()
    spare: tuple[PackRecord, ...] = ()
    """Packs of what was here already, for those that are not here any more when it is stored."""

    def is_named_by(self, version: Version, keys: VaultKeys) -> bool:
        """Whether a version names just these bytes.

        Its chunks count: its digest is what its writer says, and a faulty device may say that of other bytes.
        """
        if (self.size, self.content_digest) != (version.size, version.content_digest):
            return False
        scope = Scope(version.scope)
        return version.content == tuple(keys.chunk_id(scope, digest) for digest in self.digests)


class ContentDropped(SourceChanged):
    """What was not sealed anew, for it was here, is not here any more."""


def small_content(keys: VaultKeys, scope: Scope | None, data: bytes, digest: bytes) -> NewContent:
    """Content of at most one chunk that goes into a row, in a scope or one of its own.

    `digest` is the SHA-256 of `data`.
    """
    scope = random_scope() if scope is None else scope
    if not data:
        return NewContent(0, content_digest(()), scope, (), ())
    return NewContent(
        *(len(data), content_digest((digest,)), scope),
        *((keys.chunk_id(scope, digest),), (digest,)),
        payload=data,
    )


def random_scope() -> Scope:
    """A dedup scope that nothing else has."""
    return Scope(os.urandom(16))


def store_content(db: Database, content: NewContent, *, keys: VaultKeys, source: ChunkSource) -> list[int]:
    """Make content readable on this device; the numbers of its chunks in order.

    Raises:
        ContentDropped: a part that was not sealed anew, for it was here, is not here any more.
        SourceChanged: the files are gone.
    """
    records = [*content.packs, *(record for record in content.spare if not _are_here(db, record))]
    for record in records:
        if not pack_path(source.packs, record.id).exists():
            # Swept meanwhile: a put may take no longer than a day from its first file to here.
            raise SourceChanged("what was stored of the content is gone from the disk", todo="put it again")
        chunks.record_pack(db, record, is_remote=False, has_file=True)
    numbers = [
        chunks.own_chunk_no(
            db,
            chunk_id,
            scope=content.scope,
            raw_length=min(CHUNK_SIZE, content.size - position * CHUNK_SIZE),
        )
        for position, chunk_id in enumerate(content.chunks)
    ]
    assert len(numbers) == chunk_count(content.size)
    if content.payload is not None:
        if not _is_readable(db, numbers[0], source):
            chunks.add_payload(db, numbers[0], content.payload)
        return numbers
    sealed = {chunk.id for record in records for chunk in record.chunks}
    for number, chunk_id in zip(numbers, content.chunks, strict=True):
        if chunk_id not in sealed and not chunks.is_here(db, number):
            # It was, when the rest was sealed: a blob that shared it has been replaced and folded since.
            raise ContentDropped(
                "content that was here already has been dropped meanwhile", todo="put it again"
            )
    return numbers


def _are_here(db: Database, record: PackRecord) -> bool:
    numbers = chunks.find_chunks(db, [ChunkId(chunk.id) for chunk in record.chunks])
    return len(numbers) == len(record.chunks) == len(chunks.those_here(db, list(numbers.values())))


def _is_readable(db: Database, chunk: int, source: ChunkSource) -> bool:
    """Whether a chunk is here and verifies: a put must not be acknowledged on damaged bytes."""
    if not chunks.is_here(db, chunk):
        return False
    try:
        source.read(chunks.places(db, [chunk])[0])
    except (CacheDamaged, ConfigError, SourceChanged):
        return False
    return True

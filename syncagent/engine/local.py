"""Changes made on this device: put and delete, each one operation of the cache.

Everything here runs in a transaction on the cache thread; a put is durable when
that transaction is.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from syncagent.cache import blobs, chunks, downloads, facts, meta, outbox
from syncagent.cache.blobs import HeadRow
from syncagent.cache.chunks import ChunkSource, batched
from syncagent.cache.db import Database
from syncagent.cache.status import Event, after
from syncagent.crypto.chunk import chunk_count, content_digest
from syncagent.crypto.keys import VaultKeys
from syncagent.engine.heads import add_version
from syncagent.errors import BlobExists, BlobNotFound, CacheDamaged, SourceChanged
from syncagent.journal.batch import FlagsChange, encode_change
from syncagent.journal.clock import tick
from syncagent.model import (
    CHUNK_SIZE,
    ChunkId,
    Hlc,
    Metadata,
    PackRecord,
    Parent,
    Scope,
    SyncStatus,
    Version,
)

_TAGS_A_CHANGE = 10_000
"""Some 90 KiB of msgpack: a change must fit in a batch."""


@dataclass(frozen=True, slots=True)
class NewContent:
    """Content ready to be stored: small content itself, or the pack files it was sealed into."""

    size: int
    content_digest: bytes
    scope: Scope
    chunks: tuple[ChunkId, ...]
    payload: bytes | None = field(default=None, repr=False)
    packs: tuple[PackRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Put:
    """What a caller wants stored under a name; the metadata is checked already."""

    namespace: str
    blob_id: str
    metadata: Metadata
    replace: bool
    priority: int = outbox.DEFAULT_PRIORITY


def small_content(keys: VaultKeys, scope: Scope, data: bytes, digest: bytes) -> NewContent:
    """Content of at most one chunk that goes into a row. `digest` is the SHA-256 of `data`."""
    if not data:
        return NewContent(0, content_digest(()), scope, ())
    return NewContent(
        len(data), content_digest((digest,)), scope, (keys.chunk_id(scope, digest),), payload=data
    )


def scope_of(db: Database, keys: VaultKeys, namespace: str, blob_id: str) -> Scope:
    """The dedup scope a put under this name uses: that of the blob's head, else the namespace's."""
    number = blobs.find_namespace(db, namespace)
    row = None if number is None else blobs.find_blob(db, number, blob_id)
    if row is not None and row.winner_no is not None:
        try:
            return Scope(blobs.load_version(db, row.winner_no).scope)
        except CacheDamaged:  # a damaged head must not keep anyone from replacing it
            pass
    return keys.namespace_scope(namespace)


def record_put(
    db: Database,
    put: Put,
    content_in: Callable[[Scope], NewContent],
    *,
    now_ms: int,
    keys: VaultKeys,
    source: ChunkSource,
) -> Version:
    """Store a blob; the version that now wins under its name.

    Args:
        db: the cache, in a transaction.
        put: the name, metadata and how to treat what is there.
        content_in: gives the content for a dedup scope; large content is sealed for one beforehand.
        now_ms: Unix time in milliseconds.
        keys: the vault's keys.
        source: reads chunks that are here already, to prove them before relying on them.

    Raises:
        BlobExists: the name holds other bytes or metadata and `put.replace` is not set.
    """
    number = blobs.namespace_no(db, put.namespace)
    row = blobs.find_blob(db, number, put.blob_id)
    heads = blobs.heads(db, row.no) if row is not None else []
    winner = None
    if row is not None and row.winner_no is not None:
        try:
            winner = blobs.load_version(db, row.winner_no)
        except CacheDamaged:
            if not put.replace:
                raise
    scope = keys.namespace_scope(put.namespace) if winner is None else Scope(winner.scope)
    content = content_in(scope)
    if winner is not None and not winner.deleted and row is not None and row.winner_no is not None:
        if winner.content_digest == content.content_digest and _same(winner.metadata, put.metadata):
            store_content(db, content, keys=keys, source=source)
            downloads.settle(db, [row.winner_no])
            return winner
        if not put.replace:
            raise BlobExists(f"{put.namespace}/{put.blob_id!r} holds other content")
    version = Version(
        id=os.urandom(16),
        hlc=_next_hlc(db, now_ms),
        namespace=put.namespace,
        blob_id=put.blob_id,
        parents=_parents(heads),
        deleted=False,
        size=content.size,
        created_at=now_ms if winner is None or winner.deleted else winner.created_at,
        metadata=dict(put.metadata),
        scope=content.scope,
        content=content.chunks,
        content_digest=content.content_digest,
    )
    numbers = store_content(db, content, keys=keys, source=source)
    _publish_later(db, version, numbers, put.priority)
    return version


def record_delete(db: Database, namespace: str, blob_id: str, *, now_ms: int, keys: VaultKeys) -> Version:
    """Store a tombstone over every head of a blob.

    Raises:
        BlobNotFound: there is no live blob of this name here.
    """
    number = blobs.find_namespace(db, namespace)
    row = None if number is None else blobs.find_blob(db, number, blob_id)
    if row is None or row.winner_no is None or row.is_deleted:
        raise BlobNotFound(f"{namespace}/{blob_id!r} is not on this device")
    version = Version(
        id=os.urandom(16),
        hlc=_next_hlc(db, now_ms),
        namespace=namespace,
        blob_id=blob_id,
        parents=_parents(blobs.heads(db, row.no)),
        deleted=True,
        size=0,
        created_at=now_ms,
        metadata={},
        scope=scope_of(db, keys, namespace, blob_id),
        content=(),
        content_digest=content_digest(()),
    )
    _publish_later(db, version, [], outbox.DEFAULT_PRIORITY)
    seen = facts.flag_tags(db, row.no)
    if seen:  # a delete removes the flag tags it sees, so that a blob made anew begins without them
        tags = tuple(tag for _, tag in seen)
        facts.add_flags(db, row.no, (), tags)
        for part in batched(tags, _TAGS_A_CHANGE):
            change = FlagsChange(namespace, blob_id, add=(), remove=tuple(part))
            outbox.enqueue_change(db, encode_change(change))
    return version


def store_content(db: Database, content: NewContent, *, keys: VaultKeys, source: ChunkSource) -> list[int]:
    """Make content readable on this device; the numbers of its chunks in order.

    Raises:
        SourceChanged: a part that was not sealed anew, for it was here, is not here any more.
    """
    for record in content.packs:
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
    sealed = {chunk.id for record in content.packs for chunk in record.chunks}
    for number, chunk_id in zip(numbers, content.chunks, strict=True):
        if chunk_id not in sealed and not chunks.is_here(db, number):
            # It was, when the rest was sealed: a blob that shared it has been replaced and folded since.
            raise SourceChanged(
                "content that was here already has been dropped meanwhile", todo="put it again"
            )
    return numbers


def _is_readable(db: Database, chunk: int, source: ChunkSource) -> bool:
    """Whether a chunk is here and verifies: a put must not be acknowledged on damaged bytes."""
    if not chunks.is_here(db, chunk):
        return False
    try:
        source.read(chunks.places(db, [chunk])[0])
    except (CacheDamaged, SourceChanged):
        return False
    return True


def _publish_later(db: Database, version: Version, numbers: list[int], priority: int) -> None:
    status = after(None, Event.PUT)
    assert status is SyncStatus.PENDING_UPLOAD
    # Read here and not kept: another process may have given this device a new id.
    device = meta.device_id(db)
    added = add_version(db, version, device=device, seq=0, status=status, chunks=numbers)
    outbox.enqueue_version(db, added.version_no, priority=priority)


def _next_hlc(db: Database, now_ms: int) -> Hlc:
    value = tick(meta.hlc(db), now_ms)
    meta.put(db, meta.HLC, value)
    return value


def _parents(heads: list[HeadRow]) -> tuple[Parent, ...]:
    return tuple(Parent(head.id, head.device, head.seq) for head in sorted(heads, key=lambda head: head.id))


def _same(a: Metadata, b: Metadata) -> bool:
    # Packed, because 1, 1.0 and True are equal in Python and differ as metadata.
    return bool(
        msgspec.msgpack.encode(a, order="deterministic") == msgspec.msgpack.encode(b, order="deterministic")
    )

"""Small blobs, as many as fit in a slice of the cache's time: the puts of many callers, or one's many puts.

New blobs of new content go in by a few statements for all of them (`cache/bulk.py`).
The others go one by one, each in a savepoint of its own.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from syncagent import names
from syncagent.answers import PutResult
from syncagent.cache import blobs, bulk, chunks, meta, outbox, settings
from syncagent.cache.bulk import SmallChunk
from syncagent.cache.chunks import ChunkSource
from syncagent.cache.db import Database
from syncagent.cache.status import Event, after
from syncagent.crypto.chunk import content_digest, digest_of
from syncagent.engine import local, read, storing
from syncagent.engine.context import Context
from syncagent.engine.history import Name
from syncagent.engine.local import Put
from syncagent.engine.read import Found, Wanted
from syncagent.errors import CacheFull, SyncAgentError
from syncagent.journal.checks import check_new
from syncagent.journal.clock import tick
from syncagent.model import ChunkId, Scope, Version

SLICE_S = 0.005
"""Longest time that blobs which go one by one hold the cache."""
SLICE_BLOBS = 256
SLICE_BYTES = 2 << 20
"""New blobs of one transaction, and their bytes if there are more than one: 30 ms, most of it encryption.

Fewer would write the pages that hold random ids more often: 128 take a fifth longer a blob.
"""


@dataclass(frozen=True, slots=True)
class SmallPut:
    """A small blob to store in an open vault."""

    ctx: Context = field(repr=False)
    put: Put
    data: bytes = field(repr=False)


def put_some(db: Database, items: Sequence[SmallPut]) -> list[PutResult]:
    """Store the first of these, as many as there is time for, in the order given; one result each."""
    started = time.monotonic()
    items = _slice(items)
    ctx = items[0].ctx
    scopes = {name: local.new_scope(db, ctx.keys, name) for name in {item.put.namespace for item in items}}
    new = _New(db, ctx, [_Item.of(ctx, item, scopes[item.put.namespace]) for item in items])
    results: list[PutResult] = []
    for item in new.items:
        if new.take(item):
            continue
        results += new.store()
        results.append(_put_alone(db, item, ctx))
        if time.monotonic() - started > SLICE_S:
            return results
    return results + new.store()


def find_some(
    db: Database, *, namespace: str, ids: Sequence[str], source: ChunkSource, now_ms: int
) -> list[Found | None]:
    """Winning versions by id; None where one must be asked for alone, where its error is told."""
    found: list[Found | None] = []
    for blob_id in ids:
        try:
            wanted = Wanted(Name(namespace, names.check_blob_id(blob_id)), now_ms)
            found.append(read.find(db, wanted, source))
        except SyncAgentError:
            found.append(None)  # asked for alone, where the error is told
    return found


@dataclass(frozen=True, slots=True)
class _Item:
    put: Put
    data: bytes = field(repr=False)
    digest: bytes
    scope: Scope
    chunks: tuple[ChunkId, ...]
    """Its chunk, unless it is empty, in the scope that a new blob has."""

    @classmethod
    def of(cls, ctx: Context, item: SmallPut, scope: Scope | None) -> "_Item":
        scope = storing.random_scope() if scope is None else scope
        digest = digest_of(item.data)
        chunks = (ctx.keys.chunk_id(scope, digest),) if item.data else ()
        return cls(item.put, item.data, digest, scope, chunks)


class _New:
    """The items that are new blobs of new content, taken until they are stored."""

    def __init__(self, db: Database, ctx: Context, items: Sequence[_Item]) -> None:
        self.items = items
        self._db = db
        self._ctx = ctx
        self._taken: list[_Item] = []
        self._chunks: set[ChunkId] = set(chunks.find_chunks(db, [i for item in items for i in item.chunks]))
        self._blobs: set[tuple[str, str]] = set()
        self._local: set[str] = set()  # namespaces whose new blobs stay on this device
        for name in {item.put.namespace for item in items}:
            number = blobs.find_namespace(db, name)
            ids = [item.put.blob_id for item in items if item.put.namespace == name]
            known = set() if number is None else bulk.known_blobs(db, number, ids)
            self._blobs |= {(name, blob_id) for blob_id in known}
            if settings.load(db, name).local_only:
                self._local.add(name)

    def take(self, item: _Item) -> bool:
        """Whether this one is stored with the next `store`: nothing like it is known, or comes before it."""
        put = item.put
        name = (put.namespace, put.blob_id)
        is_known = name in self._blobs or not self._chunks.isdisjoint(item.chunks)
        self._blobs.add(name)
        self._chunks.update(item.chunks)
        stays = put.namespace in self._local if put.local_only is None else put.local_only
        is_plain = put.if_version is None and put.resolution is None and put.expires_at is None
        if is_known or not is_plain or stays:
            return False
        self._taken.append(item)
        return True

    def store(self) -> list[PutResult]:
        """Store what was taken."""
        taken, self._taken = self._taken, []
        if not taken:
            return []
        db = self._db
        # Read here and not kept: another process may have put since, or given this device a new id.
        device = blobs.device_no(db, meta.device_id(db))
        now_ms, hlc = self._ctx.now_ms(), meta.hlc(db)
        status = after(None, Event.PUT)
        assert status is not None
        versions: list[Version] = []
        for item in taken:
            hlc = tick(hlc, now_ms)
            versions.append(
                Version(
                    id=os.urandom(16),
                    hlc=hlc,
                    namespace=item.put.namespace,
                    blob_id=item.put.blob_id,
                    parents=(),
                    deleted=False,
                    size=len(item.data),
                    created_at=now_ms,
                    metadata=dict(item.put.metadata),
                    scope=item.scope,
                    content=item.chunks,
                    content_digest=content_digest((item.digest,) if item.data else ()),
                )
            )
        for version in versions:
            check_new(version)
        meta.put(db, meta.HLC, hlc)
        chunks = bulk.insert_small_chunks(
            db, [SmallChunk(chunk_id, item.scope, item.data) for item in taken for chunk_id in item.chunks]
        )
        numbers: dict[bytes, int] = {}
        for name in {item.put.namespace for item in taken}:
            part = [version for version in versions if version.namespace == name]
            namespace = blobs.namespace_no(db, name)
            inserted = bulk.insert_blobs(
                db, part, namespace=namespace, device=device, seq=0, status=status, chunks=chunks
            )
            numbers.update(zip((version.id for version in part), inserted, strict=True))
        outbox.enqueue_versions(
            db,
            [(numbers[version.id], item.put.priority) for version, item in zip(versions, taken, strict=True)],
        )
        return [PutResult(version.blob_id, version) for version in versions]


def _put_alone(db: Database, item: _Item, ctx: Context) -> PutResult:
    """In a savepoint of its own."""
    db.execute("SAVEPOINT item")
    try:
        version = local.record_put(
            db,
            item.put,
            lambda scope: storing.small_content(ctx.keys, scope, item.data, item.digest),
            now_ms=ctx.now_ms(),
            keys=ctx.keys,
            source=ChunkSource(ctx.keys, ctx.profile.packs),
        )
        result = PutResult(item.put.blob_id, version)
    except CacheFull:
        raise
    except SyncAgentError as exc:
        db.execute("ROLLBACK TO item")
        result = PutResult(item.put.blob_id, error=exc)
    db.execute("RELEASE item")
    return result


def _slice(items: Sequence[SmallPut]) -> Sequence[SmallPut]:
    size = 0
    for count, item in enumerate(items[:SLICE_BLOBS]):
        size += len(item.data)
        if count and size > SLICE_BYTES:
            return items[:count]
    return items[:SLICE_BLOBS]

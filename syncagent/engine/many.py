"""Many blobs in one operation of the cache: as many as fit in a slice, each on its own."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from syncagent import names
from syncagent.cache.chunks import ChunkSource
from syncagent.cache.db import Database
from syncagent.crypto.chunk import digest_of
from syncagent.engine import local, read
from syncagent.engine.context import Context
from syncagent.engine.local import Put
from syncagent.engine.read import Found
from syncagent.errors import CacheFull, SyncAgentError
from syncagent.model import PutResult

SLICE_S = 0.005
"""Longest part of `put_many` that holds the cache: a put from elsewhere waits for one of them."""


@dataclass(frozen=True, slots=True)
class SmallPut:
    """A small blob to store."""

    put: Put
    data: bytes = field(repr=False)


def put_some(db: Database, *, items: Sequence[SmallPut], ctx: Context, now_ms: int) -> list[PutResult]:
    """As many of these as fit in a slice, each in a savepoint of its own."""
    started = time.monotonic()
    source = ChunkSource(ctx.keys, ctx.profile.packs)
    results: list[PutResult] = []
    for item in items:
        digest = digest_of(item.data)
        db.execute("SAVEPOINT item")
        try:
            version = local.record_put(
                db,
                item.put,
                lambda scope, item=item, digest=digest: local.small_content(  # type: ignore[misc]  # a default binds the loop's value
                    ctx.keys, scope, item.data, digest
                ),
                now_ms=now_ms,
                keys=ctx.keys,
                source=source,
            )
            results.append(PutResult(item.put.blob_id, version))
        except CacheFull:
            raise
        except SyncAgentError as exc:
            db.execute("ROLLBACK TO item")
            results.append(PutResult(item.put.blob_id, error=exc))
        db.execute("RELEASE item")
        if time.monotonic() - started > SLICE_S:
            break
    return results


def find_some(db: Database, *, namespace: str, ids: Sequence[str], source: ChunkSource) -> list[Found | None]:
    """Winning versions by id; None where one must be asked for alone, where its error is told."""
    found: list[Found | None] = []
    for blob_id in ids:
        try:
            found.append(read.find(db, namespace, names.check_blob_id(blob_id), source))
        except SyncAgentError:
            found.append(None)  # asked for alone, where the error is told
    return found

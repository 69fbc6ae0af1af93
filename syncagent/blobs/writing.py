"""Storing and deleting blobs of a namespace."""

import contextlib
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from functools import partial

from syncagent import names
from syncagent.answers import PutResult, VersionInfo
from syncagent.asked import checked_bool
from syncagent.blobs.inside import Inside
from syncagent.blobs.marking import checked_time
from syncagent.cache.chunks import batched
from syncagent.crypto.chunk import content_digest, digest_of
from syncagent.engine import local
from syncagent.engine.content import prepared, ways
from syncagent.engine.expected import NOTHING_EXPECTED, Expected, check_content
from syncagent.engine.local import Put, Resolution, check_priority
from syncagent.engine.many import SLICE_BLOBS, SmallPut, put_some
from syncagent.engine.sources import Source, check_source
from syncagent.engine.storing import ContentDropped
from syncagent.errors import ConfigError, SyncAgentError
from syncagent.journal.checks import check_metadata
from syncagent.model import DEFAULT_PRIORITY, SMALL_BLOB, MetadataValue, Version


@dataclass(frozen=True, slots=True)
class Request:
    """One blob of `put_many`; nothing of it is checked yet."""

    blob_id: str | None
    data: Source = field(repr=False)
    metadata: Mapping[str, MetadataValue]


def checked_put(
    namespace: str,
    blob_id: str | None,
    *,
    metadata: Mapping[str, MetadataValue] | None,
    replace: bool,
    if_version: Version | VersionInfo | str | None = None,
    priority: int = DEFAULT_PRIORITY,
    local_only: bool | None = None,
    resolution: Resolution | None = None,
    expires_at: datetime.datetime | None = None,
) -> Put:
    """What a caller wants stored; without an id, one is made of the content later.

    Raises:
        InvalidName, LimitExceeded, ConfigError: the id, metadata or an option cannot be used.
    """
    return Put(
        namespace,
        "" if blob_id is None else names.check_blob_id(blob_id),
        check_metadata({} if metadata is None else metadata),
        checked_bool(replace, "replace"),
        priority=check_priority(priority),
        if_version=None if if_version is None else str(if_version),
        local_only=None if local_only is None else checked_bool(local_only, "local_only"),
        resolution=resolution,
        expires_at=None if expires_at is None else checked_time(expires_at),
    )


async def put_one(inside: Inside, wanted: Put, data: Source, expected: Expected) -> Version:
    """Store one blob; see `Namespace.put`."""
    check_source(data)
    if isinstance(data, bytes) and len(data) <= SMALL_BLOB:
        version = await _put_small(inside, wanted, data, expected)
    else:
        version = await _put_any(inside, wanted, data, expected)
    inside.engine.note_change()
    return version


async def put_many(
    inside: Inside, requests: Sequence[Request], *, replace: bool, priority: int
) -> list[PutResult]:
    """Store many; see `Namespace.put_many`."""
    check_priority(priority)
    checked_bool(replace, "replace")
    results: list[PutResult] = []
    for part in batched(requests, SLICE_BLOBS):
        results += await _put_part(inside, part, replace, priority)
    inside.engine.note_change()
    return results


async def delete_one(inside: Inside, blob_id: str) -> Version:
    """Delete one blob; see `Namespace.delete`."""
    blob_id = names.check_blob_id(blob_id)
    ctx = inside.ctx
    operation = partial(
        local.record_delete, namespace=inside.name, blob_id=blob_id, now_ms=ctx.now_ms(), keys=ctx.keys
    )
    version = await ctx.cache.write(operation)
    inside.engine.note_change()
    return version


async def _put_small(inside: Inside, wanted: Put, data: bytes, expected: Expected) -> Version:
    check_content(expected, data)
    result = await inside.ctx.cache.write_each(put_some, SmallPut(inside.ctx, _named(wanted, data), data))
    if result.version is None:
        raise result.error or AssertionError
    return result.version


async def _put_any(inside: Inside, wanted: Put, data: Source, expected: Expected) -> Version:
    *before, last = ways([data])
    for relies in before:
        with contextlib.suppress(ContentDropped):
            return await _put_sealed(inside, wanted, data, expected, relies=relies)
    return await _put_sealed(inside, wanted, data, expected, relies=last)


async def _put_sealed(
    inside: Inside, wanted: Put, data: Source, expected: Expected, *, relies: bool
) -> Version:
    ctx = inside.ctx
    find_scope = partial(local.scope_of, keys=ctx.keys, put=wanted)
    async with prepared(ctx, data, find_scope, expected, relies=relies) as content:
        if not wanted.blob_id:
            wanted = replaced(wanted, blob_id=content.content_digest.hex())
        return await ctx.cache.write(
            partial(
                local.record_put,
                put=wanted,
                content_in=content.for_scope,
                now_ms=ctx.now_ms(),
                keys=ctx.keys,
                source=inside.source(),
            )
        )


async def _put_part(
    inside: Inside, requests: Sequence[Request], replace: bool, priority: int
) -> list[PutResult]:
    results: dict[int, PutResult] = {}
    puts: dict[int, Put] = {}
    small: dict[int, SmallPut] = {}
    for index, request in enumerate(requests):
        try:
            put = checked_put(
                inside.name, request.blob_id, metadata=request.metadata, replace=replace, priority=priority
            )
            check_source(request.data)
        except Exception as exc:
            results[index] = _failed(request, exc)
            continue
        puts[index] = put
        if isinstance(request.data, bytes) and len(request.data) <= SMALL_BLOB:
            small[index] = SmallPut(inside.ctx, _named(put, request.data), request.data)
    while small:
        try:
            stored = await inside.ctx.cache.write(partial(put_some, items=list(small.values())))
        except Exception:
            break  # one of them fails them all: each is put alone below
        for index, result in zip(list(small), stored, strict=False):
            results[index] = result
            del small[index]
    for index, request in enumerate(requests):
        if index not in results:
            try:
                version = await put_one(inside, puts[index], request.data, NOTHING_EXPECTED)
                results[index] = PutResult(version.blob_id, version)
            except Exception as exc:
                results[index] = _failed(request, exc)
    return [results[index] for index in range(len(requests))]


def _failed(request: Request, exc: Exception) -> PutResult:
    """What stopped one blob, and none of the others: also what nobody foresaw."""
    if not isinstance(exc, SyncAgentError):
        cause = exc
        # Its own text may hold what was to be stored; whoever asks finds it behind this one.
        exc = ConfigError(
            f"{request.blob_id!r} cannot be stored: {type(cause).__name__}",
            safe="nothing was stored of it",
            todo="the cause of this error says what is wrong with the content or its source",
        )
        exc.__cause__ = cause
    return PutResult(request.blob_id or "", error=exc)


def _named(wanted: Put, data: bytes) -> Put:
    """With an id made of the content, where the caller has given none."""
    if wanted.blob_id:
        return wanted
    return replaced(wanted, blob_id=content_digest((digest_of(data),) if data else ()).hex())

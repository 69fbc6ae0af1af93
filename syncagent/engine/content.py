"""From what a caller hands in to content that can be stored.

Content up to 256 KiB is kept in memory and goes into a row. Larger content is
sealed into pack files as it comes, so memory stays bounded whatever the size.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio
import anyio.to_thread

from syncagent.cache.db import Database
from syncagent.cache.packfiles import PackFiles
from syncagent.cache.sweep import remove_unknown
from syncagent.crypto.chunk import content_digest, digest_of
from syncagent.engine.context import Context
from syncagent.engine.expected import NOTHING_EXPECTED, ContentCheck, Expected
from syncagent.engine.sealing import ContentSealer
from syncagent.engine.sources import ChunkGroup, Source, chunk_groups, is_readable_again
from syncagent.engine.storing import NewContent, small_content
from syncagent.engine.tasks import leading_error
from syncagent.errors import (
    BlobExists,
    BlobNotFound,
    ContentMismatch,
    LimitExceeded,
    SourceChanged,
    SyncAgentError,
    VersionConflict,
)
from syncagent.model import SMALL_BLOB, Scope

_REFUSALS = (BlobExists, BlobNotFound, ContentMismatch, LimitExceeded, SourceChanged, VersionConflict)
_CLEANUP_S = 30.0
"""Longest wait for a worker thread to remove files with; what then stays is swept after a day."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Content that can be stored. `for_scope` gives it for a dedup scope; None leaves the scope as it is."""

    content_digest: bytes
    for_scope: Callable[[Scope | None], NewContent]


@asynccontextmanager
async def prepared(
    ctx: Context,
    source: Source,
    find_scope: Callable[[Database], Scope],
    expected: Expected = NOTHING_EXPECTED,
    *,
    relies: bool = True,
) -> AsyncIterator[Prepared]:
    """Content of a source, as `record_put` wants it. Leaving by an error of ours undoes pack files.

    What is here already may be given up before the content is stored. Whoever `relies` on it is told so then,
    by `ContentDropped`, and may try again without; see `ways`.

    Args:
        ctx: the open vault.
        source: bytes, a file that is copied in, or a stream.
        find_scope: looks up the dedup scope; large content must be sealed for one before it is stored.
        expected: what the content must be.
        relies: what is here already is not sealed once more. Else it is, for nothing where it stays.

    Raises:
        SourceChanged: the file vanished, shrank or changed while it was read.
        ContentMismatch: it is not what was expected.
        LimitExceeded: over 64 GiB.
        CacheFull: the disk of the cache is full.
    """
    files = PackFiles(ctx.profile.packs, ctx.keys)
    try:
        async with chunk_groups(ctx, source) as groups:
            content = await _take_in(ctx, groups, find_scope, ContentCheck(expected), files, relies=relies)
    except BaseException:
        await _abandon(ctx, files)
        raise
    if isinstance(content, bytes):
        yield _small(ctx, content)
        return
    try:
        yield Prepared(content.content_digest, lambda wanted: _for_scope(content, wanted))
    except _REFUSALS:
        # Refused by the operation itself, so no row names the files. After anything else, such as a
        # cancellation or a full disk at the commit, one may: a file too many, never a row too many.
        await _abandon(ctx, files)
        raise
    if content.spare:
        # It is stored: what of this cannot be removed now is swept after a day.
        with contextlib.suppress(SyncAgentError):
            ids = [record.id for record in content.spare]
            await ctx.cache.write(partial(remove_unknown, folder=ctx.profile.packs, ids=ids), background=True)


def ways(sources: Iterable[Source]) -> tuple[bool, ...]:
    """Whether to rely on what is here, one attempt after the other: a stream can be read only once."""
    return (True, False) if all(map(is_readable_again, sources)) else (False,)


async def _take_in(
    ctx: Context,
    groups: AsyncIterator[ChunkGroup],
    find_scope: Callable[[Database], Scope],
    check: ContentCheck,
    files: PackFiles,
    *,
    relies: bool,
) -> bytes | NewContent:
    """Small content itself; larger content once it is durable in pack files."""
    try:
        # Around all of the source: a stream may hold a scope of its own from its first piece to its last.
        async with anyio.create_task_group() as tasks:
            first: ChunkGroup = await anext(groups, [])
            if sum(map(len, first)) <= SMALL_BLOB:
                await anext(groups, None)  # the end of a file is where it is looked at once more
                check.add(first)
                check.finish()
                return b"".join(first)
            scope = await ctx.cache.read(find_scope)
            sealer = ContentSealer(ctx, scope, files, check, tasks, relies=relies)
            await sealer.add(first)
            del first
            async for group in groups:
                await sealer.add(group)
                del group
            await sealer.finish()
    except BaseExceptionGroup as exc:
        raise leading_error(exc) from None
    await anyio.to_thread.run_sync(files.keep, limiter=ctx.workers)
    return sealer.content()


async def _abandon(ctx: Context, files: PackFiles) -> None:
    with anyio.move_on_after(_CLEANUP_S, shield=True):
        await anyio.to_thread.run_sync(files.abandon, limiter=ctx.workers)


def _small(ctx: Context, data: bytes) -> Prepared:
    digest = digest_of(data)
    return Prepared(
        content_digest((digest,) if data else ()),
        lambda scope: small_content(ctx.keys, scope, data, digest),
    )


def _for_scope(content: NewContent, wanted: Scope | None) -> NewContent:
    if wanted is not None and content.scope != wanted:
        raise SourceChanged(
            "the blob was replaced by one of another dedup scope meanwhile", todo="put it again"
        )
    return content

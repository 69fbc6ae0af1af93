"""What of a namespace's content is on this device by its user's wish: pin, prefetch, evict.

Evicting frees the space of content that the remote holds. Before anything is given up, every pack that it
is to be fetched from again is asked for: it must be named by a journal, be there, and have its size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from syncagent import names
from syncagent.answers import PrefetchResult
from syncagent.blobs.inside import Inside
from syncagent.cache import holding
from syncagent.cache.chunks import batched
from syncagent.cache.db import Database
from syncagent.engine import history
from syncagent.engine.evicting import Shown, drop_content
from syncagent.engine.history import Name
from syncagent.errors import (
    BlobNotFound,
    ConfigError,
    InvalidName,
    NotSent,
    RemoteError,
    RemoteRolledBack,
    SyncAgentError,
    WrongVault,
)

_WANTED_AT_ONCE = 50
"""Blobs of one transaction: a few milliseconds."""


async def pin(inside: Inside, blob_id: str) -> None:
    """Want a blob's content here, now and of later versions; see `Namespace.pin`."""
    await inside.ctx.cache.write(
        partial(
            _want, name=Name(inside.name, names.check_blob_id(blob_id)), now_ms=inside.ctx.now_ms(), pins=True
        )
    )
    inside.engine.note_change()


async def prefetch(inside: Inside, blob_ids: Sequence[str]) -> list[PrefetchResult]:
    """Fetch the content of some blobs together; see `Namespace.prefetch`."""
    blob_ids = names.check_several(blob_ids)
    ctx = inside.ctx
    errors: dict[str, SyncAgentError] = {}
    waiting: dict[str, list[int]] = {}
    for some_ids in batched(dict.fromkeys(blob_ids), _WANTED_AT_ONCE):
        wanted = await ctx.cache.write(
            partial(_want_some, namespace=inside.name, ids=some_ids, now_ms=ctx.now_ms())
        )
        waiting |= wanted.waiting
        errors |= wanted.errors
    versions = [version for some in waiting.values() for version in some]
    try:
        causes = await inside.engine.fetch_now(versions) if versions else {}
    except (RemoteError, RemoteRolledBack, WrongVault) as exc:
        causes = dict.fromkeys(versions, exc)
    for blob_id, some in waiting.items():
        errors.update((blob_id, causes[version]) for version in some if version in causes)
    return [PrefetchResult(blob_id, errors.get(blob_id)) for blob_id in blob_ids]


async def evict(inside: Inside, blob_id: str) -> None:
    """Give a blob's content on this device up; see `Namespace.evict`."""
    name = Name(inside.name, names.check_blob_id(blob_id))
    cache = inside.ctx.cache
    await inside.ctx.reads.flush(cache)  # else a read of before would seem to come after it
    blob = await cache.read(partial(_evictable, name=name, now_ms=inside.ctx.now_ms()))
    packs = await cache.read(partial(holding.packs_to_prove, blob=blob))
    proven: set[int] = set()
    if packs:
        shown = Shown(await inside.engine.remote())
        await shown.look(packs)
        proven = shown.packs
    await cache.write(partial(_give_up, name=name, now_ms=inside.ctx.now_ms(), proven=proven))
    await drop_content(inside.ctx, blob, proven)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The versions of each blob whose content is waited for; and what is wrong with the others."""

    waiting: dict[str, list[int]]
    errors: dict[str, SyncAgentError]


def _want_some(db: Database, namespace: str, ids: Sequence[str], now_ms: int) -> _Wanted:
    found = _Wanted({}, {})
    for blob_id in ids:
        try:
            name = Name(namespace, names.check_blob_id(blob_id))
            found.waiting[blob_id] = _want(db, name, now_ms, pins=False)
        except (BlobNotFound, InvalidName) as exc:  # before anything was written
            found.errors[blob_id] = exc
    return found


def _want(db: Database, name: Name, now_ms: int, *, pins: bool) -> list[int]:
    blob = _live(db, name, now_ms)
    if pins:
        holding.set_pinned(db, blob, pinned=True)
    return holding.want(db, blob)


def _live(db: Database, name: Name, now_ms: int) -> int:
    row = history.find_known(db, name)
    if not row.is_live(now_ms):
        raise BlobNotFound(f"{name} is not on this device")
    return row.no


def _evictable(db: Database, name: Name, now_ms: int) -> int:
    blob = _live(db, name, now_ms)
    if holding.is_held(db, blob):
        raise ConfigError(
            f"the namespace {name.namespace!r} is pinned: nothing of it is evicted",
            todo="set its fetch policy to eager or on-demand first",
        )
    if holding.has_unsent(db, blob):
        raise NotSent(f"{name} is on this device alone")
    return blob


def _give_up(db: Database, name: Name, now_ms: int, proven: set[int]) -> None:
    blob = _evictable(db, name, now_ms)
    if count := holding.unproven(db, blob, proven):
        raise NotSent(f"the remote does not show {count} of the chunks of {name}")
    holding.give_up(db, blob)

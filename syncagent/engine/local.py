"""Changes made on this device: put and delete, each one operation of the cache.

Everything here runs in a transaction on the cache thread; a put is durable when
that transaction is.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import msgspec

from syncagent.cache import blobs, chunks, downloads, expiries, meta, outbox, settings, there
from syncagent.cache.blobs import BlobRow, HeadRow
from syncagent.cache.chunks import ChunkSource
from syncagent.cache.db import Database
from syncagent.cache.status import Event, after
from syncagent.crypto.chunk import content_digest
from syncagent.crypto.keys import VAULT_SCOPE, VaultKeys
from syncagent.engine import history, keeping, marks
from syncagent.engine.heads import add_version, fold_pair, is_local_only
from syncagent.engine.history import Name
from syncagent.engine.marks import Marked
from syncagent.engine.stamps import next_hlc
from syncagent.engine.storing import NewContent, random_scope, store_content
from syncagent.errors import (
    BlobExists,
    BlobNotFound,
    CacheDamaged,
    ConfigError,
    VersionConflict,
)
from syncagent.journal.checks import check_new
from syncagent.model import (
    DEFAULT_PRIORITY,
    NEVER,
    Dedup,
    GroupId,
    Metadata,
    Parent,
    Scope,
    SyncStatus,
    Version,
)


@dataclass(frozen=True, slots=True)
class Resolution:
    """Makes a put the end of a conflict: it replaces the versions `seen`, or all there are."""

    seen: frozenset[str] | None = None
    keeps_metadata: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """What a caller wants stored under a name; the metadata is checked already."""

    namespace: str
    blob_id: str
    metadata: Metadata
    replace: bool
    priority: int = DEFAULT_PRIORITY
    if_version: str | None = None
    """The version that must be the present one; it is replaced."""
    local_only: bool | None = None
    """Whether the blob stays on this device; None leaves it as it is."""
    resolution: Resolution | None = None
    expires_at: int | None = None
    """Unix ms; None leaves it as it is."""


def scope_of(db: Database, keys: VaultKeys, put: Put) -> Scope:
    """The dedup scope a put uses: that of the blob's head, else the namespace's.

    What begins to stay on this device has one of its own: a pack file that holds it must hold nothing that
    another blob needs, or it would be sent for that one.
    """
    number = blobs.find_namespace(db, put.namespace)
    row = None if number is None else blobs.find_blob(db, number, put.blob_id)
    heads = [] if row is None else blobs.heads(db, row.no)
    if _stays_local(db, put, row, heads) and not _shows_local(row, heads):
        return random_scope()
    if row is not None and row.winner_no is not None:
        try:
            return Scope(blobs.load_version(db, row.winner_no).scope)
        except CacheDamaged:  # a damaged head must not keep anyone from replacing it
            pass
    return new_scope(db, keys, put.namespace) or random_scope()


def new_scope(db: Database, keys: VaultKeys, namespace: str) -> Scope | None:
    """The dedup scope of a new blob of a namespace; None where each has one of its own."""
    match settings.load(db, namespace).dedup:
        case Dedup.NAMESPACE:
            return keys.namespace_scope(namespace)
        case Dedup.VAULT:
            return VAULT_SCOPE
        case Dedup.NONE:
            return None


def check_priority(priority: int) -> int:
    """The priority itself, 1 to 4, or `ConfigError`."""
    if type(priority) is not int or priority not in range(1, 5):
        raise ConfigError(f"a priority is 1, 2, 3 or 4, not {priority!r}")
    return priority


def record_put(
    db: Database,
    put: Put,
    content_in: Callable[[Scope | None], NewContent],
    *,
    now_ms: int,
    keys: VaultKeys,
    source: ChunkSource,
    group: GroupId | None = None,
) -> Version:
    """Store a blob; the version that now wins under its name.

    Args:
        db: the cache, in a transaction.
        put: the name, metadata and how to treat what is there.
        content_in: gives the content for a dedup scope; large content is sealed for one beforehand.
        now_ms: Unix time in milliseconds.
        keys: the vault's keys.
        source: reads chunks that are here already, to prove them before relying on them.
        group: the transaction this is part of.

    Raises:
        BlobExists: the name holds other bytes or metadata and `put.replace` is not set.
        VersionConflict: `put.if_version` is not the present version, or there is no conflict to end.
        BlobNotFound: there is nothing to end a conflict of, or no such version as `put.if_version`.
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
    if put.expires_at is not None and put.expires_at <= now_ms:
        raise ConfigError("the time at which the blob is to expire is past", safe="nothing was stored")
    replaced = heads
    if put.if_version is not None:
        if row is None or row.winner_no is None:
            raise VersionConflict(
                f"{put.namespace}/{put.blob_id!r} is not on this device", todo="put it without a version"
            )
        history.check_present(db, Name(put.namespace, put.blob_id), put.if_version, row.winner_no)
        if row.is_conflict or blobs.is_incomplete(db, row.no):  # heads that were not named stay beside it
            replaced = [head for head in heads if head.no == row.winner_no]
    if put.resolution is not None:
        replaced = disputed(put.namespace, put.blob_id, row, heads, put.resolution.seen)
        if winner is not None and put.resolution.keeps_metadata:
            put = replace(put, metadata=winner.metadata)
    was_local = _shows_local(row, heads)
    stays_local = _stays_local(db, put, row, heads)
    if stays_local and not was_local:
        scope = None  # one of its own
    else:
        scope = new_scope(db, keys, put.namespace) if winner is None else Scope(winner.scope)
    content = content_in(scope)
    is_there = row is not None and row.is_live(now_ms)
    if is_there and winner is not None and put.resolution is None:
        assert row is not None and row.winner_no is not None
        is_named = content.is_named_by(winner, keys) and is_same_metadata(winner.metadata, put.metadata)
        # What waits to be sent may share its content with other blobs: to stay here it is made anew.
        is_kept = stays_local and not was_local and outbox.is_unpublished(db, row.winner_no)
        is_same = is_named and not is_kept
        if is_same and not content.packs:
            content = content_in(Scope(winner.scope))  # not sealed yet, and no new version is made
        # What is sealed for a scope of its own brings nothing back: it makes a version that stays here.
        if is_same and (content.scope == winner.scope or chunks.is_complete(db, row.winner_no)):
            if content.scope == winner.scope:
                was_here = chunks.is_complete(db, row.winner_no)
                store_content(db, content, keys=keys, source=source)
                downloads.settle(db, [row.winner_no])
                if not was_here and there.is_lost(db, row.winner_no):
                    outbox.publish_again(db, row.winner_no)  # they had it all, and it is here alone now
            if was_local and not stays_local:
                blob = Marked(row.no, put.namespace, put.blob_id)
                winner = keeping.share_winner(db, row.winner_no, blob, priority=put.priority, group=group)
            if put.expires_at is not None:
                blob = marks.marked(db, row.no, put.namespace, put.blob_id)
                marks.set_expiry(db, blob, put.expires_at, now_ms=now_ms, group=group)
            return winner
        if not (is_named or put.replace or put.if_version is not None):
            raise BlobExists(f"{put.namespace}/{put.blob_id!r} holds other content")
    is_anew = row is not None and _is_anew(row, now_ms)
    if stays_local:
        group = None
    elif row is not None and is_anew and row.expires_at is not None and group is None:
        group = GroupId(os.urandom(16))  # else others may hear of its time first, and show what was there
    version = Version(
        id=os.urandom(16),
        hlc=next_hlc(db, now_ms),
        namespace=put.namespace,
        blob_id=put.blob_id,
        parents=parents_of(replaced),
        deleted=False,
        size=content.size,
        created_at=winner.created_at if is_there and winner is not None else now_ms,
        metadata=dict(put.metadata),
        scope=content.scope,
        content=content.chunks,
        content_digest=content.content_digest,
        group=group,
    )
    numbers = store_content(db, content, keys=keys, source=source)
    status = after(None, Event.PUT_LOCAL if stays_local else Event.PUT)
    assert status is not None
    version = add_local(db, version, numbers, replaced, status=status, priority=put.priority)
    if is_anew or put.expires_at is not None:
        no = blobs.blob_no(db, number, put.blob_id)
        blob = marks.marked(db, no, put.namespace, put.blob_id)
        if row is not None and is_anew:
            _forget_former(db, put, row, blob, now_ms, group)
        elif put.expires_at is not None:
            marks.set_expiry(db, blob, put.expires_at, now_ms=now_ms, group=group)
    return version


def _is_anew(before: BlobRow, now_ms: int) -> bool:
    """Whether a put makes a blob anew: it was deleted, or has expired, be it before a version of it came."""
    has_expired = before.expires_at is not None and before.expires_at <= now_ms
    return has_expired or (before.winner_no is not None and before.is_deleted)


def _forget_former(
    db: Database, put: Put, before: BlobRow, blob: Marked, now_ms: int, group: GroupId | None
) -> None:
    """Take away what was said of a blob before it was made anew, and say when it expires now."""
    if before.winner_no is not None:
        # A deletion has taken flags away, but for those of which it had not heard.
        marks.clear_flags(db, blob, group=group)
    if before.expires_at is not None:
        at = NEVER if put.expires_at is None else put.expires_at
        marks.set_expiry(db, blob, at, now_ms=now_ms, forced=True, group=group)
    elif put.expires_at is not None:
        marks.set_expiry(db, blob, put.expires_at, now_ms=now_ms, group=group)


def record_delete(
    db: Database,
    namespace: str,
    blob_id: str,
    *,
    now_ms: int,
    keys: VaultKeys,
    group: GroupId | None = None,
) -> Version:
    """Store a tombstone over every head of a blob; as part of a transaction, if it is one's.

    Raises:
        BlobNotFound: there is no live blob of this name here.
    """
    number = blobs.find_namespace(db, namespace)
    row = None if number is None else blobs.find_blob(db, number, blob_id)
    if row is None or not row.is_live(now_ms):
        raise BlobNotFound(f"{namespace}/{blob_id!r} is not on this device")
    heads = blobs.heads(db, row.no)
    # What others have never seen need not be deleted for them.
    stays_local = is_local_only(heads) and not outbox.is_known_elsewhere(db, row.no)
    version = Version(
        id=os.urandom(16),
        hlc=next_hlc(db, now_ms),
        namespace=namespace,
        blob_id=blob_id,
        parents=parents_of(heads),
        deleted=True,
        size=0,
        created_at=now_ms,
        metadata={},
        scope=scope_of(db, keys, Put(namespace, blob_id, {}, replace=True)),
        content=(),
        content_digest=content_digest(()),
        group=None if stays_local else group,
    )
    status = after(None, Event.PUT_LOCAL if stays_local else Event.PUT)
    assert status is not None
    version = add_local(db, version, [], heads, status=status)
    # A blob made anew begins without them.
    marks.clear_flags(db, Marked(row.no, namespace, blob_id, stays_local), group=group)
    if stays_local:  # nor does one that another device makes
        expiries.forget(db, row.no, blobs.device_no(db, meta.device_id(db)))
    return version


def add_local(
    db: Database,
    version: Version,
    numbers: list[int],
    replaced: Sequence[HeadRow],
    *,
    status: SyncStatus,
    priority: int = DEFAULT_PRIORITY,
) -> Version:
    """Store a version of this device and queue it, unless it stays here; as it stands in the cache."""
    # Read here and not kept: another process may have given this device a new id.
    device = meta.device_id(db)
    check_new(version)
    added = add_version(db, version, device=device, seq=0, status=status, chunks=numbers)
    is_bare = status is not SyncStatus.PENDING_UPLOAD
    if status is not SyncStatus.LOCAL_ONLY:
        outbox.enqueue_version(
            db, added.version_no, priority=priority, group=_group(version), is_bare=is_bare
        )
    if status is SyncStatus.PENDING_DOWNLOAD:
        downloads.enqueue(db, [added.version_no])
    blob = Marked(added.blob_no, version.namespace, version.blob_id)
    for head in replaced:
        if _is_local(head):  # never published: others must not be told its id
            fold_pair(db, head.no, added.version_no)
    if status is SyncStatus.LOCAL_ONLY:
        keeping.keep_here(db, added.version_no, blob)
    elif added.was_local:
        marks.share(db, blob, group=_group(version))
    is_changed = status is SyncStatus.LOCAL_ONLY or any(map(_is_local, replaced))
    return blobs.load_version(db, added.version_no) if is_changed else version


def disputed(
    namespace: str, blob_id: str, row: BlobRow | None, heads: Sequence[HeadRow], seen: frozenset[str] | None
) -> list[HeadRow]:
    """The heads that the end of a conflict replaces: those seen, or all.

    Raises:
        BlobNotFound: there is no such blob, or it was deleted.
        VersionConflict: it is not in conflict, or not in the one that was seen.
    """
    if row is None or row.winner_no is None or row.is_deleted:
        raise BlobNotFound(f"{namespace}/{blob_id!r} is not on this device", safe="nothing was stored")
    chosen = [head for head in heads if seen is None or head.is_deleted or head.id.hex() in seen]
    if not row.is_conflict or sum(not head.is_deleted for head in chosen) < 2:
        raise VersionConflict(
            f"{namespace}/{blob_id!r} is not in conflict, or not in the one that was seen",
            todo="read it again and decide; `put --replace` stores a new version",
        )
    return chosen


def _stays_local(db: Database, put: Put, row: BlobRow | None, heads: Sequence[HeadRow]) -> bool:
    """Whether a blob stays on this device: as the caller says, else as it is, else as its namespace does."""
    if put.local_only is not None:
        return put.local_only
    is_new = row is None or row.winner_no is None or row.is_deleted
    if not is_new:
        # Whoever ends a conflict has seen all sides, and may have made one of them.
        ends = put.resolution is not None
        return _shows_local(row, heads) or (ends and any(map(_is_local, heads)))
    return settings.load(db, put.namespace).local_only


def _shows_local(row: BlobRow | None, heads: Sequence[HeadRow]) -> bool:
    """Whether what a blob shows stays on this device; another side of a conflict may not."""
    return row is not None and any(head.no == row.winner_no and _is_local(head) for head in heads)


def _is_local(head: HeadRow) -> bool:
    return head.status is SyncStatus.LOCAL_ONLY


def _group(version: Version) -> GroupId | None:
    return None if version.group is None else GroupId(version.group)


def parents_of(heads: Sequence[HeadRow]) -> tuple[Parent, ...]:
    """What a version that replaces these heads says of them."""
    return tuple(Parent(head.id, head.device, head.seq) for head in sorted(heads, key=lambda head: head.id))


def is_same_metadata(a: Metadata, b: Metadata) -> bool:
    """Whether a blob with the one says the same as with the other."""
    # Packed, because 1, 1.0 and True are equal in Python and differ as metadata.
    return bool(
        msgspec.msgpack.encode(a, order="deterministic") == msgspec.msgpack.encode(b, order="deterministic")
    )

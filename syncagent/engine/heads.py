"""A version joins the cache: the one place where heads, winner and conflict of a blob change.

Local puts and batches of other devices both come through here, so that two
devices that know the same versions show the same thing.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from syncagent.cache import blobs, outbox
from syncagent.cache.blobs import HeadRow
from syncagent.cache.db import Database
from syncagent.engine.settings import follow
from syncagent.errors import CacheDamaged
from syncagent.journal import merge
from syncagent.journal.merge import Node, inherit
from syncagent.model import DeviceId, Hlc, SyncStatus, Version, VersionId
from syncagent.names import SETTINGS


@dataclass(frozen=True, slots=True)
class Added:
    """What a version did to its blob. `version_no` is set for a version known before, too.

    `was_live` and `was_local`, that it stayed on this device, tell how the blob looked before; `winner` is
    what it shows now, None if nothing has moved.
    """

    version_no: int
    blob_no: int
    is_head: bool
    is_conflict: bool
    was_live: bool = False
    was_local: bool = False
    winner: Version | None = None
    has_new_winner: bool = False


def add_version(
    db: Database,
    version: Version,
    *,
    device: DeviceId,
    seq: int,
    status: SyncStatus,
    chunks: list[int],
) -> Added:
    """Store a version that is not known yet and work out the blob's heads.

    Args:
        db: the cache, in a transaction.
        version: a version whose id is not in the cache.
        device: who wrote it; `seq` is its batch, 0 when not yet published.
        seq: see `device`.
        status: the version's status should it be a head.
        chunks: numbers of its chunks in order.
    """
    blob = blobs.blob_no(db, blobs.namespace_no(db, version.namespace), version.blob_id)
    all_old = blobs.heads(db, blob)
    # A deletion that stayed here says nothing of what others have put.
    gone = [head.no for head in all_old if seq and head.is_deleted and head.status is SyncStatus.LOCAL_ONLY]
    old = [head for head in all_old if head.no not in gone]
    incoming = _node(version, device, seq)
    named = {incoming.id} if blobs.is_named_as_parent(db, version.id, blob) else set()
    ranked = merge.next_heads([_head_node(head) for head in old], [incoming], named)
    if not ranked:
        # Versions that name each other in a circle, which only a faulty device writes: all stay visible.
        ranked = tuple(sorted([incoming, *map(_head_node, old)], key=merge.rank, reverse=True))
    head_ids = {node.id for node in ranked}
    number = blobs.insert_version(
        db,
        version,
        blob=blob,
        device=blobs.device_no(db, device),
        seq=seq,
        status=status if incoming.id in head_ids else None,
        chunks=chunks,
    )
    demoted = [head.no for head in old if head.id not in head_ids]
    if incoming.id not in head_ids and not demoted and not gone:
        return Added(number, blob, is_head=False, is_conflict=False)
    numbers = {head.id: head.no for head in old} | {incoming.id: number}
    is_conflict = _is_conflict(db, [(numbers[node.id], node) for node in ranked], {number: version})
    if is_conflict and blobs.is_incomplete(db, blob) and not blobs.is_in_conflict(db, blob):
        is_conflict = False  # what has not come may have replaced a side of it: `complete` tells
    winner_no = numbers[ranked[0].id]
    winner = version if winner_no == number else _winner(db, winner_no, ranked[0], version)
    blobs.set_heads(
        db,
        blob,
        winner_no=winner_no,
        winner=winner,
        conflict=is_conflict,
        demoted=demoted + gone,
    )
    for head_no in gone:
        blobs.delete_version(db, head_no)
    if version.namespace == SETTINGS:
        follow(db, winner)
    before = max(map(_head_node, old), key=merge.rank, default=None)
    return Added(
        number,
        blob,
        is_head=incoming.id in head_ids,
        is_conflict=is_conflict,
        was_live=before is not None and not before.deleted,
        was_local=is_local_only(all_old),
        winner=winner,
        has_new_winner=before is None or before.id != ranked[0].id,
    )


def rank_anew(db: Database, blob: int) -> None:
    """Let a blob show the head that wins now that some were given to another device: its id breaks ties."""
    heads = blobs.heads(db, blob)
    if len(heads) < 2:
        return
    best = max(heads, key=lambda head: merge.rank(_head_node(head)))
    if db.scalar("SELECT winner_no FROM blob WHERE no = ?", (blob,)) == best.no:
        return
    with contextlib.suppress(CacheDamaged):  # it cannot be shown; what is shown stays, and is another head
        winner = blobs.load_version(db, best.no)
        is_conflict = blobs.is_in_conflict(db, blob)
        blobs.set_heads(db, blob, winner_no=best.no, winner=winner, conflict=is_conflict, demoted=())
        if winner.namespace == SETTINGS:
            follow(db, winner)


def complete(db: Database, blob: int) -> Version | None:
    """What a blob shows that is in conflict, now that all its versions have come; None if it is not.

    While a version is missing no conflict is told: it may be what another side has replaced.
    """
    heads = blobs.heads(db, blob)
    if blobs.is_in_conflict(db, blob) or not _is_conflict(
        db, [(head.no, _head_node(head)) for head in heads]
    ):
        return None
    blobs.set_conflict(db, blob)
    best = max(heads, key=lambda head: merge.rank(_head_node(head)))
    try:
        return blobs.load_version(db, best.no)
    except CacheDamaged:
        return None  # it shows as a conflict; who asks for it is told of the damage


def fold_pair(db: Database, older_no: int, newer_no: int) -> bool:
    """Drop a version that was never published, in favour of the one that replaced it; whether that could be.

    What it had superseded stays superseded: its parents are passed on.
    """
    try:
        older = blobs.load_version(db, older_no)
        newer = blobs.load_version(db, newer_no)
    except CacheDamaged:
        return False  # this pair stays as it is, the others fold
    parents = inherit(newer.parents, {VersionId(older.id): older.parents})
    blobs.replace_version(db, newer_no, msgspec.structs.replace(newer, parents=parents))
    blobs.delete_version(db, older_no)
    return True


def fold_into(db: Database, newer_no: int) -> set[int]:
    """Fold what waits and was replaced by a waiting version, and what that had replaced; which they were."""
    dropped: set[int] = set()
    while folded := [no for no in outbox.superseded_by(db, newer_no) if fold_pair(db, no, newer_no)]:
        dropped.update(folded)
    return dropped


def is_local_only(heads: Sequence[HeadRow]) -> bool:
    """Whether a blob with these heads never leaves this device."""
    return bool(heads) and all(head.status is SyncStatus.LOCAL_ONLY for head in heads)


def _is_conflict(
    db: Database, ranked: Sequence[tuple[int, Node]], loaded: Mapping[int, Version] | None = None
) -> bool:
    loaded = loaded or {}
    live = [(no, node) for no, node in ranked if not node.deleted]
    if len(live) < 2:
        return False
    try:
        full = [
            merge.node_of(loaded.get(no) or blobs.load_version(db, no), node.device, node.seq)
            for no, node in live
        ]
    except CacheDamaged:
        return True  # what one of them holds cannot be told, so nobody may call them equal
    return merge.is_conflict(full)


def _winner(db: Database, number: int, node: Node, version: Version) -> Version:
    """A head that still wins; one that cannot be read stops no journal, and is listed from its columns."""
    try:
        return blobs.load_version(db, number)
    except CacheDamaged:
        row = db.one(
            "SELECT version.size, created_at FROM version JOIN blob ON blob.no = blob_no"
            " WHERE version.no = ?",
            (number,),
        )
        assert row is not None
        return msgspec.structs.replace(
            version, id=node.id, hlc=node.hlc, deleted=node.deleted, size=row[0], created_at=row[1]
        )


def _node(version: Version, device: DeviceId, seq: int) -> Node:
    # Ranking needs no digest of the fields: `merge.node_of` would pack the version once more.
    return Node(
        id=VersionId(version.id),
        hlc=Hlc(version.hlc),
        device=device,
        seq=seq,
        parents=version.parents,
        deleted=version.deleted,
        content_digest=version.content_digest,
        metadata=version.metadata,
        digest=b"",
    )


def _head_node(head: HeadRow) -> Node:
    return Node(
        id=head.id,
        hlc=Hlc(head.hlc),
        device=head.device,
        seq=head.seq,
        parents=(),
        deleted=head.is_deleted,
        content_digest=b"",
        metadata={},
        digest=b"",
    )

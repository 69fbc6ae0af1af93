"""A new version made of one that is known: other metadata, or a side of a conflict. Sends no content."""

import os
from dataclasses import dataclass

from syncagent.cache import blobs, chunks, settings
from syncagent.cache.db import Database
from syncagent.cache.status import Event, after
from syncagent.engine import history, local
from syncagent.engine.heads import is_local_only
from syncagent.engine.history import Name
from syncagent.engine.local import Resolution
from syncagent.engine.stamps import next_hlc
from syncagent.errors import BlobNotFound, VersionNotFound
from syncagent.model import GroupId, Metadata, Version


@dataclass(frozen=True, slots=True)
class Revision:
    """What a caller wants: the content of the version `content_of`, else of the present one.

    `metadata` None is that version's own. With a resolution it ends a conflict; without one it replaces the
    present version only, so that a conflict stays visible.
    """

    name: Name
    metadata: Metadata | None = None
    content_of: str | None = None
    if_version: str | None = None
    resolution: Resolution | None = None


def record_revision(db: Database, *, wanted: Revision, now_ms: int, group: GroupId | None = None) -> Version:
    """Store the version; the present one, where that says the same already.

    Its content need not be on this device: what others have published stays at the remote.

    Raises:
        BlobNotFound: no live blob has this name here.
        VersionNotFound: it has no such version, or that is a deletion.
        VersionConflict: the present version is another, or there is no conflict to end.
    """
    row = history.find_known(db, wanted.name)
    if not row.is_live(now_ms) or row.winner_no is None:
        raise BlobNotFound(f"{wanted.name} is not on this device")
    heads = blobs.heads(db, row.no)
    base_no = row.winner_no
    if wanted.content_of is not None:
        base_no = history.version_no(db, wanted.name, wanted.content_of)
    base = blobs.load_version(db, base_no)
    if base.deleted:
        raise VersionNotFound(f"version {base} of {wanted.name} is its deletion")
    if wanted.if_version is not None:
        history.check_present(db, wanted.name, wanted.if_version, row.winner_no)
    metadata = base.metadata if wanted.metadata is None else wanted.metadata
    if wanted.resolution is not None:
        replaced = local.disputed(wanted.name.namespace, wanted.name.id, row, heads, wanted.resolution.seen)
    elif local.is_same_metadata(metadata, base.metadata):
        return base
    else:
        is_open = row.is_conflict or blobs.is_incomplete(db, row.no)
        replaced = [head for head in heads if head.no == row.winner_no or not is_open]
    # Also where others have put something that is replaced too: the content has not been shared.
    stays_local = is_local_only([head for head in heads if head.no == base_no]) or is_local_only(replaced)
    version = Version(
        id=os.urandom(16),
        hlc=next_hlc(db, now_ms),
        namespace=wanted.name.namespace,
        blob_id=wanted.name.id,
        parents=local.parents_of(replaced),
        deleted=False,
        size=base.size,
        created_at=blobs.load_version(db, row.winner_no).created_at,
        metadata=dict(metadata),
        scope=base.scope,
        content=base.content,
        content_digest=base.content_digest,
        group=None if stays_local else group,
    )
    event = Event.PUT_LOCAL if stays_local else Event.PUT
    if not chunks.is_complete(db, base_no):
        is_wanted = settings.wanted_before(db, [base.id], blobs.chunk_numbers(db, base_no))
        if is_wanted is None:  # an old version
            is_wanted = settings.wants(db, base.namespace, base.blob_id, now_ms=now_ms)
        event = Event.ARRIVED_WANTED if is_wanted else Event.ARRIVED_UNWANTED
    status = after(None, event)
    assert status is not None
    return local.add_local(db, version, blobs.chunk_numbers(db, base_no), replaced, status=status)

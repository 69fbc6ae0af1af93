"""What is said of a blob beside its versions: its flags, and when it expires. `merge.py` says what they mean.

Local changes and those of other devices come through here, as operations of the cache. What is said of a
blob while all there is of it stays on its device waits in no queue. Others hear of it when that ends: a
version of the blob is shared, be it a deletion, or one of another device comes.
"""

import contextlib
import itertools
import os
from collections.abc import Iterable
from dataclasses import dataclass

from syncagent.cache import blobs, expiries, facts, holding, meta, outbox, settings
from syncagent.cache.chunks import batched
from syncagent.cache.db import Database
from syncagent.cache.downloads import EXPIRED_MS
from syncagent.cache.expiries import ExpiryRow
from syncagent.engine.heads import is_local_only
from syncagent.engine.stamps import next_hlc
from syncagent.errors import BlobNotFound, LimitExceeded, SyncAgentError
from syncagent.journal.batch import decode_change, encode_change
from syncagent.journal.changes import ExpiresChange, FlagsChange
from syncagent.model import GroupId, Hlc

MAX_FLAGS = 1000
"""Of one blob. A mail has some ten; more than this is a use for which metadata or a blob is made."""
_FLAGS_A_CHANGE = 500
_TAGS_A_CHANGE = 10_000
"""Each some 130 KiB of msgpack at most: a change must fit in a batch."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A blob of which something is said; `stays_local`: no other device may hear of it."""

    no: int
    namespace: str
    blob_id: str
    stays_local: bool = False


@dataclass(frozen=True, slots=True)
class FlagsStep:
    """What is to become of a blob's flags: exactly `only`; or `add` is set, and `remove` taken away."""

    add: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()
    only: frozenset[str] | None = None


def find_live(db: Database, namespace: str, blob_id: str, now_ms: int) -> Marked:
    """A blob that is there. Raises `BlobNotFound`."""
    number = blobs.find_namespace(db, namespace)
    row = None if number is None else blobs.find_blob(db, number, blob_id)
    if row is None or not row.is_live(now_ms):
        raise BlobNotFound(f"{namespace}/{blob_id!r} is not on this device")
    return marked(db, row.no, namespace, blob_id)


def marked(db: Database, blob: int, namespace: str, blob_id: str) -> Marked:
    """A blob as it is now."""
    return Marked(blob, namespace, blob_id, is_local_only(blobs.heads(db, blob)))


def flags_of(db: Database, blob: int) -> frozenset[str]:
    """The flags of a blob."""
    return frozenset(flag for flag, _ in facts.flag_tags(db, blob))


def change_flags(
    db: Database, blob: Marked, step: FlagsStep, *, group: GroupId | None = None
) -> frozenset[str]:
    """Set and take away flags; what is set then. What is so already is no change.

    Raises:
        LimitExceeded: it would have more than `MAX_FLAGS`.
    """
    seen = facts.flag_tags(db, blob.no)
    old = frozenset(flag for flag, _ in seen)
    new = step.only if step.only is not None else (old - step.remove) | step.add
    if len(new) > MAX_FLAGS and len(new) > len(old):
        raise LimitExceeded(f"{blob.namespace}/{blob.blob_id!r} would have {len(new)} flags, not {MAX_FLAGS}")
    added = [(flag, int.from_bytes(os.urandom(8))) for flag in sorted(new - old)]
    _record_flags(db, blob, added, [tag for flag, tag in seen if flag not in new], group)
    return new


def clear_flags(db: Database, blob: Marked, *, group: GroupId | None = None) -> None:
    """Take away all flags that are seen."""
    change_flags(db, blob, FlagsStep(only=frozenset()), group=group)


def share(db: Database, blob: Marked, *, group: GroupId | None = None) -> None:
    """Tell others all that was said of a blob that stayed on this device."""
    _enqueue_flags(db, blob, facts.flag_tags(db, blob.no), facts.removed_tags(db, blob.no), group)
    for row in expiries.known(db, blob.no):
        change = ExpiresChange(blob.namespace, blob.blob_id, row.at, row.forced, row.hlc)
        outbox.enqueue_change(db, encode_change(change), group=group)


def withhold(db: Database, blob: Marked) -> None:
    """Take what waits to be said of a blob off the queue, if no other device knows the blob.

    Tags are not looked for: a version that has one is always sent.
    """
    if outbox.is_known_elsewhere(db, blob.no):
        return
    for number, packed in outbox.waiting_changes(db):
        with contextlib.suppress(SyncAgentError):  # a damaged row is told of when a batch is cut
            change = decode_change(packed)
            if isinstance(change, FlagsChange | ExpiresChange) and (
                (change.namespace, change.blob_id) == (blob.namespace, blob.blob_id)
            ):
                outbox.drop_change(db, number)


def set_expiry(
    db: Database,
    blob: Marked,
    at: int,
    *,
    now_ms: int,
    forced: bool = False,
    group: GroupId | None = None,
) -> None:
    """Let a blob expire at a time (Unix ms, or `NEVER`), if that is later than it would, or forced."""
    device = meta.device_id(db)
    hlc = next_hlc(db, now_ms, replaces=expiries.newest(db, blob.no))
    change = ExpiresChange(blob.namespace, blob.blob_id, at, forced, hlc)
    add_expiry(db, blob.no, change, blobs.device_no(db, device), now_ms=now_ms)
    if not blob.stays_local:
        outbox.enqueue_change(db, encode_change(change), group=group)


def add_expiry(db: Database, blob: int, change: ExpiresChange, device: int, *, now_ms: int) -> None:
    """Take over an expiry change of a device, and note what all of them come to."""
    was_over = expiries.is_over(db, blob, now_ms - EXPIRED_MS)
    expiries.add(db, blob, ExpiryRow(change.at, change.forced, Hlc(change.hlc)), device)
    is_back = was_over and not expiries.is_over(db, blob, now_ms - EXPIRED_MS)
    if is_back and settings.wants(db, change.namespace, change.blob_id, now_ms=now_ms):
        holding.want(db, blob)  # its content may have been given up


def _record_flags(
    db: Database,
    blob: Marked,
    added: Iterable[tuple[str, int]],
    removed: Iterable[int],
    group: GroupId | None,
) -> None:
    added, removed = tuple(added), tuple(removed)
    facts.add_flags(db, blob.no, added, removed)
    if not blob.stays_local:
        _enqueue_flags(db, blob, added, removed, group)


def _enqueue_flags(
    db: Database,
    blob: Marked,
    added: Iterable[tuple[str, int]],
    removed: Iterable[int],
    group: GroupId | None,
) -> None:
    parts = itertools.zip_longest(
        batched(added, _FLAGS_A_CHANGE), batched(removed, _TAGS_A_CHANGE), fillvalue=()
    )
    for add, remove in parts:
        change = FlagsChange(blob.namespace, blob.blob_id, tuple(add), tuple(remove))
        outbox.enqueue_change(db, encode_change(change), group=group)

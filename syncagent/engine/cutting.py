"""Cutting a batch: which waiting rows it holds, its bytes, and what is noted of it, in one transaction.

The packs that no batch has named yet go in first; then a whole transaction (a group), if one is ready, or
else single rows whose content is in packs that this or an earlier batch names.
"""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from syncagent import names
from syncagent.cache import alarms, blobs, journals, meta, outbox, ownbatches, sendable, settings
from syncagent.cache.db import Database
from syncagent.cache.ownbatches import OwnBatch
from syncagent.cache.sendable import START, Position, ReadyPage, Waiting
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.sealed import seal_object
from syncagent.engine.apply import alarm
from syncagent.engine.backoff import GIVEN_UP_S
from syncagent.engine.heads import fold_into
from syncagent.engine.stamps import next_hlc
from syncagent.errors import CacheDamaged, LimitExceeded, OpenError, TooNew
from syncagent.journal.batch import (
    cut,
    decode_change,
    decode_version,
    encode_batch,
    encode_change,
    version_change,
)
from syncagent.journal.chain import chain_next, chain_start
from syncagent.journal.changes import (
    ENVELOPE_BYTES,
    MAX_CHANGES,
    MAX_TRANSACTION_BYTES,
    Batch,
    ExpiresChange,
    FlagsChange,
    Head,
)
from syncagent.journal.merge import Expiry, standing
from syncagent.model import DeviceId, Hlc, PackRecord

ACKNOWLEDGE_MS = 24 * 3600 * 1000
"""A device that has read others and published nothing for so long says how far it has read."""
_PACK_ROWS_BYTES = 192 << 10
"""What packs may take of a batch, leaving room for changes."""
_JOINED_TAGS = 500
"""Some 130 KiB at most: a change must fit in a batch."""
_GROUP_BYTES = MAX_TRANSACTION_BYTES - ENVELOPE_BYTES


@dataclass(frozen=True, slots=True)
class Author:
    """What cutting needs: the keys to seal with, the time, and since when packs must have been seen."""

    keys: VaultKeys
    now_ms: int
    seen_since_ms: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The next batch, if anything is ready, and versions whose rows could not be read for it.

    `next` is where the next one is to be looked for, None when there is none; `left` are the versions
    asked for that had no room.
    """

    batch: OwnBatch | None
    damaged: Sequence[int] = ()
    next: Position | None = None
    left: Sequence[int] = ()


def cut_batch(
    db: Database,
    *,
    author: Author,
    namespace: int | None,
    after: Position = START,
    versions: Sequence[int] | None = None,
    is_apart: bool = False,
) -> Cut:
    """Cut, seal and keep the next batch, where anything is ready.

    Args:
        db: the cache, in a transaction.
        author: who seals it, and when.
        namespace: only of this one.
        after: only what waits behind it in the queue.
        versions: only these, wherever they wait; no transactions. Of one kind, that of the first.
        is_apart: of the two kinds that share no batch, the one that strangers write (`dedup` none).
            Without `versions`. Transactions are whole, whatever is in them.
    """
    ask = partial(
        _cut, db, author=author, namespace=namespace, after=after, versions=versions, is_apart=is_apart
    )
    db.execute("SAVEPOINT cut")
    try:
        found = ask()
    except (OpenError, TooNew, LimitExceeded):  # no device could read this batch: find out whose fault it is
        db.execute("ROLLBACK TO cut")
        found = ask(is_wary=True)
    db.execute("RELEASE cut")
    return found


def _cut(
    db: Database,
    *,
    author: Author,
    namespace: int | None,
    after: Position,
    versions: Sequence[int] | None,
    is_apart: bool,
    is_wary: bool = False,
) -> Cut:
    """As `cut_batch`; wary, it reads every change before it goes into the batch."""
    pending = ownbatches.unconfirmed_batch(db)
    if pending is not None:
        return Cut(pending, next=after, left=versions or ())  # an interruption left it there
    device = meta.device_id(db)
    seq = ownbatches.last_own_seq(db) + 1
    packs = _take_packs(db, seq)
    packs_bytes = sum(50 * len(record.chunks) + 100 for record in packs)
    taken = None
    if versions is None:
        taken = _take_group(db, author, packs_bytes, namespace, is_wary=is_wary)
        if taken is None:
            page = sendable.publishable(
                *(db, author.now_ms, MAX_CHANGES, namespace),
                after=after,
                seen_since_ms=author.seen_since_ms,
            )
            page = ReadyPage(_of_one_kind(db, page.rows, is_apart=is_apart), page.next)
    else:
        ready = sendable.publishable_of(
            db, author.now_ms, versions, namespace, seen_since_ms=author.seen_since_ms
        )
        page = ReadyPage(_of_one_kind(db, ready), None)
    if taken is None:
        taken = _take_changes(db, page, packs_bytes, author.now_ms, is_wary=is_wary)
        if versions is not None:
            others = {row.no for row in ready} - {row.no for row in page.rows}
            taken = replace(taken, left=[*taken.left, *_versions([r for r in ready if r.no in others])])
    # Packs that have just been named may make rows ready that were passed by, and a whole transaction too.
    next_ = after if packs or taken.is_group else taken.next
    if not taken.rows and not packs and not _owes_acknowledgement(db, author):
        return Cut(None, taken.damaged, next_)
    hlc = next_hlc(db, author.now_ms)
    chain_before = _chain_before(db, device, seq)
    heads = {
        other: Head(head_seq, chain) for other, head_seq, chain in journals.unannounced_heads(db, device)
    }
    payload = encode_batch(Batch(hlc, chain_before, heads, tuple(packs), ()), taken.changes)
    sealed = seal_object(author.keys, names.batch_object(device, seq), payload)
    digest = hashlib.sha256(sealed).digest()
    chain = chain_next(chain_before, digest)
    ownbatches.store_batch(db, seq=seq, sealed=sealed, object_sha256=digest, chain=chain, rows=taken.rows)
    journals.announce_heads(db, device)
    return Cut(OwnBatch(device, seq, sealed, chain), taken.damaged, next_, taken.left)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Rows for a batch with their encoded changes, versions that could not be read or had no room.

    `next` is the place in the queue behind the rows.
    """

    rows: Sequence[Waiting] = ()
    changes: Sequence[bytes] = ()
    damaged: Sequence[int] = ()
    left: Sequence[int] = ()
    next: Position | None = None
    is_group: bool = False


def _take_packs(db: Database, seq: int) -> list[PackRecord]:
    taken: list[PackRecord] = []
    size = 0
    for number, record in outbox.unannounced_packs(db, limit=256):
        size += 50 * len(record.chunks) + 100
        if taken and size > _PACK_ROWS_BYTES:
            break
        outbox.announce(db, number, seq)
        taken.append(record)
    return taken


def _take_group(
    db: Database, author: Author, packs_bytes: int, namespace: int | None, *, is_wary: bool
) -> _Taken | None:
    """A whole transaction, if one can go out now; never a part of one."""
    rows = sendable.publishable_group(db, author.now_ms, namespace, seen_since_ms=author.seen_since_ms)
    if not rows:
        return None
    changes = _changes(db, rows, is_wary=is_wary)
    if len(changes) < len(rows):  # the others wait for what cannot be read
        return _Taken(damaged=_set_aside(db, rows, changes, author.now_ms), is_group=True)
    if packs_bytes and packs_bytes + sum(map(len, changes.values())) > _GROUP_BYTES:
        return None  # the packs go first, in a batch of their own
    return _Taken(rows, _in_order(rows, changes), is_group=True)


def _of_one_kind(db: Database, rows: Sequence[Waiting], *, is_apart: bool | None = None) -> Sequence[Waiting]:
    """Those rows whose changes strangers write, or the others; None: those like the first.

    What is compressed together must not be: the size of a batch would tell a stranger what is ours in it.
    """
    apart = settings.kept_apart(db)
    if not apart:
        return [] if is_apart else rows
    versions = settings.versions_apart(db, _versions(rows))
    kinds = [
        row.version_no in versions if row.change is None else _namespace_of(row.change) in apart
        for row in rows
    ]
    wanted = is_apart if is_apart is not None else bool(kinds and kinds[0])
    return [row for row, kind in zip(rows, kinds, strict=True) if kind is wanted]


def _namespace_of(change: bytes) -> str | None:
    try:
        decoded = decode_change(change)
    except (OpenError, TooNew, LimitExceeded):
        return None  # it is set aside when it is read for the batch
    return decoded.namespace if isinstance(decoded, FlagsChange | ExpiresChange) else None


def _take_changes(db: Database, page: ReadyPage, packs_bytes: int, now_ms: int, *, is_wary: bool) -> _Taken:
    folded: set[int] = set()
    for version in outbox.replacing(db, _versions(page.rows)):
        if version not in folded:
            # Also what was replaced since `fold` ran: published alone, it would name a version that others do
            # not know and that this device may never be able to send.
            folded |= fold_into(db, version)
    rows = [row for row in page.rows if row.version_no not in folded]
    changes = _changes(db, rows, is_wary=is_wary)
    damaged = _set_aside(db, rows, changes, now_ms)
    rows = [row for row in rows if row.no in changes]
    count = cut([len(changes[row.no]) for row in rows], envelope_bytes=packs_bytes)
    taken, left = rows[:count], rows[count:]
    return _Taken(
        taken,
        _in_order(taken, changes),
        damaged,
        _versions(left),
        Position(taken[-1].priority, taken[-1].no) if left else page.next,
    )


def _changes(db: Database, rows: Sequence[Waiting], *, is_wary: bool = False) -> dict[int, bytes]:
    """The encoded change of each row, by its number; without those that are damaged.

    What a version says was checked when it was made: it is read again only where a batch came to nothing.
    """
    packed = blobs.packed_versions(db, _versions(rows))
    changes: dict[int, bytes] = {}
    flags: dict[tuple[str, str], dict[int, FlagsChange]] = {}
    expires: dict[tuple[str, str], dict[int, ExpiresChange]] = {}
    for row in rows:
        if row.change is not None:
            with contextlib.suppress(OpenError, TooNew, LimitExceeded):
                change = decode_change(row.change)
                changes[row.no] = row.change
                if isinstance(change, FlagsChange):
                    flags.setdefault((change.namespace, change.blob_id), {})[row.no] = change
                elif isinstance(change, ExpiresChange):
                    expires.setdefault((change.namespace, change.blob_id), {})[row.no] = change
        elif row.version_no in packed:
            with contextlib.suppress(OpenError, TooNew, LimitExceeded):
                if is_wary:
                    decode_version(packed[row.version_no])
                changes[row.no] = version_change(packed[row.version_no])
    for of_blob in flags.values():
        changes |= _joined(of_blob)
    for dates in expires.values():
        changes |= _outdone(dates)
    return changes


def _joined(flags: Mapping[int, FlagsChange]) -> dict[int, bytes]:
    """Changes of one blob's flags as one, in the place of the first; the others come to nothing.

    Their order is of no account, and one that is published twice does no harm. A tag that was taken away
    before it was published is published as taken away: a copy of this profile may have published it.
    """
    removed = {tag for change in flags.values() for tag in change.remove}
    added = {pair for change in flags.values() for pair in change.add if pair[1] not in removed}
    if len(flags) == 1 or len(added) + len(removed) > _JOINED_TAGS:
        return {}
    some = next(iter(flags.values()))
    joined = FlagsChange(some.namespace, some.blob_id, tuple(sorted(added)), tuple(sorted(removed)))
    return dict.fromkeys(flags, b"") | {next(iter(flags)): encode_change(joined)}


def _outdone(dates: Mapping[int, ExpiresChange]) -> dict[int, bytes]:
    """Changes of when one blob expires that others of them have made pointless: they come to nothing."""
    said = {no: Expiry(change.at, change.forced, Hlc(change.hlc)) for no, change in dates.items()}
    kept = standing(said.values())
    return {no: b"" for no, one in said.items() if one not in kept}


def _set_aside(db: Database, rows: Sequence[Waiting], changes: Mapping[int, bytes], now_ms: int) -> list[int]:
    """The versions that cannot be read. A change without content waits here, and a report tells of it."""
    damaged = [row for row in rows if row.no not in changes]
    for row in damaged:
        if row.version_no is None:
            error = CacheDamaged("a change without content, kept to be sent, cannot be read")
            alarms.keep(db, [alarm(error, f"change {row.no}")])
            until_ms = now_ms + int(GIVEN_UP_S * 1000)
            outbox.put_off(db, row.no, error=f"CacheDamaged: {error}", until_ms=until_ms)
    return _versions(damaged)


def _in_order(rows: Sequence[Waiting], changes: Mapping[int, bytes]) -> list[bytes]:
    return [changes[row.no] for row in rows if changes[row.no]]


def _versions(rows: Sequence[Waiting]) -> list[int]:
    return [row.version_no for row in rows if row.version_no is not None]


def _chain_before(db: Database, device: DeviceId, seq: int) -> bytes:
    if seq == 1:
        return chain_start(meta.vault_id(db), device)
    chain = ownbatches.own_chain(db, device, seq - 1)
    assert chain is not None, "batches are numbered without a gap"
    return chain


def _owes_acknowledgement(db: Database, author: Author) -> bool:
    if not journals.owes(db, meta.device_id(db)):
        return False
    last = meta.find_int(db, meta.LAST_PUBLISHED_AT) or meta.find_int(db, meta.JOINED_AT) or 0
    return abs(author.now_ms - last) >= ACKNOWLEDGE_MS  # also where the clock ran ahead when it was noted

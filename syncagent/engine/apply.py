"""A batch of another device joins the cache, in one transaction.

All change kinds are merged. Those whose feature comes later are kept and not
acted on.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from syncagent.cache import (
    alarms,
    blobs,
    chunks,
    downloads,
    facts,
    journals,
    meta,
    outbox,
    ownbatches,
    settings,
)
from syncagent.cache.db import Database
from syncagent.cache.status import Event, after
from syncagent.engine import marks
from syncagent.engine.arrivals import add_newcomers, candidates, newcomers
from syncagent.engine.heads import add_version, rank_anew
from syncagent.engine.holes import fill_holes, note_holes
from syncagent.engine.marks import Marked
from syncagent.engine.report import Seen
from syncagent.engine.slots import SLOTS_KEY
from syncagent.errors import CacheDamaged, ClockAhead, RemoteForked, SyncAgentError, Tampered
from syncagent.journal.batch import decode_change, encode_change, encode_version
from syncagent.journal.chain import chain_next, chain_start, contradicts
from syncagent.journal.changes import (
    Batch,
    Change,
    DeviceChange,
    ExpiresChange,
    FlagsChange,
    Head,
    SlotsChange,
    TagChange,
    VersionChange,
)
from syncagent.journal.clock import hlc_ms, is_far_ahead, observe
from syncagent.journal.merge import Register, newest
from syncagent.model import CHUNK_SIZE, DeviceId, Hlc, PackRecord, SyncStatus, Version, VersionId
from syncagent.names import SETTINGS
from syncagent.reports import Alarm

_C = TypeVar("_C", TagChange, DeviceChange, SlotsChange)


@dataclass(frozen=True, slots=True)
class Incoming:
    """An opened batch with where it came from."""

    device: DeviceId
    seq: int
    batch: Batch
    object_sha256: bytes


@dataclass(slots=True)
class Applied:
    """What a batch brought.

    Blobs that are in conflict since, by number; how many new heads need no content from the remote,
    such as deletions; what is odd about the batch; the versions of blobs that are new here; and what a
    person would see of it.
    """

    conflicts: set[int] = field(default_factory=set)
    arrived: int = 0
    alarms: list[Alarm] = field(default_factory=list)
    versions: set[VersionId] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)

    def add(self, other: "Applied") -> None:
        """Take what more of the batch has brought."""
        self.conflicts |= other.conflicts
        self.arrived += other.arrived
        self.alarms += other.alarms
        self.versions |= other.versions


def alarm(error: SyncAgentError, subject: str) -> Alarm:
    """An error that does not stop the rest of a sync, as a report shows it."""
    return Alarm(type(error).__name__, subject, str(error), error.safe, error.todo)


def may_go_ahead(batch: Batch) -> list[Version]:
    """Versions that may be stored before the rest of their batch; none of one that holds a transaction."""
    versions = _versions(batch)
    return [] if any(version.group is not None for version in versions) else candidates(versions)


def record_ahead(db: Database, incoming: Incoming, record: PackRecord, *, now_ms: int) -> None:
    """Take one pack of a batch over before the rest of it. Raises what `apply_batch` raises."""
    if _chain_after(db, incoming) is not None:
        _record_pack(db, record, incoming, now_ms)


def apply_ahead(db: Database, incoming: Incoming, versions: Sequence[Version], *, now_ms: int) -> Applied:
    """Store those of some versions that `may_go_ahead` whose blobs are new here; nothing else of the batch.

    So that a batch of a thousand does not hold the cache all the while. Should the rest never follow, what is
    stored is merged once more by the next sync, as any version that is known.

    Raises:
        RemoteForked: as `apply_batch`.
    """
    applied = Applied()
    if _chain_after(db, incoming) is not None:
        _add_newcomers(db, incoming, versions, applied, now_ms)
        if applied.alarms:
            alarms.keep(db, applied.alarms)
    return applied


def apply_batch(
    db: Database, incoming: Incoming, *, now_ms: int, ahead: Container[VersionId] = frozenset()
) -> Applied:
    """Merge a batch and move the cursor behind it.

    Args:
        db: the cache, in a transaction.
        incoming: the batch.
        now_ms: Unix time in milliseconds.
        ahead: versions that `apply_ahead` has stored.

    Raises:
        RemoteForked: it does not chain to what this device, or another one, has seen. Nothing is applied.
    """
    applied = Applied()
    chain = _chain_after(db, incoming)
    if chain is None:
        return applied
    device_no = blobs.device_no(db, incoming.device)
    for record in incoming.batch.packs:
        _record_pack(db, record, incoming, now_ms)
    plain = [version for version in candidates(_versions(incoming.batch)) if version.id not in ahead]
    _add_newcomers(db, incoming, plain, applied, now_ms)
    _check_marks(incoming, applied, now_ms)
    for position, change in enumerate(incoming.batch.changes):
        if not (
            isinstance(change, VersionChange)
            and (change.version.id in ahead or change.version.id in applied.versions)
        ):
            _apply_change(db, change, position, incoming, device_no, applied, now_ms)
    for device, head in incoming.batch.heads.items():
        _note_head(db, device, head.seq, head.chain, applied)
    meta_hlc = observe(meta.hlc(db), Hlc(incoming.batch.hlc), now_ms)
    if meta_hlc != meta.hlc(db):
        meta.put(db, meta.HLC, meta_hlc)
    journals.advance(db, device_no, incoming.seq, chain)
    if incoming.batch.changes or incoming.batch.packs:  # else it is itself an acknowledgement
        journals.owe(db, device_no, incoming.seq)
    if blobs.has_holes(db):
        _fill_holes(db, applied)
    if applied.alarms:
        alarms.keep(db, applied.alarms)
    return applied


def _chain_after(db: Database, incoming: Incoming) -> bytes | None:
    """The chain after a batch that is the next of its journal; None when it is applied already.

    Raises:
        RemoteForked: it does not chain to what this device, or another one, has seen.
    """
    cursor = journals.cursor(db, incoming.device)
    if incoming.seq <= cursor.seq:
        return None  # another process of this device was quicker
    before = cursor.chain or chain_start(meta.vault_id(db), incoming.device)
    if incoming.seq != cursor.seq + 1 or incoming.batch.chain_before != before:
        raise RemoteForked(
            f"batch {incoming.seq} of device {incoming.device.hex()} does not follow what was read"
        )
    chain = chain_next(before, incoming.object_sha256)
    shown_seq, shown_chain = journals.shown_chain(db, incoming.device)
    if shown_seq == incoming.seq and shown_chain != chain:
        raise RemoteForked(
            f"batch {incoming.seq} of device {incoming.device.hex()} is not the one another device has read"
        )
    return chain


def _record_pack(db: Database, record: PackRecord, incoming: Incoming, now_ms: int) -> None:
    seen_at_ms = min(hlc_ms(Hlc(incoming.batch.hlc)), now_ms)  # as its writer says; it had put it before
    chunks.record_pack(db, record, is_remote=True, has_file=False, seen_at_ms=seen_at_ms, batch_seq=0)


def _versions(batch: Batch) -> list[Version]:
    return [change.version for change in batch.changes if isinstance(change, VersionChange)]


def _add_newcomers(
    db: Database, incoming: Incoming, versions: Sequence[Version], applied: Applied, now_ms: int
) -> None:
    new = newcomers(db, versions)
    for version in new:
        _check_date(version, incoming, applied, now_ms)
    applied.arrived += add_newcomers(db, new, device=blobs.device_no(db, incoming.device), seq=incoming.seq)
    applied.versions.update(VersionId(version.id) for version in new)
    applied.seen += map(Seen.of_new, new)


def _check_date(version: Version, incoming: Incoming, applied: Applied, now_ms: int) -> None:
    if is_far_ahead(Hlc(version.hlc), now_ms):
        error = ClockAhead(f"version {version} is dated more than a day ahead of this device's clock")
        applied.alarms.append(alarm(error, f"journal {incoming.device.hex()}"))


def _check_marks(incoming: Incoming, applied: Applied, now_ms: int) -> None:
    """What goes by the newest change is reported once a batch where its clock is far ahead."""
    dated = (ExpiresChange, TagChange, DeviceChange, SlotsChange)
    stamps = [change.hlc for change in incoming.batch.changes if isinstance(change, dated)]
    if stamps and is_far_ahead(Hlc(max(stamps)), now_ms):
        error = ClockAhead("a lifetime, tag, name or key slot is dated more than a day ahead of this clock")
        applied.alarms.append(alarm(error, f"journal {incoming.device.hex()}"))


def _apply_change(
    db: Database,
    change: Change,
    position: int,
    incoming: Incoming,
    device_no: int,
    applied: Applied,
    now_ms: int,
) -> None:
    match change:
        case VersionChange(version):
            _apply_version(db, version, incoming, applied, now_ms)
        case FlagsChange():
            facts.add_flags(db, _blob(db, change), change.add, change.remove)
        case ExpiresChange():
            marks.add_expiry(db, _blob(db, change), change, device_no, now_ms=now_ms)
        case TagChange():
            key = change.version + change.name.encode()
            merge_register(db, "tag", key, Register(change, incoming.device))
        case DeviceChange():
            merge_register(db, "device", change.device, Register(change, incoming.device))
        case SlotsChange():
            merge_register(db, "slots", SLOTS_KEY, Register(change, incoming.device))
        case _:
            facts.keep_change(
                db,
                device=device_no,
                seq=incoming.seq,
                position=position,
                kind=str(type(change).__struct_config__.tag),
                change=encode_change(change),
            )


def merge_register(db: Database, kind: str, key: bytes, incoming: Register[_C]) -> None:
    """Let the newer of what stands and what has come stand."""
    found = facts.find_register(db, kind, key)
    standing = incoming
    if found is not None:
        change = decode_change(found.change)
        assert isinstance(change, type(incoming.change)), "a kind of register holds one kind of change"
        standing = newest(Register(change, found.device), incoming)
        if standing.change is change:
            return
    facts.set_register(
        db,
        kind,
        key,
        change=encode_change(standing.change),
        hlc=standing.change.hlc,
        device=standing.device,
    )


def _apply_version(db: Database, version: Version, incoming: Incoming, applied: Applied, now_ms: int) -> None:
    known = blobs.find_version(db, version.id)
    if known is not None:
        is_local = blobs.status_of(db, known) is SyncStatus.LOCAL_ONLY
        is_untold = is_local or outbox.is_unpublished(db, known)
        if is_untold and _settle_published(db, known, version, incoming):
            # This profile was copied or restored: its other self has published what waits, or stays, here.
            if is_local:
                marks.share(db, marks.marked(db, _blob(db, version), version.namespace, version.blob_id))
            return
        if not blobs.same_fields(db, known, version):
            error = Tampered(f"version {version} came with other fields than before")
            applied.alarms.append(alarm(error, f"journal {incoming.device.hex()}"))
        return
    _check_date(version, incoming, applied, now_ms)
    numbers = [
        chunks.chunk_no(
            db,
            chunk_id,
            scope=version.scope,
            raw_length=min(CHUNK_SIZE, version.size - position * CHUNK_SIZE),
        )
        for position, chunk_id in enumerate(version.content)
    ]
    is_here = all(chunks.is_here(db, number) for number in numbers)
    is_wanted = settings.wanted_before(db, [parent.version for parent in version.parents], numbers)
    if is_wanted is None:
        is_wanted = settings.wants(db, version.namespace, version.blob_id, now_ms=now_ms)
    arrival = Event.ARRIVED_WANTED if is_wanted else Event.ARRIVED_UNWANTED
    status = after(None, Event.ARRIVED_HERE if is_here else arrival)
    assert status is not None
    note_holes(db, version)
    added = add_version(db, version, device=incoming.device, seq=incoming.seq, status=status, chunks=numbers)
    if added.was_local:
        marks.share(db, Marked(added.blob_no, version.namespace, version.blob_id))
    if added.is_head and is_wanted and not is_here:
        downloads.enqueue(db, [added.version_no])
    if added.is_head and is_here:
        applied.arrived += 1
    if added.is_conflict and version.namespace != SETTINGS:  # of two settings the later stands
        applied.conflicts.add(added.blob_no)
    if added.winner is not None:
        applied.seen.append(
            Seen(
                *(version.namespace, version.blob_id, added.was_live, not added.winner.deleted),
                size=added.winner.size,
                is_other=added.has_new_winner,
                is_conflict=added.is_conflict,
            )
        )


def _fill_holes(db: Database, applied: Applied) -> None:
    for blob, shown in fill_holes(db):
        if shown.namespace != SETTINGS:
            applied.conflicts.add(blob)
            seen = Seen(shown.namespace, shown.blob_id, True, not shown.deleted, shown.size)
            applied.seen.append(replace(seen, is_other=False, is_conflict=True))


def _settle_published(db: Database, known: int, version: Version, incoming: Incoming) -> bool:
    """Take a version that waits here as published by another; whether it is the same one.

    Its parents may differ: what waited too and was replaced by it may have been folded there. The
    published form counts, and what it has superseded is dropped here.
    """
    try:
        own = blobs.load_version(db, known)
        if _as_put(own) != _as_put(version):
            return False
        if (own.parents, own.group) != (version.parents, version.group):
            kept = {parent.version for parent in version.parents}
            for parent in own.parents:
                if parent.version not in kept:
                    _drop_unpublished(db, parent.version)
            blobs.replace_version(db, known, version)
    except CacheDamaged:
        blobs.replace_version(db, known, version)  # the id is 128 random bits, and the row is lost anyway
    blobs.move_status(db, known, Event.SHARED)
    outbox.settle(db, known, device=blobs.device_no(db, incoming.device), seq=incoming.seq)
    blob = blobs.blob_of_version(db, version.id)
    assert blob is not None
    rank_anew(db, blob)
    return True


def _as_put(version: Version) -> bytes:
    return encode_version(msgspec.structs.replace(version, parents=(), group=None))


def _drop_unpublished(db: Database, version_id: bytes) -> None:
    """Fold a waiting version, and those it replaced, into what another has published in their place."""
    number = blobs.find_version(db, version_id)
    if number is None or not outbox.is_unpublished(db, number):
        return
    parents = blobs.load_version(db, number).parents
    blobs.delete_version(db, number)
    for parent in parents:
        _drop_unpublished(db, parent.version)


def _note_head(db: Database, device: DeviceId, seq: int, chain: bytes, applied: Applied) -> None:
    if contradicts(Head(seq, chain), _known_chain(db, device, seq)):
        if device == meta.device_id(db):
            # Somebody has read another batch of ours: a copy of this profile has written it.
            meta.put(db, meta.IS_COPIED, 1)
        error = RemoteForked(f"two devices were shown different batches {seq} of device {device.hex()}")
        applied.alarms.append(alarm(error, f"journal {device.hex()}"))
    journals.show_head(db, blobs.device_no(db, device), seq, chain)


def _known_chain(db: Database, device: DeviceId, seq: int) -> bytes | None:
    """The chain after a batch: known of the last one read of each journal, and of all of our own."""
    cursor = journals.cursor(db, device)
    if seq == cursor.seq:
        return cursor.chain
    return ownbatches.own_chain(db, device, seq)


def _blob(db: Database, change: FlagsChange | ExpiresChange | Version) -> int:
    return blobs.blob_no(db, blobs.namespace_no(db, change.namespace), change.blob_id)

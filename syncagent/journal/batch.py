"""The shapes of a batch and its changes, and their strict msgpack form.

Sealing is not done here: these are the bytes inside a sealed journal object,
and inside the cache's own rows. A batch was written by a device of this vault,
so nothing in it is trusted to be small or sane merely because it opened:

    what is wrong                                           raised
    ─────────────────────────────────────────────────────   ─────────────
    not msgpack, cut short, trailing bytes, nested deep     Tampered
    another type, count or range of a field; unknown kind,  TooNew
      codec, epoch; a field too many or too few
    over a limit of the format                              LimitExceeded
    well formed, but at odds with itself                    Tampered

Maps are written with sorted keys, so equal values have equal bytes; they are
read in any order.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, TypeVar

import msgspec

from syncagent import names
from syncagent.errors import ConfigError, LimitExceeded, Tampered, TooNew
from syncagent.model import (
    CHUNK_SIZE,
    EPOCH,
    MAX_METADATA_BYTES,
    PACK_HEADER,
    TAG_SIZE,
    Bytes16,
    Bytes32,
    ChunkId,
    Codec,
    DeviceId,
    HlcField,
    MetadataValue,
    PackId,
    PackRecord,
    SeqField,
    SlotId,
    Version,
    VersionId,
)

MAX_CHANGES = 1000
MAX_BATCH_BYTES = 256 << 10
"""A batch is cut before it exceeds this, unless a single change or a transaction needs more."""
MAX_TRANSACTION_BYTES = (8 << 20) - (4 << 10)
"""Most msgpack in any batch: what does not compress still fits, sealed, in an object of 8 MiB + 4 KiB."""
ENVELOPE_BYTES = 64 << 10
"""Kept free in a transaction's batch for its clock, chain and heads (about 60 bytes a device)."""
MAX_FLAG_BYTES = 256
MAX_TAG_NAME_BYTES = 256
MAX_DEVICE_NAME_BYTES = 256
MAX_PLATFORM_BYTES = 256

NEVER = (1 << 62) - 1
"""`at` of an `expires` change that takes an expiry away."""


_Id16 = msgspec.Meta(min_length=16, max_length=16)
_Id32 = msgspec.Meta(min_length=32, max_length=32)
_UnixMs = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=NEVER)]
_Tag = Annotated[int, msgspec.Meta(ge=0)]  # at most 64 bits: msgpack has no greater integer
_DeviceId = Annotated[DeviceId, _Id16]
_VersionIds = tuple[Annotated[VersionId, _Id16], ...]
_PackIds = tuple[Annotated[PackId, _Id32], ...]


class Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How far a device has read another's journal: the last sequence number and the chain there."""

    seq: SeqField
    chain: Bytes32


class VersionChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="version"):
    """A new version of a blob."""

    version: Version


class FlagsChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="flags"):
    """Flags set under fresh random tags, and the tags seen of flags taken away."""

    namespace: str
    blob_id: str
    add: tuple[tuple[str, _Tag], ...]
    remove: tuple[_Tag, ...]


class ExpiresChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="expires"):
    """When a blob expires, in Unix milliseconds. A forced one also shortens; see `merge.expires_at`."""

    namespace: str
    blob_id: str
    at: _UnixMs
    forced: bool
    hlc: HlcField


class TagChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="tag"):
    """A name put on a version, or taken off it; last writer wins per (version, name)."""

    version: Annotated[VersionId, _Id16]
    name: str
    on: bool
    hlc: HlcField


class ForgetChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="forget"):
    """Versions that retention dropped."""

    versions: _VersionIds


class RetireChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="retire"):
    """Packs that will be collected unless someone rescues them."""

    packs: _PackIds


class RescueChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="rescue"):
    """Retired packs that are needed after all."""

    packs: _PackIds


class LostChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="lost"):
    """Packs that the remote no longer has, or has only damaged."""

    packs: _PackIds


class DroppedChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="dropped"):
    """Retired packs that were deleted at the remote."""

    packs: _PackIds


class WantChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="want"):
    """Chunks that a device asks the others to send again."""

    chunks: tuple[Annotated[ChunkId, _Id32], ...]


class DeviceChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="device"):
    """What is known of `device`, which need not be the author; last writer wins per device."""

    device: _DeviceId
    name: str
    platform: str
    replaces: _DeviceId | None
    retired: bool
    hlc: HlcField


class SlotsChange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="slots"):
    """The key slots in force, with the SHA-256 of each one's object; last writer wins as a whole."""

    slots: dict[Annotated[SlotId, _Id16], Bytes32]
    hlc: HlcField


class SnapshotChange(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="snapshot"
):
    """A snapshot at the remote: what it covers, and the SHA-256 of its object."""

    id: Bytes16
    heads: dict[_DeviceId, Head]
    sha256: Bytes32


Change = (
    VersionChange
    | FlagsChange
    | ExpiresChange
    | TagChange
    | ForgetChange
    | RetireChange
    | RescueChange
    | LostChange
    | DroppedChange
    | WantChange
    | DeviceChange
    | SlotsChange
    | SnapshotChange
)
"""Every change kind of format 1; on the wire an array that begins with the kind's name."""


class Batch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One journal object's content. Its device and sequence number are in the object's name, not here.

    `heads` holds what this device has read of others since its previous batch.
    """

    hlc: HlcField
    chain_before: Bytes32
    heads: dict[_DeviceId, Head]
    packs: tuple[PackRecord, ...]
    changes: tuple[Change, ...]


_T = TypeVar("_T")
_K = TypeVar("_K", bound=bytes | str)
_V = TypeVar("_V")

_VERSION_KIND = b"\x92" + msgspec.msgpack.encode("version")
"""How an array of two begins whose first element is the kind's name."""
_encode: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
_batches = msgspec.msgpack.Decoder(Batch)
_changes: msgspec.msgpack.Decoder[Change] = msgspec.msgpack.Decoder(Change)
_versions = msgspec.msgpack.Decoder(Version)


def encode_batch(batch: Batch, encoded: Iterable[bytes] = ()) -> bytes:
    """The msgpack of a batch, equal for equal batches.

    It is read back before it is returned: a batch that no device could read would stop a journal for good.

    Args:
        batch: the batch.
        encoded: further changes, that come after its own, as `encode_change` or `version_change` gave them.

    Raises:
        LimitExceeded, Tampered, TooNew: what `decode_batch` would raise.
    """
    _check_batch(batch)
    changes = [_encode(_with_sorted_keys(change)) for change in batch.changes]
    data = _encode(
        (
            batch.hlc,
            batch.chain_before,
            _by_key(batch.heads),
            batch.packs,
            [msgspec.Raw(change) for change in (*changes, *encoded)],
        )
    )
    decode_batch(data)
    return data


def decode_batch(data: bytes) -> Batch:
    """The batch in these bytes, wholly checked.

    Raises:
        LimitExceeded, Tampered, TooNew: as in the table at the head of this file.
    """
    batch = _read_batch(data)
    _check_batch(batch)
    return batch


def encode_change(change: Change) -> bytes:
    """The msgpack of one change, equal for equal changes. Raises what `check_change` raises."""
    check_change(change)
    return _encode(_with_sorted_keys(change))


def version_change(version: bytes) -> bytes:
    """The msgpack of a `version` change, from that of its version."""
    return _VERSION_KIND + version


def decode_change(data: bytes) -> Change:
    """The change in these bytes, checked as `decode_batch` checks it."""
    change = _decode(_changes, data, "a change")
    check_change(change)
    return change


def encode_version(version: Version) -> bytes:
    """The msgpack of a version, equal for equal fields. Not checked: see `check_version`."""
    return _encode(_sorted_version(version))


def decode_version(data: bytes) -> Version:
    """The version in these bytes, checked as `decode_batch` checks it."""
    version = _decode(_versions, data, "a version")
    check_version(version)
    return version


def cut(sizes: Iterable[int], *, envelope_bytes: int = 0) -> int:
    """How many of the waiting changes, given their encoded sizes in order, go in one batch.

    At least one where any waits: a change too big for a usual batch has one of its own. A transaction
    is not cut; see `check_transaction`.

    Args:
        sizes: `len(encode_change(change))` of each.
        envelope_bytes: what the batch's packs and heads take already.
    """
    count, total = 0, envelope_bytes
    for size in sizes:
        total += size
        if count == MAX_CHANGES or (count and total > MAX_BATCH_BYTES):
            break
        count += 1
    return count


def check_transaction(sizes: Iterable[int]) -> None:
    """Raises `LimitExceeded` where a transaction's changes cannot all go in one batch."""
    total = sum(sizes)
    allowed = MAX_TRANSACTION_BYTES - ENVELOPE_BYTES
    if total > allowed:
        raise LimitExceeded(
            f"the transaction has {total} bytes of changes, {allowed} are allowed",
            safe="nothing of the transaction was stored",
            todo="split it",
        )


def check_metadata(metadata: Mapping[str, MetadataValue]) -> dict[str, MetadataValue]:
    """A caller's metadata as a version holds it, keys sorted.

    Raises:
        ConfigError: a key or a value is of a kind that metadata cannot hold; the message names the key.
        LimitExceeded: it is over 16 KiB when packed.
    """
    for key, value in metadata.items():
        problem = _wrong_kind(key, value) or _wrong_value(key, value)
        if problem:
            raise ConfigError(f"metadata {str(key)[:80]!r}: {problem}", safe="nothing was stored")
    ordered = _by_key(metadata)
    _check_metadata_size(ordered)
    return ordered


def check_change(change: Change) -> None:
    """Raises `LimitExceeded`, `Tampered` or `TooNew` for what the types of a change cannot refuse."""
    match change:
        case VersionChange(version):
            check_version(version)
        case FlagsChange():
            _check_blob(change.namespace, change.blob_id)
            for flag, _ in change.add:
                _check_text(flag, "a flag", MAX_FLAG_BYTES)
        case ExpiresChange():
            _check_blob(change.namespace, change.blob_id)
        case TagChange():
            _check_text(change.name, "a tag's name", MAX_TAG_NAME_BYTES)
        case DeviceChange():
            _check_text(change.name, "a device's name", MAX_DEVICE_NAME_BYTES)
            _check_text(change.platform, "a device's platform", MAX_PLATFORM_BYTES)
            if change.replaces == change.device:
                raise Tampered(f"device {change.device.hex()} is said to replace itself")
        case _:
            # ids only: their types say all
            pass


def check_version(version: Version) -> None:
    """Raises `LimitExceeded`, `Tampered` or `TooNew` for what the types of a version cannot refuse."""
    _check_blob(version.namespace, version.blob_id)
    seen = {version.id}
    for parent in version.parents:
        if parent.version in seen:
            raise Tampered(f"version {version} names itself or a parent twice")
        seen.add(parent.version)
    if version.deleted and (version.size or version.content):
        raise Tampered(f"version {version} is a deletion, but has content")
    chunks = -(-version.size // CHUNK_SIZE)
    if len(version.content) != chunks:
        raise Tampered(
            f"version {version} has {len(version.content)} chunks, {chunks} belong to {version.size} bytes"
        )
    for key, value in version.metadata.items():
        if problem := _wrong_kind(key, value):
            raise _too_new(f"version {version}, metadata {str(key)[:80]!r}", problem)
        if problem := _wrong_value(key, value):
            raise Tampered(f"version {version}, metadata {key[:80]!r}: {problem}")
    _check_metadata_size(version.metadata)


def _read_batch(data: bytes) -> Batch:
    if len(data) > MAX_TRANSACTION_BYTES:
        raise LimitExceeded(f"a batch has {len(data)} bytes, {MAX_TRANSACTION_BYTES} are allowed")
    return _decode(_batches, data, "a batch")


def _check_batch(batch: Batch) -> None:
    versions: set[bytes] = set()
    packs: set[bytes] = set()
    for change in batch.changes:
        check_change(change)
        if isinstance(change, VersionChange):
            if change.version.id in versions:
                raise Tampered(f"a batch holds version {change.version} twice")
            versions.add(change.version.id)
    for pack in batch.packs:
        _check_pack(pack)
        if pack.id in packs:
            raise Tampered(f"a batch names pack {pack.id.hex()} twice")
        packs.add(pack.id)


def _check_pack(pack: PackRecord) -> None:
    if pack.epoch != EPOCH:
        raise _too_new(f"pack {pack.id.hex()}", f"epoch {pack.epoch}")
    end = PACK_HEADER + sum(chunk.stored_length for chunk in pack.chunks)
    if pack.size < end:
        raise Tampered(f"pack {pack.id.hex()} has {pack.size} bytes, its chunks end at {end}")
    for chunk in pack.chunks:
        if chunk.codec is Codec.STORED and chunk.stored_length != chunk.raw_length + TAG_SIZE:
            raise Tampered(f"pack {pack.id.hex()} holds a stored chunk of another length than its content")


def _check_blob(namespace: str, blob_id: str) -> None:
    if not names.is_namespace(namespace):
        raise Tampered(f"{namespace[:80]!r} is not a namespace name")
    if problem := names.blob_id_problem(blob_id):
        raise Tampered(f"{blob_id[:80]!r} is not a blob id: {problem}")


def _check_text(text: str, what: str, most_bytes: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Tampered(f"{what} cannot be written as UTF-8: {text[:80]!r}") from None
    if size > most_bytes:
        raise LimitExceeded(f"{what} has {size} bytes, {most_bytes} are allowed: {text[:80]!r}")
    if not size or "\0" in text:
        raise Tampered(f"{what} is empty or contains a NUL: {text[:80]!r}")


def _check_metadata_size(metadata: Mapping[str, MetadataValue]) -> None:
    size = len(_encode(metadata))
    if size > MAX_METADATA_BYTES:
        key = max(metadata, key=lambda key: len(_encode(metadata[key])))
        raise LimitExceeded(
            f"metadata has {size} bytes, {MAX_METADATA_BYTES} are allowed; {key[:80]!r} is its greatest value"
        )


def _wrong_kind(key: object, value: object) -> str | None:
    """Exact types: `True` is not 1, and what a subclass adds would be lost on the way."""
    if type(key) is not str:
        return f"a key is text, not {type(key).__name__}"
    if type(value) not in (str, int, float, bool, bytes):
        return f"a value is text, int, float, bool or bytes, not {type(value).__name__}"
    return None


def _wrong_value(key: str, value: MetadataValue) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return "the number does not fit in 64 bits"
    for text in (key, value):
        if isinstance(text, str):
            try:
                text.encode()
            except UnicodeEncodeError:
                return "the text cannot be written as UTF-8"
    return None


def _with_sorted_keys(change: Change) -> Change:
    match change:
        case VersionChange(version):
            return VersionChange(_sorted_version(version))
        case SlotsChange(slots):
            return msgspec.structs.replace(change, slots=_by_key(slots))
        case SnapshotChange():
            return msgspec.structs.replace(change, heads=_by_key(change.heads))
        case _:
            return change


def _sorted_version(version: Version) -> Version:
    return msgspec.structs.replace(version, metadata=_by_key(version.metadata))


def _by_key(mapping: Mapping[_K, _V]) -> dict[_K, _V]:
    """Sorted by hand: msgspec sorts only maps whose keys are text."""
    return dict(sorted(mapping.items()))


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes, what: str) -> _T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as exc:
        raise _too_new(what, str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Tampered(f"{what} is not well formed: {str(exc)[:200]!r}") from exc
    except RecursionError as exc:
        raise Tampered(f"{what} is nested too deeply") from exc


def _too_new(what: str, problem: str) -> TooNew:
    return TooNew(f"{what} was made by a newer syncagent, or altered: {problem[:200]!r}")

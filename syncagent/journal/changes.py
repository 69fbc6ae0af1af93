"""The shapes of a batch and of its changes, and the limits on them.

What their types cannot refuse, `checks.py` does.
"""

from typing import Annotated

import msgspec

from syncagent.model import (
    NEVER,
    Bytes16,
    Bytes32,
    ChunkId,
    DeviceId,
    HlcField,
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

"""The values that layers hand each other: ids, versions, packs, statuses, reports.

Frozen, without behaviour. What is serialised (`docs/format.md`) is a msgspec
Struct in array form: the order of its fields is the format.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NewType

import msgspec

CHUNK_SIZE = 1 << 20
"""Most bytes of content in one chunk."""
SMALL_BLOB = 256 << 10
"""Content up to this size lives in rows of the cache and shares packs."""
EPOCH = 1
"""The only epoch of the root secret that format 1 knows; headers carry it so that a root can be replaced."""
PACK_HEADER = 40
TAG_SIZE = 16
"""Bytes of an AES-GCM tag."""
MAX_BLOB_SIZE = 64 << 30
MAX_METADATA_BYTES = 16 << 10
NEVER = (1 << 62) - 1
"""As the time at which a blob expires: it does not."""
DEFAULT_PRIORITY = 2
"""Of 1 (first) to 4."""
MAX_RETRIES = 8
"""Failures of its own after which a blob is tried only once a day."""

VersionId = NewType("VersionId", bytes)
DeviceId = NewType("DeviceId", bytes)
VaultId = NewType("VaultId", bytes)
SlotId = NewType("SlotId", bytes)
GroupId = NewType("GroupId", bytes)
Scope = NewType("Scope", bytes)
ChunkId = NewType("ChunkId", bytes)
PackId = NewType("PackId", bytes)
Hlc = NewType("Hlc", int)
"""Hybrid logical clock: Unix milliseconds in the high 48 bits, a counter in the low 16."""

Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
U32 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
HlcField = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
SeqField = Annotated[int, msgspec.Meta(ge=0, lt=10**12)]


MetadataValue = str | int | float | bool | bytes
"""One value of a blob's metadata: text, 64-bit integer, finite float, bool or bytes."""
Metadata = Mapping[str, MetadataValue]
if TYPE_CHECKING:
    MetadataField = dict[str, MetadataValue]
else:  # msgspec has no union of text with bytes: the journal checks each value when it decodes
    MetadataField = dict[str, Any]


class Parent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A head the writer saw: the batch (device, seq) that published it; seq 0 when not yet published."""

    version: Bytes16
    device: Bytes16
    seq: SeqField


class Version(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, eq=False):
    """One immutable state of a blob. Equal and hashed by its id; `str()` gives the id in hex.

    `content` holds chunk ids in order; `content_digest` is SHA-256 over the
    SHA-256 digests of the chunks; `created_at` is Unix time in milliseconds.
    """

    id: Bytes16
    hlc: HlcField
    namespace: str
    blob_id: str
    parents: tuple[Parent, ...]
    deleted: bool
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOB_SIZE)]
    created_at: Annotated[int, msgspec.Meta(ge=-(1 << 62), lt=1 << 62)]
    metadata: MetadataField
    scope: Bytes16
    content: tuple[Bytes32, ...]
    content_digest: Bytes32
    group: Bytes16 | None = None

    def __str__(self) -> str:
        return self.id.hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and other.id == self.id

    def __ne__(self, other: object) -> bool:  # msgspec gives each Struct one that compares the fields
        return not self == other

    def __hash__(self) -> int:
        return hash(self.id)


class Codec(enum.IntEnum):
    """How a chunk is stored in a pack."""

    STORED = 0
    ZSTD = 1


class PackedChunk(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One chunk's place in a pack; `stored_length` includes the 16 bytes of the tag."""

    id: Bytes32
    stored_length: Annotated[int, msgspec.Meta(ge=16, le=CHUNK_SIZE + 16)]
    raw_length: Annotated[int, msgspec.Meta(ge=1, le=CHUNK_SIZE)]
    codec: Codec


class PackRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All that is needed to open a pack: chunks in order, the first right after the 40-byte header."""

    id: Bytes32
    size: Annotated[int, msgspec.Meta(ge=0, le=16 << 20)]
    epoch: U32
    salt: Bytes32
    chunks: Annotated[tuple[PackedChunk, ...], msgspec.Meta(max_length=4096)]


class SyncStatus(enum.IntEnum):
    """Where a head version's content is. `syncagent.cache.status` holds the transitions."""

    SYNCED = 1
    PENDING_UPLOAD = 2
    PENDING_DOWNLOAD = 3
    FAILED_UPLOAD = 4
    FAILED_DOWNLOAD = 5
    REMOTE_ONLY = 6
    LOCAL_ONLY = 7


class FetchPolicy(enum.Enum):
    """Which content of a namespace a device fetches by itself."""

    EAGER = "eager"
    """All of it."""
    ON_DEMAND = "on-demand"
    """What is read, prefetched or pinned."""
    PINNED = "pinned"
    """All of it, and none can be evicted."""


class Dedup(enum.Enum):
    """Among which blobs equal content is stored once."""

    NAMESPACE = "namespace"
    VAULT = "vault"
    NONE = "none"
    """Not at all, nor compressed together with what is of another namespace: for what strangers write."""


@dataclass(frozen=True, slots=True)
class NamespaceSettings:
    """How a namespace is kept; `history` is how many versions, None for all. `local_only` is not synced."""

    fetch: FetchPolicy = FetchPolicy.EAGER
    dedup: Dedup = Dedup.NAMESPACE
    history: int | None = None
    local_only: bool = False

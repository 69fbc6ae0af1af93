"""The values that layers hand each other: ids, versions, packs, statuses, reports.

Frozen, without behaviour. What is serialised (`docs/format.md`) is a msgspec
Struct in array form: the order of its fields is the format.
"""

import datetime
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, NewType

import msgspec

from syncagent.errors import SyncAgentError

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
HlcField = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
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


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob's content in memory with the version it came from."""

    id: str
    data: bytes = field(repr=False)
    metadata: Metadata = field(repr=False)
    version: Version
    size: int
    created_at: datetime.datetime


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """A blob as a listing shows it, without content. `version` is the winning version's id in hex.

    `expires_at` None is never. `reads` counts how often its content was got on this device, the last time at
    `last_read_at`; other devices do not hear of it.
    """

    namespace: str
    id: str
    size: int
    status: SyncStatus
    version: str
    created_at: datetime.datetime
    changed_at: datetime.datetime
    conflict: bool
    expires_at: datetime.datetime | None = None
    reads: int = 0
    last_read_at: datetime.datetime | None = None


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


class ListOrder(enum.Enum):
    """What a listing is sorted by: the id, when the blob was last changed or first put, or its size."""

    ID = "id"
    CHANGED = "changed"
    CREATED = "created"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class BlobPage:
    """One page of a listing. `next` is opaque: pass it as `after`; None on the last page."""

    blobs: tuple[BlobInfo, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class BlobChange:
    """A blob that has changed, as a listing shows it now; `blob` is None when it is deleted."""

    namespace: str
    id: str
    blob: BlobInfo | None


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes in order. `token` is opaque: ask with it for what comes after; `more` of them are there."""

    changes: tuple[BlobChange, ...]
    token: str
    more: bool


@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of one blob of `put_many`: a version, or the error that stopped this one."""

    id: str
    version: Version | None = None
    error: SyncAgentError | None = None


@dataclass(frozen=True, slots=True)
class GetResult:
    """What became of one blob of `get_many`: a blob, or the error that stopped this one."""

    id: str
    blob: Blob | None = None
    error: SyncAgentError | None = None

    @property
    def data(self) -> bytes:
        """The content; raises `error` where there is none."""
        if self.blob is None:
            raise self.error or SyncAgentError(f"{self.id!r} has no content")
        return self.blob.data


@dataclass(frozen=True, slots=True)
class FlagsResult:
    """What became of one blob of `update_flags`: the flags it has, or the error that stopped this one."""

    id: str
    flags: frozenset[str] = frozenset()
    error: SyncAgentError | None = None


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version as its blob's history shows it: `device` wrote it at `changed_at`.

    `is_current` is the version that `get` gives, `is_head` one that no other replaces; `is_here` tells
    whether its content is on this device. `metadata` is None where it cannot be read.
    """

    id: str
    device: str
    device_id: str
    changed_at: datetime.datetime
    size: int
    metadata: Metadata | None = field(repr=False)
    deleted: bool
    is_here: bool
    is_current: bool
    is_head: bool
    tags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class Conflict:
    """A blob with versions of which none replaces the other: the one that `get` gives comes first."""

    namespace: str
    id: str
    versions: tuple[VersionInfo, ...]


@dataclass(frozen=True, slots=True)
class PrefetchResult:
    """Whether the content of a blob of `prefetch` is here now, or why not; then the next sync fetches it."""

    id: str
    error: SyncAgentError | None = None


@dataclass(frozen=True, slots=True)
class CreatedVault:
    """A new vault. `recovery_code` opens it without the passphrase and is shown only here."""

    vault_id: str
    device_id: str
    remote: str
    recovery_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class JoinedVault:
    """A vault that this device has joined. `alarms`: what was odd about its journals, as in a report."""

    vault_id: str
    device_id: str
    remote: str
    alarms: "tuple[Alarm, ...]" = ()


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something in a sync that must not pass in silence: `kind` is the class name of the error.

    `safe` and `todo` say what is still true of the data and what to do, as an error's do.
    """

    kind: str
    subject: str
    message: str
    safe: str = ""
    todo: str = ""


@dataclass(frozen=True, slots=True)
class BlobFailure:
    """A blob that failed for a reason of its own in this sync; the others went on."""

    namespace: str
    id: str
    direction: str
    error: str


@dataclass(frozen=True, slots=True)
class RemoteInfo:
    """Where a vault's remote is. The token is not shown; `has_token` says whether one is kept."""

    url: str
    has_token: bool
    ca_file: str | None
    client_cert: str | None


class Arrival(enum.Enum):
    """What a blob looks like since another device's version of it has come."""

    NEW = "new"
    CHANGED = "changed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class BlobArrival:
    """A blob that another device's versions have changed here; its content may still have to be fetched.

    In conflict it may show what it showed before: the version of this device.
    """

    namespace: str
    id: str
    kind: Arrival
    size: int
    is_conflict: bool = False


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one sync did. `sent` and `fetched` count blobs (a deletion is one); bytes are object bytes.

    `arrivals` are at most the first 1,000 blobs that other devices have changed, also in syncs that failed
    since the last report; `more_arrivals` says how many are left out.
    """

    sent: int = 0
    fetched: int = 0
    failed: int = 0
    sent_bytes: int = 0
    fetched_bytes: int = 0
    conflicts: int = 0
    alarms: tuple[Alarm, ...] = ()
    failures: tuple[BlobFailure, ...] = ()
    duration_s: float = 0.0
    arrivals: tuple[BlobArrival, ...] = ()
    more_arrivals: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running sync is. Totals grow while work is being found."""

    phase: str
    done: int
    total: int
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """A namespace, and how many live blobs it has."""

    name: str
    blobs: int


@dataclass(frozen=True, slots=True)
class NamespaceStatus:
    """Live blobs of a namespace by status, and what waits without content (deletions, flags)."""

    blobs: int
    counts: Mapping[SyncStatus, int]
    pending_changes: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one blob is, or is not, in sync. `version` is the id in hex of the head it is about.

    `cause` is empty when nothing is in the way; `next_attempt` is None when it is due at the next sync;
    `unblock` says what would help. `retries` counts failures of its own.
    """

    namespace: str
    id: str
    status: SyncStatus
    version: str
    deleted: bool
    retries: int
    cause: str
    next_attempt: datetime.datetime | None
    unblock: str


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device of the vault. `replaces` is an id it had before; `batches` how far its journal is known."""

    id: str
    name: str
    platform: str
    is_this: bool
    is_retired: bool
    replaces: str | None
    batches: int


@dataclass(frozen=True, slots=True)
class KeySlotInfo:
    """A key slot: `kind` is passphrase or recovery; `is_listed` says whether it is in force."""

    id: str
    kind: str
    memory_kib: int
    iterations: int
    lanes: int
    is_listed: bool


class SyncState(enum.Enum):
    """What the last sync has left behind."""

    READY = "ready"
    BACKING_OFF = "backing off"
    """It failed for now and is tried again by itself."""
    STOPPED = "stopped"
    """It failed until the user acts: the reasons say what to do."""


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """All that is known without asking the remote. Times are UTC; None means never, or now.

    `alarms` are those of the last sync, and of any before it whose report never came.
    """

    vault_id: str
    device_id: str
    device_name: str
    remote: str
    counts: Mapping[SyncStatus, int]
    namespaces: Mapping[str, NamespaceStatus]
    pending_changes: int
    conflicts: int
    last_sync: datetime.datetime | None
    next_attempt: datetime.datetime | None
    reasons: tuple[str, ...]
    state: SyncState
    todo: str
    """What the user can do about the last sync's failure; empty when it went through."""
    alarms: tuple[Alarm, ...] = ()

"""What the calls about blobs give: content, listings, histories, and a result for each blob of many.

Frozen, without behaviour; what is stored and sent is in `model`.
"""

import datetime
import enum
from dataclasses import dataclass, field

from syncagent.errors import SyncAgentError
from syncagent.model import Metadata, SyncStatus, Version


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
    `last_read_at`; other devices do not hear of it. `flags` and `metadata` are None where they were not
    asked for (`details`), metadata also where it cannot be read.
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
    flags: frozenset[str] | None = None
    metadata: Metadata | None = field(default=None, repr=False, hash=False)


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
    whether its content is on this device: two devices that know the same differ in that alone, so it does not
    count where two are compared. `metadata` is None where it cannot be read.
    """

    id: str
    device: str
    device_id: str
    changed_at: datetime.datetime
    size: int
    metadata: Metadata | None = field(repr=False)
    deleted: bool
    is_here: bool = field(compare=False)
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

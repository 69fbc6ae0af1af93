"""What a vault tells of itself: syncs and their alarms, statuses, devices, key slots, its remote.

Frozen, without behaviour; what is stored and sent is in `model`.
"""

import datetime
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from syncagent.model import SyncStatus


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
    """Live blobs of a namespace by status, and what waits without content.

    Deletions, and new metadata of what is not on this device.
    """

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

"""What happens in an open vault, as `Vault.events` tells it: frozen values, without behaviour.

A blob's event comes after what it tells of is durable on this device. Events are of the moment: a
listener that was not there, or that was too slow, asks `Vault.changes`.
"""

from dataclasses import dataclass

from syncagent.errors import SyncAgentError, VaultInUse
from syncagent.reports import Progress, SyncReport, SyncState


@dataclass(frozen=True, slots=True)
class BlobStored:
    """A version is known here and is what the blob shows now.

    One from afar (of another device) may come before its content: then `BlobFetched` follows.
    """

    namespace: str
    id: str
    version: str
    size: int
    is_from_afar: bool


@dataclass(frozen=True, slots=True)
class BlobDeleted:
    """The blob is deleted, here or by another device."""

    namespace: str
    id: str
    version: str
    is_from_afar: bool


@dataclass(frozen=True, slots=True)
class BlobSent:
    """What was put or deleted here is published: other devices can have it."""

    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class BlobFetched:
    """The content of a blob has come from the remote."""

    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class FlagsChanged:
    """Flags of a blob were set or removed, here or by another device."""

    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class BlobChanged:
    """Something else of a blob is another, such as when it expires or where its content is; see `changes`."""

    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class ConflictAppeared:
    """Two devices have changed a blob without knowing of each other."""

    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class ConflictResolved:
    """A version that replaces all those in conflict is known here."""

    namespace: str
    id: str


@dataclass(frozen=True, slots=True)
class SyncStarted:
    """A sync of this process has begun, whoever asked for it."""


@dataclass(frozen=True, slots=True)
class SyncFinished:
    """It is over: with a report, with the error that stopped it, or with neither if it was cancelled.

    An error without a `SyncStarted` before it kept a sync of the background from beginning: what is asked
    of a remote that was away, before a sync is tried again, has failed too.
    """

    report: SyncReport | None = None
    error: SyncAgentError | None = None


@dataclass(frozen=True, slots=True)
class SyncWaiting:
    """The background waits for another sync of this vault, by another process as a rule (`error.pid`).

    Told once, when that has lasted two seconds. `SyncStarted` follows when the other is done.
    """

    error: VaultInUse


@dataclass(frozen=True, slots=True)
class StateChanged:
    """Syncing works again, backs off or has stopped. `reason` is empty when it works."""

    state: SyncState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AttentionNeeded:
    """The user should know, and maybe act: `kind` is the class name of an error, as in an `Alarm`."""

    kind: str
    message: str
    safe: str = ""
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Missed:
    """This listener was too slow: so many events before the next one were dropped."""

    count: int


Event = (
    BlobStored
    | BlobDeleted
    | BlobSent
    | BlobFetched
    | FlagsChanged
    | BlobChanged
    | ConflictAppeared
    | ConflictResolved
    | SyncStarted
    | Progress
    | SyncFinished
    | SyncWaiting
    | StateChanged
    | AttentionNeeded
    | Missed
)

"""How a head version's sync status changes: the one transition table.

`docs/design.md` draws it with `mermaid()`; `sql_case` turns a column of it into
the expression that the set-based updates of this package use.
"""

import enum

from syncagent.model import SyncStatus

SYNCED = SyncStatus.SYNCED
PENDING_UPLOAD = SyncStatus.PENDING_UPLOAD
PENDING_DOWNLOAD = SyncStatus.PENDING_DOWNLOAD
FAILED_UPLOAD = SyncStatus.FAILED_UPLOAD
FAILED_DOWNLOAD = SyncStatus.FAILED_DOWNLOAD
REMOTE_ONLY = SyncStatus.REMOTE_ONLY
LOCAL_ONLY = SyncStatus.LOCAL_ONLY


class Event(enum.Enum):
    """What can happen to a version's content."""

    PUT = "put"
    PUT_LOCAL = "put local_only"
    ARRIVED_HERE = "arrived, content here"
    ARRIVED_WANTED = "arrived, wanted"
    ARRIVED_UNWANTED = "arrived, not wanted"
    CONFIRMED = "batch confirmed"
    SEND_GIVEN_UP = "sending given up"
    FETCHED = "content stored"
    FETCHED_UNSENT = "content stored, metadata not sent yet"
    FETCH_GIVEN_UP = "fetching given up"
    RETRY = "retry"
    WANTED = "wanted"
    UNWANTED = "not wanted"
    EVICTED = "evicted"
    LOST_HERE = "content damaged here"
    LOST_THERE = "content lost at the remote"
    SHARED = "made shared"


TRANSITIONS: dict[Event, dict[SyncStatus | None, SyncStatus]] = {
    # None is a version that was not known before.
    Event.PUT: {None: PENDING_UPLOAD},
    Event.PUT_LOCAL: {None: LOCAL_ONLY},
    Event.ARRIVED_HERE: {None: SYNCED},
    Event.ARRIVED_WANTED: {None: PENDING_DOWNLOAD},
    Event.ARRIVED_UNWANTED: {None: REMOTE_ONLY},
    # A version can be confirmed after sending was given up: a crash hid the first success.
    Event.CONFIRMED: {PENDING_UPLOAD: SYNCED, FAILED_UPLOAD: SYNCED},
    Event.SEND_GIVEN_UP: {PENDING_UPLOAD: FAILED_UPLOAD},
    # Any way the content comes settles it: a sync, an interactive get, or the same bytes put here.
    Event.FETCHED: {PENDING_DOWNLOAD: SYNCED, FAILED_DOWNLOAD: SYNCED, REMOTE_ONLY: SYNCED},
    # New metadata was put while the content was not here.
    Event.FETCHED_UNSENT: {
        PENDING_DOWNLOAD: PENDING_UPLOAD,
        FAILED_DOWNLOAD: PENDING_UPLOAD,
        REMOTE_ONLY: PENDING_UPLOAD,
    },
    Event.FETCH_GIVEN_UP: {PENDING_DOWNLOAD: FAILED_DOWNLOAD},
    Event.RETRY: {FAILED_UPLOAD: PENDING_UPLOAD, FAILED_DOWNLOAD: PENDING_DOWNLOAD},
    Event.WANTED: {REMOTE_ONLY: PENDING_DOWNLOAD},
    Event.UNWANTED: {PENDING_DOWNLOAD: REMOTE_ONLY, FAILED_DOWNLOAD: REMOTE_ONLY},
    Event.EVICTED: {SYNCED: REMOTE_ONLY},
    Event.LOST_HERE: {SYNCED: PENDING_DOWNLOAD},
    Event.LOST_THERE: {SYNCED: PENDING_UPLOAD},
    Event.SHARED: {LOCAL_ONLY: PENDING_UPLOAD},
}

BARE = (PENDING_DOWNLOAD, FAILED_DOWNLOAD, REMOTE_ONLY)
"""What a version shows whose content is not here; it may wait to be published all the same."""

PRECEDENCE = (
    FAILED_UPLOAD,
    PENDING_UPLOAD,
    FAILED_DOWNLOAD,
    PENDING_DOWNLOAD,
    REMOTE_ONLY,
    LOCAL_ONLY,
    SYNCED,
)
"""A blob with several heads shows the first of these that one of them has."""


def after(status: SyncStatus | None, event: Event) -> SyncStatus | None:
    """The status after an event; unchanged where the table has no entry for the pair."""
    return TRANSITIONS[event].get(status, status)


def sql_case(event: Event, column: str = "status") -> str:
    """The SQL expression of `after` over a status column."""
    arms = " ".join(
        f"WHEN {old.value} THEN {new.value}" for old, new in TRANSITIONS[event].items() if old is not None
    )
    # An event that only new versions meet changes no row; a CASE without arms is no SQL.
    return f"CASE {column} {arms} ELSE {column} END" if arms else column


def sql_rank(column: str) -> str:
    """The SQL expression of a status's place in `PRECEDENCE`."""
    arms = " ".join(f"WHEN {status.value} THEN {rank}" for rank, status in enumerate(PRECEDENCE))
    return f"CASE {column} {arms} END"


def mermaid() -> str:
    """The state diagram of the table, in Mermaid's notation."""
    lines = ["stateDiagram-v2"]
    for event, arrows in TRANSITIONS.items():
        for old, new in arrows.items():
            lines.append(f"    {old.name if old is not None else '[*]'} --> {new.name}: {event.value}")
    return "\n".join(lines)

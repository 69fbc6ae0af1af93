"""The versions of a blob that are known here: which one a caller means, what each is, what is in conflict."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from syncagent.answers import Conflict, VersionInfo
from syncagent.cache import blobs, facts
from syncagent.cache.blobs import BlobRow
from syncagent.cache.chunks import IS_HERE
from syncagent.cache.db import Database
from syncagent.errors import BlobNotFound, InvalidName, SyncAgentError, VersionConflict, VersionNotFound
from syncagent.journal.batch import decode_change, decode_version
from syncagent.journal.changes import DeviceChange, TagChange
from syncagent.model import DeviceId, Metadata
from syncagent.times import utc

MIN_PREFIX = 8
"""Digits of a version's id that name it."""
_HLC_SHIFT = 16
_MOST_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Name:
    """What a blob is called."""

    namespace: str
    id: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.id!r}"


def find_known(db: Database, name: Name) -> BlobRow:
    """A blob of which a version is known, also if it is deleted or expired. Raises `BlobNotFound`."""
    number = blobs.find_namespace(db, name.namespace)
    row = None if number is None else blobs.find_blob(db, number, name.id)
    if row is None or row.winner_no is None:
        raise BlobNotFound(f"{name} is not on this device")
    return row


def version_no(db: Database, name: Name, reference: str) -> int:
    """The number of the version that a caller means.

    Args:
        db: the cache.
        name: the blob's name.
        reference: its id in hex, or the first 8 digits or more; `~1`, `~2` and so on, counted back from the
            present version along what each replaced; or a tag's name.

    Raises:
        BlobNotFound: nothing is known of the blob.
        VersionNotFound: it has no such version here.
        InvalidName: the reference names several, or is none.
    """
    row = find_known(db, name)
    if reference.startswith("~"):
        return _steps_back(db, name, row, reference)
    if is_id(reference):
        rows = db.all(
            "SELECT no FROM version WHERE blob_no = ? AND lower(hex(id)) LIKE ? || '%' LIMIT 2",
            (row.no, reference.lower()),
        )
        found = [number for (number,) in rows]
    else:
        found = [number for number, names in tags(db, row.no).items() if reference in names]
    if len(found) == 1:
        return int(found[0])
    if found:
        todo = f"name one by {'more of ' * is_id(reference)}its id"
        raise InvalidName(f"{reference!r} names several versions of {name}", todo=todo)
    what = "" if is_id(reference) else "; an id has at least 8 digits, and no tag is called so"
    raise VersionNotFound(f"{name} has no version {reference!r} on this device{what}")


def check_present(db: Database, name: Name, reference: str, present: int) -> None:
    """Raises `VersionConflict` where a caller means another version than the present one, by its number.

    An id that is not known here is another one too: of a version that was folded since, or is elsewhere.

    Raises:
        VersionNotFound, InvalidName: the reference is none of its versions, and no id; or names several.
    """
    try:
        if version_no(db, name, reference) == present:
            return
    except VersionNotFound:
        if not is_id(reference):
            raise
    raise VersionConflict(
        f"{name} has moved on to version {blobs.version_id(db, present).hex()[:8]}",
        safe="nothing was stored",
        todo="read it again and decide",
    )


def is_id(reference: str) -> bool:
    """Whether a reference can only be the id of a version, or the beginning of one."""
    return MIN_PREFIX <= len(reference) <= 32 and not set(reference.lower()) - set("0123456789abcdef")


def list_versions(db: Database, name: Name, *, before: int | None = None, limit: int) -> list[VersionInfo]:
    """The versions of a blob, newest first, at most `limit`, those after the version `before`."""
    row = find_known(db, name)
    condition = ""
    parameters: list[object] = [row.no]
    if before is not None:
        at = db.one(
            "SELECT hlc, device.id, version.id FROM version JOIN device ON device.no = device_no"
            " WHERE version.no = ?",
            (before,),
        )
        assert at is not None
        condition = "AND (version.hlc, device.id, version.id) < (?, ?, ?)"
        parameters += at
    return _infos(
        db,
        row,
        f"{condition} ORDER BY version.hlc DESC, device.id DESC, version.id DESC LIMIT ?",
        [*parameters, limit],
    )


def list_conflicts(db: Database, namespace: str, *, after: str, limit: int, now_ms: int) -> list[Conflict]:
    """Blobs in conflict by id, from the first id after `after`, each with its live heads, winner first."""
    number = blobs.find_namespace(db, namespace)
    rows = db.all(
        "SELECT id FROM blob WHERE conflict AND namespace_no = ? AND id > ?"
        " AND (expires_at IS NULL OR expires_at > ?) ORDER BY id LIMIT ?",
        (number, after, now_ms, limit),
    )
    return [conflict_of(db, Name(namespace, blob_id)) for (blob_id,) in rows]


def conflict_of(db: Database, name: Name) -> Conflict:
    """The live heads of a blob, winner first."""
    row = find_known(db, name)
    found = _infos(db, row, "AND version.status IS NOT NULL AND NOT version.deleted", [row.no])
    ordered = sorted(
        found, key=lambda one: (one.is_current, one.changed_at, one.device_id, one.id), reverse=True
    )
    return Conflict(name.namespace, name.id, tuple(ordered))


def tags(db: Database, blob: int) -> dict[int, list[str]]:
    """The tags on a blob's versions, by number of the version."""
    found: dict[int, list[str]] = {}
    for number, packed in facts.tags_of(db, blob):
        change = decode_change(packed)
        if isinstance(change, TagChange) and change.on:
            found.setdefault(number, []).append(change.name)
    return found


def device_names(db: Database, devices: Iterable[DeviceId]) -> dict[DeviceId, str]:
    """What some devices are called, as far as is known; a journal may have named any number of others."""
    found: dict[DeviceId, str] = {}
    for device in devices:
        row = facts.find_register(db, "device", device)
        change = None if row is None else decode_change(row.change)
        if isinstance(change, DeviceChange):
            found[device] = change.name
    return found


def _steps_back(db: Database, name: Name, row: BlobRow, reference: str) -> int:
    steps = reference[1:] or "1"
    if not (steps.isascii() and steps.isdigit() and len(steps) <= 4):
        raise InvalidName(f"{reference!r} is no version: `~1` is the one before the present one")
    number = row.winner_no
    for _ in range(int(steps)):
        number = db.scalar(
            # By its id: without the + SQLite reads all versions of the blob to find it.
            "SELECT older.no FROM parent JOIN version AS older ON older.id = parent_id"
            " WHERE version_no = ? AND +older.blob_no = ? ORDER BY older.hlc DESC, older.id DESC LIMIT 1",
            (number, row.no),
        )
        if number is None:
            raise VersionNotFound(f"{name} has no version {reference!r} on this device")
    assert number is not None
    return int(number)


def _infos(db: Database, row: BlobRow, condition: str, parameters: Sequence[object]) -> list[VersionInfo]:
    rows = db.all(
        "SELECT version.no, version.id, device.id, version.hlc, version.size, version.deleted,"  # noqa: S608 - fixed text
        " version.status IS NOT NULL, NOT EXISTS"
        " (SELECT 1 FROM version_chunk JOIN chunk ON chunk.no = chunk_no"
        f" WHERE version_chunk.version_no = version.no AND NOT {IS_HERE})"
        " FROM version JOIN device ON device.no = device_no WHERE version.blob_no = ?"
        f" {condition}",
        parameters,
    )
    packed = blobs.packed_versions(db, [found[0] for found in rows])
    names, labels = device_names(db, {found[2] for found in rows}), tags(db, row.no)
    return [
        VersionInfo(
            id=bytes(id_).hex(),
            device=names.get(device, ""),
            device_id=bytes(device).hex(),
            changed_at=utc(hlc >> _HLC_SHIFT),
            size=size,
            metadata=_metadata(packed.get(number)),
            deleted=bool(deleted),
            is_here=bool(here),
            is_current=number == row.winner_no,
            is_head=bool(head),
            tags=tuple(labels.get(number, ())),
        )
        for number, id_, device, hlc, size, deleted, head, here in rows
    ]


def _metadata(packed: bytes | None) -> Metadata | None:
    if packed is None:
        return None
    try:
        return decode_version(packed).metadata
    except SyncAgentError:  # made by a newer syncagent
        return None

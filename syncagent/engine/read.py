"""Reading blobs on this device: which version wins, where its content lies, what to do when it is damaged."""

from dataclasses import dataclass, field

from syncagent.cache import blobs, chunks, downloads
from syncagent.cache.chunks import ChunkPlaces, ChunkSource
from syncagent.cache.db import Database
from syncagent.cache.status import Event
from syncagent.engine import history
from syncagent.engine.history import Name
from syncagent.errors import BlobNotFound, CacheDamaged, VersionNotFound
from syncagent.model import SMALL_BLOB, SyncStatus, Version


@dataclass(frozen=True, slots=True)
class Found:
    """The winning version of a blob. `data` is its content where it is small and here."""

    version_no: int
    version: Version
    is_here: bool
    data: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob that is to be read at a time: its winning version, or the one that `version` refers to."""

    name: Name
    now_ms: int
    version: str | None = None


def find(db: Database, wanted: Wanted, source: ChunkSource) -> Found:
    """The version of a blob that is wanted, with small content at once.

    Raises:
        BlobNotFound: no live blob has this name here.
        VersionNotFound: it has no such version, or that is a deletion.
        InvalidName: the reference to a version is ambiguous, or none.
        CacheDamaged: its row, or its small content, does not verify.
    """
    number = wanted_no(db, wanted)
    found = find_content(db, number, source)
    if found.version.deleted:
        raise VersionNotFound(f"version {found.version} of {wanted.name} is its deletion")
    return found


def find_content(db: Database, number: int, source: ChunkSource) -> Found:
    """A version by its number, with small content at once.

    Raises:
        CacheDamaged: its row, or its small content, does not verify.
    """
    version = blobs.load_version(db, number)
    if not chunks.is_complete(db, number):
        return Found(number, version, is_here=False, data=None)
    data = None
    if version.size <= SMALL_BLOB:
        data = b"".join(source.read(place) for place in content_places(db, version, 0, len(version.content)))
    return Found(number, version, is_here=True, data=data)


def wanted_no(db: Database, wanted: Wanted) -> int:
    """The number of the version that is wanted; raises what `find` raises for one that is not there."""
    if wanted.version is not None:
        return history.version_no(db, wanted.name, wanted.version)
    number = winner_no(db, wanted)
    if number is None:
        raise BlobNotFound(f"{wanted.name} is not on this device")
    return number


def winner_no(db: Database, wanted: Wanted) -> int | None:
    """The number of the winning version under a name; None where there is no live blob."""
    number = blobs.find_namespace(db, wanted.name.namespace)
    row = None if number is None else blobs.find_blob(db, number, wanted.name.id)
    return row.winner_no if row is not None and row.is_live(wanted.now_ms) else None


def content_places(db: Database, version: Version, first: int, stop: int) -> list[ChunkPlaces]:
    """Where chunks `first` to `stop` of a version lie on this device."""
    numbers = []
    for chunk_id in version.content[first:stop]:
        number = chunks.find_chunk(db, chunk_id)
        if number is None:
            raise CacheDamaged("a chunk the cache refers to is not in it")
        numbers.append(number)
    return chunks.places(db, numbers)


def newest_here(db: Database, namespace: str, blob_id: str) -> str | None:
    """The newest version of a blob whose content is on this device, in hex, or None."""
    number = blobs.find_namespace(db, namespace)
    row = None if number is None else blobs.find_blob(db, number, blob_id)
    if row is None:
        return None
    for version_no, version_id in db.all(
        "SELECT no, id FROM version WHERE blob_no = ? AND NOT deleted ORDER BY hlc DESC LIMIT 100", (row.no,)
    ):
        if chunks.is_complete(db, version_no):
            return bytes(version_id).hex()
    return None


def mark_lost(db: Database, version_no: int, source: ChunkSource) -> bool:
    """Give up places of a version's content that do not verify, and queue it for fetching.

    Whether all that was given up is at the remote. What is not stays as it is: damaged
    bytes may still help someone, and nothing better can be had.
    """
    version = blobs.load_version(db, version_no)
    lost: list[int] = []
    for chunk_id in dict.fromkeys(version.content):
        number = chunks.find_chunk(db, chunk_id)
        if number is None or not _reads(db, number, source):
            lost.append(number or 0)
    if not lost or not all(number and chunks.is_there(db, number) for number in lost):
        return False
    touched = {head for number in lost for head in chunks.heads_with_chunk(db, number)}
    for number in lost:
        chunks.forget_here(db, number)
    for head in touched:
        if not chunks.is_complete(db, head):
            blobs.move_status(db, head, Event.LOST_HERE)
            if blobs.status_of(db, head) is not SyncStatus.REMOTE_ONLY:  # else nobody waits for it
                downloads.enqueue(db, [head])
    return True


def _reads(db: Database, number: int, source: ChunkSource) -> bool:
    try:
        source.read(chunks.places(db, [number])[0])
    except CacheDamaged:
        return False
    return True

"""Versions of blobs that this device knows nothing of, many at a time.

Nothing can be merged with such a version: it is its blob's only head. Nearly every change of a journal that
is read for the first time is one. All others go one by one (`apply.py`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from syncagent.cache import blobs, bulk, chunks, downloads, settings
from syncagent.cache.db import Database
from syncagent.cache.status import Event, after
from syncagent.model import CHUNK_SIZE, ChunkId, Scope, Version
from syncagent.names import SETTINGS


def candidates(versions: Iterable[Version]) -> list[Version]:
    """Those of a batch's versions that may be newcomers: without parents, the only one of their blob."""
    versions = list(versions)
    count = Counter((version.namespace, version.blob_id) for version in versions)
    return [
        v
        for v in versions
        # What the settings say is followed where versions go one by one.
        if not v.parents and count[v.namespace, v.blob_id] == 1 and v.namespace != SETTINGS
    ]


def newcomers(db: Database, versions: Iterable[Version]) -> list[Version]:
    """Those of some `candidates` of which neither the version nor the blob is known here."""
    by_namespace: defaultdict[str, list[Version]] = defaultdict(list)
    for version in versions:
        by_namespace[version.namespace].append(version)
    new: list[Version] = []
    for name, some in by_namespace.items():
        number = blobs.find_namespace(db, name)
        ids = [version.blob_id for version in some]
        known = set() if number is None else bulk.known_blobs(db, number, ids)
        new += [version for version in some if version.blob_id not in known]
    seen = bulk.known_versions(db, [version.id for version in new])
    return [version for version in new if version.id not in seen]


def add_newcomers(db: Database, versions: Sequence[Version], *, device: int, seq: int) -> int:
    """Store `newcomers`, and queue the content that is to be fetched; of how many it is here already.

    Args:
        db: the cache, in a transaction.
        versions: what `newcomers` gave in the same transaction.
        device: the number of the device that wrote them.
        seq: its batch that holds them.
    """
    named: dict[ChunkId, chunks.NamedChunk] = {}
    for version in versions:
        for position, chunk_id in enumerate(version.content):
            length = min(CHUNK_SIZE, version.size - position * CHUNK_SIZE)
            named.setdefault(ChunkId(chunk_id), chunks.NamedChunk(Scope(version.scope), length))
    numbers = chunks.chunk_numbers(db, named)
    here = chunks.those_here(db, list(numbers.values()))
    groups: defaultdict[tuple[str, bool], list[Version]] = defaultdict(list)
    for version in versions:
        is_here = all(numbers[ChunkId(chunk_id)] in here for chunk_id in version.content)
        groups[version.namespace, is_here].append(version)
    arrived = 0
    for (name, is_here), group in groups.items():
        is_wanted = settings.wants_new(db, name)
        arrival = Event.ARRIVED_WANTED if is_wanted else Event.ARRIVED_UNWANTED
        status = after(None, Event.ARRIVED_HERE if is_here else arrival)
        assert status is not None
        added = bulk.insert_blobs(
            db,
            group,
            namespace=blobs.namespace_no(db, name),
            device=device,
            seq=seq,
            status=status,
            chunks=numbers,
        )
        if is_here:
            arrived += len(group)
        elif is_wanted:
            downloads.enqueue(db, added)
    return arrived

"""What to send in which pack, and what to fetch from which pack. Pure decisions over plain values."""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from syncagent.cache.downloads import MissingChunk, RemotePlace
from syncagent.cache.sendable import UnsentChunk
from syncagent.crypto.pack import PACK_MAX_CHUNKS, PACK_TARGET
from syncagent.model import SMALL_BLOB

RANGE_GAP = 64 << 10
"""Unwanted bytes that are fetched rather than split a range: about what one more request costs."""

WHOLE_SHARE = 0.5
"""Of a pack of which half is wanted the rest is nearly always wanted soon, by another blob of the queue."""
PART_SHARE = 0.9
"""Of a pack of which somebody reads a part, only the padding is taken along."""


@dataclass(frozen=True, slots=True)
class PackPlan:
    """One pack to send: a pack file as it is (`file_no`), or chunks to be sealed.

    `versions` are the ones that fail if this pack cannot be made or is refused.
    """

    size_bytes: int
    versions: tuple[int, ...]
    chunks: tuple[int, ...] = ()
    file_no: int | None = None


@dataclass(frozen=True, slots=True)
class WantedChunk:
    """A chunk to take out of a pack; `version_no` is one that waits for it."""

    chunk_no: int
    position: int
    offset: int
    stored_length: int
    version_no: int


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Half-open."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class PackFetch:
    """One pack to fetch from: whole, or the ranges that hold the wanted chunks, by offset."""

    pack_no: int
    size_bytes: int
    chunks: tuple[WantedChunk, ...]
    ranges: tuple[ByteRange, ...]
    is_whole: bool
    is_large: bool
    """Content of a blob over 256 KiB: it is kept in pack files, not rows."""


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """The packs to fetch from, and the versions with a chunk that no usable pack holds."""

    fetches: tuple[PackFetch, ...]
    unplaced: frozenset[int]


def plan_packs(chunks: Sequence[UnsentChunk]) -> list[PackPlan]:
    """Group chunks, in their order of urgency, into packs to send."""
    files: dict[int, list[UnsentChunk]] = {}
    large: dict[int, list[UnsentChunk]] = {}
    small: list[UnsentChunk] = []
    for chunk in chunks:
        if chunk.pack_no is not None:
            # Sealed when it was put: sending is copying.
            files.setdefault(chunk.pack_no, []).append(chunk)
        elif chunk.blob_size > SMALL_BLOB:
            # A large blob has packs of its own, so that its size does not tie others to it.
            large.setdefault(chunk.version_no, []).append(chunk)
        else:
            # Small blobs share packs.
            small.append(chunk)
    plans = [
        PackPlan(sum(c.raw_length for c in members), _versions(members), file_no=pack_no)
        for pack_no, members in files.items()
    ]
    for group in (small, *large.values()):
        plans += [_sealed(part) for part in _cut(group)]
    return plans


def split(plan: PackPlan, chunks: Iterable[UnsentChunk]) -> list[PackPlan]:
    """Two halves of a plan whose pack was refused, until each blob goes alone."""
    members = set(plan.chunks)
    by_version: dict[int, list[UnsentChunk]] = {}
    for chunk in chunks:
        if chunk.chunk_no in members:
            by_version.setdefault(chunk.version_no, []).append(chunk)
    if len(by_version) < 2:
        return []
    groups = list(by_version.values())
    middle = len(groups) // 2
    return [_sealed([c for group in half for c in group]) for half in (groups[:middle], groups[middle:])]


def plan_fetch(
    missing: Sequence[MissingChunk],
    places: Iterable[RemotePlace],
    failed_packs: Container[int],
    whole_share: float = WHOLE_SHARE,
) -> FetchPlan:
    """Choose a pack for every missing chunk, and whole packs or ranges.

    Args:
        missing: chunks in order of urgency.
        places: every known place of them at the remote.
        failed_packs: packs that did not verify or are not there: another one is chosen.
        whole_share: how much of a pack must be wanted for the whole to be fetched.
    """
    usable: dict[int, list[RemotePlace]] = {}
    wanted_in: Counter[int] = Counter()
    for place in places:
        if place.pack_no not in failed_packs:
            usable.setdefault(place.chunk_no, []).append(place)
            wanted_in[place.pack_no] += 1
    unplaced: set[int] = set()
    chosen: dict[int, dict[int, tuple[RemotePlace, MissingChunk]]] = {}
    for chunk in missing:
        candidates = usable.get(chunk.chunk_no)
        if not candidates:
            unplaced.add(chunk.version_no)
            continue
        # The pack with most of what is wanted: fewer requests. The newer one on a tie: it may have been
        # sent because the remote has lost the older.
        best = max(candidates, key=lambda place: (wanted_in[place.pack_no], place.pack_no))
        chosen.setdefault(best.pack_no, {}).setdefault(chunk.chunk_no, (best, chunk))
    return FetchPlan(
        tuple(_fetch(pack_no, list(members.values()), whole_share) for pack_no, members in chosen.items()),
        frozenset(unplaced),
    )


def _fetch(pack_no: int, members: list[tuple[RemotePlace, MissingChunk]], whole_share: float) -> PackFetch:
    members.sort(key=lambda member: member[0].offset)
    size = members[0][0].pack_size
    wanted_bytes = sum(place.stored_length for place, _ in members)
    is_whole = wanted_bytes >= size * whole_share
    ranges = (ByteRange(0, size),) if is_whole else _ranges([place for place, _ in members])
    return PackFetch(
        pack_no=pack_no,
        size_bytes=sum(span.stop - span.start for span in ranges),
        chunks=tuple(
            WantedChunk(place.chunk_no, place.position, place.offset, place.stored_length, chunk.version_no)
            for place, chunk in members
        ),
        ranges=ranges,
        is_whole=is_whole,
        is_large=any(chunk.blob_size > SMALL_BLOB for _, chunk in members),
    )


def _ranges(places: Sequence[RemotePlace]) -> tuple[ByteRange, ...]:
    ranges: list[ByteRange] = []
    for place in places:
        stop = place.offset + place.stored_length
        if ranges and place.offset - ranges[-1].stop <= RANGE_GAP:
            ranges[-1] = ByteRange(ranges[-1].start, stop)
        else:
            ranges.append(ByteRange(place.offset, stop))
    return tuple(ranges)


def _cut(chunks: Sequence[UnsentChunk]) -> list[list[UnsentChunk]]:
    parts: list[list[UnsentChunk]] = []
    size = 0
    for chunk in chunks:
        if not parts or size + chunk.raw_length > PACK_TARGET or len(parts[-1]) == PACK_MAX_CHUNKS:
            parts.append([])
            size = 0
        parts[-1].append(chunk)
        size += chunk.raw_length
    return parts


def _sealed(chunks: Sequence[UnsentChunk]) -> PackPlan:
    return PackPlan(
        sum(chunk.raw_length for chunk in chunks),
        _versions(chunks),
        chunks=tuple(chunk.chunk_no for chunk in chunks),
    )


def _versions(chunks: Iterable[UnsentChunk]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(chunk.version_no for chunk in chunks))

"""Which chunks go in which pack, and what is fetched of which pack: tables over plain values."""

import pytest

from syncagent.cache.downloads import MissingChunk, RemotePlace
from syncagent.cache.sendable import UnsentChunk
from syncagent.crypto.pack import PACK_MAX, PACK_MAX_CHUNKS, PACK_TARGET
from syncagent.engine.plan import RANGE_GAP, ByteRange, plan_fetch, plan_packs, split
from syncagent.model import CHUNK_SIZE, SMALL_BLOB

KIB = 1 << 10
MIB = 1 << 20


def small(version: int, chunk: int, size: int = 100) -> UnsentChunk:
    return UnsentChunk(version, chunk, size, size, None)


def large(version: int, chunk: int, size: int = CHUNK_SIZE) -> UnsentChunk:
    return UnsentChunk(version, chunk, size, 10 * MIB, None)


def place(chunk: int, pack: int, offset: int, length: int, pack_size: int = 8 * MIB) -> RemotePlace:
    return RemotePlace(chunk, pack, chunk, offset, length, pack_size)


# Sending -------------------------------------------------------------------------------------------


def test_nothing_to_send_needs_no_pack() -> None:
    assert plan_packs([]) == []


def test_small_blobs_share_a_pack_in_their_order() -> None:
    [plan] = plan_packs([small(1, 10), small(2, 20), small(3, 30)])
    assert (plan.chunks, plan.versions, plan.file_no, plan.size_bytes) == ((10, 20, 30), (1, 2, 3), None, 300)


def test_a_large_blob_has_packs_of_its_own() -> None:
    plans = plan_packs([small(1, 10), large(2, 20), large(3, 30), large(2, 21), small(4, 40)])
    assert [plan.chunks for plan in plans] == [(10, 40), (20, 21), (30,)]
    assert [plan.versions for plan in plans] == [(1, 4), (2,), (3,)]


def test_the_border_of_a_small_blob_belongs_to_it() -> None:
    at, over = (
        UnsentChunk(1, 1, SMALL_BLOB, SMALL_BLOB, None),
        UnsentChunk(2, 2, SMALL_BLOB, SMALL_BLOB + 1, None),
    )
    assert [plan.chunks for plan in plan_packs([at, over])] == [(1,), (2,)]
    assert len(plan_packs([at, at])) == 1


def test_a_pack_file_is_sent_as_it_is_once() -> None:
    chunks = [UnsentChunk(1, 10, MIB, 2 * MIB, 7), UnsentChunk(1, 11, MIB, 2 * MIB, 7)]
    [plan] = plan_packs(chunks)
    assert (plan.file_no, plan.chunks, plan.versions, plan.size_bytes) == (7, (), (1,), 2 * MIB)


def test_a_pack_is_cut_at_its_target_and_at_its_most_chunks() -> None:
    plans = plan_packs([large(1, number) for number in range(17)])
    assert [len(plan.chunks) for plan in plans] == [8, 8, 1]
    assert all(plan.size_bytes <= PACK_TARGET for plan in plans)
    plans = plan_packs([small(number, number, 1) for number in range(PACK_MAX_CHUNKS + 1)])
    assert [len(plan.chunks) for plan in plans] == [PACK_MAX_CHUNKS, 1]


def test_no_plan_can_exceed_the_largest_pack() -> None:
    plans = plan_packs([small(number, number, SMALL_BLOB) for number in range(100)])
    assert all(plan.size_bytes + 16 * len(plan.chunks) + 40 < PACK_MAX * 0.88 for plan in plans)


@pytest.mark.parametrize(
    ("versions", "halves"),
    [
        ((1,), []),
        ((1, 2), [(1,), (2,)]),
        ((1, 2, 3), [(1,), (2, 3)]),
        ((1, 2, 3, 4), [(1, 2), (3, 4)]),
    ],
)
def test_a_refused_pack_is_halved_by_blobs(versions: tuple[int, ...], halves: list[tuple[int, ...]]) -> None:
    chunks = [small(version, version * 10 + part) for version in versions for part in range(2)]
    [plan] = plan_packs(chunks)
    assert [half.versions for half in split(plan, chunks)] == halves
    assert [c for half in split(plan, chunks) for c in half.chunks] == (
        [c.chunk_no for c in chunks] if halves else []
    )


def test_a_pack_file_cannot_be_halved() -> None:
    chunks = [UnsentChunk(1, 10, MIB, 2 * MIB, 7), UnsentChunk(2, 11, MIB, 2 * MIB, 7)]
    [plan] = plan_packs(chunks)
    assert split(plan, chunks) == []


# Fetching ------------------------------------------------------------------------------------------


def missing(*chunks: int, size: int = 10 * MIB) -> list[MissingChunk]:
    return [MissingChunk(1, chunk, size) for chunk in chunks]


def test_half_a_pack_is_fetched_whole_and_less_in_ranges() -> None:
    half = plan_fetch(missing(1), [place(1, 7, 40, 500, pack_size=1000)], set()).fetches[0]
    assert (half.is_whole, half.ranges) == (True, (ByteRange(0, 1000),))
    less = plan_fetch(missing(1), [place(1, 7, 40, 499, pack_size=1000)], set()).fetches[0]
    assert (less.is_whole, less.ranges) == (False, (ByteRange(40, 539),))


def test_ranges_join_over_a_small_gap_and_not_over_a_larger_one() -> None:
    places = [place(1, 7, 40, 100), place(2, 7, 140 + RANGE_GAP, 100), place(3, 7, 241 + 2 * RANGE_GAP, 100)]
    [fetch] = plan_fetch(missing(3, 1, 2), places, set()).fetches
    assert fetch.ranges == (
        ByteRange(40, 240 + RANGE_GAP),
        ByteRange(241 + 2 * RANGE_GAP, 341 + 2 * RANGE_GAP),
    )
    assert [chunk.chunk_no for chunk in fetch.chunks] == [1, 2, 3], "by offset, whatever the order asked for"


def test_a_fetch_counts_the_bytes_it_moves_gaps_included() -> None:
    """Else hundreds of scattered small chunks would count as nothing and move megabytes."""
    places = [place(number, 7, 40 + number * 50 * KIB, 100) for number in range(100)]
    [fetch] = plan_fetch(missing(*range(100)), places, set()).fetches
    assert not fetch.is_whole
    assert fetch.size_bytes == sum(span.stop - span.start for span in fetch.ranges)


def test_the_pack_with_most_of_what_is_wanted_is_chosen_and_the_newer_on_a_tie() -> None:
    places = [place(1, 7, 40, 9), place(1, 8, 40, 9), place(2, 8, 50, 9)]
    assert [fetch.pack_no for fetch in plan_fetch(missing(1, 2), places, set()).fetches] == [8]
    tie = [place(1, 8, 40, 9), place(1, 7, 40, 9)]
    assert [fetch.pack_no for fetch in plan_fetch(missing(1), tie, set()).fetches] == [8]


def test_a_failed_pack_is_left_for_another_and_without_one_the_version_is_unplaced() -> None:
    places = [place(1, 7, 40, 9), place(1, 8, 40, 9), place(2, 7, 50, 9)]
    plan = plan_fetch([MissingChunk(5, 1, 9), MissingChunk(6, 2, 9)], places, {7})
    assert [fetch.pack_no for fetch in plan.fetches] == [8]
    assert plan.unplaced == {6}
    assert plan_fetch(missing(1), [], set()).unplaced == {1}


def test_a_chunk_that_two_versions_want_is_fetched_once() -> None:
    wanted = [MissingChunk(5, 1, 9), MissingChunk(6, 1, 9)]
    [fetch] = plan_fetch(wanted, [place(1, 7, 40, 9)], set()).fetches
    assert len(fetch.chunks) == 1


@pytest.mark.parametrize(("size", "is_large"), [(SMALL_BLOB, False), (SMALL_BLOB + 1, True)])
def test_content_over_256_kib_is_kept_in_files(size: int, is_large: bool) -> None:
    [fetch] = plan_fetch(missing(1, size=size), [place(1, 7, 40, 9)], set()).fetches
    assert fetch.is_large is is_large

"""What a listing means, case by case; and the order in which batches are applied."""

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncagent.journal.chain import (
    BatchId,
    Listing,
    Verdict,
    apply_order,
    chain_next,
    chain_start,
    check_listing,
    contradicts,
)
from syncagent.journal.changes import Head
from syncagent.model import DeviceId, VaultId

A, B, C = (DeviceId(bytes([n]) * 16) for n in (1, 2, 3))


def head(seq: int, chain: bytes = bytes(32)) -> Head:
    return Head(seq, chain)


def test_the_chain_is_what_the_format_says() -> None:
    start = chain_start(VaultId(b"v" * 16), A)
    assert start == hashlib.sha256(b"syncagent/1/chain" + b"v" * 16 + A).digest()
    digest = hashlib.sha256(b"object 1").digest()
    assert chain_next(start, digest) == hashlib.sha256(start + digest).digest()
    # frozen
    assert (
        chain_next(start, digest).hex() == "12088a59227be35a19df5b6e8a971c4a714ba9583d1419d08138051eec9f14f8"
    )


def test_an_object_is_not_taken_for_its_digest() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        chain_next(bytes(32), b"object 1")


@pytest.mark.parametrize(
    ("cursor", "listed", "expected"),
    [
        pytest.param(0, [], Listing(Verdict.IN_STEP), id="an empty journal, never read"),
        pytest.param(3, [3], Listing(Verdict.IN_STEP), id="only what was applied"),
        pytest.param(3, [1, 2, 3], Listing(Verdict.IN_STEP), id="earlier ones do not matter"),
        pytest.param(0, [1, 2], Listing(Verdict.NEW, (1, 2)), id="a journal from its start"),
        pytest.param(3, [3, 4, 5], Listing(Verdict.NEW, (4, 5)), id="two more"),
        pytest.param(3, [5, 3, 4, 4], Listing(Verdict.NEW, (4, 5)), id="in any order, twice"),
        pytest.param(3, [], Listing(Verdict.ROLLED_BACK), id="all gone"),
        pytest.param(3, [1, 2], Listing(Verdict.ROLLED_BACK), id="the last applied is gone"),
        pytest.param(3, [1, 2, 4], Listing(Verdict.ROLLED_BACK), id="it is gone, though a new one is there"),
        pytest.param(3, [3, 4, 6], Listing(Verdict.GAP, (4,), 5), id="one is left out"),
        pytest.param(3, [3, 5], Listing(Verdict.GAP, (), 4), id="the next is left out"),
        pytest.param(0, [2], Listing(Verdict.GAP, (), 1), id="the first is left out"),
        pytest.param(0, [0, 1], Listing(Verdict.NEW, (1,)), id="there is no batch 0"),
        pytest.param(
            1, [1, 999_999_999_999], Listing(Verdict.GAP, (), 2), id="a liar's number costs nothing"
        ),
    ],
)
def test_check_listing(cursor: int, listed: list[int], expected: Listing) -> None:
    assert check_listing(cursor, listed) == expected


def test_another_chain_at_a_known_place_contradicts() -> None:
    assert contradicts(head(3, b"x" * 32), b"y" * 32)
    assert not contradicts(head(3, b"x" * 32), b"x" * 32)
    assert not contradicts(head(3, b"x" * 32), None)


@pytest.mark.parametrize(
    ("batches", "cursors", "expected"),
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param({(B, 1): {}, (A, 2): {}, (A, 1): {}}, {}, [(A, 1), (A, 2), (B, 1)], id="no heads"),
        pytest.param(
            {(A, 1): {B: head(2)}, (B, 1): {}, (B, 2): {}}, {}, [(B, 1), (B, 2), (A, 1)], id="after its heads"
        ),
        pytest.param(
            {(A, 1): {B: head(2)}, (B, 3): {}}, {B: 2}, [(A, 1), (B, 3)], id="heads already applied"
        ),
        pytest.param({(A, 1): {}, (A, 2): {}}, {A: 1}, [(A, 2)], id="applied before"),
        pytest.param({(A, 1): {B: head(9)}, (B, 1): {}}, {}, [(B, 1), (A, 1)], id="as far as shown"),
        pytest.param({(A, 1): {C: head(9)}, (B, 1): {}}, {}, [(A, 1), (B, 1)], id="heads that are not shown"),
        pytest.param({(A, 1): {A: head(5)}}, {}, [(A, 1)], id="a device that names itself"),
        pytest.param({(A, 1): {B: head(1)}, (B, 1): {A: head(1)}}, {}, [(A, 1), (B, 1)], id="a circle"),
        pytest.param(
            {(A, 1): {B: head(1)}, (B, 1): {C: head(1)}, (C, 1): {B: head(1)}},
            {},
            [(B, 1), (A, 1), (C, 1)],
            id="an honest one waits for the circle",
        ),
    ],
)
def test_apply_order(
    batches: dict[tuple[DeviceId, int], dict[DeviceId, Head]],
    cursors: dict[DeviceId, int],
    expected: list[tuple[DeviceId, int]],
) -> None:
    given_batches = {BatchId(*id): heads for id, heads in batches.items()}
    orders = [
        apply_order(dict(shuffled), cursors)
        for shuffled in itertools.islice(itertools.permutations(given_batches.items()), 6)
    ]
    assert all(order == expected for order in orders)


devices = st.sampled_from([A, B, C])


@st.composite
def honest_journals(draw: st.DrawFn) -> dict[BatchId, dict[DeviceId, Head]]:
    """Devices that publish in turns, each having read some of what was there."""
    lengths: dict[DeviceId, int] = {}
    batches: dict[BatchId, dict[DeviceId, Head]] = {}
    for device in draw(st.lists(devices, max_size=12)):
        heads = {
            other: head(draw(st.integers(1, length)))
            for other, length in lengths.items()
            if other != device and draw(st.booleans())
        }
        lengths[device] = lengths.get(device, 0) + 1
        batches[BatchId(device, lengths[device])] = heads
    return batches


@settings(derandomize=True, deadline=None)
@given(honest_journals(), st.dictionaries(devices, st.integers(0, 3)))
def test_honest_batches_come_after_all_they_name(
    batches: dict[BatchId, dict[DeviceId, Head]], cursors: dict[DeviceId, int]
) -> None:
    order = apply_order(batches, cursors)
    place = {id: index for index, id in enumerate(order)}
    assert sorted(order) == sorted(id for id in batches if id.seq > cursors.get(id.device, 0))
    for id in order:
        before = BatchId(id.device, id.seq - 1)
        assert place.get(before, -1) < place[id]
        for other, named in batches[id].items():
            assert place.get(BatchId(other, named.seq), -1) < place[id]


@settings(derandomize=True, deadline=None)
@given(
    st.dictionaries(
        st.builds(BatchId, devices, st.integers(1, 5)),
        st.dictionaries(devices, st.integers(0, 9).map(head)),
    )
)
def test_a_liar_holds_nothing_up(batches: dict[BatchId, dict[DeviceId, Head]]) -> None:
    order = apply_order(batches, {})
    assert sorted(order) == sorted(batches)
    for device in (A, B, C):
        seqs = [id.seq for id in order if id.device == device]
        assert seqs == sorted(seqs)

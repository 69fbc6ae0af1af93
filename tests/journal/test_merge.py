"""The laws of merging, and each thing that follows from a blob's facts."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncagent.journal.changes import DeviceChange, SlotsChange
from syncagent.journal.merge import (
    Expiry,
    Facts,
    Node,
    Register,
    expires_at,
    facts_of,
    flags,
    heads,
    holes,
    inherit,
    is_conflict,
    merge,
    newest,
    next_heads,
    node_of,
    prune,
    winner,
)
from syncagent.model import NEVER, DeviceId, Hlc, Metadata, MetadataValue, Parent, SlotId, Version, VersionId

A, B, C = (DeviceId(bytes([n]) * 16) for n in (1, 2, 3))
DEVICES = (A, B, C)


def vid(n: int) -> VersionId:
    return VersionId(n.to_bytes(16))


def node(
    n: int,
    *parents: int,
    device: DeviceId = A,
    hlc: int | None = None,
    deleted: bool = False,
    content: bytes = b"",
    metadata: Metadata | None = None,
    seq: int = 1,
    digest: bytes = b"",
) -> Node:
    """A version of its own content; its parents were published by device A in batch 1."""
    return Node(
        id=vid(n),
        hlc=Hlc(n if hlc is None else hlc),
        device=device,
        seq=seq,
        parents=tuple(Parent(vid(p), A, 1) for p in parents),
        deleted=deleted,
        content_digest=content or f"content {n}".encode(),
        metadata=metadata or {},
        digest=digest or f"digest {n}".encode(),
    )


def ids(nodes: Iterable[Node]) -> list[int]:
    return [int.from_bytes(each.id) for each in nodes]


@st.composite
def histories(draw: st.DrawFn, most: int = 8) -> list[Node]:
    """Versions 1 to n of one blob, each naming any earlier ones, written anywhere, some of them deletions."""
    nodes = []
    for n in range(1, draw(st.integers(0, most)) + 1):
        parents = draw(st.sets(st.integers(1, n - 1), max_size=3)) if n > 1 else set[int]()
        nodes.append(
            node(
                n,
                *sorted(parents),
                device=draw(st.sampled_from(DEVICES)),
                hlc=draw(st.integers(1, 4)),
                deleted=draw(st.booleans()),
            )
        )
    return nodes


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    """Any facts about one of a few blobs; the same id may come with other fields, parents or places."""
    nodes = [
        node(
            draw(st.integers(1, 4)),
            *sorted(draw(st.sets(st.integers(1, 5), max_size=2))),
            device=draw(st.sampled_from(DEVICES)),
            seq=draw(st.integers(0, 2)),
            digest=draw(st.sampled_from([b"x", b"y", b"z"])),
        )
        for _ in range(draw(st.integers(0, 4)))
    ]
    return facts_of(
        nodes,
        flag_tags=draw(st.sets(st.tuples(st.sampled_from(["seen", "done"]), st.integers(0, 3)))),
        removed_tags=draw(st.sets(st.integers(0, 3))),
        expires=draw(
            st.sets(st.builds(Expiry, st.integers(0, 3), st.booleans(), st.integers(0, 3).map(Hlc)))
        ),
    )


@settings(derandomize=True, deadline=None)
@given(facts(), facts())
def test_merge_is_commutative(a: Facts, b: Facts) -> None:
    assert merge(a, b) == merge(b, a)


@settings(derandomize=True, deadline=None)
@given(facts(), facts(), facts())
def test_merge_is_associative(a: Facts, b: Facts, c: Facts) -> None:
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


@settings(derandomize=True, deadline=None)
@given(facts(), facts())
def test_merge_is_idempotent(a: Facts, b: Facts) -> None:
    assert merge(a, a) == a
    both = merge(a, b)
    assert merge(both, a) == merge(both, b) == both


@settings(derandomize=True, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_the_winner_is_the_same_in_any_order_of_arrival(history: list[Node], rng: random.Random) -> None:
    expected = facts_of(history)
    shuffled = list(history)
    rng.shuffle(shuffled)
    grown = Facts()
    for each in shuffled:
        grown = merge(grown, facts_of([each]))
    assert grown == expected
    assert winner(grown) == winner(expected)
    assert heads(grown) == heads(expected)
    assert (winner(grown) is None) == (not history)


@settings(derandomize=True, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_heads_by_steps_equal_heads_by_definition(history: list[Node], rng: random.Random) -> None:
    """`next_heads` sees old heads, what comes in, and who is already named: never the whole history."""
    shuffled = list(history)
    rng.shuffle(shuffled)
    known = Facts()
    now: tuple[Node, ...] = ()
    while shuffled:
        step = [shuffled.pop() for _ in range(min(len(shuffled), rng.randint(1, 3)))]
        again = rng.sample(list(known.versions.values()), k=min(len(known.versions), rng.randint(0, 1)))
        now = next_heads(now, step + again, known.named)
        known = merge(known, facts_of(step))
        assert now == heads(known)


def test_the_winner_is_live_then_latest_then_of_the_greatest_ids() -> None:
    nodes = [
        node(1, hlc=9, deleted=True),
        node(2, hlc=3, device=B),
        node(3, hlc=3, device=A),
        node(5, hlc=2, device=C),
        node(4, hlc=2, device=C),
    ]
    assert ids(heads(facts_of(nodes))) == [2, 3, 5, 4, 1]


def test_a_delete_loses_against_a_concurrent_edit() -> None:
    known = facts_of([node(1), node(2, 1, deleted=True, hlc=9), node(3, 1, hlc=2)])
    assert ids(heads(known)) == [3, 2]
    assert not is_conflict(heads(known))


def test_a_delete_wins_against_what_it_saw() -> None:
    known = facts_of([node(1), node(2, 1, deleted=True)])
    first = winner(known)
    assert first is not None
    assert first.deleted


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param([node(1)], False, id="one head"),
        pytest.param([node(1), node(2)], True, id="two contents"),
        pytest.param([node(1), node(2, deleted=True)], False, id="an edit and a deletion"),
        pytest.param([node(1, deleted=True), node(2, deleted=True)], False, id="two deletions"),
        pytest.param([node(1), node(2), node(3, deleted=True)], True, id="two edits and a deletion"),
        pytest.param([node(1, content=b"x"), node(2, content=b"x")], False, id="the same edit twice"),
        pytest.param(
            [
                node(1, content=b"x", metadata={"a": 1, "fs.mtime": 1}),
                node(2, content=b"x", metadata={"a": 1}),
            ],
            False,
            id="only a folder's metadata differs",
        ),
        pytest.param(
            [node(1, content=b"x", metadata={"a": 1}), node(2, content=b"x", metadata={"a": 2})],
            True,
            id="other metadata differs",
        ),
        pytest.param(
            [node(1, content=b"x", metadata={"a": 1}), node(2, content=b"x", metadata={"a": True})],
            True,
            id="True is not 1",
        ),
        pytest.param(
            [node(1, content=b"x", metadata={"fs": 1}), node(2, content=b"x")], True, id="fs without a dot"
        ),
        pytest.param(
            [
                node(1, content=b"x", metadata={"a": 1, "b": 2}),
                node(2, content=b"x", metadata={"b": 2, "a": 1}),
            ],
            False,
            id="the order of keys is nothing",
        ),
    ],
)
def test_is_conflict(nodes: list[Node], expected: bool) -> None:
    assert is_conflict(nodes) is expected


def test_holes_are_unknown_parents_above_the_cursor() -> None:
    here, pruned, folded, absent, stranger = (vid(n) for n in range(1, 6))
    parents = (
        Parent(here, B, 9),
        Parent(pruned, B, 5),
        Parent(folded, B, 0),
        Parent(absent, B, 6),
        Parent(stranger, C, 1),
    )
    child = Node(vid(9), Hlc(1), A, 1, parents, False, b"", {}, b"")
    assert holes([child, child], {here}, {B: 5}) == (parents[3], parents[4])
    assert holes([child], {here, absent}, {B: 5, C: 1}) == ()
    assert holes([child], {here}, {B: 6, C: 1}) == ()


@settings(derandomize=True, deadline=None)
@given(histories(), st.data())
def test_pruning_what_is_superseded_leaves_the_heads(history: list[Node], data: st.DataObject) -> None:
    known = facts_of(history)
    superseded = sorted(known.named & known.versions.keys())
    ids = data.draw(st.sets(st.sampled_from(superseded)) if superseded else st.just(set()))
    left = prune(known, ids)
    assert [each.id for each in heads(left)] == [each.id for each in heads(known)]
    assert left.versions.keys() == known.versions.keys() - ids
    # Also for a device that learns only what is left.
    rebuilt = facts_of(left.versions.values())
    assert heads(rebuilt) == heads(left)


@settings(derandomize=True, deadline=None)
@given(histories(), st.data())
def test_what_was_superseded_stays_so_when_it_arrives_after_pruning(
    history: list[Node], data: st.DataObject
) -> None:
    """Some versions are known and pruned; their ancestors come late, out of a hole."""
    late_ids = data.draw(
        st.sets(st.sampled_from(history).map(lambda each: each.id)) if history else st.just(set())
    )
    early = facts_of(each for each in history if each.id not in late_ids)
    late = [each for each in history if each.id in late_ids]
    superseded = sorted(early.named & early.versions.keys())
    pruned = data.draw(st.sets(st.sampled_from(superseded)) if superseded else st.just(set()))
    expected = [each.id for each in heads(facts_of(history))]
    left = prune(early, pruned)
    for known in (left, facts_of(left.versions.values())):
        result = merge(known, facts_of(late))
        assert [each.id for each in heads(result) if each.id not in pruned] == expected


def test_a_pruned_version_that_arrives_again_is_no_head() -> None:
    history = [node(1), node(2, 1), node(3, 2)]
    left = prune(facts_of(history), {vid(1), vid(2)})
    assert ids(heads(merge(left, facts_of(history[:2])))) == [3]


def test_pruning_a_circle_ends() -> None:
    known = facts_of([node(1, 2), node(2, 1), node(3, 2)])
    left = prune(known, {vid(2), vid(1)})
    assert left.versions[vid(3)].parents == ()
    left = prune(known, {vid(2)})
    assert left.versions[vid(1)].parents == ()


def test_inherit_goes_through_chains_in_place_and_once() -> None:
    def parent(n: int) -> Parent:
        return Parent(vid(n), A, n)

    dropped = {vid(2): (parent(3), parent(4)), vid(3): (parent(5), parent(1)), vid(6): (parent(4),)}
    assert inherit([parent(1), parent(2), parent(6), parent(7)], dropped) == tuple(map(parent, (1, 5, 4, 7)))
    assert inherit([parent(2)], {vid(2): ()}) == ()
    long = {vid(n): (parent(n + 1),) for n in range(1, 5000)}
    assert inherit([parent(1)], long) == (parent(5000),)


def test_a_known_id_with_other_fields_is_reported_and_the_smaller_digest_kept() -> None:
    one, other = node(1, digest=b"x"), node(1, 7, digest=b"y")
    for known in (facts_of([one, other]), facts_of([other, one])):
        assert known.contradictions == {vid(1)}
        assert known.versions == {vid(1): one}
    assert facts_of([one, one]).contradictions == frozenset()


def test_the_digest_of_a_node_covers_every_field_but_not_where_it_was_published() -> None:
    def version(**changed: object) -> Version:
        fields: dict[str, object] = {
            "id": vid(1),
            "hlc": 1,
            "namespace": "notes",
            "blob_id": "a",
            "parents": (),
            "deleted": False,
            "size": 1,
            "created_at": 1,
            "metadata": {"b": 1, "a": 2},
            "scope": bytes(16),
            "content": (bytes(32),),
            "content_digest": bytes(32),
            "group": None,
        }
        return Version(**(fields | changed))  # type: ignore[arg-type]  # one field at a time

    base = node_of(version(), A, 1)
    assert node_of(version(metadata={"a": 2, "b": 1}), B, 2).digest == base.digest
    changes: dict[str, object] = {
        "hlc": 2,
        "namespace": "mail",
        "blob_id": "b",
        "parents": (Parent(vid(2), A, 1),),
        "deleted": True,
        "size": 2,
        "created_at": 2,
        "metadata": {"a": 2, "b": True},
        "scope": b"s" * 16,
        "content": (b"c" * 32,),
        "content_digest": b"d" * 32,
        "group": b"g" * 16,
    }
    for name, value in changes.items():
        assert node_of(version(**{name: value}), A, 1).digest != base.digest, name
    assert (base.id, base.hlc, base.device, base.seq) == (vid(1), 1, A, 1)


def test_a_flag_added_beside_its_removal_stays() -> None:
    seen = facts_of([], flag_tags=[("seen", 1), ("done", 2)])
    removed = merge(seen, facts_of([], removed_tags=[1]))
    added = merge(seen, facts_of([], flag_tags=[("seen", 3)]))
    assert flags(removed) == {"done"}
    assert flags(merge(removed, added)) == {"seen", "done"}
    assert flags(merge(merge(removed, added), facts_of([], removed_tags=[3]))) == {"done"}


@settings(derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove"]), st.sampled_from([0, 1]), st.booleans()), max_size=12
    )
)
def test_flags_of_two_replicas_that_talk_agree(steps: list[tuple[str, int, bool]]) -> None:
    """Each adds under a fresh tag and removes the tags it sees; merged, both show the same."""
    replicas = [Facts(), Facts()]
    for tag, (what, which, exchange) in enumerate(steps):
        mine = replicas[which]
        if what == "add":
            mine = merge(mine, facts_of([], flag_tags=[("seen", tag)]))
            assert "seen" in flags(mine)
        else:
            mine = merge(mine, facts_of([], removed_tags=[t for _, t in mine.flag_tags]))
            assert "seen" not in flags(mine)
        replicas[which] = mine
        if exchange:
            replicas = [merge(*replicas)] * 2
    one, two = (flags(replica) for replica in replicas)
    both = merge(*replicas)
    assert both == merge(*reversed(replicas))
    assert flags(both) <= one | two


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param([], None, id="never set"),
        pytest.param([(5, False, 1), (9, False, 2)], 9, id="put off"),
        pytest.param([(9, False, 1), (5, False, 2)], 9, id="not shortened"),
        pytest.param([(9, False, 1), (5, True, 2)], 5, id="shortened by force"),
        pytest.param([(5, True, 2), (9, False, 3)], 9, id="put off after force"),
        pytest.param([(5, True, 2), (9, False, 2)], 9, id="not older counts"),
        pytest.param([(9, True, 1), (5, True, 2), (3, False, 3)], 5, id="the newest force counts"),
        pytest.param([(9, False, 1), (NEVER, True, 2)], None, id="taken away"),
        pytest.param([(NEVER, True, 2), (5, True, 3)], 5, id="set again"),
    ],
)
def test_expires_at(changes: list[tuple[int, bool, int]], expected: int | None) -> None:
    known = facts_of([], expires=[Expiry(at, forced, Hlc(hlc)) for at, forced, hlc in changes])
    assert expires_at(known) == expected


def test_the_newest_register_stands_in_any_order() -> None:
    def named(name: str, hlc: int, author: DeviceId) -> Register[DeviceChange]:
        return Register(DeviceChange(A, name, "linux", None, False, hlc), author)

    older, newer, other = named("old", 1, C), named("new", 2, A), named("new", 2, B)
    twin = named("twin", 2, B)
    for winner_, loser in [(newer, older), (other, newer), (twin, other)]:
        assert newest(winner_, loser) == newest(loser, winner_) == winner_


def test_slots_are_one_register() -> None:
    one = Register(SlotsChange({SlotId(bytes(16)): bytes(32)}, 1), A)
    two = Register(SlotsChange({}, 2), A)
    assert newest(one, two) is two


def test_facts_and_nodes_hash() -> None:
    metadata: dict[str, MetadataValue] = {"a": 1}
    assert len({node(1, metadata=metadata), node(1, metadata=dict(metadata))}) == 1
    assert len({facts_of([node(1)]), facts_of([node(1)])}) == 1

"""What follows from the facts known of one blob. Pure: no clock, no database, no order of arrival.

Facts only grow, and merging them is a set union, so any two devices that know
the same facts show the same heads, conflicts, flags and expiry. The cache does
not load whole histories for this: `next_heads` gives the same answer from the
heads it has, what comes in, and what is already superseded.
"""

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

import msgspec

from syncagent.journal.batch import encode_change, encode_version
from syncagent.journal.changes import DeviceChange, SlotsChange, TagChange
from syncagent.model import NEVER, DeviceId, Hlc, Metadata, Parent, Version, VersionId

FOLDER_KEYS = "fs."
"""Metadata under this prefix (times, permissions) differs between folders without being a conflict."""

FlagTag = tuple[str, int]
"""A flag and one random tag under which it was set."""


@dataclass(frozen=True, slots=True)
class Node:
    """What merging needs of a version, and the batch (device, seq) that published it; seq 0: none yet.

    `digest` is SHA-256 over all fields as published. `parents` may have been rewritten since, by `prune`.
    """

    id: VersionId
    hlc: Hlc
    device: DeviceId
    seq: int
    parents: tuple[Parent, ...]
    deleted: bool
    content_digest: bytes
    metadata: Metadata = field(hash=False)
    digest: bytes


@dataclass(frozen=True, slots=True)
class Expiry:
    """One `expires` change: Unix milliseconds, or `NEVER`."""

    at: int
    forced: bool
    hlc: Hlc


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one blob. `facts_of` builds it, with `named` complete.

    `named` has every version that a known one, also one pruned since, names as parent.
    `contradictions` has ids seen with different fields: the node kept is the one of the smallest digest.
    """

    versions: Mapping[VersionId, Node] = field(default_factory=dict, hash=False)
    named: frozenset[VersionId] = frozenset()
    flag_tags: frozenset[FlagTag] = frozenset()
    removed_tags: frozenset[int] = frozenset()
    expires: frozenset[Expiry] = frozenset()
    contradictions: frozenset[VersionId] = frozenset()


LastWriterWins = TagChange | DeviceChange | SlotsChange
_C = TypeVar("_C", TagChange, DeviceChange, SlotsChange)


@dataclass(frozen=True, slots=True)
class Register(Generic[_C]):
    """A change of which the newest stands, and the device that wrote it."""

    change: _C
    device: DeviceId


def node_of(version: Version, device: DeviceId, seq: int) -> Node:
    """The node of a version that `device` published in batch `seq`, or has not yet published (0)."""
    return Node(
        id=VersionId(version.id),
        hlc=Hlc(version.hlc),
        device=device,
        seq=seq,
        parents=version.parents,
        deleted=version.deleted,
        content_digest=version.content_digest,
        metadata=version.metadata,
        digest=hashlib.sha256(encode_version(version)).digest(),
    )


def facts_of(
    nodes: Iterable[Node],
    *,
    flag_tags: Iterable[FlagTag] = (),
    removed_tags: Iterable[int] = (),
    expires: Iterable[Expiry] = (),
) -> Facts:
    """The facts that these say together, in any order."""
    versions: dict[VersionId, Node] = {}
    named: set[VersionId] = set()
    contradictions: set[VersionId] = set()
    for node in nodes:
        named.update(_parent_ids(node))
        _add(versions, contradictions, node)
    return Facts(
        versions=versions,
        named=frozenset(named),
        flag_tags=frozenset(flag_tags),
        removed_tags=frozenset(removed_tags),
        expires=frozenset(expires),
        contradictions=frozenset(contradictions),
    )


def merge(a: Facts, b: Facts) -> Facts:
    """All facts of both: commutative, associative, idempotent."""
    versions = dict(a.versions)
    contradictions = set(a.contradictions | b.contradictions)
    for node in b.versions.values():
        _add(versions, contradictions, node)
    return Facts(
        versions=versions,
        named=a.named | b.named,
        flag_tags=a.flag_tags | b.flag_tags,
        removed_tags=a.removed_tags | b.removed_tags,
        expires=a.expires | b.expires,
        contradictions=frozenset(contradictions),
    )


def heads(facts: Facts) -> tuple[Node, ...]:
    """The versions that no known version supersedes, winner first."""
    return _ranked(node for id, node in facts.versions.items() if id not in facts.named)


def next_heads(
    old: Iterable[Node], incoming: Iterable[Node], named: Container[VersionId]
) -> tuple[Node, ...]:
    """The heads after `incoming` is applied, winner first, without looking at the rest of the history.

    Args:
        old: the heads so far.
        incoming: new versions in any order, also versions applied before.
        named: says of an incoming version whether a version already known, also a pruned one, names it.
    """
    new = {node.id: node for node in incoming}
    superseded = {id for node in new.values() for id in _parent_ids(node)}
    candidates = {node.id: node for node in old} | {id: node for id, node in new.items() if id not in named}
    return _ranked(node for id, node in candidates.items() if id not in superseded)


def winner(facts: Facts) -> Node | None:
    """The head that `get` returns; None where nothing is known of the blob."""
    return next(iter(heads(facts)), None)


def rank(node: Node) -> tuple[bool, Hlc, DeviceId, VersionId]:
    """The greatest wins: live before deleted, then the later, then ids, so that no two are equal."""
    return (not node.deleted, node.hlc, node.device, node.id)


def is_conflict(heads: Sequence[Node]) -> bool:
    """Whether two live heads differ in content, or in metadata other than a folder's.

    A deletion beside an edit has lost, and is no conflict.
    """
    return len({_compared(node) for node in heads if not node.deleted}) > 1


def holes(
    nodes: Iterable[Node], known: Container[VersionId], cursors: Mapping[DeviceId, int]
) -> tuple[Parent, ...]:
    """Parents still to arrive: while there is one, the blob is incomplete.

    A pure case table over each parent of the nodes, whose own batches are applied. The order is that of
    the nodes and their parents, each parent once.

    Args:
        nodes: the versions whose parents are asked about; the heads are not enough after a gap.
        known: version ids held here. Pruned ones may be missing.
        cursors: per device the last batch applied; a device not in it has none.
    """
    missing: dict[Parent, None] = {}
    for parent in (parent for node in nodes for parent in node.parents):
        if parent.version in known:
            # It is here.
            continue
        if parent.seq == 0:
            # Its author published it with the child or before, or folded it away.
            continue
        if parent.seq <= cursors.get(DeviceId(parent.device), 0):
            # Its batch was applied: it was here and has been pruned.
            continue
        missing[parent] = None
    return tuple(missing)


def prune(facts: Facts, ids: Set[VersionId]) -> Facts:
    """The facts without these versions, whose parents pass to every version that names them.

    What a removed version superseded stays superseded, also for someone who knows only what is left.
    `named` keeps all it had, so a removed version that arrives once more is no head.
    """
    dropped = {id: facts.versions[id].parents for id in ids if id in facts.versions}
    kept: dict[VersionId, Node] = {}
    for id, node in facts.versions.items():
        if id in dropped:
            continue
        parents = inherit(node.parents, dropped)
        # A liar's parents may run in a circle; a version never supersedes itself.
        kept[id] = replace(node, parents=tuple(parent for parent in parents if parent.version != id))
    return replace(facts, versions=kept)


def inherit(parents: Iterable[Parent], dropped: Mapping[VersionId, tuple[Parent, ...]]) -> tuple[Parent, ...]:
    """Parents with each dropped one replaced, in its place, by its own: through chains, each version once."""
    result: dict[bytes, Parent] = {}
    seen: set[bytes] = set()
    waiting = list(reversed(tuple(parents)))
    while waiting:  # a stack, not recursion: thousands of edits may fold into one
        parent = waiting.pop()
        if parent.version in seen:
            continue
        seen.add(parent.version)
        passed = dropped.get(VersionId(parent.version))
        if passed is None:
            result[parent.version] = parent
        else:
            waiting.extend(reversed(passed))
    return tuple(result.values())


def flags(facts: Facts) -> frozenset[str]:
    """The flags set: those with a tag that no known change removes, so a concurrent add wins."""
    return frozenset(flag for flag, tag in facts.flag_tags if tag not in facts.removed_tags)


def expires_at(facts: Facts) -> int | None:
    """When the blob expires, in Unix milliseconds, or None.

    The greatest `at` among the changes not older than the newest forced one: expiry is only ever put
    off, but for a forced change, which starts afresh.
    """
    forced = max((expiry.hlc for expiry in facts.expires if expiry.forced), default=0)
    at = max((expiry.at for expiry in facts.expires if expiry.hlc >= forced), default=NEVER)
    return None if at == NEVER else at


def standing(expires: Iterable[Expiry]) -> frozenset[Expiry]:
    """Those changes on which, whatever else becomes known, the expiry may depend.

    A change is out if it is older than the newest forced one, or if another that is not older puts the
    blob off as far or further.
    """
    known = sorted(expires, key=lambda one: (one.hlc, one.at, one.forced), reverse=True)
    forced = next((one for one in known if one.forced), None)
    kept = set() if forced is None else {forced}
    furthest = -NEVER
    for one in known:
        if forced is not None and (one.hlc, one.at) <= (forced.hlc, forced.at):
            break
        if one.at > furthest:
            furthest = one.at
            kept.add(one)
    return frozenset(kept)


def newest(a: Register[_C], b: Register[_C]) -> Register[_C]:
    """The one that stands: by hlc, then device id.

    One device stamps no two changes alike, but a copy of it may; then the greater bytes win, everywhere.
    """
    return max(
        a, b, key=lambda register: (register.change.hlc, register.device, encode_change(register.change))
    )


def _add(versions: dict[VersionId, Node], contradictions: set[VersionId], node: Node) -> None:
    known = versions.get(node.id)
    if known is None:
        versions[node.id] = node
    elif known.digest != node.digest:
        contradictions.add(node.id)
        versions[node.id] = min(known, node, key=lambda each: each.digest)
    elif known != node:
        # Published twice, or its parents were rewritten by pruning: keep all it is known to supersede.
        parents = {*known.parents, *node.parents}
        versions[node.id] = replace(
            min(known, node, key=lambda each: (each.seq == 0, each.device, each.seq)),
            parents=tuple(sorted(parents, key=lambda parent: (parent.version, parent.device, parent.seq))),
        )


def _parent_ids(node: Node) -> Iterable[VersionId]:
    return (VersionId(parent.version) for parent in node.parents)


def _ranked(nodes: Iterable[Node]) -> tuple[Node, ...]:
    return tuple(sorted(nodes, key=rank, reverse=True))


def _compared(node: Node) -> bytes:
    """Packed, because 1, 1.0 and True are equal in Python and differ as metadata."""
    metadata = {key: value for key, value in node.metadata.items() if not key.startswith(FOLDER_KEYS)}
    return node.content_digest + msgspec.msgpack.encode(metadata, order="deterministic")

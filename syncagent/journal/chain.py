"""What a journal's listing means: rolled back, forked, withheld, or simply new. Pure.

Each batch carries the chain over all before it and what its author had read of
the other journals (`heads`), so a remote that goes back, leaves out or tells
two devices two stories contradicts something that it cannot forge. See
`docs/format.md#chain`.
"""

import enum
import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from syncagent.journal.changes import Head
from syncagent.model import DeviceId, VaultId

_CHAIN_LABEL = b"syncagent/1/chain"


class BatchId(NamedTuple):
    """One batch: whose journal, and its place there, from 1."""

    device: DeviceId
    seq: int


class Verdict(enum.Enum):
    """What a listing of one device's journal means."""

    IN_STEP = "in step"
    NEW = "new"
    GAP = "gap"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True)
class Listing:
    """The verdict, the batches to apply now in order, and the first that is withheld, if any.

    Only the first: a liar may list a sequence number near 10^12.
    """

    verdict: Verdict
    new: tuple[int, ...] = ()
    withheld: int | None = None


def chain_start(vault_id: VaultId, device_id: DeviceId) -> bytes:
    """chain(0) of a device's journal: SHA-256(label ‖ vault id ‖ device id)."""
    return hashlib.sha256(_CHAIN_LABEL + vault_id + device_id).digest()


def chain_next(chain: bytes, object_sha256: bytes) -> bytes:
    """chain(n) = SHA-256(chain(n-1) ‖ SHA-256(object n)).

    Raises:
        ValueError: a length is not 32; the object's bytes are hashed by the caller, who often has the digest.
    """
    if len(chain) != 32 or len(object_sha256) != 32:
        raise ValueError("a chain and a digest have 32 bytes")
    return hashlib.sha256(chain + object_sha256).digest()


def check_listing(cursor_seq: int, listed: Iterable[int]) -> Listing:
    """What the remote's listing of one journal means for a device that has applied up to `cursor_seq`.

    Args:
        cursor_seq: the last batch applied here; 0 for none.
        listed: the sequence numbers shown, from the cursor on, in any order; earlier ones do not matter.
    """
    shown = sorted({seq for seq in listed if seq >= max(cursor_seq, 1)})
    if cursor_seq > 0:
        if not shown or shown[0] != cursor_seq:
            # The last batch we applied is not there: whatever else is shown, the remote went back.
            return Listing(Verdict.ROLLED_BACK)
        shown = shown[1:]
    if not shown:
        # Nothing after the cursor.
        return Listing(Verdict.IN_STEP)
    new = tuple(seq for expected, seq in enumerate(shown, cursor_seq + 1) if seq == expected)
    if len(new) == len(shown):
        # Everything follows without a gap.
        return Listing(Verdict.NEW, new)
    # A number is left out: what comes before it can be applied, the rest would not chain.
    return Listing(Verdict.GAP, new, withheld=cursor_seq + len(new) + 1)


def contradicts(head: Head, known_chain: bytes | None) -> bool:
    """Whether a head tells another history than the chain known here at `head.seq` (None: not known)."""
    return known_chain is not None and head.chain != known_chain


def apply_order(
    batches: Mapping[BatchId, Mapping[DeviceId, Head]], cursors: Mapping[DeviceId, int]
) -> list[BatchId]:
    """Every batch shown that is beyond our cursor, each after those its `heads` name, as far as shown.

    Each device's batches stay in sequence. The order depends only on the arguments' values. Heads that
    run in a circle, which only a liar writes, hold nothing up: one batch of the circle goes first.
    """
    journals: dict[DeviceId, list[int]] = {}
    for batch in sorted(batches):
        if batch.seq > cursors.get(batch.device, 0):
            journals.setdefault(batch.device, []).append(batch.seq)
    position = dict.fromkeys(journals, 0)

    def next_seq(device: DeviceId) -> int | None:
        place = position.get(device)
        return None if place is None or place == len(journals[device]) else journals[device][place]

    def blocker(device: DeviceId, seq: int) -> BatchId | None:
        """A batch that must come first and has not come yet."""
        for other, head in sorted(batches[BatchId(device, seq)].items()):
            waiting = next_seq(other)
            if other != device and waiting is not None and waiting <= head.seq:
                return BatchId(other, head.seq)
        return None

    def on_circle() -> DeviceId:
        """With nothing ready every blocked batch leads to a circle; an honest one before it still waits."""
        device, passed = min(blocked), set[DeviceId]()
        while device not in passed:
            passed.add(device)
            seq = next_seq(device)
            first = None if seq is None else blocker(device, seq)
            assert first is not None, "a blocked device has a blocker"
            device = first.device
        return device

    order: list[BatchId] = []
    ready: list[DeviceId] = []
    waiters: dict[DeviceId, list[tuple[int, DeviceId]]] = {}
    blocked: set[DeviceId] = set()

    def settle(device: DeviceId) -> None:
        """Puts a device among the ready or the blocked by its next batch."""
        blocked.discard(device)
        seq = next_seq(device)
        if seq is None:
            return
        first = blocker(device, seq)
        if first is None:
            heapq.heappush(ready, device)
        else:
            blocked.add(device)
            heapq.heappush(waiters.setdefault(first.device, []), (first.seq, device))

    for device in journals:
        settle(device)
    while ready or blocked:
        if ready:
            device = heapq.heappop(ready)
        else:
            device = on_circle()
            blocked.discard(device)
        order.append(BatchId(device, journals[device][position[device]]))
        position[device] += 1
        settle(device)
        reached = next_seq(device)
        queue = waiters.get(device, [])
        while queue and (reached is None or queue[0][0] < reached):
            _, waiter = heapq.heappop(queue)
            if waiter in blocked:
                settle(waiter)
    return order

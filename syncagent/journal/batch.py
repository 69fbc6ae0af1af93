"""The strict msgpack form of a batch and its changes.

Sealing is not done here: these are the bytes inside a sealed journal object,
and inside the cache's own rows. A batch was written by a device of this vault,
so nothing in it is trusted to be small or sane merely because it opened:

    what is wrong                                           raised
    ─────────────────────────────────────────────────────   ─────────────
    not msgpack, cut short, trailing bytes, nested deep     Tampered
    another type, count or range of a field; unknown kind,  TooNew
      codec, epoch; a field too many or too few
    over a limit of the format                              LimitExceeded
    well formed, but at odds with itself                    Tampered

Maps are written with sorted keys, so equal values have equal bytes; they are
read in any order.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec

from syncagent.errors import LimitExceeded, Tampered
from syncagent.journal.changes import (
    ENVELOPE_BYTES,
    MAX_BATCH_BYTES,
    MAX_CHANGES,
    MAX_TRANSACTION_BYTES,
    Batch,
    Change,
    SlotsChange,
    SnapshotChange,
    VersionChange,
)
from syncagent.journal.checks import by_key, check_batch, check_change, check_version, too_new
from syncagent.model import Version

_T = TypeVar("_T")

_VERSION_KIND = b"\x92" + msgspec.msgpack.encode("version")
"""How an array of two begins whose first element is the kind's name."""
_encode: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
_batches = msgspec.msgpack.Decoder(Batch)
_changes: msgspec.msgpack.Decoder[Change] = msgspec.msgpack.Decoder(Change)
_versions = msgspec.msgpack.Decoder(Version)


def encode_batch(batch: Batch, encoded: Iterable[bytes] = ()) -> bytes:
    """The msgpack of a batch, equal for equal batches.

    It is read back before it is returned: a batch that no device could read would stop a journal for good.

    Args:
        batch: the batch.
        encoded: further changes, that come after its own, as `encode_change` or `version_change` gave them.

    Raises:
        LimitExceeded, Tampered, TooNew: what `decode_batch` would raise.
    """
    check_batch(batch)
    changes = [_encode(_with_sorted_keys(change)) for change in batch.changes]
    data = _encode(
        (
            batch.hlc,
            batch.chain_before,
            by_key(batch.heads),
            batch.packs,
            [msgspec.Raw(change) for change in (*changes, *encoded)],
        )
    )
    decode_batch(data)
    return data


def decode_batch(data: bytes) -> Batch:
    """The batch in these bytes, wholly checked.

    Raises:
        LimitExceeded, Tampered, TooNew: as in the table at the head of this file.
    """
    batch = _read_batch(data)
    check_batch(batch)
    return batch


def encode_change(change: Change) -> bytes:
    """The msgpack of one change, equal for equal changes. Raises what `check_change` raises."""
    check_change(change)
    return _encode(_with_sorted_keys(change))


def version_change(version: bytes) -> bytes:
    """The msgpack of a `version` change, from that of its version."""
    return _VERSION_KIND + version


def decode_change(data: bytes) -> Change:
    """The change in these bytes, checked as `decode_batch` checks it."""
    change = _decode(_changes, data, "a change")
    check_change(change)
    return change


def encode_version(version: Version) -> bytes:
    """The msgpack of a version, equal for equal fields. Not checked: see `check_version`."""
    return _encode(_sorted_version(version))


def decode_version(data: bytes) -> Version:
    """The version in these bytes, checked as `decode_batch` checks it."""
    version = _decode(_versions, data, "a version")
    check_version(version)
    return version


def cut(sizes: Iterable[int], *, envelope_bytes: int = 0) -> int:
    """How many of the waiting changes, given their encoded sizes in order, go in one batch.

    At least one where any waits: a change too big for a usual batch has one of its own. A transaction
    is not cut; see `check_transaction`.

    Args:
        sizes: `len(encode_change(change))` of each.
        envelope_bytes: what the batch's packs and heads take already.
    """
    count, total = 0, envelope_bytes
    for size in sizes:
        total += size
        if count == MAX_CHANGES or (count and total > MAX_BATCH_BYTES):
            break
        count += 1
    return count


def check_transaction(sizes: Iterable[int]) -> None:
    """Raises `LimitExceeded` where a transaction's changes cannot all go in one batch."""
    total = sum(sizes)
    allowed = MAX_TRANSACTION_BYTES - ENVELOPE_BYTES
    if total > allowed:
        raise LimitExceeded(
            f"the transaction has {total} bytes of changes, {allowed} are allowed",
            safe="nothing of the transaction was stored",
            todo="split it",
        )


def _read_batch(data: bytes) -> Batch:
    if len(data) > MAX_TRANSACTION_BYTES:
        raise LimitExceeded(f"a batch has {len(data)} bytes, {MAX_TRANSACTION_BYTES} are allowed")
    return _decode(_batches, data, "a batch")


def _with_sorted_keys(change: Change) -> Change:
    match change:
        case VersionChange(version):
            return VersionChange(_sorted_version(version))
        case SlotsChange(slots):
            return msgspec.structs.replace(change, slots=by_key(slots))
        case SnapshotChange():
            return msgspec.structs.replace(change, heads=by_key(change.heads))
        case _:
            return change


def _sorted_version(version: Version) -> Version:
    return msgspec.structs.replace(version, metadata=by_key(version.metadata))


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes, what: str) -> _T:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as exc:
        raise too_new(what, str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Tampered(f"{what} is not well formed: {str(exc)[:200]!r}") from exc
    except RecursionError as exc:
        raise Tampered(f"{what} is nested too deeply") from exc

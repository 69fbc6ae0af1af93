"""The bytes of batches: frozen vectors, every kind round, every breakage refused by its own error."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncagent import errors, names
from syncagent.crypto.keys import VaultKeys, new_root
from syncagent.crypto.sealed import seal_object
from syncagent.errors import ConfigError, LimitExceeded, SyncAgentError, Tampered, TooNew
from syncagent.journal.batch import (
    check_transaction,
    cut,
    decode_batch,
    decode_change,
    decode_version,
    encode_batch,
    encode_change,
    encode_version,
    version_change,
)
from syncagent.journal.changes import (
    ENVELOPE_BYTES,
    MAX_BATCH_BYTES,
    MAX_CHANGES,
    MAX_TRANSACTION_BYTES,
    Batch,
    Change,
    DeviceChange,
    DroppedChange,
    ExpiresChange,
    FlagsChange,
    ForgetChange,
    Head,
    LostChange,
    RescueChange,
    RetireChange,
    SlotsChange,
    SnapshotChange,
    TagChange,
    VersionChange,
    WantChange,
)
from syncagent.journal.checks import check_metadata
from syncagent.model import (
    CHUNK_SIZE,
    MAX_METADATA_BYTES,
    NEVER,
    ChunkId,
    Codec,
    DeviceId,
    MetadataValue,
    PackedChunk,
    PackId,
    PackRecord,
    Parent,
    SlotId,
    Version,
    VersionId,
)
from syncagent.remote.base import max_object_size

VECTORS = Path(__file__).parent / "vectors"


def id16(n: int) -> bytes:
    return bytes([n]) * 16


def id32(n: int) -> bytes:
    return bytes([n]) * 32


VERSION = Version(
    id=id16(1),
    hlc=(1_700_000_000_000 << 16) + 3,
    namespace="notes",
    blob_id="né/1",
    parents=(Parent(id16(2), id16(3), 7), Parent(id16(4), id16(5), 0)),
    deleted=False,
    size=CHUNK_SIZE + 1,
    created_at=1_700_000_000_123,
    metadata={"bytes": b"\0\xff", "flag": True, "float": -2.5, "int": -(1 << 63), "text": "ä"},
    scope=bytes(16),
    content=(id32(6), id32(7)),
    content_digest=id32(8),
    group=id16(9),
)
TOMBSTONE = Version(
    id=id16(10),
    hlc=(1_700_000_000_000 << 16) + 4,
    namespace=".settings",
    blob_id="notes",
    parents=(),
    deleted=True,
    size=0,
    created_at=-1,
    metadata={},
    scope=id16(11),
    content=(),
    content_digest=id32(12),
)
CHANGES: tuple[Change, ...] = (
    VersionChange(VERSION),
    VersionChange(TOMBSTONE),
    FlagsChange("notes", "a", add=(("seen", (1 << 64) - 1),), remove=(0, 5)),
    ExpiresChange("notes", "a", at=NEVER, forced=True, hlc=2),
    TagChange(VersionId(id16(1)), "release", on=True, hlc=3),
    ForgetChange((VersionId(id16(1)), VersionId(id16(2)))),
    RetireChange((PackId(id32(1)),)),
    RescueChange((PackId(id32(2)),)),
    LostChange((PackId(id32(3)),)),
    DroppedChange((PackId(id32(4)),)),
    WantChange((ChunkId(id32(6)),)),
    DeviceChange(DeviceId(id16(3)), "laptop", "linux", DeviceId(id16(5)), retired=False, hlc=4),
    SlotsChange({SlotId(id16(1)): id32(1), SlotId(id16(2)): id32(2)}, hlc=5),
    SnapshotChange(id16(6), {DeviceId(id16(3)): Head(7, id32(7))}, sha256=id32(8)),
)
PACK = PackRecord(
    id=id32(20),
    size=200,
    epoch=1,
    salt=id32(21),
    chunks=(PackedChunk(id32(6), 100 + 16, 100, Codec.STORED), PackedChunk(id32(7), 40, 90, Codec.ZSTD)),
)
BATCH = Batch(
    hlc=(1_700_000_000_000 << 16) + 5,
    chain_before=id32(30),
    heads={DeviceId(id16(3)): Head(7, id32(7)), DeviceId(id16(5)): Head(999_999_999_999, id32(9))},
    packs=(PACK,),
    changes=CHANGES,
)


def changed(version: Version = VERSION, **fields: Any) -> Version:
    return msgspec.structs.replace(version, **fields)


def batch_of(*changes: Change) -> Batch:
    return Batch(1, bytes(32), {}, (), changes)


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def test_the_good_vector_holds_every_kind() -> None:
    assert {type(change) for change in CHANGES} == set(get_args(Change))
    data = bytes.fromhex(load("batch_good.json")["msgpack"])
    assert encode_batch(BATCH) == data
    assert encode_batch(decode_batch(data)) == data


@pytest.mark.parametrize("case", load("batch_bad.json"), ids=lambda case: case["name"])
def test_a_bad_vector_is_refused(case: dict[str, str]) -> None:
    error = getattr(errors, case["error"])
    with pytest.raises(SyncAgentError) as caught:
        decode_batch(bytes.fromhex(case["msgpack"]))
    assert type(caught.value) is error


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: type(change).__name__)
def test_a_change_goes_round(change: Change) -> None:
    data = encode_change(change)
    read = decode_change(data)
    assert encode_change(read) == data
    if not isinstance(change, VersionChange):  # versions compare by id alone
        assert read == change


@pytest.mark.parametrize("version", [VERSION, TOMBSTONE], ids=["live", "deleted"])
def test_a_version_goes_round_field_by_field(version: Version) -> None:
    read = decode_version(encode_version(version))
    assert isinstance(read, Version)
    assert msgspec.structs.asdict(read) == msgspec.structs.asdict(version)


def test_equal_values_have_equal_bytes() -> None:
    backwards = changed(metadata=dict(reversed(VERSION.metadata.items())))
    assert encode_version(backwards) == encode_version(VERSION)
    heads = dict(reversed(BATCH.heads.items()))
    changes: tuple[Change, ...] = tuple(
        msgspec.structs.replace(change, slots=dict(reversed(change.slots.items())))
        if isinstance(change, SlotsChange)
        else change
        for change in (VersionChange(backwards), *CHANGES[1:])
    )
    assert encode_batch(msgspec.structs.replace(BATCH, heads=heads, changes=changes)) == encode_batch(BATCH)


def test_changes_that_are_encoded_already_make_the_same_batch() -> None:
    for split in range(len(CHANGES) + 1):
        batch = msgspec.structs.replace(BATCH, changes=CHANGES[:split])
        assert encode_batch(batch, [encode_change(change) for change in CHANGES[split:]]) == encode_batch(
            BATCH
        )
    assert version_change(encode_version(VERSION)) == encode_change(VersionChange(VERSION))


@pytest.mark.parametrize("encoded", [b"", b"\xc0", b"\xc0\xc0", encode_change(CHANGES[0]) * 2])
def test_what_is_no_change_makes_no_batch(encoded: bytes) -> None:
    with pytest.raises((Tampered, TooNew)):
        encode_batch(BATCH, [encoded])


Edit = Callable[[list[Any]], object]


def set_field(index: int, value: object) -> Edit:
    def edit(fields: list[Any]) -> None:
        fields[index] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        pytest.param(set_field(0, bytes(15)), TooNew, id="id too short"),
        pytest.param(set_field(0, bytes(17)), TooNew, id="id too long"),
        pytest.param(set_field(1, -1), TooNew, id="hlc negative"),
        pytest.param(set_field(1, 1 << 63), TooNew, id="hlc over 63 bits"),
        pytest.param(set_field(1, 1.0), TooNew, id="hlc a float"),
        pytest.param(set_field(1, True), TooNew, id="hlc a bool"),
        pytest.param(set_field(2, "Notes"), Tampered, id="namespace outside the grammar"),
        pytest.param(set_field(2, b"notes"), TooNew, id="namespace as bytes"),
        pytest.param(set_field(3, ""), Tampered, id="blob id empty"),
        pytest.param(set_field(3, "e\u0301"), Tampered, id="blob id not NFC"),
        pytest.param(set_field(3, "x" * 1025), Tampered, id="blob id too long"),
        pytest.param(set_field(4, [[id16(2), id16(3), 7]] * 2), Tampered, id="a parent twice"),
        pytest.param(
            set_field(4, [[id16(2), id16(3), 7], [id16(2), id16(5), 8]]),
            Tampered,
            id="a parent from two places",
        ),
        pytest.param(set_field(4, [[id16(1), id16(3), 7]]), Tampered, id="its own parent"),
        pytest.param(set_field(4, [[id16(2), id16(3), 10**12]]), TooNew, id="parent's seq of 13 digits"),
        pytest.param(set_field(4, [[id16(2), id16(3), 7, 0]]), TooNew, id="a parent's field too many"),
        pytest.param(set_field(5, True), Tampered, id="a deletion with content"),
        pytest.param(set_field(5, 0), TooNew, id="deleted as a number"),
        pytest.param(set_field(6, CHUNK_SIZE), Tampered, id="a chunk too many"),
        pytest.param(set_field(6, 2 * CHUNK_SIZE + 1), Tampered, id="a chunk too few"),
        pytest.param(set_field(6, 0), Tampered, id="no size, but content"),
        pytest.param(set_field(6, (64 << 30) + 1), TooNew, id="size over 64 GiB"),
        pytest.param(set_field(7, 1 << 62), TooNew, id="created_at out of range"),
        pytest.param(set_field(8, {"a": None}), TooNew, id="metadata null"),
        pytest.param(set_field(8, {"a": [1]}), TooNew, id="metadata a list"),
        pytest.param(set_field(8, {"a": {"b": 1}}), TooNew, id="metadata a map"),
        pytest.param(set_field(8, {"a": msgspec.msgpack.Ext(5, b"x")}), TooNew, id="metadata an extension"),
        pytest.param(set_field(8, {1: 1}), TooNew, id="metadata key a number"),
        pytest.param(set_field(8, {"a": math.nan}), Tampered, id="metadata NaN"),
        pytest.param(set_field(8, {"a": -math.inf}), Tampered, id="metadata infinite"),
        pytest.param(set_field(8, {"a": 1 << 63}), Tampered, id="metadata over int64"),
        pytest.param(set_field(8, {"a": "x" * MAX_METADATA_BYTES}), LimitExceeded, id="metadata over 16 KiB"),
        pytest.param(set_field(9, bytes(32)), TooNew, id="scope too long"),
        pytest.param(set_field(10, [id32(6), id16(7)]), TooNew, id="chunk id too short"),
        pytest.param(set_field(11, b""), TooNew, id="content digest empty"),
        pytest.param(set_field(12, id32(9)), TooNew, id="group too long"),
        pytest.param(lambda fields: fields.append(0), TooNew, id="a field too many"),
        pytest.param(lambda fields: fields.__delitem__(slice(11, None)), TooNew, id="a field too few"),
        pytest.param(lambda fields: fields.clear(), TooNew, id="no field"),
    ],
)
def test_a_broken_version_is_refused(edit: Edit, error: type[SyncAgentError]) -> None:
    fields = msgspec.msgpack.decode(encode_version(VERSION))
    edit(fields)
    with pytest.raises(SyncAgentError) as caught:
        decode_version(msgspec.msgpack.encode(fields))
    assert type(caught.value) is error
    with pytest.raises(error):
        decode_batch(msgspec.msgpack.encode([1, bytes(32), {}, [], [["version", fields]]]))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param(["flag", "notes", "a", [], []], TooNew, id="an unknown kind"),
        pytest.param([1, "notes", "a", [], []], TooNew, id="a kind that is no text"),
        pytest.param([], TooNew, id="no kind"),
        pytest.param({"kind": "flags"}, TooNew, id="a map"),
        pytest.param(["flags", "notes", "a", []], TooNew, id="a field too few"),
        pytest.param(["flags", "notes", "a", [], [], 0], TooNew, id="a field too many"),
        pytest.param(["flags", "no tes", "a", [], []], Tampered, id="flags of no namespace"),
        pytest.param(["flags", "notes", "\0", [], []], Tampered, id="flags of no blob id"),
        pytest.param(["flags", "notes", "a", [["", 1]], []], Tampered, id="an empty flag"),
        pytest.param(["flags", "notes", "a", [["a\0", 1]], []], Tampered, id="a flag with NUL"),
        pytest.param(["flags", "notes", "a", [["é" * 129, 1]], []], LimitExceeded, id="a flag of 258 bytes"),
        pytest.param(["flags", "notes", "a", [["a", -1]], []], TooNew, id="a negative tag"),
        pytest.param(["flags", "notes", "a", [["a", 1, 2]], []], TooNew, id="a flag with two tags"),
        pytest.param(["expires", "notes", "", 1, False, 1], Tampered, id="expiry of no blob id"),
        pytest.param(["expires", "notes", "a", 1 << 62, False, 1], TooNew, id="expiry after never"),
        pytest.param(["expires", "notes", "a", 1, 1, 1], TooNew, id="forced as a number"),
        pytest.param(["tag", id16(1), "", True, 1], Tampered, id="a tag without a name"),
        pytest.param(["tag", id16(1), "x" * 257, True, 1], LimitExceeded, id="a tag's name too long"),
        pytest.param(["tag", id32(1), "x", True, 1], TooNew, id="a tag on no version"),
        pytest.param(["forget", [b"x"]], TooNew, id="forget by a short id"),
        pytest.param(["retire", [id16(1)]], TooNew, id="retire by a short id"),
        pytest.param(["rescue", [id16(1)]], TooNew, id="rescue by a short id"),
        pytest.param(["lost", id32(1)], TooNew, id="lost without a list"),
        pytest.param(["dropped", [None]], TooNew, id="dropped null"),
        pytest.param(["want", [id16(1)]], TooNew, id="want by a short id"),
        pytest.param(
            ["device", id16(1), "", "linux", None, False, 1], Tampered, id="a device without a name"
        ),
        pytest.param(
            ["device", id16(1), "x" * 257, "linux", None, False, 1], LimitExceeded, id="a long name"
        ),
        pytest.param(["device", id16(1), "a", "a\0b", None, False, 1], Tampered, id="a platform with NUL"),
        pytest.param(["device", id16(1), "a", "b", id16(1), False, 1], Tampered, id="it replaces itself"),
        pytest.param(["device", id16(1), "a", "b", b"", False, 1], TooNew, id="it replaces a short id"),
        pytest.param(["slots", {id16(1): id16(1)}, 1], TooNew, id="a slot's digest too short"),
        pytest.param(["slots", {id32(1): id32(1)}, 1], TooNew, id="a slot id too long"),
        pytest.param(["slots", {"a": id32(1)}, 1], TooNew, id="a slot id as text"),
        pytest.param(["snapshot", id16(1), {id16(1): [-1, id32(1)]}, id32(1)], TooNew, id="a negative seq"),
        pytest.param(["snapshot", id16(1), {id16(1): [1]}, id32(1)], TooNew, id="a head without chain"),
        pytest.param(["snapshot", id16(1), {}, id16(1)], TooNew, id="a snapshot's digest too short"),
    ],
)
def test_a_broken_change_is_refused(change: object, error: type[SyncAgentError]) -> None:
    with pytest.raises(SyncAgentError) as caught:
        decode_change(msgspec.msgpack.encode(change))
    assert type(caught.value) is error
    with pytest.raises(error):
        decode_batch(msgspec.msgpack.encode([1, bytes(32), {}, [], [change]]))


def pack_fields() -> list[Any]:
    fields: list[Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(PACK))
    return fields


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        pytest.param(set_field(0, id16(1)), TooNew, id="id too short"),
        pytest.param(set_field(1, 195), Tampered, id="chunks end after the pack"),
        pytest.param(set_field(1, (16 << 20) + 1), TooNew, id="over 16 MiB"),
        pytest.param(set_field(2, 2), TooNew, id="another epoch"),
        pytest.param(set_field(3, b""), TooNew, id="no salt"),
        pytest.param(set_field(4, [[id32(6), 15, 1, 0]]), TooNew, id="shorter than its tag"),
        pytest.param(set_field(4, [[id32(6), 18, 1, 0]]), Tampered, id="stored, but of another length"),
        pytest.param(set_field(4, [[id32(6), 17, 0, 0]]), TooNew, id="an empty chunk"),
        pytest.param(set_field(4, [[id32(6), 17, CHUNK_SIZE + 1, 1]]), TooNew, id="a chunk over 1 MiB"),
        pytest.param(set_field(4, [[id32(6), 17, 1, 2]]), TooNew, id="another codec"),
        pytest.param(set_field(4, [[id32(6), 17, 1, 0]] * 4097), TooNew, id="4,097 chunks"),
    ],
)
def test_a_broken_pack_record_is_refused(edit: Edit, error: type[SyncAgentError]) -> None:
    fields = pack_fields()
    edit(fields)
    with pytest.raises(SyncAgentError) as caught:
        decode_batch(msgspec.msgpack.encode([1, bytes(32), {}, [fields], []]))
    assert type(caught.value) is error


def test_a_pack_may_end_right_after_its_chunks() -> None:
    fields = pack_fields()
    fields[1] = 196
    assert decode_batch(msgspec.msgpack.encode([1, bytes(32), {}, [fields], []])).packs[0].size == 196


SHALLOW = encode_batch(batch_of(VersionChange(changed(metadata={"a": 1}))))
DEEP = SHALLOW.replace(b"\x81\xa1a\x01", b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"", Tampered, id="nothing"),
        pytest.param(b"\xc1", Tampered, id="not msgpack"),
        pytest.param(encode_batch(BATCH)[:-1], Tampered, id="cut short"),
        pytest.param(encode_batch(BATCH) + b"\xc0", Tampered, id="trailing bytes"),
        pytest.param(b"\x91" * 100_000 + b"\xc0", TooNew, id="deep, where a type is known"),
        pytest.param(DEEP, Tampered, id="deep, where any value is read"),
        pytest.param(b"\x95\x01\xc4\x20" + bytes(32) + b"\x80\x90\x91\x91\xa1\xff", Tampered, id="not UTF-8"),
        pytest.param(msgspec.msgpack.encode([1, bytes(32), {}, []]), TooNew, id="a field too few"),
        pytest.param(msgspec.msgpack.encode([1, bytes(32), {}, [], [], 0]), TooNew, id="a field too many"),
        pytest.param(msgspec.msgpack.encode({"hlc": 1}), TooNew, id="a map"),
        pytest.param(msgspec.msgpack.encode([1, bytes(31), {}, [], []]), TooNew, id="chain too short"),
        pytest.param(
            msgspec.msgpack.encode([1, bytes(32), {id16(1): [10**12, id32(1)]}, [], []]),
            TooNew,
            id="a head's seq of 13 digits",
        ),
        pytest.param(
            msgspec.msgpack.encode([1, bytes(32), {}, [pack_fields()] * 2, []]), Tampered, id="a pack twice"
        ),
        pytest.param(
            msgspec.msgpack.encode([1, bytes(32), {}, [], [VersionChange(VERSION)] * 2]),
            Tampered,
            id="a version twice",
        ),
        pytest.param(bytes(MAX_TRANSACTION_BYTES + 1), LimitExceeded, id="over the limit"),
    ],
)
def test_a_broken_batch_is_refused(data: bytes, error: type[SyncAgentError]) -> None:
    with pytest.raises(SyncAgentError) as caught:
        decode_batch(data)
    assert type(caught.value) is error


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.integers(0, len(encode_batch(BATCH)) - 1), st.integers(1, 255))
def test_an_altered_byte_gives_a_batch_or_a_named_error(place: int, flip: int) -> None:
    data = bytearray(encode_batch(BATCH))
    data[place] ^= flip
    try:
        read = decode_batch(bytes(data))
    except (Tampered, TooNew, LimitExceeded):
        return
    encode_batch(read)


@pytest.mark.parametrize(
    ("batch", "error"),
    [
        pytest.param(batch_of(VersionChange(changed(blob_id=""))), Tampered, id="a bad version"),
        pytest.param(batch_of(VersionChange(changed(scope=b""))), TooNew, id="a short id"),
        pytest.param(batch_of(FlagsChange("notes", "a", (("\ud800", 1),), ())), Tampered, id="no UTF-8"),
        pytest.param(
            batch_of(*(ForgetChange((VersionId(bytes(16)),) * 50_000) for _ in range(10))),
            LimitExceeded,
            id="over the limit",
        ),
    ],
)
def test_what_nobody_could_read_is_not_written(batch: Batch, error: type[SyncAgentError]) -> None:
    with pytest.raises(error):
        encode_batch(batch)


def test_a_change_that_nobody_could_read_is_not_queued() -> None:
    with pytest.raises(Tampered):
        encode_change(TagChange(VersionId(bytes(16)), "", on=True, hlc=1))


def test_the_sizes_a_version_may_have() -> None:
    for size, chunks in [(0, 0), (1, 1), (CHUNK_SIZE, 1), (CHUNK_SIZE + 1, 2), (64 << 30, 64 << 10)]:
        version = changed(size=size, content=(id32(1),) * chunks)
        assert decode_version(encode_version(version)).size == size


def test_metadata_keys_are_sorted() -> None:
    given_metadata: dict[str, MetadataValue] = {"b": 1, "a": "x", "c": b"y", "A": 0.5, "d": False}
    assert list(check_metadata(given_metadata)) == ["A", "a", "b", "c", "d"]
    assert check_metadata(given_metadata) == given_metadata
    assert check_metadata({}) == {}


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"bad": None}, id="None"),
        pytest.param({"bad": bytearray(b"x")}, id="bytearray"),
        pytest.param({"bad": [1]}, id="list"),
        pytest.param({"bad": math.nan}, id="NaN"),
        pytest.param({"bad": math.inf}, id="infinity"),
        pytest.param({"bad": 1 << 63}, id="too great"),
        pytest.param({"bad": -(1 << 63) - 1}, id="too small"),
        pytest.param({"bad": "\ud800"}, id="lone surrogate"),
        pytest.param({"bad\ud800": 1}, id="lone surrogate in the key"),
        pytest.param({b"bad": 1}, id="key as bytes"),
    ],
)
def test_metadata_of_the_wrong_kind_names_its_key(metadata: Any) -> None:
    with pytest.raises(ConfigError, match="bad"):
        check_metadata({"fine": 1} | metadata)


def test_metadata_may_have_16_kib_and_no_more() -> None:
    spare = MAX_METADATA_BYTES - len(msgspec.msgpack.encode({"greatest": "x" * 1000})) + 1000
    assert check_metadata({"greatest": "x" * spare})
    with pytest.raises(LimitExceeded, match="greatest"):
        check_metadata({"greatest": "x" * (spare + 1)})


def test_what_check_metadata_passes_a_version_may_hold() -> None:
    metadata = check_metadata({"i": (1 << 63) - 1, "j": -(1 << 63), "": "", "f": -0.0, "b": b"", "t": True})
    read = decode_version(encode_version(changed(metadata=metadata))).metadata
    assert [(key, type(value), value) for key, value in read.items()] == [
        (key, type(value), value) for key, value in metadata.items()
    ]


@pytest.mark.parametrize(
    ("sizes", "envelope", "expected"),
    [
        pytest.param([], 0, 0, id="nothing waits"),
        pytest.param([10] * MAX_CHANGES, 0, MAX_CHANGES, id="1,000 changes"),
        pytest.param([10] * (MAX_CHANGES + 1), 0, MAX_CHANGES, id="1,001 changes"),
        pytest.param([MAX_BATCH_BYTES // 2] * 3, 0, 2, id="exactly 256 KiB"),
        pytest.param([MAX_BATCH_BYTES // 2, MAX_BATCH_BYTES // 2 + 1], 0, 1, id="a byte more"),
        pytest.param([MAX_BATCH_BYTES // 2] * 3, 1, 1, id="a byte of packs and heads"),
        pytest.param([MAX_BATCH_BYTES * 9, 1], 0, 1, id="a great one goes alone"),
        pytest.param([1, MAX_BATCH_BYTES * 9], 0, 1, id="and not with a small one before it"),
        pytest.param([1], MAX_BATCH_BYTES * 2, 1, id="one goes, however many packs"),
    ],
)
def test_cut(sizes: list[int], envelope: int, expected: int) -> None:
    assert cut(sizes, envelope_bytes=envelope) == expected


def test_a_transaction_has_the_room_of_one_batch() -> None:
    check_transaction([MAX_TRANSACTION_BYTES - ENVELOPE_BYTES])
    with pytest.raises(LimitExceeded, match="transaction"):
        check_transaction([MAX_TRANSACTION_BYTES - ENVELOPE_BYTES, 1])


def test_the_greatest_transaction_can_be_encoded() -> None:
    """With the heads of a thousand devices beside it."""
    changes: list[Change] = []
    room = MAX_TRANSACTION_BYTES - ENVELOPE_BYTES
    while room > 200:
        ids = min((room - 100) // 18, 60_000)
        changes.append(ForgetChange((VersionId(bytes(16)),) * ids))
        room -= len(encode_change(changes[-1]))
    check_transaction(len(encode_change(change)) for change in changes)
    heads = {DeviceId(n.to_bytes(16)): Head(10**12 - 1, bytes(32)) for n in range(1000)}
    assert len(encode_batch(Batch(1, bytes(32), heads, (), tuple(changes)))) <= MAX_TRANSACTION_BYTES


def test_the_largest_batch_that_does_not_compress_fits_in_a_journal_object() -> None:
    payload = random.Random(1).randbytes(MAX_TRANSACTION_BYTES)
    name = names.batch_object(bytes(16), 1)
    sealed = seal_object(VaultKeys(new_root()), name, payload)
    assert len(sealed) <= max_object_size(name)

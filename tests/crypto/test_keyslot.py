import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import syncagent.crypto.keyslot as keyslot
from syncagent.crypto.keys import RootSecret
from syncagent.crypto.keyslot import (
    CEILING_KDF,
    DEFAULT_KDF,
    FLOOR_KDF,
    KdfParameters,
    KeySlot,
    SlotContents,
    SlotKind,
    check_kdf,
    open_any,
    open_slot,
    parse_slot,
    passphrase_bytes,
    seal_slot,
)
from syncagent.errors import (
    ConfigError,
    LimitExceeded,
    OpenError,
    SyncAgentError,
    TooNew,
    Truncated,
    WrongPassphrase,
)
from syncagent.model import SlotId, VaultId

SLOT_ID = SlotId(bytes(range(16)))
CONTENTS = SlotContents(1, VaultId(b"v" * 16), {1: RootSecret(b"r" * 32)})
SECRET = passphrase_bytes("correct horse")


def sealed(secret: bytes = SECRET, kind: SlotKind = SlotKind.PASSPHRASE, slot_id: SlotId = SLOT_ID) -> bytes:
    return seal_slot(slot_id, kind, secret, CONTENTS, FLOOR_KDF)


ONE = sealed()


@pytest.mark.parametrize("kind", SlotKind)
def test_a_slot_gives_back_what_it_wraps(kind: SlotKind) -> None:
    data = sealed(kind=kind)
    assert len(data) <= keyslot.MAX_SLOT_BYTES
    slot = parse_slot(SLOT_ID, data)
    assert (slot.id, slot.kind, slot.kdf) == (SLOT_ID, kind, FLOOR_KDF)
    contents = open_slot(slot, SECRET)
    assert contents == CONTENTS
    assert contents.root == CONTENTS.roots[1]
    assert "rrr" not in repr(contents)


def test_no_two_slots_share_a_salt() -> None:
    slots = [parse_slot(SLOT_ID, sealed()) for _ in range(3)]
    assert len({slot.salt for slot in slots}) == len({slot.wrapped for slot in slots}) == 3


def test_the_default_cost_is_within_bounds() -> None:
    for kdf in (FLOOR_KDF, DEFAULT_KDF, CEILING_KDF):
        check_kdf(kdf)


@pytest.mark.parametrize(
    "kdf",
    [
        KdfParameters(19455, 2, 1),
        KdfParameters((1 << 20) + 1, 2, 1),
        KdfParameters(19456, 1, 1),
        KdfParameters(19456, 11, 1),
        KdfParameters(19456, 2, 0),
        KdfParameters(19456, 2, 9),
    ],
)
def test_a_cost_out_of_bounds_is_refused_before_any_work(
    kdf: KdfParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyslot, "Argon2id", None)
    with pytest.raises(LimitExceeded):
        seal_slot(SLOT_ID, SlotKind.PASSPHRASE, SECRET, CONTENTS, kdf)
    fields = json.loads(ONE)
    fields["kdf"] |= {"memory_kib": kdf.memory_kib, "iterations": kdf.iterations, "lanes": kdf.lanes}
    with pytest.raises(OpenError):
        parse_slot(SLOT_ID, json.dumps(fields, separators=(",", ":")).encode())


def test_parsing_derives_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyslot, "Argon2id", None)
    parse_slot(SLOT_ID, ONE)


def test_a_wrong_passphrase_and_an_altered_slot_are_the_same_error() -> None:
    slot = parse_slot(SLOT_ID, ONE)
    with pytest.raises(WrongPassphrase) as wrong:
        open_slot(slot, b"another")
    altered = KeySlot(
        slot.id,
        slot.kind,
        slot.kdf,
        slot.salt,
        slot.commitment,
        slot.wrapped[:-1] + bytes([slot.wrapped[-1] ^ 1]),
    )
    with pytest.raises(WrongPassphrase) as tampered:
        open_slot(altered, SECRET)
    assert str(wrong.value) == str(tampered.value)


def test_the_commitment_is_compared_before_anything_is_decrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyslot, "AESGCM", None)
    with pytest.raises(WrongPassphrase):
        open_slot(parse_slot(SLOT_ID, ONE), b"another")


@pytest.mark.parametrize("end", range(len(ONE)))
def test_a_slot_that_ends_early_is_truncated(end: int) -> None:
    with pytest.raises(Truncated):
        parse_slot(SLOT_ID, ONE[:end])


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.integers(0, len(ONE) - 1), st.integers(1, 255))
def test_another_byte_anywhere_is_named_or_changes_a_bound_field(offset: int, change: int) -> None:
    data = ONE[:offset] + bytes([ONE[offset] ^ change]) + ONE[offset + 1 :]
    try:
        slot = parse_slot(SLOT_ID, data)
    except SyncAgentError:
        return
    # Every field of a slot is bound by its tag or commitment, so another slot does not open.
    assert slot != parse_slot(SLOT_ID, ONE)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode())))
def test_any_other_bytes_are_a_named_error(data: bytes) -> None:
    with pytest.raises((OpenError, TooNew)):
        parse_slot(SLOT_ID, data)


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 4096,
        b'{"a":' + b"[" * 4000,
        b'{"version":1,"kind":"\xff"}',
        b'{"version":' + b"9" * 4000 + b"}",
        b'{"version":-' + b"9" * 4000 + b"}",
        b'{"version":1e999}',
        ONE.replace(b"19456", b"9" * 3000),
        ONE.replace(b"19456", b"-0"),
        ONE.replace(b"19456", b"19456.0"),
        b"\xef\xbb\xbf" + ONE,
        ONE.replace(b"argon2id", b"argon2id\xff"),
        b"null",
        ONE + b"\0",
        b" " + ONE,
    ],
)
def test_hostile_json_is_a_named_error(data: bytes) -> None:
    with pytest.raises((OpenError, TooNew)):
        parse_slot(SLOT_ID, data)


def test_any_of_the_slots_of_the_asked_kind_may_open() -> None:
    other = SlotId(b"o" * 16)
    slots = [
        parse_slot(SLOT_ID, sealed(b"recovery", SlotKind.RECOVERY)),
        parse_slot(SLOT_ID, sealed(b"old")),
        parse_slot(other, sealed(SECRET, slot_id=other)),
    ]
    opened = open_any(slots, SlotKind.PASSPHRASE, SECRET)
    assert (opened.slot.id, opened.contents) == (other, CONTENTS)
    with pytest.raises(WrongPassphrase):
        open_any(slots, SlotKind.RECOVERY, SECRET)
    with pytest.raises(WrongPassphrase):
        open_any(slots[:1], SlotKind.PASSPHRASE, b"recovery")
    with pytest.raises(WrongPassphrase):
        open_any([], SlotKind.PASSPHRASE, SECRET)


def opener_that_counts(
    tried: list[KeySlot], error: SyncAgentError
) -> Callable[[KeySlot, bytes], SlotContents]:
    def open_slot(slot: KeySlot, secret: bytes) -> SlotContents:
        tried.append(slot)
        raise error

    return open_slot


def test_at_most_eight_slots_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[KeySlot] = []
    monkeypatch.setattr(keyslot, "open_slot", opener_that_counts(tried, WrongPassphrase("no")))
    slot = parse_slot(SLOT_ID, ONE)
    recovery = KeySlot(slot.id, SlotKind.RECOVERY, slot.kdf, slot.salt, slot.commitment, slot.wrapped)
    with pytest.raises(WrongPassphrase):
        open_any([recovery, slot] * 20, SlotKind.PASSPHRASE, SECRET)
    assert len(tried) == 8
    assert all(slot.kind is SlotKind.PASSPHRASE for slot in tried)


def test_too_little_memory_is_named_and_does_not_stop_the_other_slots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Exhausted:
        def __init__(self, **_: object) -> None: ...

        def derive(self, secret: bytes) -> bytes:
            raise MemoryError

    slot = parse_slot(SLOT_ID, ONE)
    with monkeypatch.context() as patch:
        patch.setattr(keyslot, "Argon2id", Exhausted)
        with pytest.raises(LimitExceeded):
            open_slot(slot, SECRET)
        with pytest.raises(LimitExceeded):
            open_any([slot], SlotKind.PASSPHRASE, SECRET)

    def open_second(candidate: KeySlot, secret: bytes) -> SlotContents:
        if candidate.id == SLOT_ID:
            raise LimitExceeded("no memory")
        return CONTENTS

    monkeypatch.setattr(keyslot, "open_slot", open_second)
    second = KeySlot(SlotId(bytes(16)), slot.kind, slot.kdf, slot.salt, slot.commitment, slot.wrapped)
    assert open_any([slot, second], SlotKind.PASSPHRASE, SECRET).slot is second


def test_a_passphrase_is_its_nfc_form_and_not_trimmed() -> None:
    assert passphrase_bytes("u\u0308 ") == passphrase_bytes("\u00fc ") == b"\xc3\xbc "


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_a_passphrase_must_be_text(text: str) -> None:
    with pytest.raises(ConfigError):
        passphrase_bytes(text)

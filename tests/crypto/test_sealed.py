import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from syncagent.crypto import sealed
from syncagent.crypto.keys import RootSecret, VaultKeys
from syncagent.crypto.sealed import open_object, padme, seal_object
from syncagent.errors import LimitExceeded, OpenError, Tampered, TooNew

KEYS = VaultKeys(RootSecret(bytes(range(32))))
NAME = "devices/" + "ab" * 16
ONE = seal_object(KEYS, NAME, b"a payload " * 30)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=5000), st.integers(1, 50))
def test_what_was_sealed_opens(payload: bytes, repeat: int) -> None:
    payload *= repeat
    data = seal_object(KEYS, NAME, payload)
    assert open_object(KEYS, NAME, data) == payload
    body = len(data) - 56
    assert padme(body) == body


def test_an_object_does_not_open_elsewhere() -> None:
    for keys, name in ((KEYS, "vault"), (VaultKeys(RootSecret(bytes(32))), NAME)):
        with pytest.raises(Tampered):
            open_object(keys, name, ONE)


def test_sealing_twice_shows_no_likeness() -> None:
    first, second = (seal_object(KEYS, NAME, b"the same") for _ in range(2))
    assert first[8:40] != second[8:40]
    assert first[40:] != second[40:]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(0, len(ONE) - 1), st.integers(1, 255))
def test_another_byte_anywhere_is_named(offset: int, change: int) -> None:
    data = ONE[:offset] + bytes([ONE[offset] ^ change]) + ONE[offset + 1 :]
    with pytest.raises(TooNew if offset < 8 else Tampered):
        open_object(KEYS, NAME, data)


@pytest.mark.parametrize("end", range(len(ONE)))
def test_an_object_that_ends_early_does_not_open(end: int) -> None:
    with pytest.raises(OpenError):
        open_object(KEYS, NAME, ONE[:end])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_other_bytes_are_a_named_error(data: bytes) -> None:
    with pytest.raises((OpenError, TooNew)):
        open_object(KEYS, NAME, data)
    with pytest.raises(OpenError):
        open_object(KEYS, NAME, b"SAO1\0\0\0\1" + data)


def test_a_payload_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LimitExceeded):
        seal_object(KEYS, NAME, b"")
    monkeypatch.setattr(sealed, "MAX_PAYLOAD", 10)
    seal_object(KEYS, NAME, bytes(10))
    with pytest.raises(LimitExceeded):
        seal_object(KEYS, NAME, bytes(11))


def test_no_memory_is_spent_on_what_a_frame_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    data = seal_object(KEYS, NAME, bytes(1000))
    monkeypatch.setattr(sealed, "MAX_PAYLOAD", 999)

    class NoDecompressor:
        def decompress(self, *_: object, **__: object) -> bytes:
            raise AssertionError("it was decompressed")

    monkeypatch.setattr(zstandard, "ZstdDecompressor", NoDecompressor)
    with pytest.raises(Tampered):
        open_object(KEYS, NAME, data)


@settings(derandomize=True, max_examples=500)
@given(st.integers(0, 1 << 40))
def test_padme_is_tight_and_stable(length: int) -> None:
    padded = padme(length)
    assert length <= padded <= length * 1.12
    assert padme(padded) == padded


def test_padme_never_exceeds_a_power_of_two_above() -> None:
    for exponent in range(40):
        assert padme(1 << exponent) == 1 << exponent
        assert padme(max(1, (1 << exponent) - 1)) <= 1 << exponent

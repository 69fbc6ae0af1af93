import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncagent.crypto.recovery import is_recovery_code, new_recovery_code, recovery_bytes
from syncagent.errors import WrongPassphrase

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE = new_recovery_code()


def test_a_new_code_is_nine_groups_and_random() -> None:
    codes = {new_recovery_code() for _ in range(50)}
    assert len(codes) == len({recovery_bytes(code) for code in codes}) == 50
    for code in codes:
        assert re.fullmatch(f"([{ALPHABET}]{{4}}-){{8}}[{ALPHABET}]{{4}}", code)
        assert is_recovery_code(code)
        assert len(recovery_bytes(code)) == 20


@settings(derandomize=True, max_examples=200)
@given(st.text("-– \t\n", max_size=4), st.booleans(), st.sampled_from("oO0"), st.sampled_from("iIlL1"))
def test_a_code_may_be_typed_loosely(between: str, lower: bool, zero: str, one: str) -> None:
    typed = between.join((CODE.lower() if lower else CODE).replace("0", zero).replace("1", one).split("-"))
    assert recovery_bytes(between + typed + between) == recovery_bytes(CODE)


@pytest.mark.parametrize("at", [at for at in range(len(CODE)) if CODE[at] != "-"])
def test_one_wrong_symbol_is_a_typo(at: int) -> None:
    for symbol in ALPHABET:
        code = CODE[:at] + symbol + CODE[at + 1 :]
        assert is_recovery_code(code) is (symbol == CODE[at])


@settings(derandomize=True, max_examples=300)
@given(st.text(max_size=60))
def test_other_texts_are_no_codes(text: str) -> None:
    assert not is_recovery_code(text)
    with pytest.raises(WrongPassphrase):
        recovery_bytes(text)


def test_a_very_long_text_costs_nothing() -> None:
    assert not is_recovery_code("0" * 10_000_000)

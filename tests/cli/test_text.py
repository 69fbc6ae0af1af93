"""Names in a terminal, sizes and times."""

import pytest

from syncagent.cli.text import age_text, escaped, from_argument, nfc, one_line, size_text
from syncagent.wording import counted


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.txt", "plain name.txt"),
        ("ünïcode 日本", "ünïcode 日本"),
        ("🚀 👩‍👩‍👧 🏴\U000e0067\U000e0062\U000e007f", "🚀 👩‍👩‍👧 🏴\U000e0067\U000e0062\U000e007f"),
        ("a\nb", "a\\nb"),
        ("a\r\tb", "a\\r\\tb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("\x7f", "\\x7f"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\u2066\u2069\u200e\u200f\u061c", "\\u2066\\u2069\\u200e\\u200f\\u061c"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ufeff\u200b", "\\ufeff\\u200b"),
        ("a\\nb", "a\\\\nb"),
    ],
)
def test_names_are_one_harmless_line(name: str, shown: str) -> None:
    assert escaped(name) == shown


def test_escapes_of_different_names_differ() -> None:
    assert escaped("a\nb") != escaped("a\\nb")


def test_messages_keep_their_backslashes() -> None:
    assert one_line("'a\\nb' is not here\n") == "'a\\nb' is not here\\n"


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_258_291, "1.2 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**3, "5.0 GiB"),
        (2000 * 1024**4, "2000.0 TiB"),
    ],
)
def test_sizes(size: int, shown: str) -> None:
    assert size_text(size) == shown


def test_counts_and_ages() -> None:
    assert counted(1, "blob") == "1 blob"
    assert counted(2048, "blob") == "2,048 blobs"
    assert age_text(0) == "less than a minute"
    assert age_text(3 * 3600 + 100) == "3 hours"
    assert age_text(86400) == "1 day"


def test_arguments_that_the_locale_could_not_decode() -> None:
    assert from_argument("é".encode().decode("ascii", "surrogateescape")) == "é"
    assert from_argument("\udcff") == "\udcff"
    assert nfc("e\u0301") == "é"

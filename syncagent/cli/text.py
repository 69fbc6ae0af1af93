"""How names, sizes and times look in output: one line, nothing that a terminal would obey.

`escaped` is for names from elsewhere and can be undone; `one_line` is for messages,
in which names stand in `repr` form already.
"""

import datetime
import os
import unicodedata

from syncagent.model import Metadata
from syncagent.wording import counted

_UNITS = ("KiB", "MiB", "GiB", "TiB")
_JOINERS = {"\u200c", "\u200d"}
"""Needed inside emoji and some scripts, and harmless."""
_TAGS = range(0xE0020, 0xE0080)
"""They spell the flags of England, Scotland and Wales."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(name: str) -> str:
    """A name for people: control and bidi characters and backslashes as escapes, emoji as they are."""
    if name.isprintable() and "\\" not in name:
        return name
    return _replaced(name.replace("\\", "\\\\"))


def one_line(text: str) -> str:
    """A message without control and bidi characters."""
    return text if text.isprintable() else _replaced(text)


def size_text(size_bytes: int) -> str:
    """`12 B`, `1.2 MiB`."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    size = size_bytes / 1024
    for unit in _UNITS:
        if size < 999.95 or unit == _UNITS[-1]:
            return f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("the last unit ends the loop")


def age_text(seconds: float) -> str:
    """`just now`, `5 minutes`, `3 hours`, `12 days`: one unit is enough to judge by."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return counted(int(seconds // length), unit)
    return "less than a minute"


def time_text(moment: datetime.datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def time_value(moment: datetime.datetime | None) -> str | None:
    """The same for JSON, where there may be none."""
    return None if moment is None else time_text(moment)


def from_argument(text: str) -> str:
    """An argument or variable as UTF-8 where the locale could not decode it (`LC_ALL=C` without coercion)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return os.fsencode(text).decode()
        except UnicodeDecodeError:
            return text
    return text


def without_password(url: str) -> str:
    """The address without what stands before an @ in its host."""
    import urllib.parse  # here: `status` counts milliseconds

    if "@" not in url:
        return url
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl() if host != parts.netloc else url


def nfc(text: str) -> str:
    """The NFC form, which all blob ids have; some systems hand over arguments and names in another."""
    return unicodedata.normalize("NFC", text)


def _replaced(text: str) -> str:
    return "".join(_SHORT.get(c) or (_escape(c) if _is_unsafe(c) else c) for c in text)


def _is_unsafe(character: str) -> bool:
    match unicodedata.category(character):
        case "Cc" | "Cs" | "Zl" | "Zp":
            return True
        case "Cf":
            return character not in _JOINERS and ord(character) not in _TAGS
        case _:
            return False


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def metadata_document(metadata: Metadata) -> dict[str, object]:
    """Metadata in JSON: bytes are hex."""
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in metadata.items()}

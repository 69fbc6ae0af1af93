"""What a caller promises of the content it hands in, and whether it is so."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from syncagent.crypto.frame import Bytes
from syncagent.errors import ConfigError, ContentMismatch


@dataclass(frozen=True, slots=True)
class Expected:
    """What the caller promises of the content; None where nothing."""

    sha256: bytes | None = None
    size: int | None = None


NOTHING_EXPECTED = Expected()


def check_expected(sha256: bytes | str | None, size: int | None) -> Expected:
    """What a caller promises; `ConfigError` for what no content can have."""
    if isinstance(sha256, str):
        try:
            sha256 = bytes.fromhex(sha256)
        except ValueError as exc:
            raise ConfigError("the expected SHA-256 is not hex") from exc
    if sha256 is not None and len(sha256) != 32:
        raise ConfigError(f"a SHA-256 has 32 bytes, not {len(sha256)}")
    if size is not None and size < 0:
        raise ConfigError(f"no content has {size} bytes")
    return Expected(sha256, size)


def check_content(expected: Expected, data: bytes) -> None:
    """`ContentMismatch` for content in memory that is not what was expected."""
    check = ContentCheck(expected)
    check.add([data])
    check.finish()


class ContentCheck:
    """Content as it comes, beside what was promised of it."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._size = 0
        self._sha256 = hashlib.sha256() if expected.sha256 is not None else None

    def add(self, pieces: Iterable[Bytes]) -> None:
        """Content that follows; refused as soon as it is too long. Hashes: for a worker thread."""
        for piece in pieces:
            self._size += len(piece)
            if self._expected.size is not None and self._size > self._expected.size:
                raise ContentMismatch(f"the content is longer than the {self._expected.size} bytes expected")
            if self._sha256 is not None:
                self._sha256.update(piece)

    def finish(self) -> None:
        """There is no more."""
        if self._expected.size not in (None, self._size):
            raise ContentMismatch(f"the content has {self._size} bytes, {self._expected.size} were expected")
        if self._sha256 is not None and self._sha256.digest() != self._expected.sha256:
            raise ContentMismatch(f"the content has SHA-256 {self._sha256.hexdigest()}, not the one expected")

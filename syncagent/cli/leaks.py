"""A search for plaintext where none may be: in a remote's folder and in a device's own files.

It knows nothing about syncagent's formats, so it cannot make the same mistake
as they. What it looks for are pieces of content and names, as raw bytes.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

PIECE_BYTES = 16
"""Random bytes hold a given piece of this length never: 2^-128 a place."""
SHORTEST_NAME_BYTES = 8
"""Shorter names turn up in random bytes by chance."""
MOST_PIECES = 500_000
"""Pieces of all files together: about 100 MiB of memory."""

_PREFIX_BYTES = 8
_DIFFERENT_BYTES = 6
"""Pieces with fewer different bytes (zeros, a row of dashes) are in files of any kind."""
_BLOCK_BYTES = 8 << 20
_LONGEST_NAME_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Leak:
    """A file that holds something it must not."""

    path: Path
    what: str


@dataclass(slots=True)
class Wanted:
    """What is searched for: bytes, each with a word on where they come from."""

    pieces: dict[bytes, str] = field(default_factory=dict)

    def add_content(self, stream: BinaryIO, size_bytes: int, what: str, *, most: int) -> None:
        """Pieces of a content, at even distances, at most `most`."""
        step = max(PIECE_BYTES, -(-size_bytes // max(1, most)))
        for start in range(0, size_bytes - PIECE_BYTES + 1, step):
            stream.seek(start)
            piece = stream.read(PIECE_BYTES)
            if len(piece) == PIECE_BYTES and len(set(piece)) >= _DIFFERENT_BYTES:
                self.pieces.setdefault(piece, what)

    def add_name(self, name: str, what: str) -> None:
        """A name, if it is long enough to mean something."""
        encoded = name.encode()
        if len(encoded) >= SHORTEST_NAME_BYTES:
            self.pieces.setdefault(encoded, what)

    def forget(self, found: "Iterable[bytes]") -> None:
        """Leave out what was there before anything was put: the fixed text of a format."""
        for piece in found:
            self.pieces.pop(piece, None)


@dataclass(slots=True)
class Search:
    """What a search has seen and found."""

    files: int = 0
    size_bytes: int = 0
    found: dict[bytes, Leak] = field(default_factory=dict)


def search(folders: Iterable[Path], wanted: Wanted) -> Search:
    """Look through every file below the folders, its name included."""
    by_prefix: dict[int, list[bytes]] = {}
    for piece in wanted.pieces:
        by_prefix.setdefault(int.from_bytes(piece[:_PREFIX_BYTES], sys.byteorder), []).append(piece)
    prefixes = frozenset(by_prefix)
    result = Search()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not path.is_file():
                continue
            result.files += 1
            for block in _blocks(path, path.relative_to(folder).as_posix().encode()):
                result.size_bytes += len(block)
                for prefix in _present(block, prefixes):
                    for piece in by_prefix[prefix]:
                        if piece in block:
                            result.found.setdefault(piece, Leak(path, wanted.pieces[piece]))
    return result


def _present(block: bytes, prefixes: frozenset[int]) -> set[int]:
    """Which of the prefixes occur at any place. Sets do the loop: a Python one would take a minute."""
    found: set[int] = set()
    view = memoryview(block)
    for shift in range(_PREFIX_BYTES):
        length = (len(block) - shift) // _PREFIX_BYTES * _PREFIX_BYTES
        if length > 0:
            found |= prefixes.intersection(view[shift : shift + length].cast("Q"))
    return found


def _blocks(path: Path, name: bytes) -> Iterator[bytes]:
    """A file's name, then its content in blocks that overlap by the longest thing looked for."""
    yield name
    with path.open("rb") as stream:
        kept = b""
        while data := stream.read(_BLOCK_BYTES):
            yield kept + data
            kept = data[-_LONGEST_NAME_BYTES:]

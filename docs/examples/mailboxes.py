"""A Maildir and an mbox file behind one interface, for `mail_bridge.py`: messages by the hash of their bytes.

Neither parses a message, for what is parsed and written again is not always what it was.
"""

import hashlib
import mailbox
import shutil
import time
from pathlib import Path
from typing import ClassVar, Protocol

FLAGS = ("seen", "answered", "flagged")

STALE_S = 1024
"""A lock file that is older was left by a program that was killed: so long procmail waits too."""

Flags = frozenset[str]


class Box(Protocol):
    """What differs between a Maildir and an mbox file. Another program may change either at any time."""

    def scan(self, last: dict[str, Flags], hints: dict[str, str]) -> dict[str, Flags]:
        """The flags of every message by its blob's id. `last`, `hints`: those of the last run."""

    def read(self, one: str) -> bytes | None:
        """A message as it was sent; None if it is not there any more."""

    def add(self, one: str, data: bytes, flags: Flags) -> bool:
        """Store a message; False if this kind of mailbox would alter it."""

    def mark(self, one: str, flags: Flags) -> bool:
        """Let a message have exactly these of `FLAGS`, others stay; False if it is not there any more."""

    def remove(self, one: str) -> None:
        """Remove a message, however often it is there."""

    def finish(self) -> dict[str, str]:
        """Write what is to be written; the hints for the next scan."""

    def close(self) -> None:
        """Let others have it again; what was not finished is undone, or is found by the next scan."""


class MaildirBox:
    """A file a message. Flags stand in the files' names, so that only new messages are read."""

    letters: ClassVar = dict(zip(FLAGS, "SRF", strict=True))

    def __init__(self, path: Path) -> None:
        self._path = path
        self._box = mailbox.Maildir(path, create=True)
        self._files: dict[str, set[Path]] = {}

    def scan(self, last: dict[str, Flags], hints: dict[str, str]) -> dict[str, Flags]:
        found = self._look(hints)
        if last.keys() - found.keys():  # a file that is renamed while its folder is listed may hide
            found |= self._look(hints)
        return found

    def _look(self, ids: dict[str, str]) -> dict[str, Flags]:
        found: dict[str, Flags] = {}
        for folder in ("new", "cur"):
            for file in (self._path / folder).iterdir():
                if file.name.startswith("."):
                    continue
                key, _, info = file.name.partition(":2,")
                try:
                    one = ids.get(key) or id_of(file.read_bytes())
                except OSError:  # a folder, or renamed this moment: the next run finds it
                    continue
                flags = frozenset(flag for flag, letter in self.letters.items() if letter in info)
                found[one] = found.get(one, frozenset()) | flags
                self._files.setdefault(one, set()).add(file)
        return found

    def read(self, one: str) -> bytes | None:
        return next((file.read_bytes() for file in self._files[one] if file.exists()), None)

    def add(self, one: str, data: bytes, flags: Flags) -> bool:
        self._files[one] = {self._path / "new" / self._box.add(data)}
        return not flags or self.mark(one, flags)

    def mark(self, one: str, flags: Flags) -> bool:
        marked: set[Path] = set()
        for file in self._files[one]:
            key, _, info = file.name.partition(":2,")
            letters = set(info) - set(self.letters.values()) | {self.letters[flag] for flag in flags}
            try:
                marked.add(file.rename(self._path / "cur" / f"{key}:2,{''.join(sorted(letters))}"))
            except FileNotFoundError:  # another program has renamed or removed it
                continue
        self._files[one] = marked
        return bool(marked)

    def remove(self, one: str) -> None:
        for file in self._files.pop(one):
            file.unlink(missing_ok=True)

    def finish(self) -> dict[str, str]:
        return {file.name.partition(":2,")[0]: one for one, files in self._files.items() for file in files}

    def close(self) -> None:
        self._box.close()


class MboxBox:
    """One file for all messages, locked while it is used, and not read if nobody has written to it.

    Changes are made in a copy that takes its place at the end. Flags stand in two headers of a message, which
    are no part of it.
    """

    letters: ClassVar = dict(zip(FLAGS, "RAF", strict=True))

    def __init__(self, path: Path) -> None:
        self._path = path
        lock = path.with_name(f"{path.name}.lock")
        if lock.exists() and time.time() - lock.stat().st_mtime > STALE_S:
            lock.unlink(missing_ok=True)
        self._box = mailbox.mbox(path, create=True)
        try:
            self._box.lock()
        except mailbox.ExternalClashError:
            self._box.close()
            raise
        self._stamp = self._written()
        self._keys: dict[str, list[str]] = {}
        self._copy: mailbox.mbox | None = None

    def scan(self, last: dict[str, Flags], hints: dict[str, str]) -> dict[str, Flags]:
        return dict(last) if hints.get("written") == self._stamp else self._look()

    def _look(self) -> dict[str, Flags]:
        found: dict[str, Flags] = {}
        for key in self._box.iterkeys():
            raw = self._box.get_bytes(key)
            one, letters = id_of(raw), letters_of(raw)
            flags = frozenset(flag for flag, letter in self.letters.items() if letter in letters)
            found[one] = found.get(one, frozenset()) | flags
            self._keys.setdefault(one, []).append(key)
        return found

    def _find(self, one: str) -> list[str]:
        if not self._keys:
            self._look()
        return self._keys[one]

    def read(self, one: str) -> bytes | None:
        raw = self._box.get_bytes(self._find(one)[0])
        return without_marks(raw).replace(b"\n>From ", b"\nFrom ")

    def add(self, one: str, data: bytes, flags: Flags) -> bool:
        marked = with_marks(data, {self.letters[flag] for flag in flags})
        if marked.startswith(b"From ") or id_of(marked) != one:
            return False
        self._changed().add(marked)
        return True

    def mark(self, one: str, flags: Flags) -> bool:
        for key in self._find(one):
            raw = self._changed().get_bytes(key, from_=True)
            letters = letters_of(raw) - set(self.letters.values()) | {self.letters[flag] for flag in flags}
            self._changed()[key] = with_marks(raw, letters)
        return True

    def remove(self, one: str) -> None:
        for key in self._find(one):
            self._changed().discard(key)

    def finish(self) -> dict[str, str]:
        if self._copy is not None:
            self._copy.flush()
            if self._written() != self._stamp:
                raise SystemExit(f"another program has written to {self._path} without locking it: run again")
            self._beside().replace(self._path)
        return {"written": self._written()}

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()
            self._beside().unlink(missing_ok=True)
        self._box.close()

    def _changed(self) -> mailbox.mbox:
        if self._copy is None:
            shutil.copy2(self._path, self._beside())
            self._copy = mailbox.mbox(self._beside())
        return self._copy

    def _beside(self) -> Path:
        return self._path.with_name(f"{self._path.name}.new")

    def _written(self) -> str:
        stat = self._path.stat()
        return f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"


def letters_of(raw: bytes) -> set[str]:
    """The letters in the headers of a message in an mbox that hold its marks."""
    lines = raw.partition(b"\n\n")[0].split(b"\n")
    marks = b"".join(line.partition(b":")[2].strip() for line in lines if is_mark(line))
    return set(marks.decode("ascii", "replace"))


def with_marks(raw: bytes, letters: set[str]) -> bytes:
    """A message with these letters: R and O are for `Status`, all others for `X-Status`."""
    head, gap, body = without_marks(raw).partition(b"\n\n")
    status = "".join(sorted(letters & {"R", "O"}, reverse=True))
    others = "".join(sorted(letters - {"R", "O"}))
    return head.rstrip(b"\n") + f"\nStatus: {status}\nX-Status: {others}".encode() + (gap or b"\n\n") + body


def without_marks(raw: bytes) -> bytes:
    """A message without them, its lines ended by newlines."""
    head, gap, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
    return b"\n".join(line for line in head.split(b"\n") if not is_mark(line)) + gap + body


def is_mark(line: bytes) -> bool:
    """Whether it is one of the headers that hold marks."""
    return line.lower().startswith((b"status:", b"x-status:"))


def id_of(data: bytes) -> str:
    """The blob's id of a message: the same however its lines end, `From ` is quoted and marks are kept."""
    plain = without_marks(data).replace(b"\n>From ", b"\nFrom ").rstrip(b"\n")
    return hashlib.sha256(plain).hexdigest()

"""A Maildir or an mbox file and a vault's namespace `mail`, kept the same: both ways, by what has changed.

    SYNCAGENT_PASSPHRASE=… python docs/examples/mail_bridge.py ~/.local/share/my-vault ~/Maildir

A message is a blob named by the hash of its bytes. Seen, answered and flagged are flags of the blob. What was
the same after the last run is kept in a file, so that of two sides that differ it is known which has
changed; both may, of one message too. The vault's half of what is new comes from `changes`.
"""

import hashlib
import json
import mailbox
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from syncagent import BlobExists, TokenExpired, blocking

FLAGS = ("seen", "answered", "flagged")
ASK_EACH = 50
"""Up to so many blobs are asked for their flags one by one; of more, three lists tell."""

Flags = frozenset[str]


@dataclass(frozen=True, slots=True)
class Message:
    """A message in a mailbox: where it is there, and its flags."""

    key: str
    flags: Flags


class Box(Protocol):
    """What differs between a Maildir and an mbox file."""

    def scan(self, known: dict[str, str]) -> dict[str, Message]:
        """Every message by its blob's id; `known` are ids by key from the last time."""

    def read(self, key: str) -> bytes:
        """A message's bytes, without flags."""

    def add(self, data: bytes, flags: Flags) -> str:
        """Store a message; its key."""

    def mark(self, key: str, flags: Flags) -> None:
        """Let a message have exactly these of `FLAGS`; others stay."""

    def remove(self, key: str) -> None:
        """Remove a message."""

    def close(self) -> None:
        """Write what is to be written."""


class MaildirBox:
    """Flags stand in file names, so that only new messages are read."""

    letters: ClassVar = dict(zip(FLAGS, "SRF", strict=True))

    def __init__(self, path: Path) -> None:
        self._path = path
        self._box = mailbox.Maildir(path, create=True)

    def scan(self, known: dict[str, str]) -> dict[str, Message]:
        found: dict[str, Message] = {}
        for folder in ("new", "cur"):
            for entry in os.scandir(self._path / folder):
                key, _, info = entry.name.partition(":2,")
                blob_id = known.get(key) or id_of(Path(entry.path).read_bytes())
                flags = frozenset(flag for flag, letter in self.letters.items() if letter in info)
                found[blob_id] = Message(key, flags)
        return found

    def read(self, key: str) -> bytes:
        return self._box.get_bytes(key)

    def add(self, data: bytes, flags: Flags) -> str:
        message = mailbox.MaildirMessage(data)
        message.set_subdir("cur" if flags else "new")
        message.set_flags("".join(self.letters[flag] for flag in flags))
        return self._box.add(message)

    def mark(self, key: str, flags: Flags) -> None:
        message = self._box.get_message(key)
        others = set(message.get_flags()) - set(self.letters.values())
        message.set_subdir("cur")
        message.set_flags("".join(others | {self.letters[flag] for flag in flags}))
        self._box[key] = message

    def remove(self, key: str) -> None:
        self._box.discard(key)

    def close(self) -> None:
        self._box.close()


class MboxBox:
    """Flags stand in two headers of each message, which are no part of what is hashed and stored."""

    letters: ClassVar = dict(zip(FLAGS, "RAF", strict=True))

    def __init__(self, path: Path) -> None:
        self._box = mailbox.mbox(path, create=True)
        self._box.lock()
        self._keys: dict[str, str] = {}

    def scan(self, known: dict[str, str]) -> dict[str, Message]:
        found: dict[str, Message] = {}
        for key in list(self._box.iterkeys()):
            self._keys[str(key)] = key
            letters = self._box.get_message(key).get_flags()
            flags = frozenset(flag for flag, letter in self.letters.items() if letter in letters)
            found[id_of(self.read(str(key)))] = Message(str(key), flags)
        return found

    def read(self, key: str) -> bytes:
        head, _, body = self._box.get_bytes(self._keys[key]).replace(b"\r\n", b"\n").partition(b"\n\n")
        marks = b"status:", b"x-status:"
        lines = [line for line in head.split(b"\n") if not line.lower().startswith(marks)]
        return b"\n".join(lines) + b"\n\n" + body

    def add(self, data: bytes, flags: Flags) -> str:
        message = mailbox.mboxMessage(data)
        message.set_flags("".join(self.letters[flag] for flag in flags))
        key = self._box.add(message)
        self._keys[str(key)] = key
        return str(key)

    def mark(self, key: str, flags: Flags) -> None:
        message = self._box.get_message(self._keys[key])
        others = set(message.get_flags()) - set(self.letters.values())
        message.set_flags("".join(others | {self.letters[flag] for flag in flags}))
        self._box[self._keys[key]] = message

    def remove(self, key: str) -> None:
        self._box.discard(self._keys[key])

    def close(self) -> None:
        self._box.close()


@dataclass(slots=True)
class Done:
    """What one run did on both sides."""

    put: int = 0
    added: int = 0
    deleted: int = 0
    removed: int = 0
    marked: int = 0


@dataclass(slots=True)
class State:
    """What both sides had in common after the last run, and how far the vault's changes were followed."""

    token: str | None = None
    messages: dict[str, Message] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "State":
        if not path.exists():
            return cls()
        stored = json.loads(path.read_text())
        messages = {one: Message(key, frozenset(flags)) for one, (key, flags) in stored["messages"].items()}
        return cls(stored["token"], messages)

    def store(self, path: Path) -> None:
        messages = {one: (message.key, sorted(message.flags)) for one, message in self.messages.items()}
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({"token": self.token, "messages": messages}))
        temporary.replace(path)


def id_of(data: bytes) -> str:
    """The blob's id of a message: the same however a mailbox ends its lines or quotes `From `."""
    plain = data.replace(b"\r\n", b"\n").replace(b"\n>From ", b"\nFrom ").rstrip(b"\n")
    return hashlib.sha256(plain).hexdigest()


def bridge(vault: blocking.Vault, box: Box, state_path: Path) -> Done:
    """Make both sides the same. May stop anywhere: the next run finds what is left, and does nothing twice.

    Raises:
        SystemExit: all messages are gone from the mailbox: a disk that is not mounted deletes no mail.
    """
    mail = vault.namespace("mail")
    state = State.load(state_path)
    here = box.scan({message.key: one for one, message in state.messages.items()})
    if state.messages and not here:
        raise SystemExit("the mailbox is empty and was not: remove the bridge's state to fetch all anew")
    done = Done()
    changed, there_is, state.token = _changes(vault, state)

    gone_there = {one for one in changed if one in state.messages and one not in there_is}
    for one in gone_there & here.keys():
        box.remove(here.pop(one).key)
        done.removed += 1
    gone_here = state.messages.keys() - here.keys() - gone_there
    for one in gone_here:
        if mail.exists(one):
            mail.delete(one)
            done.deleted += 1
        there_is.discard(one)

    new_here = [one for one in here if one not in state.messages]
    results = mail.put_many([(one, box.read(here[one].key)) for one in new_here if one not in there_is])
    for result in results:
        if result.error is None:
            done.put += 1
        elif not isinstance(result.error, BlobExists):  # the same letter with other ends of lines
            raise result.error
    before = {one: message.flags for one, message in state.messages.items()}
    asked = [one for one in changed if one in there_is]
    flags_there = dict.fromkeys(here, frozenset[str]()) | before | _flags(mail, asked)
    for one in there_is - here.keys():
        flags = flags_there.get(one, frozenset())
        here[one] = Message(box.add(mail.get(one).data, flags), flags)
        before[one] = flags
        done.added += 1
    _mark(mail, box, here, before, flags_there, done)
    box.close()
    state.messages = here
    state.store(state_path)
    return done


def _changes(vault: blocking.Vault, state: State) -> tuple[set[str], set[str], str]:
    """Ids that have changed in the vault, those of them that are there, and the token for the next time."""
    changed: set[str] = set()
    there_is: set[str] = set()
    token = state.token
    while True:
        try:
            page = vault.changes(token)
        except TokenExpired:  # everything is looked at again, what is not there any more too
            changed, there_is, token = set(state.messages), set(), None
            continue
        for one in page.changes:
            if one.namespace == "mail":
                changed.add(one.id)
                (there_is.discard if one.blob is None else there_is.add)(one.id)
        token = page.token
        if not page.more:
            return changed, there_is, token


def _flags(mail: blocking.Namespace, ids: Iterable[str]) -> dict[str, Flags]:
    ids = list(ids)
    if len(ids) <= ASK_EACH:
        return {one: mail.get_flags(one) & set(FLAGS) for one in ids}
    found: dict[str, set[str]] = {one: set() for one in ids}
    for flag in FLAGS:
        after = None
        while True:
            page = mail.list(flag=flag, after=after, limit=10_000)
            for blob in page.blobs:
                found.setdefault(blob.id, set()).add(flag)
            after = page.next
            if after is None:
                break
    return {one: frozenset(found[one]) for one in ids}


def _mark(
    mail: blocking.Namespace,
    box: Box,
    here: dict[str, Message],
    before: dict[str, Flags],
    there: dict[str, Flags],
    done: Done,
) -> None:
    """What either side has set or taken away since the last run happens on the other."""
    groups: dict[tuple[Flags, Flags], list[str]] = {}
    for one, message in here.items():
        base = before.get(one, frozenset())
        added, taken = message.flags - base, base - message.flags
        if added - there[one] or taken & there[one]:
            groups.setdefault((added, taken), []).append(one)
        both = (there[one] | added) - taken
        if both != message.flags:
            box.mark(message.key, both)
            done.marked += 1
            here[one] = Message(message.key, both)
    for (added, taken), ids in groups.items():
        mail.update_flags(ids, add=added, remove=taken)
        done.marked += len(ids)


def main() -> None:
    """Bridge once, between two syncs."""
    home, path = Path(sys.argv[1]), Path(sys.argv[2])
    box: Box = MboxBox(path) if path.is_file() else MaildirBox(path)
    with blocking.open_vault(home, passphrase=os.environ["SYNCAGENT_PASSPHRASE"]) as vault:
        vault.sync()
        print(bridge(vault, box, path.with_name(f"{path.name}.bridge.json")))
        vault.sync()


if __name__ == "__main__":
    main()

"""Keep a Maildir or an mbox file and the namespace `mail` of a vault the same, both ways.

    syncagent init                       # once; on the other devices: syncagent join --remote URL
    export SYNCAGENT_PASSPHRASE=…
    python docs/examples/mail_bridge.py ~/.local/share/syncagent/vaults/default ~/Maildir

Run it by hand or from cron, on each device with its own mailbox. A message is a blob named by the hash of
its bytes; seen, answered and flagged are flags of the blob. What was the same after the last run is kept
beside the mailbox in NAME.bridge.json, so that of two sides that differ it is known which one has changed.
The vault's half of what is new comes from `changes`. Without a network it works on what is here, and it may
be killed at any time: the next run finds what is left.
"""

import contextlib
import json
import mailbox
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mailboxes import FLAGS, Box, Flags, MaildirBox, MboxBox

from syncagent import BlobExists, BlobNotFound, SyncAgentError, TokenExpired, blocking

AT_ONCE = 50
"""Messages in memory. Up to so many are asked for their flags one by one; of more, three lists tell."""


@dataclass(slots=True)
class State:
    """What both sides had in common after the last run, and how far the vault's changes were followed."""

    token: str | None = None
    messages: dict[str, Flags] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)
    """What the mailbox noted for its next scan."""

    @classmethod
    def load(cls, path: Path) -> "State":
        if not path.exists():
            return cls()
        stored = json.loads(path.read_text())
        messages = {one: frozenset(flags) for one, flags in stored["messages"].items()}
        return cls(stored["token"], messages, stored["hints"])

    def store(self, path: Path) -> None:
        messages = {one: sorted(flags) for one, flags in self.messages.items()}
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({"token": self.token, "messages": messages, "hints": self.hints}))
        os.sync()  # the mailbox before the state: what is known and not there counts as removed
        temporary.replace(path)


@dataclass(slots=True)
class Done:
    """What one run did on both sides, and what it left for the next one."""

    put: int = 0
    added: int = 0
    deleted: int = 0
    removed: int = 0
    marked: int = 0
    left: int = 0


def bridge(vault: blocking.Vault, box: Box, state_path: Path) -> Done:
    """Make both sides the same. May stop anywhere: the next run finds what is left, and does nothing twice.

    Raises:
        SystemExit: all messages are gone from the mailbox: a disk that is not mounted deletes no mail.
    """
    mail = vault.namespace("mail")
    state, done = State.load(state_path), Done()
    if state.token is None:
        mail.settings(dedup="none")  # strangers write to it: sizes must not tell what else is in there
    there, gone, token = _changes(vault, state)
    here = box.scan(state.messages, state.hints)
    if state.messages and not here:
        raise SystemExit(f"{len(state.messages)} messages are gone: remove {state_path} to get them all back")

    # What is gone since the last run goes on the other side too.
    removed = gone & state.messages.keys()
    for one in removed & here.keys():
        box.remove(one)
        del here[one]
        done.removed += 1
    for one in state.messages.keys() - here.keys() - removed:
        there.discard(one)
        try:
            mail.delete(one)
        except BlobNotFound:
            continue
        done.deleted += 1

    # What is new comes to the other side.
    for some in _batches(one for one in here.keys() - state.messages.keys() - there):
        read = [(one, box.read(one)) for one in some]
        for result in mail.put_many([(one, data) for one, data in read if data is not None]):
            done.put += result.error is None
            if result.error is not None and not isinstance(
                result.error, BlobExists
            ):  # with other ends of lines
                raise result.error
        for one, data in read:
            if data is None:
                del here[one]
    flags = dict.fromkeys(here, frozenset[str]()) | state.messages | _flags(mail, there)
    for some in _batches(there - here.keys()):
        for got in mail.get_many(some):
            if got.blob is None:  # its content is elsewhere, and there is no network
                done.left += 1
            elif box.add(got.id, got.data, flags[got.id]):
                state.messages[got.id] = here[got.id] = flags[got.id]
                done.added += 1

    _mark(mail, box, here, state.messages, flags, done)
    hints = box.finish()
    # What was left is told again only by the token that has told of it.
    State(state.token if done.left else token, here, hints).store(state_path)
    return done


def _changes(vault: blocking.Vault, state: State) -> tuple[set[str], set[str], str]:
    """Messages that are new or changed in the vault, those deleted there, and the token for the next time."""
    there: set[str] = set()
    gone: set[str] = set()
    token = state.token
    while True:
        try:
            page = vault.changes(token)
        except TokenExpired:  # or it is of another vault, one without mail: what was there proves no deletion
            state.messages, state.hints, token = {}, {}, None
            continue
        for one in page.changes:
            if one.namespace == "mail":
                (gone if one.blob is None else there).add(one.id)
                (there if one.blob is None else gone).discard(one.id)
        token = page.token
        if not page.more:
            return there, gone, token


def _flags(mail: blocking.Namespace, ids: set[str]) -> dict[str, Flags]:
    """The flags of messages in the vault, of ours."""
    if len(ids) <= AT_ONCE:
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
    here: dict[str, Flags],
    before: dict[str, Flags],
    there: dict[str, Flags],
    done: Done,
) -> None:
    """What either side has set or taken away since the last run happens on the other."""
    groups: dict[tuple[Flags, Flags], list[str]] = {}
    for one, flags in list(here.items()):
        base = before.get(one, frozenset())
        added, taken = flags - base, base - flags
        if added - there[one] or taken & there[one]:
            groups.setdefault((added, taken), []).append(one)
        both = (there[one] | added) - taken
        if both != flags:
            if box.mark(one, both):
                here[one] = both
                done.marked += 1
            else:
                done.left += 1
    for (added, taken), ids in groups.items():
        done.marked += sum(one.error is None for one in mail.update_flags(ids, add=added, remove=taken))


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = sorted(ids)
    for start in range(0, len(rest), AT_ONCE):
        yield rest[start : start + AT_ONCE]


def _sync(vault: blocking.Vault) -> None:
    try:
        vault.sync()
    except SyncAgentError as error:
        print(f"not synced: {error}; {error.safe}", file=sys.stderr)


def main() -> None:
    """Bridge once, between two syncs."""
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    home, path = sys.argv[1], Path(sys.argv[2])
    passphrase = os.environ.get("SYNCAGENT_PASSPHRASE", "")
    try:
        with blocking.open_vault(home, passphrase=passphrase) as vault:
            with contextlib.closing(MboxBox(path) if path.is_file() else MaildirBox(path)) as box:
                _sync(vault)
                done = bridge(vault, box, path.with_name(f"{path.name}.bridge.json"))
            print(", ".join(f"{name} {count:,}" for name, count in asdict(done).items()))
            _sync(vault)
    except SyncAgentError as error:
        raise SystemExit(f"{error}; {error.safe}; {error.todo}") from None
    except mailbox.ExternalClashError as error:
        raise SystemExit(f"{path} is in use by another program, run again later: {error}") from None


if __name__ == "__main__":
    main()

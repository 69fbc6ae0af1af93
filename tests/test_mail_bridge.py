"""docs/examples/mail_bridge.py: mailboxes of two devices that are kept the same through a vault."""

import importlib.util
import mailbox
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import syncagent
from syncagent import blocking

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "mail_bridge.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mail_bridge", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mail_bridge"] = module
    spec.loader.exec_module(module)
    return module


bridge = load()


def letter(number: int) -> bytes:
    return (
        f"From: ann@example.org\nTo: bob@example.org\nSubject: Letter {number}\n"
        f"Message-ID: <{number}@example.org>\n\nDear Bob,\nFrom here all is well.\n{'x' * (number % 97)}\n"
    ).encode()


class Side:
    """A device with a mailbox of one kind."""

    def __init__(self, vault: blocking.Vault, path: Path) -> None:
        self.vault = vault
        self.path = path

    def run(self) -> object:
        self.vault.sync()
        box = bridge.MboxBox(self.path) if self.path.suffix == ".mbox" else bridge.MaildirBox(self.path)
        done = bridge.bridge(self.vault, box, self.path.with_name(f"{self.path.name}.json"))
        self.vault.sync()
        return done

    def box(self) -> mailbox.Mailbox[mailbox.Message]:
        kind = mailbox.mbox if self.path.suffix == ".mbox" else mailbox.Maildir
        return kind(self.path)

    def add(self, *numbers: int) -> None:
        box = self.box()
        for number in numbers:
            box.add(letter(number))
        box.close()

    def mark(self, number: int, flags: str) -> None:
        box = self.box()
        for key, message in list(box.iteritems()):
            if message["Subject"] == f"Letter {number}":
                message.set_flags(flags)  # type: ignore[attr-defined]  # of both kinds
                box[key] = message
        box.close()

    def remove(self, number: int) -> None:
        box = self.box()
        for key, message in list(box.iteritems()):
            if message["Subject"] == f"Letter {number}":
                box.discard(key)
        box.close()

    def flags(self) -> dict[str, set[str]]:
        letters = (
            {"R": "seen", "A": "answered", "F": "flagged"}
            if self.path.suffix == ".mbox"
            else {"S": "seen", "R": "answered", "F": "flagged"}
        )
        box = self.box()
        found = {
            str(message["Subject"]).removeprefix("Letter "): {
                letters[one]
                for one in message.get_flags()  # type: ignore[attr-defined]  # of both kinds
                if one in letters
            }
            for _, message in box.iteritems()
        }
        assert len(found) == len(box), "nothing twice"
        box.close()
        return found


@pytest.fixture
def sides(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[Side]]:
    remote = f"file://{tmp_path}/remote"
    blocking.create_vault(tmp_path / "a", remote=remote, passphrase="x", kdf=syncagent.FLOOR_KDF)
    blocking.join_vault(tmp_path / "b", remote=remote, passphrase="x")
    with (
        blocking.open_vault(tmp_path / "a", passphrase="x") as a,
        blocking.open_vault(tmp_path / "b", passphrase="x") as b,
    ):
        yield [Side(a, tmp_path / "left"), Side(b, tmp_path / "right.mbox")]


def settle(sides: list[Side]) -> None:
    for side in (*sides, sides[0]):
        side.run()


def test_messages_and_flags_go_both_ways(sides: list[Side]) -> None:
    maildir, mbox = sides
    maildir.add(1, 2, 3)
    mbox.add(3, 4)
    settle(sides)
    assert set(maildir.flags()) == set(mbox.flags()) == {"1", "2", "3", "4"}
    maildir.mark(1, "S")
    mbox.mark(1, "AF")
    mbox.mark(4, "R")
    settle(sides)
    wanted = {"1": {"seen", "answered", "flagged"}, "2": set(), "3": set(), "4": {"seen"}}
    assert maildir.flags() == mbox.flags() == wanted
    maildir.mark(1, "R")  # seen and flagged are taken away
    settle(sides)
    assert maildir.flags()["1"] == mbox.flags()["1"] == {"answered"}
    maildir.remove(2)
    mbox.remove(3)
    settle(sides)
    assert set(maildir.flags()) == set(mbox.flags()) == {"1", "4"}
    assert [side.run() for side in sides] == [bridge.Done(), bridge.Done()], "nothing is left to do"


def test_a_run_whose_state_was_lost_does_nothing_twice(sides: list[Side]) -> None:
    maildir, mbox = sides
    maildir.add(1, 2)
    settle(sides)
    for side in sides:
        side.path.with_name(f"{side.path.name}.json").unlink()
    settle(sides)
    assert set(maildir.flags()) == set(mbox.flags()) == {"1", "2"}


def test_a_mailbox_that_is_suddenly_empty_deletes_nothing(sides: list[Side]) -> None:
    maildir, _ = sides
    maildir.add(1, 2)
    maildir.run()
    for number in (1, 2):
        maildir.remove(number)
    with pytest.raises(SystemExit, match="empty"):
        maildir.run()
    assert maildir.vault.namespace("mail").count() == 2


@pytest.mark.slow
def test_five_thousand_messages(sides: list[Side]) -> None:
    maildir, mbox = sides
    maildir.add(*range(5000))
    settle(sides)
    assert len(mbox.flags()) == 5000
    mbox.mark(7, "R")
    maildir.add(5001)
    assert mbox.run() == bridge.Done(marked=1)
    assert maildir.run() == bridge.Done(put=1, marked=1)
    assert mbox.run() == bridge.Done(added=1)
    assert maildir.flags()["7"] == {"seen"} and maildir.flags() == mbox.flags()

"""docs/examples/mail_bridge.py: mailboxes of two devices that are kept the same through a vault."""

import contextlib
import importlib.util
import mailbox
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import syncagent
from syncagent import blocking

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


mailboxes = load("mailboxes")
bridge = load("mail_bridge")


def letter(number: int) -> bytes:
    return (
        f"From: ann@example.org\nTo: bob@example.org\nSubject: Letter {number}\n"
        f"Message-ID: <{number}@example.org>\n\nDear Bob,\nFrom here all is well.\n{'x' * (number % 97)}\n"
    ).encode()


class Led:
    """A mailbox whose calls are told before they happen."""

    def __init__(self, box: Any, during: Callable[[str], None]) -> None:
        self.box = box
        self.during = during

    def close(self) -> None:
        self.box.close()

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            self.during(name)
            return getattr(self.box, name)(*args)

        return call


class Killed(BaseException):
    """Stands for the end of the process."""


class Side:
    """A device with a mailbox of one kind."""

    def __init__(self, vault: blocking.Vault, path: Path) -> None:
        self.vault = vault
        self.path = path

    def run(self, during: "Callable[[str], None] | None" = None) -> Any:
        """Bridge between two syncs; `during` is told before each call of the mailbox."""
        self.vault.sync()
        with contextlib.closing(self.opened(during)) as box:
            done = bridge.bridge(self.vault, box, self.state)
        self.vault.sync()
        return done

    @property
    def state(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def opened(self, during: "Callable[[str], None] | None" = None) -> Any:
        kind = mailboxes.MboxBox if self.path.suffix == ".mbox" else mailboxes.MaildirBox
        return kind(self.path) if during is None else Led(kind(self.path), during)

    def box(self) -> mailbox.Mailbox[mailbox.Message]:
        kind = mailbox.mbox if self.path.suffix == ".mbox" else mailbox.Maildir
        return kind(self.path)

    def add(self, *numbers: int) -> None:
        self.add_raw(*map(letter, numbers))

    def add_raw(self, *letters: bytes) -> None:
        box = self.box()
        for one in letters:
            box.add(one)
        box.close()

    def count(self) -> int:
        with contextlib.closing(self.box()) as box:
            return len(box)

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
    with pytest.raises(SystemExit, match="gone"):
        maildir.run()
    assert maildir.vault.namespace("mail").count() == 2


ODD = (
    b"From the first line on\n\nthis is no message\n",
    b"Subject: no end of line",
    b"Subject: no body\n",
    b"\nno head\n",
    b"Subject: \xff\xfe raw bytes\nX-Long: " + b"y" * 2000 + b"\n\n\x00\x01\r\nmixed\rends\n",
    b"Subject: quoted\n\nFrom here\n>From there\n>>From both\n",
    b"Subject: marks\nStatus: RO\nX-Status: AF\n\nwith marks of its own\n",
    b"subject : spaces\nno colon in this line\n\n\n\nmany empty lines\n\n\n",
    b"Subject: =?utf-8?b?8J+YgA==?=\n folded\n\tand folded\n\nbody\n",
    b"Subject: windows\r\n\r\nends\r\n",
)


def test_messages_that_a_parser_would_alter_are_kept_as_they_are(sides: list[Side]) -> None:
    maildir, mbox = sides
    maildir.add_raw(*ODD)
    settle(sides)
    mail = maildir.vault.namespace("mail")
    blobs = [blob.data for blob in (got.blob for got in mail.get_many(all_ids(mail))) if blob]
    assert sorted(blobs) == sorted(ODD)
    for side in sides:
        assert side.run() == bridge.Done()
    # All but what an mbox file cannot hold; that is left out, and nobody takes it for removed.
    assert mbox.count() == len(ODD) - 1
    # And from an mbox into a Maildir.
    others = [one.replace(b"Subject", b"Thema") for one in ODD if b"Subject: " in one]
    mbox.add_raw(*others)
    settle(sides)
    for side in sides:
        assert side.run() == bridge.Done()
        side.state.unlink()
        assert (side.run().put, side.run()) == (0, bridge.Done())
    assert maildir.count() == len(ODD) + len(others)


def all_ids(mail: blocking.Namespace) -> list[str]:
    return [blob.id for blob in mail.list().blobs]


def test_a_message_that_is_there_twice_goes_as_one(sides: list[Side]) -> None:
    maildir, mbox = sides
    maildir.add(1, 1, 2)
    settle(sides)
    assert (maildir.count(), mbox.count()) == (3, 2)
    mbox.remove(1)
    mbox.mark(2, "F")
    settle(sides)
    assert maildir.flags() == mbox.flags() == {"2": {"flagged"}}
    assert [side.run() for side in sides] == [bridge.Done(), bridge.Done()]


def test_another_vault_does_not_empty_the_mailbox(sides: list[Side], tmp_path: Path) -> None:
    maildir, mbox = sides
    for side in sides:
        side.add(1, 2)
    settle(sides)
    remote = f"file://{tmp_path}/another"
    blocking.create_vault(tmp_path / "c", remote=remote, passphrase="x", kdf=syncagent.FLOOR_KDF)
    with blocking.open_vault(tmp_path / "c", passphrase="x") as vault:
        maildir.vault = mbox.vault = vault
        assert maildir.run() == bridge.Done(put=2)
        assert mbox.run() == bridge.Done()
    assert set(maildir.flags()) == set(mbox.flags()) == {"1", "2"}


def test_what_is_elsewhere_while_there_is_no_network_comes_later(sides: list[Side]) -> None:
    maildir, mbox = sides
    maildir.add(1)
    settle(sides)
    maildir.vault.namespace("mail").settings(fetch="on-demand")
    maildir.vault.sync()
    mbox.add(2, 3)
    mbox.run()
    maildir.vault.sync()
    remote = maildir.path.with_name("remote")
    remote.rename(maildir.path.with_name("unplugged"))
    maildir.mark(1, "F")
    with contextlib.closing(maildir.opened()) as box:
        done = bridge.bridge(maildir.vault, box, maildir.state)
    assert done == bridge.Done(marked=1, left=2)
    maildir.path.with_name("unplugged").rename(remote)
    maildir.vault.retry()
    assert maildir.run().added == 2
    assert set(maildir.flags()) == {"1", "2", "3"}


def test_what_has_not_changed_is_not_read_again(sides: list[Side]) -> None:
    maildir, mbox = sides
    maildir.add(1, 2)
    settle(sides)
    settle(sides)
    for file in (*maildir.path.glob("*/*:*"), *maildir.path.glob("new/*"), mbox.path):
        stat = file.stat()
        file.write_bytes(b"x" * stat.st_size)  # whoever read it would take it for another message
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert [side.run() for side in sides] == [bridge.Done(), bridge.Done()]


def test_what_happens_to_a_maildir_while_it_is_bridged_is_found_next_time(sides: list[Side]) -> None:
    maildir, mbox = sides
    maildir.add(1, 2, 3)
    settle(sides)
    mbox.mark(1, "F")
    mbox.mark(2, "F")
    mbox.run()
    maildir.add(4)

    def meanwhile(call: str) -> None:
        if call == "mark" and not maildir.path.joinpath("done").exists():  # a mail program is at work
            maildir.path.joinpath("done").touch()
            maildir.mark(1, "S")
            maildir.mark(2, "S")
            maildir.mark(3, "S")
            maildir.add(5)

    done = maildir.run(meanwhile)
    assert (done.put, done.left) == (1, 2)
    settle(sides)
    wanted = {"1": {"seen", "flagged"}, "2": {"seen", "flagged"}, "3": {"seen"}, "4": set(), "5": set()}
    assert maildir.flags() == mbox.flags() == wanted
    assert [side.run() for side in sides] == [bridge.Done(), bridge.Done()]


def test_an_mbox_that_is_written_without_a_lock_is_left_as_it_is(sides: list[Side]) -> None:
    maildir, mbox = sides
    maildir.add(1)
    mbox.add(2)

    def meanwhile(call: str) -> None:
        if call == "finish":
            with mbox.path.open("ab") as file:
                file.write(
                    b"From ann Thu Jan  1 00:00:00 2026\n" + letter(3).replace(b"\nFrom ", b"\n>From ")
                )

    maildir.run()
    with pytest.raises(SystemExit, match="run again"):
        mbox.run(meanwhile)
    assert set(mbox.flags()) == {"2", "3"}
    settle(sides)
    assert set(maildir.flags()) == set(mbox.flags()) == {"1", "2", "3"}


def test_a_lock_is_minded_until_it_is_stale(sides: list[Side]) -> None:
    _, mbox = sides
    mbox.add(1)
    lock = mbox.path.with_name(f"{mbox.path.name}.lock")
    lock.touch()
    with pytest.raises(mailbox.ExternalClashError):
        mbox.run()
    os.utime(lock, (0, 0))  # a process that was killed has left it
    assert mbox.run() == bridge.Done(put=1)


@pytest.mark.parametrize("which", [0, 1])
def test_killed_before_any_step_the_next_run_does_the_rest(sides: list[Side], which: int) -> None:
    side, other = sides[which], sides[1 - which]
    side.add(1, 2, 3, 4, 5)
    settle(sides)
    side.remove(1)
    side.mark(3, "F")
    side.add(10, 11)
    other.remove(2)
    other.mark(4, "F")
    other.add(20, 21)
    other.run()
    for number in range(100):
        left = number

        def step(call: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed(call)

        try:
            side.run(step)
        except Killed:
            continue
        else:
            break
    assert number >= 5, "what was done before is not done again"
    settle(sides)
    assert side.flags() == other.flags()
    wanted = {"3": {"flagged"}, "4": {"flagged"}, **{str(one): set[str]() for one in (5, 10, 11, 20, 21)}}
    assert side.flags() == wanted
    assert [one.run() for one in sides] == [bridge.Done(), bridge.Done()]


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

"""`sync --watch`: it stays, says what comes and goes, says nothing twice, and ends when it is told to."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from syncagent.cache.lock import SyncLock
from syncagent.cli.output import Output
from syncagent.cli.watch import Screen
from syncagent.errors import QuotaExceeded, RateLimited, SyncAgentError, Unreachable, VaultInUse
from syncagent.events import Event, Missed, SyncFinished, SyncWaiting
from syncagent.reports import Alarm, Arrival, BlobArrival, BlobFailure, SyncReport
from tests.cli.shell import Shell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class Watch:
    """A process that watches; each thing it says is waited for."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def complaint(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline().decode()

    def document(self) -> Any:
        return json.loads(self.line())

    def interrupt(self) -> tuple[int, str, str]:
        """Its exit code, and what else it said."""
        os.kill(self.process.pid, signal.SIGINT)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode(), err.decode()


@contextmanager
def watching(shell: Shell, *options: str) -> Iterator[Watch]:
    process = shell.process("sync", "--watch", *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield Watch(process)
    finally:
        process.kill()
        process.communicate()


def test_it_shows_what_arrives_and_sends_what_another_process_puts(shell: Shell, other: Shell) -> None:
    shell("put", "n/there\x1b[2J", "-", "--sync", stdin=b"from the first").ok()
    with watching(other) as watch:
        assert watch.line() == "new      n/there\\x1b[2J (14 B)\n"
        assert "fetched 1 (" in watch.line()
        other("put", "n/here", "-", stdin=b"from the second").ok()
        assert watch.line().startswith("sent 1 blob (")
        assert watch.interrupt() == (130, "", "")
    shell("sync").ok()
    assert shell("get", "n/here").ok().stdout == b"from the second"


def test_with_json_each_round_is_a_document_on_a_line(shell: Shell, other: Shell) -> None:
    with watching(shell, "--json") as watch:
        first = watch.document()
        assert (first["event"], first["arrivals"], first["failures"]) == ("round", [], [])
        shell("put", "n/a", "-", stdin=b"one").ok()
        assert watch.document()["sent"] == 1
        assert watch.interrupt() == (130, "", "")
    with watching(other, "--json") as watch:
        arrival = {"namespace": "n", "id": "a", "kind": "new", "size": 3, "conflict": False}
        assert watch.document()["arrivals"] == [arrival]


def test_a_remote_that_goes_away_is_told_once_and_so_is_its_return(shell: Shell) -> None:
    """The error where the user sees it (row D3)."""
    away = shell.remote.with_name("away")
    with watching(shell) as watch:
        assert watch.line() == "nothing to do\n"
        shell.remote.rename(away)
        shell("put", "n/a", "-", stdin=b"one").ok()
        assert "is not there; everything put on this device is kept" in watch.complaint()
        shell("retry").ok()  # the second failure is not told
        away.rename(shell.remote)
        shell("retry").ok()
        assert watch.complaint() == "syncagent: syncing again\n"
        assert watch.line().startswith("sent 1 blob (")
        assert watch.interrupt() == (130, "", "")


def test_it_waits_for_another_sync(shell: Shell) -> None:
    with SyncLock(shell.profile / "sync.lock").held():
        process = watching(shell)
        watch = process.__enter__()
        assert "waiting for it to finish" in watch.complaint()
    assert watch.line() == "nothing to do\n"
    assert watch.interrupt()[0] == 130
    process.__exit__(None, None, None)


def test_it_ends_when_nobody_reads_any_more(shell: Shell) -> None:
    with watching(shell) as watch:
        watch.line()
        assert watch.process.stdout is not None
        watch.process.stdout.close()
        watch.process.stdout = None
        shell("put", "n/a", "-", stdin=b"one").ok()
        assert watch.process.wait(timeout=60) == 0


def test_no_vault_is_an_error_at_once(bare: Shell) -> None:
    assert "there is no vault" in bare("sync", "--watch").failed(2)


# What is said, round by round ---------------------------------------------------------------------


class Screened:
    """A screen, and what it has said since the last look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: bool) -> None:
        self.out, self.err = io.BytesIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(self.out, encoding="utf-8", write_through=True))
        monkeypatch.setattr(sys, "stderr", self.err)
        self.screen = Screen(Output(**options))

    def __call__(self, told: SyncReport | SyncAgentError | Event) -> tuple[str, str]:
        match told:
            case SyncReport():
                told = SyncFinished(told)
            case SyncAgentError():
                told = SyncFinished(error=told)
        self.screen.show(told)
        said = self.out.getvalue().decode(), self.err.getvalue()
        for stream in (self.out, self.err):
            stream.seek(0)
            stream.truncate()
        return said


ARRIVALS = (
    BlobArrival("n", "a", Arrival.NEW, 12),
    BlobArrival("n", "b", Arrival.CHANGED, 2048, is_conflict=True),
    BlobArrival("n", "c", Arrival.DELETED, 0),
)


def test_what_arrived_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    show = Screened(monkeypatch)
    out, err = show(SyncReport(fetched=3, conflicts=1, arrivals=ARRIVALS, more_arrivals=7, duration_s=0.1))
    assert err == ""
    assert out.splitlines() == [
        "new      n/a (12 B)",
        "changed  n/b (2.0 KiB), in conflict with this device's version",
        "deleted  n/c",
        "and 7 more changes",
        "sent 0 blobs, fetched 3, 1 conflict, 0.1 s",
    ]
    assert show(SyncReport()) == ("", "")
    quiet = Screened(monkeypatch, is_quiet=True)
    assert quiet(SyncReport(fetched=1, arrivals=ARRIVALS[:1])) == ("new      n/a (12 B)\n", "")


def test_what_goes_on_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    show = Screened(monkeypatch)
    assert show(SyncReport())[0] == "nothing to do\n"
    alarm = Alarm("Withheld", "pack x", "not given")
    failure = BlobFailure("n", "a", "upload", "refused")
    bad = SyncReport(failed=1, failures=(failure,), alarms=(alarm,))
    out, err = show(bad)
    assert (out.count("\n"), err.count("\n")) == (1, 2)
    assert show(bad) == ("", "")
    assert show(SyncReport()) == ("", "")
    assert show(bad)[1].count("\n") == 2


def test_a_remote_that_fails_in_other_ways_is_still_away(monkeypatch: pytest.MonkeyPatch) -> None:
    show = Screened(monkeypatch)
    assert "no answer" in show(Unreachable("no answer"))[1]
    assert show(Unreachable("reset")) == ("", "")
    assert show(RateLimited("slow down")) == ("", "")
    assert "full" in show(QuotaExceeded("full"))[1]
    assert show(SyncReport()) == ("nothing to do\n", "syncagent: syncing again\n")
    assert "no answer" in show(Unreachable("no answer"))[1]


def test_another_sync_is_told_with_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    show = Screened(monkeypatch)
    busy = VaultInUse("another", pid=1)
    assert show(SyncReport())[0] == "nothing to do\n"
    assert show(busy) == ("", ""), "it is waited for"
    assert "another: waiting for it to finish" in show(SyncWaiting(busy))[1]
    assert show(SyncReport())[1] == "syncagent: syncing again\n"
    # A remote that is away stays so while another process tries it.
    assert "no answer" in show(Unreachable("no answer"))[1]
    show(SyncWaiting(busy))
    assert show(Unreachable("no answer")) == ("", "")


def test_rounds_that_went_unshown_are_told_and_so_is_how_it_stands_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    show = Screened(monkeypatch)
    assert show(SyncReport())[0] == "nothing to do\n"
    out, err = show(Missed(12))
    assert (out, err.count("\n")) == ("", 1) and err.startswith("syncagent: 12 rounds went unshown")
    assert show(SyncReport())[0] == "nothing to do\n"
    assert show(SyncReport()) == ("", "")
    show(Unreachable("no answer"))
    show(Missed(1))
    assert show(SyncReport()) == ("nothing to do\n", "syncagent: syncing again\n")
    show = Screened(monkeypatch, is_json=True)
    assert json.loads(show(Missed(12))[0]) == {"event": "missed", "rounds": 12}


def test_the_same_as_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    show = Screened(monkeypatch, is_json=True)
    assert json.loads(show(SyncWaiting(VaultInUse("the cache is locked")))[0])["event"] == "waiting"
    document = json.loads(show(Unreachable("no"))[0])
    assert (document["event"], document["error"]["kind"]) == ("failed", "Unreachable")
    assert json.loads(show(SyncReport())[0])["event"] == "round"
    assert show(SyncReport()) == ("", "")
    document = json.loads(show(SyncReport(arrivals=ARRIVALS))[0])
    assert [one["kind"] for one in document["arrivals"]] == ["new", "changed", "deleted"]

"""Rounds from the command: reports, waiting for another one, interruption."""

import fcntl
import os
import re
import signal
import termios
from pathlib import Path

import pytest

from syncagent.cache.lock import SyncLock
from syncagent.errors import VaultInUse
from syncagent.reports import Alarm, BlobFailure, SyncReport
from syncagent.vault import Vault
from tests.cli.shell import Shell


def report_of(monkeypatch: pytest.MonkeyPatch, report: SyncReport) -> None:
    async def sync(*_: object, **__: object) -> SyncReport:
        return report

    monkeypatch.setattr(Vault, "sync", sync)


def test_a_report_in_a_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    report_of(monkeypatch, SyncReport(sent=3, sent_bytes=1_258_291, fetched=0, duration_s=0.41))
    assert shell("sync").ok().out == "sent 3 blobs (1.2 MiB), fetched 0, 0.4 s\n"
    report_of(monkeypatch, SyncReport(sent=1, fetched=2, fetched_bytes=100, conflicts=1, duration_s=2))
    assert shell("sync").ok().out == "sent 1 blob, fetched 2 (100 B), 1 conflict, 2.0 s\n"


def test_flags_that_were_sent_are_something(shell: Shell) -> None:
    shell("put", "n/a", "-", "--sync", stdin=b"x").ok()
    assert shell("sync").ok().out == "nothing to do\n"
    shell("flags", "n/a", "--add", "seen").ok()
    assert re.fullmatch(r"sent 0 blobs \(\d+ B\), fetched 0, \d\.\d s\n", shell("sync").ok().out)
    assert shell("sync").ok().out == "nothing to do\n"


def test_alarms_and_failures_are_told_and_decide_the_code(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = BlobFailure("n", "a\x1b", "upload", "refused")
    report_of(monkeypatch, SyncReport(failed=1, failures=(failure,)))
    assert "'a\\x1b'" in shell("sync").failed(3)
    alarm = Alarm("RemoteRolledBack", "journal of x", "batch 3 is gone", "all is kept", "look")
    report_of(monkeypatch, SyncReport(failed=1, failures=(failure,), alarms=(alarm,)))
    done = shell("sync", "--json")
    assert done.code == 6
    assert done.err.count("\n") == 2
    assert "RemoteRolledBack: journal of x: batch 3 is gone; all is kept; look\n" in done.err
    assert done.document["alarms"] == [
        {
            "kind": "RemoteRolledBack",
            "subject": "journal of x",
            "message": "batch 3 is gone",
            "safe": "all is kept",
            "todo": "look",
        }
    ]
    assert done.document["failures"][0]["id"] == "a\x1b"


def test_it_waits_for_a_running_sync_and_then_runs(shell: Shell) -> None:
    shell("put", "n/a", "-", stdin=b"x").ok()
    with SyncLock(shell.profile / "sync.lock").held():
        process = shell.process("sync", stdout=-1, stderr=-1)
        assert process.stdout is not None and process.stderr is not None
        # The line comes before the first pause, so the process has found the lock taken.
        assert b"waiting" in process.stderr.readline()
        assert process.poll() is None
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"sent 1 blob")


def test_a_cache_that_stays_locked_is_given_up(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async def locked(*_: object, **__: object) -> SyncReport:
        raise VaultInUse("another process keeps the cache locked")

    async def at_once(_: float) -> None:
        return

    monkeypatch.setattr(Vault, "sync", locked)
    monkeypatch.setattr("anyio.sleep", at_once)
    done = shell("sync")
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith("syncagent: another process keeps the cache locked;")


def test_an_interruption_says_what_is_safe(shell: Shell) -> None:
    with SyncLock(shell.profile / "sync.lock").held():
        process = shell.process("sync", stdout=-1, stderr=-1)
        assert process.stderr is not None
        process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == b""
    assert err == b"syncagent: interrupted; what was stored before is kept; run it again to go on\n"


def test_an_interrupted_put_leaves_no_blob(shell: Shell) -> None:
    read_end, write_end = os.pipe()
    process = shell.process("put", "n/a", "-", stdin=read_end, stderr=-1)
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as pipe:
        pipe.write(b"half" * (1 << 20))
        while fcntl.ioctl(write_end, termios.FIONREAD, b"\0" * 4) != b"\0" * 4:
            assert process.poll() is None  # until all was read: the put is under way
        os.kill(process.pid, signal.SIGINT)
        # The input has not ended, and the command does not wait for that.
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.count(b"\n") == 1
    assert shell("ls", "n", "--count").ok().out == "0\n"


def test_no_bar_where_there_is_no_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    listeners: list[object] = []

    async def sync(_: Vault, *, progress: object) -> SyncReport:
        listeners.append(progress)
        return SyncReport()

    monkeypatch.setattr(Vault, "sync", sync)
    shell("sync").ok()
    assert listeners == [None]


def test_a_namespace_alone(shell: Shell) -> None:
    """`send` of one namespace (row A13)."""
    shell("put", "one/a", "-", stdin=b"x").ok()
    shell("put", "two/a", "-", stdin=b"x").ok()
    shell("send", "one").ok()
    assert shell("ls", "--status", "synced").ok().out.split()[0] == "one"
    assert shell("ls", "--status", "pending_upload").ok().out.split()[0] == "two"


def test_a_bar_on_a_terminal(shell: Shell) -> None:
    pty = pytest.importorskip("pty")
    shell("put", "n/a", "-", stdin=os.urandom(2_000_000)).ok()
    master, slave = pty.openpty()
    process = shell.process("sync", stdout=-1, stderr=slave, environment={"TERM": "xterm"})
    os.close(slave)
    shown = b""
    try:
        while data := os.read(master, 65536):
            shown += data
    except OSError:  # Linux: the other end is closed
        pass
    os.close(master)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"send" in shown
    assert b"\x1b" not in out
    assert out.startswith(b"sent 1 blob")


def test_a_vault_folder_is_not_left_behind_by_a_failed_join(bare: Shell, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    bare("join", "--remote", (tmp_path / "empty").as_uri()).failed(2)
    assert not bare.profile.exists()

"""The sync lock: one holder, known by its pid, gone with its process; its mtime is the last sync."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from syncagent.cache.lock import SyncLock
from syncagent.errors import ConfigError, VaultInUse

HOLD = """
import sys
from pathlib import Path
from syncagent.cache.lock import SyncLock
with SyncLock(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""
OLD_S = 1_000_000_000


class Holder:
    """Another process that holds the lock until it is told to let go, or killed."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def end(self, *, kill: bool) -> int:
        if kill:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=30)
        return self.process.returncode


def test_another_process_is_refused_and_named(tmp_path: Path) -> None:
    lock = SyncLock(tmp_path / "sync.lock")
    holder = Holder(tmp_path / "sync.lock")
    try:
        with pytest.raises(VaultInUse) as caught, lock.held():
            pass
        assert caught.value.pid == holder.process.pid and str(holder.process.pid) in str(caught.value)
    finally:
        assert holder.end(kill=False) == 0
    with lock.held():
        pass


def test_the_lock_dies_with_its_holder_and_its_round_was_no_sync(tmp_path: Path) -> None:
    lock = SyncLock(tmp_path / "sync.lock")
    with lock.held():
        pass
    os.utime(tmp_path / "sync.lock", (OLD_S, OLD_S))
    assert Holder(tmp_path / "sync.lock").end(kill=True) == -signal.SIGKILL
    assert lock.last_sync() == OLD_S
    with lock.held():
        pass


def test_a_second_sync_in_this_process_is_refused(tmp_path: Path) -> None:
    lock = SyncLock(tmp_path / "sync.lock")
    with lock.held():
        with pytest.raises(VaultInUse) as caught, SyncLock(tmp_path / "sync.lock").held():
            pass
        assert caught.value.pid == os.getpid()
    with lock.held():
        pass


def test_a_finished_round_is_the_last_sync(tmp_path: Path) -> None:
    path = tmp_path / "sync.lock"
    lock = SyncLock(path)
    assert lock.last_sync() is None
    with lock.held():
        assert lock.last_sync() is None, "not before it is finished"
    first = lock.last_sync()
    assert first is not None and first == path.stat().st_mtime > OLD_S
    os.utime(path, (OLD_S, OLD_S))
    with lock.held():
        assert lock.last_sync() == OLD_S
    assert (lock.last_sync() or 0) > OLD_S


def test_a_failed_round_keeps_the_time(tmp_path: Path) -> None:
    path = tmp_path / "sync.lock"
    lock = SyncLock(path)
    for _ in range(2):
        with pytest.raises(KeyError), lock.held():
            raise KeyError
        assert lock.last_sync() is None
    with lock.held():
        pass
    os.utime(path, (OLD_S, OLD_S))
    with pytest.raises(KeyboardInterrupt), lock.held():
        raise KeyboardInterrupt
    assert lock.last_sync() == OLD_S


def test_a_refused_round_keeps_the_time_and_the_pid(tmp_path: Path) -> None:
    path = tmp_path / "sync.lock"
    lock = SyncLock(path)
    with lock.held():
        before = path.read_bytes()
        with pytest.raises(VaultInUse), lock.held():
            pass
        assert path.read_bytes() == before
        with pytest.raises(VaultInUse), lock.held():
            pass


def test_an_unreadable_pid_is_0(tmp_path: Path) -> None:
    path = tmp_path / "sync.lock"
    holder = Holder(path)
    try:
        path.write_bytes(b"\xff not a pid")
        with pytest.raises(VaultInUse) as caught, SyncLock(path).held():
            pass
        assert caught.value.pid == 0
    finally:
        holder.end(kill=False)


def test_the_file_is_the_owners(tmp_path: Path) -> None:
    with SyncLock(tmp_path / "sync.lock").held():
        pass
    assert (tmp_path / "sync.lock").stat().st_mode & 0o777 == 0o600


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"), SyncLock(tmp_path / "missing" / "sync.lock").held():
        pass

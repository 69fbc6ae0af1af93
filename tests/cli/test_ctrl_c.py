"""Ctrl-C in each phase of a command: one line, the code of an interruption, and the command can go on.

The child interrupts itself at its n-th step, a step being a call of the remote or a file of the
profile that is opened, so that a step is always the same one.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.shell import PASSPHRASE, Done, Shell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

LARGE = bytes(range(256)) * 5000
CONTENT = b"content" * 60_000
CHILD = """
import os, signal, sys, threading
at, home, *arguments = sys.argv[1:]
left = [int(at)]
def step():
    left[0] -= 1
    if left[0] == 0:
        print("interrupted", file=sys.stdout, flush=True)
        os.kill(os.getpid(), signal.SIGINT)
def audit(event, args):
    if event == "open" and isinstance(args[0], str) and args[0].startswith(home):
        step()
sys.addaudithook(audit)
from syncagent.remote.directory import DirectoryRemote
for name in ("put", "get", "head", "list", "delete"):
    def led(self, *args, method=getattr(DirectoryRemote, name), **options):
        step()
        return method(self, *args, **options)
    setattr(DirectoryRemote, name, led)
from syncagent.cli.main import run
sys.exit(run(arguments))
"""


def interrupted(shell: Shell, at: int, *arguments: str) -> Done | None:
    """A command that interrupts itself at a step; None if it came to its end before."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(at), str(shell.home), *arguments],
        env={**os.environ, **shell.environment, "SYNCAGENT_NEW_PASSPHRASE": PASSPHRASE},
        input=CONTENT,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if b"interrupted" not in done.stdout:
        assert (done.returncode, done.stderr) == (0, b"")
        return None
    return Done(done.returncode, done.stdout, done.stderr.decode())


def check_init(shell: Shell, other: Shell) -> None:
    if not shell.profile.exists():
        shell("init").ok()
    shell("put", "n/new", "-", "--sync", stdin=b"content").ok()


def check_join(shell: Shell, other: Shell) -> None:
    if not other.profile.exists():
        other("join", "--remote", shell.remote.as_uri()).ok()
    other("sync").ok()
    assert other("get", "n/large").ok().stdout == LARGE


def check_sync(shell: Shell, other: Shell) -> None:
    shell("sync").ok()
    other("sync").ok()
    for device in (shell, other):
        assert device("get", "n/large").ok().stdout == LARGE
        assert device("get", "n/theirs").ok().stdout == b"theirs" + LARGE


def check_put(shell: Shell, other: Shell) -> None:
    found = shell("get", "n/put")
    assert found.code == 1 or found.stdout == CONTENT
    shell("put", "n/put", "-", stdin=CONTENT).ok()
    check_sync(shell, other)


def check_get(shell: Shell, other: Shell) -> None:
    out = shell.home / "out"
    assert not out.exists() or out.read_bytes() == b"theirs" + LARGE
    check_sync(shell, other)


def check_key(shell: Shell, other: Shell) -> None:
    shell("sync").ok()
    assert len(shell("key", "ls").ok().out.splitlines()) == 2
    check_sync(shell, other)


PHASES: dict[str, tuple[tuple[str, ...], Callable[[Shell, Shell], None]]] = {
    "init": (("init",), check_init),
    "join": (("join", "--remote", "{remote}"), check_join),
    "sync": (("sync",), check_sync),
    "put": (("put", "n/put", "-"), check_put),
    "put and sync": (("put", "n/put", "-", "--sync"), check_put),
    "get": (("get", "n/theirs", "-o", "{out}"), check_get),
    "new passphrase": (("key", "passphrase"), check_key),
}


def made(name: str, tmp_path: Path) -> tuple[Shell, Shell, Shell]:
    """Two devices, as far as the command wants them to be there; and the one that runs it."""
    shell, other = Shell(tmp_path / "home"), Shell(tmp_path / "other")
    if name == "init":
        return shell, other, shell
    shell("init").ok()
    shell("put", "n/large", "-", stdin=LARGE).ok()
    if name == "join":
        shell("sync").ok()
        return shell, other, other
    other("join", "--remote", shell.remote.as_uri()).ok()
    other("put", "n/theirs", "-", "--sync", stdin=b"theirs" + LARGE).ok()
    if name == "get":
        shell("sync").ok()
        other("put", "n/theirs", "-", "--sync", "--replace", stdin=b"theirs" + LARGE).ok()
    return shell, other, shell


def check_at(name: str, at: int, tmp_path: Path) -> bool:
    """One command interrupted at one step; whether there is such a step."""
    command, check = PHASES[name]
    shell, other, device = made(name, tmp_path)
    words = {"{remote}": shell.remote.as_uri(), "{out}": str(shell.home / "out")}
    done = interrupted(device, at, *(words.get(word, word) for word in command))
    if done is None:
        return False
    assert done.code == 130, done
    assert done.err.strip().splitlines() == [
        "syncagent: interrupted; what was stored before is kept; run it again to go on"
    ]
    check(shell, other)
    return True


@pytest.mark.parametrize("at", [2, 5])
@pytest.mark.parametrize("name", PHASES)
def test_ctrl_c_in_a_phase_of_a_command(name: str, at: int, tmp_path: Path) -> None:
    assert check_at(name, at, tmp_path)


@pytest.mark.campaign
@pytest.mark.parametrize("name", PHASES)
def test_ctrl_c_in_every_phase_of_a_command(name: str, tmp_path: Path) -> None:
    at = 1
    while check_at(name, at, tmp_path / str(at)):
        at += 1
    assert at > 5

"""Processes killed or interrupted at any moment: what was acknowledged is there, and the work goes on."""

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent.cache.lock import SyncLock
from tests.cli.shell import PASSPHRASE, Shell

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")

PUTS = """
import random, sys, anyio, syncagent
async def main(path, passphrase, seed):
    dice = random.Random(seed)
    async with syncagent.open_vault(path, passphrase=passphrase) as vault:
        notes = vault.namespace("notes")
        print("open", flush=True)
        for number in range(10_000):
            size = dice.choice([0, 10, 5_000, 300_000])
            content = (f"{seed} {number} ".encode() * (size // 8 + 1))[:size]
            await notes.put(f"{seed}-{number:04}", content)
            print(f"{seed}-{number:04} {size}", flush=True)
anyio.run(main, *sys.argv[1:])
"""
SYNC = """
import os, signal, sys, anyio, syncagent
from syncagent.remote.directory import DirectoryRemote
class Dying:
    # Ends its own process at the n-th call, before or after it has its effect.
    def __init__(self, inner, at, is_after):
        self.inner, self.left, self.is_after = inner, at, is_after
    def __getattr__(self, name):
        method = getattr(self.inner, name)
        if name == "aclose":
            return method
        async def call(*args, **kwargs):
            self.left -= 1
            if self.left == 0 and not self.is_after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = await method(*args, **kwargs)
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call
async def main(path, passphrase, folder, at, is_after):
    remote = Dying(DirectoryRemote(__import__("pathlib").Path(folder)), int(at), is_after == "after")
    async with syncagent.open_vault(path, passphrase=passphrase, remote=remote) as vault:
        await vault.sync()
anyio.run(main, *sys.argv[1:])
"""


def content_of(seed: str, number: int, size: int) -> bytes:
    return (f"{seed} {number} ".encode() * (size // 8 + 1))[:size]


async def check(profile: Path, acknowledged: dict[str, int], kills: int) -> int:
    """Everything acknowledged is there, and at most one more a kill; how many blobs there are."""
    async with syncagent.open_vault(profile, passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("notes")
        for blob_id, size in acknowledged.items():
            seed, number = blob_id.split("-")
            assert (await notes.get(blob_id)).data == content_of(seed, int(number), size)
        count = await notes.count()
        assert count - len(acknowledged) in range(kills + 1)
        return count


def run_and_kill(shell: Shell, seed: int, after: int) -> dict[str, int]:
    """Put until so many are acknowledged, then kill; what was acknowledged."""
    acknowledged: dict[str, int] = {}
    with subprocess.Popen(
        [sys.executable, "-c", PUTS, str(shell.profile), PASSPHRASE, str(seed)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        for line in process.stdout:
            blob_id, _, size = line.partition(" ")
            acknowledged[blob_id] = int(size)
            if len(acknowledged) == after:
                process.kill()
    return acknowledged


def campaign(shell: Shell, other: Shell, rounds: int, seed: int) -> None:
    dice = random.Random(seed)
    acknowledged: dict[str, int] = {}
    for number in range(rounds):
        acknowledged |= run_and_kill(shell, seed * 1000 + number, dice.randrange(1, 30))
        count = anyio.run(check, shell.profile, acknowledged, number + 1)
    for _ in range(rounds):
        at, when = dice.randrange(1, 40), dice.choice(["before", "after"])
        done = subprocess.run(
            [sys.executable, "-c", SYNC, str(shell.profile), PASSPHRASE, str(shell.remote), str(at), when],
            check=False,
            timeout=60,
        )
        assert done.returncode in (0, -signal.SIGKILL)
    shell("sync").ok()
    assert shell("sync").ok().out == "nothing to do\n"
    other("sync").ok()
    assert anyio.run(check, other.profile, acknowledged, rounds) == count


def test_acknowledged_puts_and_syncs_survive_kill_9(shell: Shell, other: Shell) -> None:
    campaign(shell, other, rounds=4, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 5))
def test_acknowledged_puts_and_syncs_survive_kill_9_many_times(shell: Shell, other: Shell, seed: int) -> None:
    campaign(shell, other, rounds=20, seed=seed)


def interrupted(process: "subprocess.Popen[bytes]") -> str:
    """What a process says that Ctrl-C ends."""
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    return err.decode()


def test_ctrl_c_ends_a_put_from_a_pipe_and_nothing_is_lost(shell: Shell) -> None:
    shell("put", "notes/kept", "-", stdin=b"kept").ok()
    process = shell.process(
        "put", "notes/new", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(os.urandom(9 << 20))  # a pack, and a part of another
    process.stdin.flush()
    packs = shell.profile / "packs"
    with Deadline():
        while not any(packs.iterdir()):
            pass
    said = interrupted(process)
    assert re.fullmatch(r"syncagent: interrupted; [^\n]+\n", said)
    assert shell("get", "notes/kept").ok().stdout == b"kept"
    assert shell("get", "notes/new").code == 1
    assert list(packs.iterdir()) == []


def test_ctrl_c_ends_a_sync_that_waits_and_the_next_one_does_all(shell: Shell) -> None:
    shell("put", "notes/x", "-", stdin=b"one").ok()
    with SyncLock(shell.profile / "sync.lock").held():
        process = shell.process("sync", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stderr is not None
        waits = process.stderr.readline().decode()
        assert "waiting for it to finish" in waits
        said = interrupted(process)
        assert re.fullmatch(r"syncagent: interrupted; [^\n]+\n", said)
    assert "sent 1 blob" in shell("sync").ok().out


class Deadline:
    """Fails a loop that waits for something which does not come."""

    def __enter__(self) -> None:
        signal.signal(signal.SIGALRM, self._fail)
        signal.alarm(30)

    def __exit__(self, *exc: object) -> None:
        signal.alarm(0)

    @staticmethod
    def _fail(*args: object) -> None:
        raise AssertionError("it did not come in 30 s")


@pytest.mark.parametrize("module", ["click", "syncagent.cli.output", "syncagent.errors", "anyio"])
def test_ctrl_c_while_the_command_is_being_loaded_is_an_interruption_like_any_other(
    module: str, shell: Shell
) -> None:
    script = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            raise KeyboardInterrupt\n"
        "sys.argv = ['syncagent', 'sync']\n"
        "from syncagent.cli.__main__ import main\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **shell.environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 130
    assert done.stderr.decode().strip().splitlines() == [
        "syncagent: interrupted; what was stored before is kept; run it again to go on"
    ]

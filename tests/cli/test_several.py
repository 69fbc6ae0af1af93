"""Several processes on one vault: puts and gets of two while a third syncs, and a sync that is killed."""

import os
import signal
import subprocess
import sys

import anyio
import pytest

import syncagent
from syncagent.cache.lock import SyncLock
from tests.cli.shell import PASSPHRASE, Shell

PUT_AND_GET = """
import sys, anyio, syncagent
async def main(path, passphrase, name):
    async with syncagent.open_vault(path, passphrase=passphrase) as vault:
        notes = vault.namespace("notes")
        for number in range(120):
            content = f"{name} {number} ".encode() * (40_000 if number % 40 == 0 else 10)
            await notes.put(f"{name}-{number:03}", content)
            await notes.put("shared", content, replace=True)
            assert (await notes.get(f"{name}-{number:03}")).data == content
            assert (await notes.get("shared")).size
        await notes.delete(f"{name}-005")
anyio.run(main, *sys.argv[1:])
"""
SYNC = """
import sys, anyio, syncagent
async def main(path, passphrase):
    async with syncagent.open_vault(path, passphrase=passphrase) as vault:
        print("open", flush=True)
        for _ in range(12):
            report = await vault.sync()
            assert not report.alarms and not report.failures, report
anyio.run(main, *sys.argv[1:])
"""


async def look(shell: Shell) -> dict[str, bytes]:
    async with syncagent.open_vault(shell.profile, passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("notes")
        return {blob.id: (await notes.get(blob.id)).data for blob in (await notes.list()).blobs}


def test_two_put_and_get_while_a_third_syncs(shell: Shell, other: Shell) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SYNC, str(shell.profile), PASSPHRASE], stdout=subprocess.PIPE
    ) as syncing:
        assert syncing.stdout is not None and syncing.stdout.readline() == b"open\n"
        putting = [
            subprocess.Popen([sys.executable, "-c", PUT_AND_GET, str(shell.profile), PASSPHRASE, name])
            for name in ("one", "two")
        ]
        assert [process.wait(120) for process in putting] == [0, 0]
        assert syncing.wait(120) == 0
    shell("sync").ok()
    found = anyio.run(look, shell)
    assert len(found) == 2 * 119 + 1
    for name in ("one", "two"):
        assert found[f"{name}-119"] == f"{name} 119 ".encode() * 10
    assert found["shared"] in (found["one-119"], found["two-119"])
    other("sync").ok()
    assert anyio.run(look, other) == found
    assert shell("status", "--json").ok().document["counts"]["synced"] == len(found)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_process_that_is_killed_while_it_syncs_does_not_block_the_next(shell: Shell) -> None:
    holder = (
        "import sys, time\nfrom pathlib import Path\nfrom syncagent.cache.lock import SyncLock\n"
        "with SyncLock(Path(sys.argv[1])).held():\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    lock = shell.profile / "sync.lock"
    with subprocess.Popen([sys.executable, "-c", holder, str(lock)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(syncagent.VaultInUse) as caught, SyncLock(lock).held():
            pass
        assert caught.value.pid == process.pid

        async def library() -> None:
            async with syncagent.open_vault(shell.profile, passphrase=PASSPHRASE) as vault:
                with pytest.raises(syncagent.VaultInUse) as inner:
                    await vault.sync()
                assert inner.value.pid == process.pid
                await vault.namespace("notes").put("x", b"puts go on")

        anyio.run(library)
        os.kill(process.pid, signal.SIGKILL)
    assert "sent 1 blob" in shell("sync").ok().out

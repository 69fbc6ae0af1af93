"""Several processes with one cache: nothing lost, nothing twice, one clock."""

import subprocess
import sys
from functools import partial

import anyio
import anyio.to_thread
import pytest

import syncagent
from syncagent.cache.db import Database
from syncagent.engine.publish import fold
from syncagent.errors import SyncAgentError
from syncagent.model import SyncStatus

from .samples import PASSPHRASE, Home, content

pytestmark = pytest.mark.anyio

EACH = 150
PUT = """
import sys, anyio, syncagent
async def main(path, passphrase, name, count):
    async with syncagent.open_vault(path, passphrase=passphrase) as vault:
        notes = vault.namespace("notes")
        print("open", flush=True)
        sys.stdin.readline()
        for number in range(int(count)):
            await notes.put(f"{name}-{number:04}", f"{name} {number}".encode() * 50)
            await notes.put("shared", f"{name} {number}".encode(), replace=True)
            if number % 10 == 0:
                await vault.namespace(name).put("equal", b"equal")
anyio.run(main, *sys.argv[1:])
"""


class Writer:
    """Another process that puts as soon as it is told to."""

    def __init__(self, home: Home, name: str, count: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PUT, str(home.folder), PASSPHRASE, name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_open(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "open\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0


def clocks(db: Database) -> list[tuple[int, str]]:
    return [(row[0], row[1].hex()) for row in db.all("SELECT hlc, id FROM version ORDER BY no")]


async def test_two_processes_put_while_a_third_reads(home: Home) -> None:
    writers = [Writer(home, "one", EACH), Writer(home, "two", EACH)]
    for writer in writers:
        await anyio.to_thread.run_sync(writer.wait_until_open)
    seen: list[int] = []
    done = False

    async def read(vault: syncagent.Vault) -> None:
        notes = vault.namespace("notes")
        while not done:
            seen.append(await notes.count())
            page = await notes.list(limit=10_000)
            assert len(page.blobs) >= seen[-1]
            if page.blobs:
                got = await notes.get(page.blobs[-1].id)
                assert got.data.startswith((b"one", b"two"))

    async with home.vault() as vault:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(read, vault)
                for writer in writers:
                    writer.go()
                for writer in writers:
                    await anyio.to_thread.run_sync(writer.wait)
                done = True
        notes = vault.namespace("notes")
        assert seen == sorted(seen)
        assert await notes.count() == 2 * EACH + 1
        for name in ("one", "two"):
            for number in range(EACH):
                got = await notes.get(f"{name}-{number:04}")
                assert got.data == f"{name} {number}".encode() * 50
        assert (await vault.status()).counts[SyncStatus.PENDING_UPLOAD] == 2 * EACH + 3
        versions = await vault.parts()[0].cache.read(clocks)
        assert len(versions) == 2 * 2 * EACH + 2 == len({version for _, version in versions})
        hlcs = [hlc for hlc, _ in versions]
        assert hlcs == sorted(set(hlcs)), "each later than all before it, whoever wrote it"
        heads = await vault.parts()[0].cache.read(
            lambda db: db.scalar("SELECT count(*) FROM version WHERE status IS NOT NULL")
        )
        assert heads == 2 * EACH + 3 and (await vault.status()).conflicts == 0


async def test_reading_while_another_process_folds_finds_every_blob(home: Home) -> None:
    """A version that is read must not vanish between two statements of the same read."""
    writer = Writer(home, "one", 100)
    await anyio.to_thread.run_sync(writer.wait_until_open)
    async with home.vault() as first, home.vault() as second:
        notes = first.namespace("notes")
        await notes.put("shared", b"before")
        stop = False

        async def read() -> None:
            while not stop:
                assert (await notes.get("shared")).data

        async def drop() -> None:
            while not stop:
                await fold(second.parts()[0])

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(read)
                group.start_soon(drop)
                writer.go()
                await anyio.to_thread.run_sync(writer.wait)
                stop = True
        await fold(second.parts()[0])
        assert (await notes.get("shared")).data == b"one 99"
        versions = await first.parts()[0].cache.read(clocks)
        assert len(versions) == 100 + 2


async def test_one_process_syncs_while_another_puts(home: Home) -> None:
    writer = Writer(home, "one", 100)
    await anyio.to_thread.run_sync(writer.wait_until_open)
    async with home.vault() as vault:
        with anyio.fail_after(60):
            writer.go()
            while writer.process.poll() is None:
                await vault.sync()
            await anyio.to_thread.run_sync(writer.wait)
        await vault.sync()
        status = await vault.status()
        assert status.counts[SyncStatus.SYNCED] == 102 == sum(status.counts.values())
    other = home.folder.parent / "other"
    await syncagent.join_vault(other, remote=home.remote.as_uri(), passphrase=PASSPHRASE)
    async with Home(other, home.remote, home.root, "").vault() as vault:
        await vault.sync()
        notes = vault.namespace("notes")
        assert await notes.count() == 101 and (await notes.get("shared")).data == b"one 99"
        assert (await vault.status()).conflicts == 0


async def test_two_vaults_in_one_process_share_a_cache(home: Home) -> None:
    async with home.vault() as first, home.vault() as second:
        await first.namespace("notes").put("a", content(1, 400_000))
        assert (await second.namespace("notes").get("a")).data == content(1, 400_000)
        await second.namespace("notes").put("a", b"new", replace=True)
        assert (await first.namespace("notes").get("a")).data == b"new"
        results: list[object] = []

        async def put(vault: syncagent.Vault, data: bytes) -> None:
            try:
                results.append(await vault.namespace("notes").put("b", data))
            except SyncAgentError as exc:
                results.append(exc)

        async with anyio.create_task_group() as group:
            group.start_soon(partial(put, first, b"one"))
            group.start_soon(partial(put, second, b"two"))
        assert sorted(type(result).__name__ for result in results) == ["BlobExists", "Version"]

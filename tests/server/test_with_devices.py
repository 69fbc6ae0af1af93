"""Vaults of real devices at the server: a quota that is full, and a server that is killed again and again."""

import contextlib
import os
from functools import partial
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread
import pytest

import syncagent
from syncagent.server.embedded import EmbeddedServer
from syncagent.vault import Vault, open_vault
from tests.cli.shell import PASSPHRASE, Shell
from tests.server.running import RunningServer, accounts_of, add_user, running_server


def test_a_full_quota_says_how_much_and_the_next_sync_goes_on_once_there_is_room(tmp_path: Path) -> None:
    data, shell = tmp_path / "data", Shell(tmp_path / "home")
    letter, film = tmp_path / "letter", tmp_path / "film"
    letter.write_bytes(b"dear Bob")
    film.write_bytes(Random(1).randbytes(2_000_000))
    with EmbeddedServer(data) as server:
        shell.profile.parent.mkdir(parents=True)
        create = partial(
            syncagent.create_vault,
            shell.profile,
            remote=f"{server.url}/family",
            token=server.add_user("alice", quota_bytes=1_000_000),
            passphrase=PASSPHRASE,
            kdf=syncagent.FLOOR_KDF,
        )
        anyio.run(create)
        shell("put", "films/one", str(film)).ok()
        shell("put", "notes/letter", str(letter)).ok()
        for _ in range(2):
            said = shell("sync").failed(5)
            assert "the vault family cannot take 2," in said and "of 1,000,000 bytes" in said
            assert "everything put on this device is kept and stays pending" in said
        assert shell("ls", "films").ok().out.startswith("pending_upload")
        with accounts_of(data) as accounts:
            accounts.set_quota("alice", 10_000_000)
        assert shell("sync").ok().out.startswith("sent ")
        assert shell("ls", "films").ok().out.startswith("synced")
        assert shell("ls", "notes").ok().out.startswith("synced")
        assert shell("sync").ok().out == "nothing to do\n"


def test_devices_with_append_only_tokens_sync_and_change_the_passphrase(tmp_path: Path) -> None:
    data, first, second = tmp_path / "data", Shell(tmp_path / "first"), Shell(tmp_path / "second")
    with EmbeddedServer(data) as server:
        url, token = f"{server.url}/default", server.add_user("alice", is_append_only=True)
        for shell in (first, second):
            shell.profile.parent.mkdir(parents=True)
        create = partial(
            syncagent.create_vault,
            first.profile,
            remote=url,
            token=token,
            passphrase=PASSPHRASE,
            kdf=syncagent.FLOOR_KDF,
        )
        anyio.run(create)
        anyio.run(
            partial(syncagent.join_vault, second.profile, remote=url, token=token, passphrase=PASSPHRASE)
        )
        first("put", "notes/a", "-", stdin=b"of the first").ok()
        second("put", "notes/b", "-", stdin=b"of the second").ok()
        for shell in (first, second, first):
            shell("sync").ok()
        second("rm", "notes/a").ok()
        second("sync").ok()
        first("sync").ok()
        assert first("ls", "notes").ok().out.split()[-1] == "b"
        new = {"SYNCAGENT_NEW_PASSPHRASE": "another horse"}
        first("key", "passphrase", environment=new).ok()
        assert first("sync", environment={"SYNCAGENT_PASSPHRASE": "another horse"}).code == 0


@pytest.mark.slow
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_killed_while_two_devices_upload_needs_no_repair(tmp_path: Path) -> None:
    data = tmp_path / "data"
    token = add_user(data)
    folders = [tmp_path / "laptop", tmp_path / "desktop"]
    contents = {f"{number}": Random(number).randbytes(400_000) for number in range(24)}
    port = 0
    with running_server(data) as server:
        port = int(server.url.rpartition(":")[2])
        url = f"{server.url}/default"
        await syncagent.create_vault(
            folders[0], remote=url, token=token, passphrase=PASSPHRASE, kdf=syncagent.FLOOR_KDF
        )
        await syncagent.join_vault(folders[1], remote=url, token=token, passphrase=PASSPHRASE)
    async with (
        open_vault(folders[0], passphrase=PASSPHRASE) as first,
        open_vault(folders[1], passphrase=PASSPHRASE) as second,
    ):
        for number, (blob_id, content) in enumerate(contents.items()):
            vault = (first, second)[number % 2]
            await vault.namespace("films").put(blob_id, content)
            await vault.namespace("notes").put(blob_id, content[:100])
        for killed_after in range(1, 12, 2):
            with running_server(data, port=port) as server:
                await _sync_until_killed((first, second), server, killed_after)
        with running_server(data, port=port) as server:
            for vault in (first, second, first, second):
                report = await vault.sync()
                assert report.failed == 0 and report.alarms == ()
            for vault in (first, second):
                for namespace, size in (("films", None), ("notes", 100)):
                    for blob_id, content in contents.items():
                        blob = await vault.namespace(namespace).get(blob_id)
                        assert blob.data == content[:size]
                assert (await vault.sync()).sent == 0


async def _sync_until_killed(vaults: tuple[Vault, ...], server: RunningServer, puts: int) -> None:
    """Both sync; when so many new objects are in the folder, or both are done, the server is killed."""
    ended = 0

    async def sync(vault: Vault) -> None:
        nonlocal ended
        with contextlib.suppress(syncagent.RemoteError):
            await vault.sync()
        ended += 1

    def objects() -> int:
        found = os.walk(server.data / "vaults")
        return sum(len(files) for folder, _, files in found if not folder.endswith(".tmp"))

    before = objects()
    async with anyio.create_task_group() as tasks:
        for vault in vaults:
            tasks.start_soon(sync, vault)
        while ended < len(vaults) and await anyio.to_thread.run_sync(objects) < before + puts:
            pass
        await anyio.to_thread.run_sync(server.kill)

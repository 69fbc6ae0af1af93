"""An open vault: opening and closing, one sync at a time, status, and progress."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent.cache.lock import SyncLock
from syncagent.errors import (
    CacheDamaged,
    ConfigError,
    InvalidName,
    Unreachable,
    VaultInUse,
    VaultNotFound,
    WrongPassphrase,
)
from syncagent.model import SyncStatus
from syncagent.remote.base import Body
from syncagent.remote.memory import MemoryRemote, MemoryStore, named_store
from syncagent.reports import Progress, SyncReport
from syncagent.vault import Vault, open_vault

pytestmark = pytest.mark.anyio

PASSPHRASE = "correct horse"
NOON = 2_000_000_000.0


class Place:
    """A vault `a` and the store it syncs over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a"
        self.url = f"memory:vault-{folder.name}"
        self.store: MemoryStore = named_store(self.url.partition(":")[2])
        self.now = NOON

    def open(self, remote: MemoryRemote | None = None) -> Vault:
        return open_vault(
            self.folder,
            passphrase=PASSPHRASE,
            remote=MemoryRemote(self.store) if remote is None else remote,
            now=lambda: self.now,
            random=lambda: 0.5,
        )


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    await syncagent.create_vault(
        place.folder,
        remote=place.url,
        passphrase=PASSPHRASE,
        device_name="laptop",
        kdf=syncagent.FLOOR_KDF,
    )
    return place


class Slow(MemoryRemote):
    """A remote whose puts wait until they may go on."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.entered = anyio.Event()
        self.go_on = anyio.Event()
        self.closed = 0

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        self.entered.set()
        await self.go_on.wait()
        await super().put(name, body, overwrite=overwrite)

    async def aclose(self) -> None:
        self.closed += 1


# Opening -------------------------------------------------------------------------------------------


async def test_nothing_at_the_path_says_so(tmp_path: Path) -> None:
    with pytest.raises(VaultNotFound):
        async with open_vault(tmp_path / "nothing", passphrase="x"):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "credentials", [{}, {"passphrase": PASSPHRASE, "recovery_code": "x"}], ids=["neither", "both"]
)
async def test_either_a_passphrase_or_a_code_opens(place: Place, credentials: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        open_vault(place.folder, **credentials)  # type: ignore[arg-type]  # a table of keywords


async def test_a_wrong_passphrase_changes_nothing(place: Place) -> None:
    with pytest.raises(WrongPassphrase):
        async with open_vault(place.folder, passphrase="wrong"):
            pass
    async with place.open() as vault:
        assert len(vault.id) == len(vault.device_id) == 32


@pytest.mark.parametrize("lost", ["cache.salt", "cache.db"])
async def test_a_profile_with_a_part_missing_is_damaged_and_is_not_made_anew(place: Place, lost: str) -> None:
    (place.folder / lost).unlink()
    before = sorted(path.name for path in place.folder.iterdir())
    with pytest.raises(CacheDamaged):
        async with place.open():
            pass
    assert sorted(path.name for path in place.folder.iterdir()) == before


async def test_a_vault_is_used_inside_its_block_only(place: Place) -> None:
    vault = place.open()
    for use in (lambda: vault.id, lambda: vault.namespace("notes")):
        with pytest.raises(ConfigError):
            use()
    async with vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"x")
        with pytest.raises(ConfigError):
            async with vault:
                pass
        assert (await notes.get("x")).data == b"x"
    with pytest.raises(ConfigError):
        await vault.sync()
    async with vault:  # and may be opened again
        assert (await vault.namespace("notes").get("x")).data == b"x"


async def test_a_namespace_name_is_checked_before_anything_is_done(place: Place) -> None:
    async with place.open() as vault:
        for name in ("", "Notes", ".settings", "a/b", "n" * 65):
            with pytest.raises(InvalidName):
                vault.namespace(name)
            with pytest.raises(InvalidName):
                await vault.send_missing(name)
            with pytest.raises(InvalidName):
                await vault.fetch_missing(name)
        assert await vault.namespaces() == ()


async def test_the_remote_is_closed_with_the_vault_and_not_opened_without_need(place: Place) -> None:
    remote = Slow(place.store)
    async with place.open(remote):
        pass
    assert remote.closed == 0, "it was never used"
    remote.go_on.set()
    async with place.open(remote) as vault:
        await vault.sync()
    assert remote.closed == 1


async def test_cancelled_in_the_middle_of_a_sync_the_vault_closes_and_opens_again(place: Place) -> None:
    remote = Slow(place.store)
    with anyio.CancelScope() as scope:
        async with place.open(remote) as vault, anyio.create_task_group() as group:
            await vault.namespace("notes").put("x", b"x")
            group.start_soon(vault.sync)
            await remote.entered.wait()
            scope.cancel()
    assert scope.cancelled_caught
    assert remote.closed == 1
    async with place.open() as vault:
        assert (await vault.sync()).sent == 1


# One sync at a time ----------------------------------------------------------------------------------


async def test_a_second_sync_beside_the_first_is_refused_and_puts_go_on(place: Place) -> None:
    remote = Slow(place.store)
    async with place.open(remote) as vault, place.open() as other:
        await vault.namespace("notes").put("x", b"x")
        async with anyio.create_task_group() as group:
            group.start_soon(vault.sync)
            await remote.entered.wait()
            for sync in (other.sync, other.send_missing, other.fetch_missing):
                with pytest.raises(VaultInUse) as caught:
                    await sync()
                assert caught.value.pid > 0
            await other.namespace("notes").put("y", b"y")
            assert (await vault.namespace("notes").get("y")).data == b"y"
            status = await other.status()
            assert status.reasons == (), "being busy is no failure"
            remote.go_on.set()
        await other.sync()
        assert (await other.status()).counts[SyncStatus.SYNCED] == 2


async def test_syncs_of_one_vault_come_one_after_another(place: Place) -> None:
    """Be they asked for by several tasks, or beside the background's: nobody is told of its own process."""
    remote = Slow(place.store)
    async with place.open(remote) as vault:
        await vault.namespace("notes").put("x", b"x")
        sent: list[int] = []

        async def run(sync: Callable[[], Awaitable[SyncReport]]) -> None:
            sent.append((await sync()).sent)

        async with anyio.create_task_group() as group:
            group.start_soon(run, vault.sync)
            await remote.entered.wait()
            await vault.namespace("notes").put("y", b"y")
            for sync in (vault.sync, vault.send_missing, vault.fetch_missing):
                group.start_soon(run, sync)
            group.start_soon(vault.barrier)
            with anyio.move_on_after(0) as scope:  # who does not want to wait any more is in nobody's way
                await vault.sync()
            assert scope.cancelled_caught and sent == []
            remote.go_on.set()
        assert len(sent) == 4 and sum(sent) <= 2
        assert (await vault.status()).counts[SyncStatus.SYNCED] == 2


# Status --------------------------------------------------------------------------------------------


async def test_status_counts_what_is_where_without_the_remote(place: Place) -> None:
    async with place.open() as vault:
        notes, mail = vault.namespace("notes"), vault.namespace("mail")
        status = await vault.status()
        assert (status.device_name, status.remote) == ("laptop", place.url)
        assert status.vault_id == vault.id and status.device_id == vault.device_id
        assert sum(status.counts.values()) == 0 and status.namespaces == {}
        await notes.put("a", b"a")
        await notes.put("b", b"b")
        await mail.put("c", b"c")
        status = await vault.status()
        assert status.counts[SyncStatus.PENDING_UPLOAD] == 3
        assert {name: each.blobs for name, each in status.namespaces.items()} == {"notes": 2, "mail": 1}
        await vault.sync()
        await notes.delete("a")
        status = await vault.status()
        assert status.counts[SyncStatus.SYNCED] == 2
        assert status.counts[SyncStatus.PENDING_UPLOAD] == 0
        assert status.pending_changes == status.namespaces["notes"].pending_changes == 1
        assert [one.name for one in await vault.namespaces()] == ["mail", "notes"]
        await vault.sync()
        assert (await vault.status()).pending_changes == 0


async def test_the_last_sync_is_the_last_one_that_ended_well(place: Place) -> None:
    class Broken(MemoryRemote):
        async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
            raise Unreachable("no connection")

    async with place.open() as vault:
        await vault.sync()
        before = SyncLock(place.folder / "sync.lock").last_sync()
        assert before is not None
    async with place.open(Broken(place.store)) as vault:
        with pytest.raises(Unreachable):
            await vault.sync()
        assert SyncLock(place.folder / "sync.lock").last_sync() == before
        status = await vault.status()
        assert status.last_sync is not None and status.last_sync.timestamp() == pytest.approx(before)


# Progress ------------------------------------------------------------------------------------------


async def test_progress_ends_with_everything_done(place: Place) -> None:
    told: list[Progress] = []
    async with place.open() as vault:
        for number in range(5):
            await vault.namespace("notes").put(f"n{number}", bytes([number]) * (300 << 10))
        await vault.sync(progress=told.append)
        report = await vault.sync(progress=told.append)
        assert (report.sent, report.failed) == (0, 0)
    sends = [progress for progress in told if progress.phase == "send" and progress.total]
    assert (sends[-1].done, sends[-1].total) == (5, 5)
    assert sends[-1].done_bytes == sends[-1].total_bytes > 0
    assert [progress.done for progress in sends] == sorted(progress.done for progress in sends)
    assert {progress.phase for progress in told} == {"send", "fetch"}

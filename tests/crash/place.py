"""One folder with all of a small world on disk: devices `a` and `b` of a vault, and its remote.

Everything lies in files, so that a copy of the folder is the state of the world at
a moment. Opening a device is a new start of its process as far as the disk goes.
"""

import hashlib
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import syncagent
from syncagent import names
from syncagent.cache import meta
from syncagent.cache.db import Database
from syncagent.cache.profile import Credential, Profile, open_database, open_slots, read_slots
from syncagent.cache.sweep import GRACE_S
from syncagent.crypto.keys import RootSecret, VaultKeys
from syncagent.engine.gate import TRANSFERS
from syncagent.journal.changes import Batch, VersionChange
from syncagent.model import SyncStatus
from syncagent.remote.base import Remote
from syncagent.remote.directory import TEMPORARY_FOLDER, DirectoryRemote
from syncagent.vault import Vault
from tests.engine.world import PASSPHRASE, opened

QUIET_AFTER = 6
"""Rounds of syncs after which devices that have nothing new must have come to rest."""
PACKS_OF_A_PUT = 4
"""Pack files under way at once in one vault, which a kill may leave behind."""


def content(number: int, size: int) -> bytes:
    """Bytes that do not compress, the same for the same number."""
    return random.Random(number).randbytes(size)


@dataclass(frozen=True)
class Place:
    """The paths below one folder.

    What was under way at one of `kills` may be left over; after a power cut, files that were removed
    may be there again.
    """

    folder: Path
    kills: int = 1
    is_after_power_cut: bool = False

    @property
    def store(self) -> Path:
        """The remote's folder."""
        return self.folder / "remote"

    def remote(self) -> DirectoryRemote:
        """The remote, as a device opens it."""
        return DirectoryRemote(self.store)

    def profile(self, name: str) -> Profile:
        """A device's profile."""
        return Profile(self.folder / name)

    def root(self) -> RootSecret:
        """The vault's root secret, kept beside the devices so that no test derives a key to open one."""
        return RootSecret((self.folder / "root").read_bytes())

    def open(self, name: str, remote: Remote | None = None) -> Vault:
        """One of the devices, for `async with`."""
        profile = self.profile(name)
        return Vault(
            profile,
            partial(open_database, profile, self.root()),
            remote=self.remote() if remote is None else remote,
            random=lambda: 0.5,
        )

    async def sync(self, name: str) -> syncagent.SyncReport:
        """Sync one device."""
        async with self.open(name) as vault:
            return await vault.sync()

    async def contents(self, name: str, but: Collection[str] = ()) -> dict[str, bytes]:
        """Every live blob of `notes`, but these, as a device has it without the remote's help."""
        async with self.open(name, _Nowhere()) as vault:
            return await contents(vault, but)

    def clone(self, name: str, copy: str) -> None:
        """Copy a device's folder, as a backup does."""
        shutil.copytree(self.folder / name, self.folder / copy)


class _Nowhere(DirectoryRemote):
    """A remote that is not there: what a device has, it has without it."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere/at/all"))


async def make_place(place: Place) -> None:
    """A vault of two devices that have exchanged everything."""
    place.folder.mkdir(parents=True, exist_ok=True)
    url = place.store.as_uri()
    await syncagent.create_vault(
        place.folder / "a", remote=url, passphrase=PASSPHRASE, device_name="a", kdf=syncagent.FLOOR_KDF
    )
    await syncagent.join_vault(place.folder / "b", remote=url, passphrase=PASSPHRASE, device_name="b")
    keep_root(place, "a")
    await settle(place, "a", "b")


def keep_root(place: Place, name: str, passphrase: str = PASSPHRASE) -> None:
    """Learn the root secret from a device's key slots."""
    credential = Credential.of(passphrase=passphrase, recovery_code=None)
    secret = open_slots(read_slots(place.profile(name)), credential).root
    (place.folder / "root").write_bytes(secret.reveal())


async def contents(vault: Vault, but: Collection[str] = ()) -> dict[str, bytes]:
    """Every live blob of `notes` but these."""
    notes = vault.namespace("notes")
    page = await notes.list()
    assert not page.next
    assert not [blob.id for blob in page.blobs if blob.conflict], "a conflict that nobody made"
    return {blob.id: (await notes.get(blob.id)).data for blob in page.blobs if blob.id not in but}


async def settle(place: Place, *devices: str) -> list[str]:
    """Sync until nothing moves any more, which must come soon; the alarms on the way."""
    alarms: list[str] = []
    before = None
    for _ in range(QUIET_AFTER):
        reports = [await place.sync(device) for device in devices]
        alarms += [f"{alarm.kind}: {alarm.message}" for report in reports for alarm in report.alarms]
        assert not [report.failed for report in reports if report.failed]
        objects = stored(place)
        if objects == before and not any(report.sent or report.fetched for report in reports):
            return alarms
        before = objects
    raise AssertionError("the devices do not come to rest")


def stored(place: Place) -> dict[str, bytes]:
    """Digests of all objects at the remote, by name."""
    return {
        path.relative_to(place.store).as_posix(): hashlib.sha256(path.read_bytes()).digest()
        for path in sorted(place.store.rglob("*"))
        if path.is_file() and path.parent.name != TEMPORARY_FOLDER
    }


# What must hold at the end ----------------------------------------------------------------------------


async def check_nothing_doubled(place: Place, *devices: str) -> None:
    """At rest: nothing is published twice, no key used twice, and little is left over, for a day at most."""
    keys = VaultKeys(place.root())
    batches = _batches(place, keys)
    versions = Counter(
        change.version.id
        for batch in batches.values()
        for change in batch.changes
        if isinstance(change, VersionChange)
    )
    assert set(versions.values()) <= {1}, "a version was published twice"
    records = {record.id: record for batch in batches.values() for record in batch.packs}
    chunks = Counter(chunk.id for record in records.values() for chunk in record.chunks)
    assert set(chunks.values()) <= {1}, "content was published in two packs"
    unnamed = set((place.store / "packs").glob("*")) - {
        place.store / "packs" / pack_id.hex() for pack_id in records
    }
    assert len(unnamed) <= TRANSFERS * place.kills, "more packs that no batch names than were under way"
    await _check_temporary(place)
    _check_salts(place, *devices)
    for device in devices:
        await _check_rows(place, device)


async def _check_temporary(place: Place) -> None:
    left = list((place.store / TEMPORARY_FOLDER).glob("*"))
    assert len(left) <= TRANSFERS * place.kills or place.is_after_power_cut, (
        "more temporary files than were under way"
    )
    for path in left:
        make_old(path)
    remote, name = place.remote(), names.KEYS + "f" * 32
    await remote.put(name, b"the first put of a process sweeps")
    await remote.delete(name)
    assert not list((place.store / TEMPORARY_FOLDER).glob("*")), "what is left over stays"


def _batches(place: Place, keys: VaultKeys) -> dict[str, Batch]:
    """Every batch at the remote, opened; journals have no gaps."""
    found: dict[str, Batch] = {}
    for folder in (place.store / "journal").iterdir():
        numbers = sorted(int(path.name) for path in folder.iterdir())
        assert numbers == list(range(1, len(numbers) + 1)), "a journal with a gap"
        for path in folder.iterdir():
            name = path.relative_to(place.store).as_posix()
            found[name] = opened(keys, name, path.read_bytes())
    return found


def _check_salts(place: Place, *devices: str) -> None:
    """No two packs, wherever they lie, were sealed under one salt."""
    salts: dict[bytes, set[str]] = {}
    for folder in (place.store, *(place.folder / device for device in devices)):
        for path in (folder / "packs").glob("*"):
            if len(path.name) == 64:
                with path.open("rb") as file:
                    salts.setdefault(file.read(40)[8:], set()).add(path.name)
    assert all(len(packs) == 1 for packs in salts.values()), "a pack salt was used twice"


async def _check_rows(place: Place, device: str) -> None:
    """Nothing waits; files that no row names are few, and gone after a day."""
    packs = place.profile(device).packs

    def unnamed(db: Database) -> set[str]:
        named = {row[0].hex() for row in db.all("SELECT id FROM pack WHERE has_file")}
        there = {path.name for path in packs.iterdir()}
        assert named <= there, "a row names a pack file that is not there"
        return there - named

    async with place.open(device) as vault:
        cache = vault.parts()[0].cache
        for table in ("upload", "download", "hole", "own_batch WHERE NOT confirmed"):
            assert await cache.read(lambda db, table=table: db.all(f"SELECT * FROM {table}")) == []  # type: ignore[misc]
        status = await vault.status()
        assert {kind for kind, count in status.counts.items() if count} <= {SyncStatus.SYNCED}
        left = await cache.read(unnamed)
        assert len(left) <= PACKS_OF_A_PUT * place.kills, "more files left over than were under way"
        for path in packs.iterdir():
            make_old(path)
        await forget_sweep(vault)
        await vault.sync()
        assert await cache.read(unnamed) == set(), "what is left over stays"


async def forget_sweep(vault: Vault) -> None:
    """Let the next sync sweep."""
    await vault.parts()[0].cache.write(lambda db: meta.put(db, meta.SWEPT_AT, None))


def make_old(path: Path) -> None:
    """Let a file be older than what is under way can be."""
    # By a copy: the file may be a link to one that other images of the disk share.
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    then = time.time() - GRACE_S - 3600
    os.utime(copy, (then, then))
    copy.replace(path)


def device_objects(place: Place) -> list[str]:
    """The devices that the remote knows."""
    return sorted(path.name for path in (place.store / names.DEVICES).iterdir())

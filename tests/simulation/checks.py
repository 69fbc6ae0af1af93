"""What must hold once every device has exchanged everything."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from syncagent.cache import blobs
from syncagent.cache.db import Database
from syncagent.cache.profile import Profile
from syncagent.errors import BlobNotFound
from syncagent.journal.batch import VersionChange
from syncagent.model import SyncStatus, Version
from syncagent.vault import Vault
from tests.simulation.sim import MARKER, NAMESPACE, Simulation


@dataclass(frozen=True)
class Known:
    """A version as a device knows it."""

    version: Version
    device: bytes
    status: int | None


@dataclass(frozen=True)
class Shown:
    """All that one device holds of the vault, in a form in which two devices can be compared."""

    versions: dict[bytes, Known]
    winners: dict[str, bytes]
    conflicts: frozenset[str]
    flags: frozenset[tuple[str, str]]
    counts: dict[SyncStatus, int]
    data: dict[str, bytes]


async def check_all(simulation: Simulation) -> None:
    """Every promise, after `heal`."""
    shown = [await _shown(simulation, device.vault) for device in simulation.devices if device.vault]
    assert len(shown) == len(simulation.devices)
    first = shown[0]
    for device, other in zip(simulation.devices, shown, strict=True):
        for part in ("versions", "winners", "conflicts", "flags", "counts", "data"):
            assert getattr(other, part) == getattr(first, part), f"{part} of {device.name} differ"
    _check_model(simulation, first)
    await _check_quiet(simulation)
    await _check_packs(simulation)
    _check_batches(simulation)
    _check_secret(simulation)


def _check_model(simulation: Simulation, shown: Shown) -> None:
    model = simulation.model
    present = {
        id: frozenset(parent.version for parent in known.version.parents)
        for id, known in shown.versions.items()
    }
    assert model.lost(present) == [], "an acknowledged put is lost"
    heads = {id for id, known in shown.versions.items() if known.status is not None}
    assert heads == model.heads(present), "other heads than the versions say"
    for id, known in shown.versions.items():
        if id in model.versions:
            assert known.version.deleted == model.versions[id].deleted
            assert known.version.hlc == model.versions[id].hlc
    for blob_id in {known.version.blob_id for known in shown.versions.values()}:
        own = [
            known for id, known in shown.versions.items() if id in heads and known.version.blob_id == blob_id
        ]
        best = max(own, key=lambda k: (not k.version.deleted, k.version.hlc, k.device, k.version.id))
        assert shown.winners[blob_id] == best.version.id, "another version wins"
        live = {known.version.content_digest for known in own if not known.version.deleted}
        assert (blob_id in shown.conflicts) == (len(live) > 1)
        assert {known.status for known in own} == {SyncStatus.SYNCED}
        if best.version.deleted:
            assert blob_id not in shown.data
            continue
        assert shown.data[blob_id] in model.attempted[blob_id]
        data = model.versions[best.version.id].data
        assert data is None or shown.data[blob_id] == data
    if model.are_flags_sure:
        assert shown.flags == model.flags()
    groups: dict[bytes, set[bytes]] = {}
    for id, version in model.versions.items():
        if version.group is not None:
            groups.setdefault(version.group, set()).add(id)
    for members in groups.values():
        assert members <= set(present) or not members & set(present), "half a transaction"


async def _check_quiet(simulation: Simulation) -> None:
    """Nothing waits, and a further sync writes nothing here or there."""
    for device in simulation.devices:
        vault = device.vault
        assert vault is not None
        assert await _rows(vault, "SELECT no FROM upload") == []
        assert await _rows(vault, "SELECT version_no FROM download") == []
        assert await _rows(vault, "SELECT blob_no FROM hole") == []
        assert await _rows(vault, "SELECT seq FROM own_batch WHERE NOT confirmed") == []
        before, objects = _files(device.folder), dict(simulation.store.objects)
        report = await vault.sync()
        assert not (report.sent or report.fetched or report.failed or report.alarms), report
        assert simulation.store.objects == objects, "a sync with nothing new wrote to the remote"
        assert _files(device.folder) == before, "a sync with nothing new wrote to the cache"


async def _check_packs(simulation: Simulation) -> None:
    """No two packs have a key in common."""
    for device in simulation.devices:
        assert device.vault is not None
        salts = await _rows(device.vault, "SELECT salt FROM pack")
        assert len(set(salts)) == len(salts), "a pack salt was used twice"


def _check_batches(simulation: Simulation) -> None:
    """Nothing was published twice, but to heal what was put back."""
    counts = Counter(
        change.version.id
        for batch in simulation.batches()
        for change in batch.changes
        if isinstance(change, VersionChange)
    )
    if simulation.is_honest:
        assert set(counts.values()) <= {1}, "a version was published twice"


def _check_secret(simulation: Simulation) -> None:
    """No content and no name anywhere in the clear."""
    for name, stored in simulation.store.objects.items():
        assert MARKER not in stored.data, f"plaintext in {name}"
        assert MARKER.decode() not in name
    for device in simulation.devices:
        for path, data in _files(device.folder).items():
            assert MARKER not in data, f"plaintext in {path}"


async def _shown(simulation: Simulation, vault: Vault) -> Shown:
    def query(db: Database) -> Shown:
        versions: dict[bytes, Known] = {}
        for number, id, device, status in db.all(
            "SELECT version.no, version.id, device.id, status FROM version"
            " JOIN device ON device.no = device_no"
        ):
            version = blobs.load_version(db, number)
            parents = tuple(sorted(version.parents, key=lambda parent: parent.version))
            versions[id] = Known(msgspec.structs.replace(version, parents=parents), device, status)
        winners = db.all("SELECT blob.id, version.id FROM blob JOIN version ON version.no = winner_no")
        conflicts = db.all("SELECT id FROM blob WHERE conflict")
        flags = db.all(
            "SELECT DISTINCT blob.id, flag FROM flag_tag JOIN blob ON blob.no = blob_no WHERE NOT EXISTS"
            " (SELECT 1 FROM flag_removed WHERE flag_removed.blob_no = flag_tag.blob_no"
            "  AND flag_removed.tag = flag_tag.tag)"
        )
        return Shown(
            versions,
            {row[0]: row[1] for row in winners},
            frozenset(row[0] for row in conflicts),
            frozenset((row[0], row[1]) for row in flags),
            counts,
            data,
        )

    results = await vault.namespace(NAMESPACE).get_many(sorted(simulation.model.attempted))
    assert {type(result.error) for result in results} <= {type(None), BlobNotFound}
    data = {result.id: result.blob.data for result in results if result.blob is not None}
    counts = dict((await vault.status()).counts)
    return await vault.parts()[0].cache.read(query)


async def _rows(vault: Vault, sql: str) -> list[tuple[object, ...]]:
    def query(db: Database) -> list[tuple[object, ...]]:
        return db.all(sql)

    return await vault.parts()[0].cache.read(query)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != Profile(folder).lock.name and not path.name.endswith("-shm")
    }

"""What must hold once every device has exchanged everything."""

import dataclasses
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from syncagent.cache import blobs
from syncagent.cache.db import Database
from syncagent.cache.profile import Profile
from syncagent.errors import BlobNotFound
from syncagent.journal.changes import ExpiresChange, FlagsChange, VersionChange
from syncagent.model import NamespaceSettings, SyncStatus, Version
from syncagent.names import SETTINGS
from syncagent.vault import Vault
from tests.simulation.holding import settings_of
from tests.simulation.model import Content, Model, Name
from tests.simulation.rows import check_rows
from tests.simulation.sim import MARKER, MINE, Device, Simulation


@dataclass(frozen=True)
class Known:
    """A version as a device knows it. `packed` has all its fields, for versions are compared by id alone."""

    version: Version
    packed: bytes
    device: bytes
    status: int | None

    @property
    def name(self) -> Name:
        """The blob's."""
        return Name(self.version.namespace, self.version.blob_id)


@dataclass(frozen=True)
class Shown:
    """All that one device holds of the vault, in a form in which two devices can be compared."""

    versions: dict[bytes, Known]
    winners: dict[Name, bytes]
    conflicts: frozenset[Name]
    flags: frozenset[tuple[Name, str]]
    dates: dict[Name, int]
    tags: frozenset[tuple[bytes, bytes]]
    counts: dict[SyncStatus, int]
    contents: dict[Name, Content]
    settings: dict[str, NamespaceSettings]


async def check_all(simulation: Simulation) -> None:
    """Every promise, after `heal`."""
    shown = [await _shown(simulation, device) for device in simulation.devices]
    first = shown[0]
    for device, other in zip(simulation.devices, shown, strict=True):
        for part in (field.name for field in dataclasses.fields(Shown)):
            assert getattr(other, part) == getattr(first, part), f"{part} of {device.name} differ"
        assert device.vault is not None
        await device.index.follow(device.vault)
    _check_model(simulation.model, first)
    await _check_quiet(simulation)
    await _check_packs(simulation)
    _check_batches(simulation)
    _check_secret(simulation)


def _check_model(model: Model, shown: Shown) -> None:
    present = {
        id: frozenset(parent.version for parent in known.version.parents)
        for id, known in shown.versions.items()
    }
    assert model.lost(present) == [], "an acknowledged put is lost"
    assert model.tagged <= set(present), "a version with a tag was folded away"
    heads = {id for id, known in shown.versions.items() if known.status is not None}
    assert heads == model.heads(present), "other heads than the versions say"
    for id, known in shown.versions.items():
        if id in model.versions:
            expected = model.versions[id]
            assert known.name == expected.name
            assert known.version.hlc == expected.hlc
            said = None if known.version.deleted else Content.said_by(known.version)
            assert said == expected.content, "a version with other content than was put"
    for name in {known.name for known in shown.versions.values()}:
        own = [known for id, known in shown.versions.items() if id in heads and known.name == name]
        best = max(own, key=lambda k: (not k.version.deleted, k.version.hlc, k.device, k.version.id))
        assert shown.winners[name] == best.version.id, "another version wins"
        live = {Content.said_by(known.version).compared for known in own if not known.version.deleted}
        assert (name in shown.conflicts) == (len(live) > 1)
        assert {known.status for known in own} == {SyncStatus.SYNCED}
        if best.version.deleted:
            assert name not in shown.contents
            continue
        assert shown.contents[name] in model.attempted[name]
        assert shown.contents[name] == Content.said_by(best.version)
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
        await vault.parts()[0].cache.read(partial(check_rows, now=simulation.now, is_synced=True))
        for table in ("upload", "download", "hole", "own_batch WHERE NOT confirmed"):
            assert await _rows(vault, f"SELECT * FROM {table}") == []
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
    """Nothing was published twice, but to heal what was put back; what was to stay on a device never was."""
    counts: Counter[bytes] = Counter()
    for batch in simulation.batches():
        for change in batch.changes:
            if isinstance(change, VersionChange):
                counts[change.version.id] += 1
                assert change.version.blob_id != MINE.id, "what was to stay on its device was published"
            elif isinstance(change, FlagsChange | ExpiresChange):
                assert change.blob_id != MINE.id, "what is said of a blob that stays here was published"
    if simulation.is_honest:
        assert set(counts.values()) <= {1}, "a version was published twice"


def _check_secret(simulation: Simulation) -> None:
    """No content and no name anywhere in the clear."""
    for name, stored in simulation.store.objects.items():
        _check_sealed(stored.data, name)
        _check_sealed(name.encode(), "a name")
    for device in simulation.devices:
        for path, data in _files(device.folder).items():
            _check_sealed(data, path)


def _check_sealed(data: bytes, where: str) -> None:
    assert MARKER not in data and MARKER.lower() not in data, f"plaintext in {where}"


async def _shown(simulation: Simulation, device: Device) -> Shown:
    """What a device shows of all blobs but the one that stays on it, which is checked here."""

    def query(db: Database) -> Shown:
        versions: dict[bytes, Known] = {}
        for number, id, author, status in db.all(
            "SELECT version.no, version.id, device.id, status FROM version"
            " JOIN device ON device.no = device_no"
        ):
            version = blobs.load_version(db, number)
            parents = tuple(sorted(version.parents, key=lambda parent: parent.version))
            packed = msgspec.msgpack.encode(
                msgspec.structs.replace(version, parents=parents), order="deterministic"
            )
            known = Known(version, packed, author, status)
            if known.name != MINE and known.name.namespace != SETTINGS:
                versions[id] = known
        winners: dict[Name, bytes] = {}
        conflicts: set[Name] = set()
        counts: Counter[SyncStatus] = Counter()
        for *name, winner, is_conflict, status, is_deleted in db.all(
            "SELECT namespace.name, blob.id, version.id, conflict, blob.status, blob.deleted FROM blob"
            " JOIN namespace ON namespace.no = namespace_no JOIN version ON version.no = winner_no"
        ):
            if Name(*name) == MINE or name[0] == SETTINGS:
                continue
            winners[Name(*name)] = winner
            counts[SyncStatus(status)] += not is_deleted
            if is_conflict:
                conflicts.add(Name(*name))
        flags = db.all(
            "SELECT DISTINCT namespace.name, blob.id, flag FROM flag_tag JOIN blob ON blob.no = blob_no"
            " JOIN namespace ON namespace.no = namespace_no"
        )
        dates = db.all(
            "SELECT namespace.name, blob.id, expires_at FROM blob"
            " JOIN namespace ON namespace.no = namespace_no WHERE expires_at IS NOT NULL"
        )
        tags = db.all("SELECT key, change FROM register WHERE kind = 'tag'")
        return Shown(
            versions,
            winners,
            frozenset(conflicts),
            frozenset((Name(row[0], row[1]), row[2]) for row in flags if Name(row[0], row[1]) != MINE),
            {Name(row[0], row[1]): row[2] for row in dates},
            frozenset((key, change) for key, change in tags),
            dict(counts),
            contents,
            settings,
        )

    vault = device.vault
    assert vault is not None
    contents = await _contents(vault, {*simulation.model.attempted, MINE})
    mine = contents.pop(MINE, None)
    assert mine in device.mine, "what was to stay here is not here"
    settings = await settings_of(vault)
    shown = await vault.parts()[0].cache.read(query)
    counts = (await vault.status()).counts
    assert counts[SyncStatus.SYNCED] == shown.counts.get(SyncStatus.SYNCED, 0)
    assert counts[SyncStatus.LOCAL_ONLY] == (mine is not None)
    return shown


async def _contents(vault: Vault, asked: set[Name]) -> dict[Name, Content]:
    found: dict[Name, Content] = {}
    for namespace in sorted({name.namespace for name in asked}):
        ids = sorted(name.id for name in asked if name.namespace == namespace)
        for result in await vault.namespace(namespace).get_many(ids):
            assert isinstance(result.error, (type(None), BlobNotFound)), result.error
            if result.blob is not None:
                found[Name(namespace, result.id)] = Content.of(result.blob.data, result.blob.metadata)
    return found


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

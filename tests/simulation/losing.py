"""A remote that loses packs of what was given up, and how what somebody still has comes there again."""

from dataclasses import dataclass
from functools import partial

from syncagent import names
from syncagent.cache import chunks
from syncagent.cache.db import Database
from syncagent.model import PackId, SyncStatus
from syncagent.vault import Vault
from tests.simulation import mishaps, users
from tests.simulation.model import Name
from tests.simulation.sim import Device, Simulation
from tests.simulation.users import Edit

_LONGER_THAN_SEEN_DAYS = 1.1
_HELD = (
    "SELECT DISTINCT pack.id, version.id FROM blob JOIN namespace ON namespace.no = namespace_no"
    " JOIN version ON version.no = winner_no JOIN version_chunk ON version_no = version.no"
    " JOIN pack_chunk ON pack_chunk.chunk_no = version_chunk.chunk_no JOIN pack ON pack.no = pack_no"
    " WHERE namespace.name = ? AND blob.id = ? AND is_remote AND NOT conflict AND NOT blob.deleted"
    " AND expires_at IS NULL"
)
_WINNER = "SELECT winner_no FROM blob JOIN namespace ON namespace.no = namespace_no WHERE name = ? AND id = ?"
_SHARED = (
    "SELECT 1 FROM pack JOIN pack_chunk ON pack_no = pack.no WHERE pack.id = ? AND NOT EXISTS"
    " (SELECT 1 FROM version_chunk JOIN version ON version.no = version_no"
    " WHERE version_chunk.chunk_no = pack_chunk.chunk_no AND version.id = ?) LIMIT 1"
)


@dataclass(frozen=True)
class _Held:
    """A blob without a conflict, and the packs at the remote that hold its content and nothing else."""

    version: bytes
    packs: frozenset[PackId]


async def lose_and_put_again(
    simulation: Simulation, device: Device, other: Device, name: Name, as_name: Name, *, revises: bool
) -> str:
    """One gives a blob up, the remote loses it, and one who still has the bytes puts them; how far it came.

    That is another device, under another name; or the same one, with a copy from elsewhere, under the same.
    """
    for each in (device, other, device):
        each.is_offline = False
        await users.sync(simulation, each)
    read = await simulation.do(other, lambda vault: vault.namespace(name.namespace).get(name.id))
    held = [await _held(simulation, each, name) for each in (device, other)]
    if read is None or held[0] is None or held[0] != held[1] or held[0].version != read.version.id:
        return "not held by both"
    if not await simulation.do(device, partial(_evict, name=name)):
        return "not given up"
    if await _is_whole(simulation, device, name):
        return "needed by another blob"
    gone = set(map(names.pack_object, held[0].packs))
    kept = {name: stored for name, stored in simulation.store.objects.items() if name not in gone}
    simulation.store.objects = kept  # set as a whole: over HTTP they are files
    simulation.is_honest = False
    mishaps.let_days_pass(simulation, _LONGER_THAN_SEEN_DAYS)
    metadata = dict(read.metadata)
    if revises:
        metadata = {"title": f"of what was lost at {simulation.now}"}
        await users.set_metadata(simulation, device, name, metadata)
        report = await users.sync(simulation, device)
        assert report is not None and report.sent, "new metadata waits for content that nobody can send"
    if device is other:
        assert await simulation.do(device, partial(_is_lost, name=name)), "what was given up is here"
        edit = Edit(name, read.data, metadata)
    else:
        edit = Edit(as_name, read.data, {"title": f"put again at {simulation.now}"})
    assert await users.put(simulation, other, edit) is not None
    await users.sync(simulation, other)
    assert await simulation.do(other, partial(_is_synced, name=edit.name)), "what was put is not sent"
    simulation.done["lost and put again"] += 1
    return "lost and put again"


async def _held(simulation: Simulation, device: Device, name: Name) -> _Held | None:
    def find(db: Database) -> _Held | None:
        rows = db.all(_HELD, (name.namespace, name.id))
        if not rows or any(db.scalar(_SHARED, row) is not None for row in rows):
            return None
        return _Held(rows[0][1], frozenset(PackId(row[0]) for row in rows))

    return await (await simulation.opened(device)).parts()[0].cache.read(find)


async def _is_whole(simulation: Simulation, device: Device, name: Name) -> bool:
    def find(db: Database) -> bool:
        return chunks.is_complete(db, int(db.scalar(_WINNER, name)))

    return await (await simulation.opened(device)).parts()[0].cache.read(find)


async def _evict(vault: Vault, name: Name) -> bool:
    await vault.namespace(name.namespace).evict(name.id)
    return True


async def _is_lost(vault: Vault, name: Name) -> bool:
    result = await vault.namespace(name.namespace).prefetch([name.id])
    return result[0].error is not None


async def _is_synced(vault: Vault, name: Name) -> bool:
    return (await vault.namespace(name.namespace).stat(name.id)).status is SyncStatus.SYNCED

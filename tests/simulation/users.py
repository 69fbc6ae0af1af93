"""What users do on a device, and what the model is told of it."""

import datetime
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

import anyio

from syncagent.cache import blobs, facts, journals, meta
from syncagent.cache.db import Database
from syncagent.errors import ClockAhead, SyncAgentError, Unreachable, VaultInUse, VersionConflict
from syncagent.model import Metadata, MetadataValue, Version
from syncagent.reports import SyncReport
from syncagent.vault import Vault
from tests.simulation.model import Content, Name
from tests.simulation.rows import check_rows
from tests.simulation.sim import MINE, Device, Simulation

_FAR = datetime.datetime(3000, 1, 1, tzinfo=datetime.UTC)
_MISSING_HOLES = (
    "SELECT count(*) FROM parent JOIN version AS child ON child.no = version_no"
    " WHERE NOT EXISTS (SELECT 1 FROM version WHERE id = parent_id)"
    " AND parent.seq > coalesce((SELECT seq FROM device WHERE id = parent.device), 0)"
    " AND NOT EXISTS"
    " (SELECT 1 FROM hole WHERE hole.blob_no = child.blob_no AND hole.parent_id = parent.parent_id)"
)


@dataclass(frozen=True)
class Edit:
    """A put, or with no data a deletion."""

    name: Name
    data: bytes | None
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)

    @property
    def content(self) -> Content | None:
        """What the blob is to hold."""
        return None if self.data is None else Content.of(self.data, self.metadata)


async def put(simulation: Simulation, device: Device, edit: Edit) -> Version | None:
    """Put, replacing what is there."""
    assert edit.data is not None and edit.content is not None
    data = edit.data
    simulation.model.attempt(edit.name, edit.content)
    gone = await _gone(simulation, device, [edit])
    version = await simulation.do(
        device,
        lambda vault: vault.namespace(edit.name.namespace).put(
            edit.name.id, data, metadata=edit.metadata, replace=True
        ),
    )
    if version is not None:
        simulation.model.acknowledge(version, edit.content)
        await _note_unflagged(simulation, device, gone)
    return version


async def put_many(simulation: Simulation, device: Device, edits: Sequence[Edit]) -> None:
    """Several blobs of one namespace at once; a name may come twice."""
    for edit in edits:
        assert edit.content is not None
        simulation.model.attempt(edit.name, edit.content)
    requests = [(edit.name.id, edit.data or b"", edit.metadata) for edit in edits]
    gone = await _gone(simulation, device, edits)
    results = await simulation.do(
        device, lambda vault: vault.namespace(edits[0].name.namespace).put_many(requests, replace=True)
    )
    for edit, result in zip(edits, results or (), strict=False):
        if result.version is not None:
            simulation.model.acknowledge(result.version, edit.content)
    await _note_unflagged(simulation, device, gone)


async def put_at_once(simulation: Simulation, device: Device, edits: Sequence[Edit]) -> None:
    """Several puts side by side, which share commits."""
    for edit in edits:
        assert edit.content is not None
        simulation.model.attempt(edit.name, edit.content)

    async def act(vault: Vault) -> None:
        async with anyio.create_task_group() as group:
            for edit in edits:
                group.start_soon(_put_one, simulation, vault, edit)

    gone = await _gone(simulation, device, edits)
    await simulation.do(device, act)
    await _note_unflagged(simulation, device, gone)


async def put_if_unchanged(simulation: Simulation, device: Device, edit: Edit) -> None:
    """Replace the version that the user has read last, and no other."""
    assert edit.data is not None and edit.content is not None
    data, read = edit.data, device.read.get(edit.name)
    if read is None:
        return
    simulation.model.attempt(edit.name, edit.content)

    async def act(vault: Vault) -> Version | None:
        winner = await vault.parts()[0].cache.read(partial(_winner, name=edit.name))
        present = None if winner is None else winner.id
        try:
            version = await vault.namespace(edit.name.namespace).put(
                edit.name.id, data, metadata=edit.metadata, if_version=read.hex()
            )
        except VersionConflict:
            assert present != read, "refused, though nothing has changed"
            return None
        assert present == read, "another version was replaced than the one that was read"
        return version

    version = await simulation.do(device, act)
    if version is not None:
        simulation.model.acknowledge(version, edit.content)


async def set_metadata(simulation: Simulation, device: Device, name: Name, metadata: Metadata) -> None:
    """Other metadata and the same content, wherever that is."""

    async def act(vault: Vault) -> _Revised:
        base = await vault.parts()[0].cache.read(partial(_winner, name=name))
        expected = Content(b"" if base is None else base.content_digest, tuple(sorted(metadata.items())))
        simulation.model.attempt(name, expected)
        return _Revised(await vault.namespace(name.namespace).set_metadata(name.id, metadata), expected)

    revised = await simulation.do(device, act)
    if revised is not None:
        simulation.model.acknowledge(revised.version, revised.expected)


async def settle(simulation: Simulation, device: Device, edit: Edit, *, takes_a_side: bool) -> None:
    """End a conflict, by other content or by that of the version which does not win."""

    async def act(vault: Vault) -> _Revised | None:
        namespace = vault.namespace(edit.name.namespace)
        seen = next((one for one in await namespace.conflicts() if one.id == edit.name.id), None)
        if seen is None:
            return None
        assert edit.data is not None
        expected = edit.content
        if takes_a_side:
            side = [one for one in seen.versions if not one.deleted][-1]
            known = simulation.model.versions.get(bytes.fromhex(side.id))
            expected = None if known is None else known.content
            version = await namespace.resolve(edit.name.id, version=side, seen=seen)
        else:
            assert expected is not None
            simulation.model.attempt(edit.name, expected)
            version = await namespace.resolve(edit.name.id, edit.data, metadata=edit.metadata, seen=seen)
        unseen = {parent.version for parent in version.parents} - {
            bytes.fromhex(one.id) for one in seen.versions
        }
        # A deletion beside edits has lost, and is no side of the conflict.
        live = {id for id in unseen & set(simulation.model.versions) if simulation.model.versions[id].content}
        assert not live, "what nobody has seen was replaced"
        return _Revised(version, expected or Content.said_by(version))

    revised = await simulation.do(device, act)
    if revised is not None:
        simulation.model.acknowledge(revised.version, revised.expected)


@dataclass(frozen=True)
class _Revised:
    """A version that was made of another, and what it must hold."""

    version: Version
    expected: Content


async def put_mine(
    simulation: Simulation, device: Device, data: bytes | None, former: bytes | None = None
) -> None:
    """Put or delete the blob that stays on its device; `former` is put and shared before, and not sent."""
    content = None if data is None else Content.of(data, {})
    before = set(device.mine)
    device.mine.add(content)

    async def act(vault: Vault) -> Version:
        notes = vault.namespace(MINE.namespace)
        if data is None:
            return await notes.delete(MINE.id)
        if former is not None:
            await notes.put(MINE.id, former, replace=True, local_only=False)
            await notes.add_flags(MINE.id, {"seen"})
        return await notes.put(MINE.id, data, replace=True, local_only=True)

    if await simulation.do(device, act) is not None:
        device.mine = {content}
    elif device.vault is not None and data is None and before == {None}:
        device.mine = before


async def flag_mine(simulation: Simulation, device: Device, is_set: bool) -> None:
    """Flag the blob that stays here, if there is one: nobody hears of it."""

    async def act(vault: Vault) -> None:
        notes = vault.namespace(MINE.namespace)
        await (notes.add_flags if is_set else notes.remove_flags)(MINE.id, {"mine"})

    await simulation.do(device, act)


async def delete(simulation: Simulation, device: Device, name: Name) -> None:
    """Delete what is there, if anything."""
    seen = await _seen_tags(simulation, device, name)
    version = await simulation.do(device, lambda vault: vault.namespace(name.namespace).delete(name.id))
    if version is not None:
        simulation.model.acknowledge(version, None)
        simulation.model.removed_tags |= seen


async def transact(simulation: Simulation, device: Device, edits: Sequence[Edit]) -> None:
    """All edits in one transaction."""
    seen: set[int] = set()
    for edit in edits:
        if edit.content is not None:
            simulation.model.attempt(edit.name, edit.content)
        else:
            seen |= await _seen_tags(simulation, device, edit.name)

    async def commit(vault: Vault) -> tuple[Version, ...]:
        async with vault.transaction() as tx:
            for edit in edits:
                namespace = tx.namespace(edit.name.namespace)
                if edit.data is None:
                    namespace.delete(edit.name.id)
                else:
                    namespace.put(edit.name.id, edit.data, metadata=edit.metadata, replace=True)
        return tx.versions

    gone = await _gone(simulation, device, edits)
    versions = await simulation.do(device, commit)
    if versions is not None:
        simulation.model.removed_tags |= seen
        await _note_unflagged(simulation, device, gone)
    for edit, version in zip(edits, versions or (), strict=False):
        simulation.model.acknowledge(version, edit.content)


async def flag(simulation: Simulation, device: Device, name: Name, text: str, is_set: bool) -> None:
    """Set or take away a flag; what the journal will say of it is found in the cache."""

    async def act(vault: Vault) -> _Tags:
        before = await vault.parts()[0].cache.read(partial(_tags, name=name))
        namespace = vault.namespace(name.namespace)
        if is_set:
            flags = await namespace.add_flags(name.id, [text])
        else:
            flags = await namespace.remove_flags(name.id, [text])
        assert (text in flags) is is_set
        after = await vault.parts()[0].cache.read(partial(_tags, name=name))
        return _Tags(after - before, before - after)

    changed = await simulation.do(device, act)
    if changed is not None:
        simulation.model.flag_tags.update(dict.fromkeys(changed.added, (name, text)))
        simulation.model.removed_tags |= changed.removed


@dataclass(frozen=True)
class _Tags:
    """The tags under which a flag was set, and those that were taken away."""

    added: set[int]
    removed: set[int]


async def date(simulation: Simulation, device: Device, name: Name, day: int | None, is_forced: bool) -> None:
    """Let a blob expire, on a day that no clock reaches, or never."""
    at = None if day is None else _FAR + datetime.timedelta(days=day)
    await simulation.do(
        device, lambda vault: vault.namespace(name.namespace).set_expiry(name.id, at, force=is_forced)
    )


async def read(simulation: Simulation, device: Device, name: Name) -> None:
    """Get: what comes is what somebody put under that name."""
    blob = await simulation.do(device, lambda vault: vault.namespace(name.namespace).get(name.id))
    if blob is not None:
        found = Content.of(blob.data, blob.metadata)
        assert found in simulation.model.attempted.get(name, set()), "bytes that nobody put there"
        device.read[name] = blob.version.id


async def read_mine(simulation: Simulation, device: Device) -> None:
    """Get the blob that stays here: it needs no remote."""

    async def act(vault: Vault) -> Content | None:
        [result] = await vault.namespace(MINE.namespace).get_many([MINE.id])
        return None if result.blob is None else Content.of(result.blob.data, {})

    found = await simulation.do(device, act)
    assert found in device.mine, "what was to stay here is not here"


async def follow(simulation: Simulation, device: Device) -> None:
    """Let an application bring its own index up to date; how far it gets is kept, whatever befalls it."""
    await simulation.do(device, device.index.follow)


async def retry(simulation: Simulation, device: Device) -> None:
    """Make what waits due now."""
    await simulation.do(device, lambda vault: vault.retry())


async def sync(simulation: Simulation, device: Device, part: str = "sync") -> SyncReport | None:
    """A whole sync, or `send_missing` or `fetch_missing`; None when it failed."""
    report: SyncReport | None = await simulation.do(device, lambda vault: getattr(vault, part)())
    await _check(simulation, device, report if part != "send_missing" else None)
    return report


async def sync_beside(
    simulation: Simulation, device: Device, edits: Sequence[Edit], *, is_same_process: bool
) -> None:
    """Sync, while the same or another process of the device makes several puts at once and wants to sync."""
    for edit in edits:
        assert edit.content is not None
        simulation.model.attempt(edit.name, edit.content)
    syncs = _Syncs(is_same_process=is_same_process)

    async def act(vault: Vault) -> None:
        async with AsyncExitStack() as stack:
            other = vault
            if not is_same_process:
                other = await stack.enter_async_context(simulation.another(device))
            async with anyio.create_task_group() as group:
                group.start_soon(syncs.run, vault)
                for edit in edits:
                    group.start_soon(_put_one, simulation, other, edit)
                group.start_soon(syncs.run, other)

    await simulation.do(device, act)
    # The sync may have brought a deletion right before one of the puts.
    await _note_unflagged(simulation, device, {edit.name for edit in edits})
    await _check(simulation, device, syncs.last)


async def _put_one(simulation: Simulation, vault: Vault, edit: Edit) -> None:
    namespace = vault.namespace(edit.name.namespace)
    with suppress(SyncAgentError):
        version = await namespace.put(edit.name.id, edit.data or b"", metadata=edit.metadata, replace=True)
        simulation.model.acknowledge(version, edit.content)


class _Syncs:
    """Syncs of one device, of which one runs at a time; those of one vault wait for each other."""

    def __init__(self, *, is_same_process: bool) -> None:
        self.last: SyncReport | None = None
        self._waits = is_same_process
        self._is_running = False

    async def run(self, vault: Vault) -> None:
        was_running, self._is_running = self._is_running, True
        try:
            self.last = await vault.sync()
            assert self._waits or not was_running, "two syncs of one device at once"
        except SyncAgentError as exc:
            is_in_the_way = was_running and not self._waits
            assert isinstance(exc, VaultInUse) is is_in_the_way, "a sync that was in the way of none"
        finally:
            self._is_running = was_running


async def _check(simulation: Simulation, device: Device, report: SyncReport | None) -> None:
    """What others have read and this device was not shown has a name; a parent still to come is known."""

    def query(db: Database) -> tuple[list[str], int]:
        # Of its own a device may have a batch in the outbox that others have read already.
        own = meta.device_id(db)
        unread = [shown.device.hex() for shown in journals.beyond_cursors(db) if shown.device != own]
        return unread, int(db.scalar(_MISSING_HOLES))

    cache = (await simulation.opened(device)).parts()[0].cache
    await cache.read(lambda db: check_rows(db, simulation.now + device.offset_s, is_synced=bool(report)))
    if report is None:
        return
    unread, missing_holes = await cache.read(query)
    told = " ".join(f"{alarm.subject} {alarm.message}" for alarm in report.alarms)
    assert all(other in told for other in unread), "a journal is withheld, and nobody says so"
    assert missing_holes == 0, "a parent has yet to come, and the blob does not say so"
    if simulation.is_honest:
        expected = (
            {Unreachable.__name__}
            if simulation.are_clocks_right
            else {Unreachable.__name__, ClockAhead.__name__}
        )
        amiss = [alarm for alarm in report.alarms if alarm.kind not in expected]
        assert not amiss, f"nothing is amiss: {amiss}"


def _winner(db: Database, name: Name) -> Version | None:
    number = db.scalar(
        "SELECT winner_no FROM blob JOIN namespace ON namespace.no = namespace_no"
        " WHERE namespace.name = ? AND blob.id = ?",
        name,
    )
    return None if number is None else blobs.load_version(db, number)


async def _seen_tags(simulation: Simulation, device: Device, name: Name) -> set[int]:
    """The tags that a deletion takes away."""
    return await (await simulation.opened(device)).parts()[0].cache.read(partial(_tags, name=name))


def _tags(db: Database, name: Name) -> set[int]:
    number = blobs.find_namespace(db, name.namespace)
    row = None if number is None else blobs.find_blob(db, number, name.id)
    return set() if row is None else {tag for _, tag in facts.flag_tags(db, row.no)}


async def _gone(simulation: Simulation, device: Device, edits: Sequence[Edit]) -> set[Name]:
    """Those of the blobs that are deleted here: one that is made anew has no flag of before."""

    def find(db: Database) -> set[Name]:
        found = {edit.name: blobs.find_namespace(db, edit.name.namespace) for edit in edits}
        rows = {name: no and blobs.find_blob(db, no, name.id) for name, no in found.items()}
        return {name for name, row in rows.items() if row and row.is_deleted}

    return await (await simulation.opened(device)).parts()[0].cache.read(find)


async def _note_unflagged(simulation: Simulation, device: Device, names: set[Name]) -> None:
    """The flags of these blobs that this device has taken away."""

    def find(db: Database) -> set[int]:
        removed: set[int] = set()
        for name in names:
            namespace = blobs.find_namespace(db, name.namespace)
            row = None if namespace is None else blobs.find_blob(db, namespace, name.id)
            if row is not None:
                removed.update(facts.removed_tags(db, row.no))
        return removed

    if names:
        cache = (await simulation.opened(device)).parts()[0].cache
        simulation.model.removed_tags |= await cache.read(find)

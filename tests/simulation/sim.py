"""Devices of one vault, their faulty remote, and everything that can happen to them, step by step.

Every step is deterministic but for ids that are drawn and the order of worker
threads, neither of which decides what the devices show in the end.
"""

import contextlib
import random
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from syncagent import names
from syncagent.cache import blobs, facts, journals, outbox
from syncagent.cache.db import Database
from syncagent.cache.profile import Profile, open_database
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.sealed import open_object
from syncagent.errors import SyncAgentError, Unreachable
from syncagent.journal.batch import Batch, FlagsChange, VersionChange, decode_batch, encode_change
from syncagent.model import DeviceId, SyncReport, Version
from syncagent.remote.base import Remote
from syncagent.remote.memory import MemoryRemote, MemoryStore
from syncagent.testing.faulty import HONEST, Fault, FaultyRemote, Rule
from syncagent.vault import Vault
from tests.engine.world import NOON, World
from tests.simulation.crash import Crashed, Doom, DoomedRemote, doomed
from tests.simulation.model import Model, ModelVersion

T = TypeVar("T")

MARKER = b"PLAINTEXT-MARKER"
NAMESPACE = "notes"
BLOBS = tuple(f"{MARKER.decode()}/{name}" for name in ("a", "b", "c", "\u00e9\U0001f600"))
DAY_S = 24 * 3600
YEAR_S = 365 * DAY_S
MOST_DEVICES = 4
_MISSING_HOLES = (
    "SELECT count(*) FROM parent JOIN version AS child ON child.no = version_no"
    " WHERE NOT EXISTS (SELECT 1 FROM version WHERE id = parent_id)"
    " AND parent.seq > coalesce((SELECT seq FROM device WHERE id = parent.device), 0)"
    " AND NOT EXISTS"
    " (SELECT 1 FROM hole WHERE hole.blob_no = child.blob_no AND hole.parent_id = parent.parent_id)"
)
ROUNDS = 12
"""Rounds of syncs of all devices after which everything must have come to rest."""


@dataclass(eq=False)
class Device:
    """One device: its folder, the process that has it open, and its clock and connection."""

    name: str
    folder: Path
    vault: Vault | None = None
    doom: Doom | None = None
    offset_s: float = 0.0
    is_offline: bool = False
    rules: list[Rule] = field(default_factory=list)


@dataclass(frozen=True)
class Edit:
    """A put, or with no data a deletion."""

    blob_id: str
    data: bytes | None


@dataclass(frozen=True)
class Point:
    """Just before or after a commit, or a remote call, counted from 0."""

    is_commit: bool
    number: int


class Simulation:
    """All devices and the store. `close` ends it.

    Args:
        template: a vault whose devices hold nothing.
        folder: where this run's copies go.
        devices: which of the template's devices take part.
        make_remote: gives each device its remote on the store.
    """

    def __init__(
        self,
        template: World,
        folder: Path,
        devices: Sequence[str] = ("a", "b", "c"),
        make_remote: Callable[[MemoryStore], Remote] = MemoryRemote,
    ) -> None:
        self.folder = folder
        self.root = template.root
        self.keys = VaultKeys(template.root)
        self.store = MemoryStore(objects=dict(template.store.objects))
        self.model = Model()
        self.devices: list[Device] = []
        self.now = NOON
        self.is_honest = True
        """Whether nothing was put back or copied so far, and the remote has told no lie: nothing is amiss."""
        self._copies = 0
        self._backups: dict[Device, Path] = {}
        self._saved_objects: dict[str, object] | None = None
        self._content = 0
        self._tags = random.Random(1)
        self._make_remote = make_remote
        for name in devices:
            shutil.copytree(template.folder / name, folder / name)
            self.devices.append(Device(name, folder / name))
        # The others of the template say no more; they are as devices that have left.

    async def close(self) -> None:
        """Close every vault."""
        for device in self.devices:
            await self._close(device)

    # What users do ------------------------------------------------------------------------------------

    async def put(self, device: Device, blob_id: str, data: bytes) -> None:
        """Put, replacing what is there."""
        self.model.attempt(blob_id, data)
        version = await self._do(
            device, lambda vault: vault.namespace(NAMESPACE).put(blob_id, data, replace=True)
        )
        if version is not None:
            self._acknowledge(version, data)

    async def delete(self, device: Device, blob_id: str) -> None:
        """Delete what is there, if anything."""
        seen = await self._seen_tags(device, blob_id)
        version = await self._do(device, lambda vault: vault.namespace(NAMESPACE).delete(blob_id))
        if version is not None:
            self._acknowledge(version, None)
            self.model.removed_tags |= seen

    async def transact(self, device: Device, edits: Sequence[Edit]) -> None:
        """All edits in one transaction."""
        seen: set[int] = set()
        for edit in edits:
            if edit.data is not None:
                self.model.attempt(edit.blob_id, edit.data)
            else:
                seen |= await self._seen_tags(device, edit.blob_id)

        async def commit(vault: Vault) -> tuple[Version, ...]:
            async with vault.transaction() as tx:
                for edit in edits:
                    if edit.data is None:
                        tx.namespace(NAMESPACE).delete(edit.blob_id)
                    else:
                        tx.namespace(NAMESPACE).put(edit.blob_id, edit.data, replace=True)
            return tx.versions

        versions = await self._do(device, commit)
        if versions is not None:
            self.model.removed_tags |= seen
        for edit, version in zip(edits, versions or (), strict=False):
            self._acknowledge(version, edit.data)

    async def flag(self, device: Device, blob_id: str, flag: str, is_set: bool) -> None:
        """Set or take away a flag, as the journal says it."""
        tag = self._tags.getrandbits(64)

        def change(db: Database) -> tuple[bool, set[int]]:
            number = blobs.find_namespace(db, NAMESPACE)
            row = None if number is None else blobs.find_blob(db, number, blob_id)
            if row is None or row.is_deleted or row.winner_no is None:
                return False, set()
            seen = {each for name, each in facts.flag_tags(db, row.no) if name == flag}
            add, remove = (((flag, tag),), ()) if is_set else ((), tuple(sorted(seen)))
            if not add and not remove:
                return False, set()
            facts.add_flags(db, row.no, add, remove)
            outbox.enqueue_change(db, encode_change(FlagsChange(NAMESPACE, blob_id, add=add, remove=remove)))
            return True, set(remove)

        done = await self._do(device, lambda vault: vault.parts()[0].cache.write(change))
        if done is not None and done[0] and is_set:
            self.model.flag_tags[tag] = (blob_id, flag)
        elif done is not None:
            self.model.removed_tags |= done[1]

    async def read(self, device: Device, blob_id: str) -> None:
        """Get: what comes is what somebody put under that name."""
        blob = await self._do(device, lambda vault: vault.namespace(NAMESPACE).get(blob_id))
        if blob is not None:
            assert blob.data in self.model.attempted.get(blob_id, set()), "bytes that nobody put there"

    async def sync(self, device: Device, part: str = "sync") -> SyncReport | None:
        """A whole sync, or `send_missing` or `fetch_missing`; None when it failed."""
        report: SyncReport | None = await self._do(device, lambda vault: getattr(vault, part)())
        if report is not None and part != "send_missing":
            await self._check_told(device, report)
        return report

    async def _check_told(self, device: Device, report: SyncReport) -> None:
        """What others have read and this device was not shown has a name; a parent still to come is known."""

        def query(db: Database) -> tuple[list[str], int]:
            unread = [shown.device.hex() for shown in journals.beyond_cursors(db)]
            return unread, int(db.scalar(_MISSING_HOLES))

        unread, missing_holes = await (await self._opened(device)).parts()[0].cache.read(query)
        told = " ".join(f"{alarm.subject} {alarm.message}" for alarm in report.alarms)
        assert all(other in told for other in unread), "a journal is withheld, and nobody says so"
        assert missing_holes == 0, "a parent has yet to come, and the blob does not say so"
        if self.is_honest:
            amiss = [alarm for alarm in report.alarms if alarm.kind != Unreachable.__name__]
            assert not amiss, f"nothing is amiss: {amiss}"

    # What happens to them -----------------------------------------------------------------------------

    async def crash_in(self, device: Device, point: Point, step: Callable[[], Awaitable[object]]) -> None:
        """Do something and end the process at a point, if it gets that far."""
        await self._opened(device)
        assert device.doom is not None
        device.doom.set(point.number, at_commits=point.is_commit)
        await step()
        if device.doom is not None:
            device.doom.lift()

    async def restart(self, device: Device) -> None:
        """End the process in order; it starts again when it is needed."""
        await self._close(device)

    def fault(self, device: Device, rule: Rule) -> None:
        """Let calls of a device's remote fail."""
        self.is_honest &= rule.fault in HONEST
        device.rules.append(rule)

    async def sync_without(self, device: Device, other: Device) -> None:
        """Sync while the remote gives nothing of another device's journal."""
        self.is_honest = False
        prefix = names.journal_prefix(bytes.fromhex((await self._opened(other)).device_id))
        device.rules.insert(0, Rule(Fault.REFUSE, "get", prefix))
        await self.sync(device)
        del device.rules[0]

    def shift_clock(self, device: Device, seconds: float) -> None:
        """Set a device's clock."""
        self.is_honest &= abs(seconds) < DAY_S  # else its versions are dated ahead of the others' clocks
        device.offset_s = seconds

    async def back_up(self, device: Device) -> None:
        """Copy a device's folder away."""
        await self._close(device)
        copy = self._new_folder()
        shutil.copytree(device.folder, copy)
        self._backups[device] = copy

    async def restore(self, device: Device) -> None:
        """Put a device's folder back to what it was; what it had not sent since may be lost."""
        if device not in self._backups or not await self._is_all_there(device):
            return
        self.is_honest = False
        shutil.rmtree(device.folder)
        shutil.copytree(self._backups[device], device.folder)
        await self._doubt_what_is_nowhere()
        self._saved_objects = None

    async def clone(self, device: Device) -> None:
        """Copy a device's folder to a machine of its own; both go on."""
        if len(self.devices) == MOST_DEVICES:
            return
        self.is_honest = False
        await self._close(device)
        folder = self._new_folder()
        shutil.copytree(device.folder, folder)
        self.devices.append(
            Device(f"{device.name}'", folder, offset_s=device.offset_s, is_offline=device.is_offline)
        )
        self._saved_objects = None

    async def leave(self, device: Device) -> None:
        """A device is never seen again."""
        if len(self.devices) <= 2 or not await self._is_all_there(device):
            return
        self.devices.remove(device)
        self._backups.pop(device, None)
        await self._doubt_what_is_nowhere()
        self._saved_objects = None

    async def save_remote(self) -> None:
        """Copy the store away."""
        self._saved_objects = dict(self.store.objects)

    async def restore_remote(self) -> None:
        """Put the store back to what it was."""
        if self._saved_objects is not None:
            self.is_honest = False
            self.store.objects = dict(self._saved_objects)  # type: ignore[arg-type]  # what it was

    # The end ------------------------------------------------------------------------------------------

    async def heal(self) -> None:
        """No more faults, right clocks, and syncs until nothing moves."""
        for device in self.devices:
            device.rules.clear()
            device.is_offline = False
            device.offset_s = 0.0
        last: list[object] = ["never tried"]
        for _ in range(ROUNDS):
            # First past every wait; then, once nothing has moved, at rest, where no acknowledgement is due.
            self.now += 25 * 3600 if last else 0
            objects = dict(self.store.objects)
            is_at_rest, last = not last, await self._sync_all()
            if is_at_rest and not last and objects == self.store.objects:
                return
        raise AssertionError(f"no rest after {ROUNDS} rounds: {last}")

    async def _sync_all(self) -> list[object]:
        moved: list[object] = []
        for device in self.devices:
            vault = await self._opened(device)
            await vault.retry()
            report = await vault.sync()
            if report.sent or report.fetched or report.failed or report.alarms:
                moved.append((device.name, report))
        return moved

    # Inside -------------------------------------------------------------------------------------------

    async def _do(self, device: Device, act: Callable[[Vault], Awaitable[T]]) -> T | None:
        """Let a device do something; None if it failed, as it may, or if the process ended in it."""
        self.now += 1
        vault = await self._opened(device)
        doom = device.doom
        assert doom is not None
        try:
            result = await act(vault)
        except BaseException as exc:
            if doom.has_come:
                await self._bury(device)
                return None
            if isinstance(exc, SyncAgentError):
                return None
            raise
        if doom.has_come:  # in something that nobody waited for
            await self._bury(device)
            return None
        return result

    async def _opened(self, device: Device) -> Vault:
        if device.vault is None:
            doom = Doom(device.folder, self._new_folder())
            profile = Profile(device.folder)
            remote = FaultyRemote(self._make_remote(self.store), lambda call: self._fault(device, call))

            def the_vault() -> Vault:
                return vault

            vault = Vault(
                profile,
                lambda: doomed(open_database(profile, self.root), doom),
                remote=DoomedRemote(remote, doom, the_vault),
                transfers=2,
                now=lambda: self.now + device.offset_s,
                random=lambda: 0.5,
            )
            await vault.__aenter__()
            device.vault, device.doom = vault, doom
        return device.vault

    @staticmethod
    def _fault(device: Device, call: object) -> Fault | None:
        if device.is_offline:
            return Fault.FAIL
        return next((rule.fault for rule in device.rules if rule.meets(call)), None)  # type: ignore[arg-type]  # it is a call

    async def _close(self, device: Device) -> None:
        vault, device.vault, device.doom = device.vault, None, None
        if vault is not None:
            await vault.__aexit__(None, None, None)

    async def _bury(self, device: Device) -> None:
        """After the end of a process: what it left is the copy made at that point."""
        assert device.doom is not None
        image = device.doom.image
        with contextlib.suppress(Crashed):
            await self._close(device)
        shutil.rmtree(device.folder)
        image.rename(device.folder)
        db = open_database(Profile(device.folder), self.root)
        for (number,) in db.all("SELECT no FROM version"):
            version = blobs.load_version(db, number)
            self.model.suspect(version.id, _as_told(version, None))
        db.close()

    def _new_folder(self) -> Path:
        self._copies += 1
        return self.folder / f"copy{self._copies}"

    def _acknowledge(self, version: Version, data: bytes | None) -> None:
        self.model.acknowledge(version.id, _as_told(version, data))

    def _published(self) -> set[bytes]:
        """Versions that a batch at the remote holds."""
        return {
            change.version.id
            for batch in self.batches()
            for change in batch.changes
            if isinstance(change, VersionChange)
        }

    def batches(self) -> Iterator[Batch]:
        """Every batch at the remote."""
        for name, stored in self.store.objects.items():
            if name.startswith(names.JOURNAL):
                yield decode_batch(open_object(self.keys, name, stored.data))

    async def _seen_tags(self, device: Device, blob_id: str) -> set[int]:
        """The tags that a deletion takes away."""

        def query(db: Database) -> set[int]:
            number = blobs.find_namespace(db, NAMESPACE)
            row = None if number is None else blobs.find_blob(db, number, blob_id)
            return set() if row is None else {tag for _, tag in facts.flag_tags(db, row.no)}

        return await (await self._opened(device)).parts()[0].cache.read(query)

    async def _is_all_there(self, device: Device) -> bool:
        """Whether the remote has all that a device has published; closes it.

        If not, the remote was put back and this device alone can heal it: to lose both is to lose data.
        """
        await self._close(device)
        db = open_database(Profile(device.folder), self.root)
        published = [names.pack_object(pack.id) for pack in outbox.own_announced_packs(db)]
        published += [
            names.batch_object(DeviceId(row[0]), row[1])
            for row in db.all("SELECT id, own_batch.seq FROM own_batch JOIN device ON device.no = device_no")
        ]
        db.close()
        return set(published) <= set(self.store.objects)

    async def _doubt_what_is_nowhere(self) -> None:
        """A device has forgotten something: what is neither published nor in another cache may be lost."""
        kept = self._published()
        for device in self.devices:
            await self._close(device)
            db = open_database(Profile(device.folder), self.root)
            kept |= {row[0] for row in db.all("SELECT id FROM version")}
            db.close()
        self.model.doubt(set(self.model.versions) - kept)
        self.model.doubt_flags()


def _as_told(version: Version, data: bytes | None) -> ModelVersion:
    parents = frozenset(parent.version for parent in version.parents)
    return ModelVersion(version.blob_id, parents, version.deleted, data, version.hlc, version.group)


def content(kind: str, number: int) -> bytes:
    """Content of a kind; of most kinds other content for each number."""
    match kind:
        case "empty":
            return b""
        case "small":
            return MARKER + b" %d" % number
        case "again":
            return MARKER + b" again %d" % (number % 2)
        case "medium":
            return MARKER + random.Random(number).randbytes(300 << 10)
        case _:
            return MARKER + random.Random(number).randbytes((2 << 20) + 5)

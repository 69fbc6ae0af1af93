"""Devices of one vault and their faulty remote: how they open, act, and end.

What users do with them is in `users.py`, what befalls them in `mishaps.py`, how it ends in `healing.py`.
"""

import asyncio
import contextlib
import random
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio

from syncagent import names
from syncagent.cache import blobs, outbox
from syncagent.cache.db import Database
from syncagent.cache.profile import Profile, open_database
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.sealed import open_object
from syncagent.errors import SyncAgentError
from syncagent.journal.batch import decode_batch
from syncagent.journal.changes import Batch, VersionChange
from syncagent.model import DeviceId
from syncagent.remote.base import Remote
from syncagent.remote.memory import MemoryRemote, MemoryStore
from syncagent.testing.faulty import Fault, FaultyRemote, Rule
from syncagent.vault import Vault
from tests.engine.world import NOON, World
from tests.simulation.alone import SteppedLoop
from tests.simulation.crash import Crashed, Doom, DoomedRemote, Kind, come_between_commits, doomed
from tests.simulation.index import Index
from tests.simulation.model import Content, Model, Name

T = TypeVar("T")

MARKER = b"PLAINTEXT-MARKER"
NOTES, MAIL = "notes", "plaintext-marker.mail"
BLOBS = (
    Name(NOTES, f"{MARKER.decode()}/a"),
    Name(NOTES, f"{MARKER.decode()}/b"),
    Name(NOTES, f"{MARKER.decode()}/\u00e9\U0001f600"),
    Name(MAIL, f"{MARKER.decode()}/a"),
)
MINE = Name(NOTES, f"{MARKER.decode()}/mine")
"""The blob that every device has one of, which never leaves it."""
DAY_S = 24 * 3600
YEAR_S = 365 * DAY_S
MOST_DEVICES = 4


@dataclass(eq=False)
class Device:
    """One device: its folder, the process that has it open, and its clock and connection."""

    name: str
    folder: Path
    vault: Vault | None = None
    doom: Doom | None = None
    remotes: list[FaultyRemote] = field(default_factory=list)
    offset_s: float = 0.0
    is_offline: bool = False
    rules: list[Rule] = field(default_factory=list)
    read: dict[Name, bytes] = field(default_factory=dict)
    """The version that its user has read last."""
    mine: set[Content | None] = field(default_factory=lambda: {None})
    """What its own blob may hold: one thing, unless something was interrupted."""
    index: Index = field(default_factory=Index)
    """That of an application on it."""


@dataclass(frozen=True)
class Backup:
    """A copy of a device's folder, and what its own blob holds there."""

    folder: Path
    mine: frozenset[Content | None]


class Simulation:
    """All devices and the store. `close` ends it.

    Args:
        template: a vault whose devices hold nothing.
        folder: where this run's copies go.
        devices: which of the template's devices take part. The others are as devices that have left.
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
        self.are_clocks_right = True
        self.backups: dict[Device, Backup] = {}
        self.saved_objects: dict[str, object] | None = None
        self.done: Counter[str] = Counter()
        """Faults that calls have met, ends of processes, and cancellations."""
        self._copies = 0
        self._make_remote = make_remote
        for name in devices:
            shutil.copytree(template.folder / name, folder / name)
            self.devices.append(Device(name, folder / name))

    async def close(self) -> None:
        """Close every vault."""
        for device in self.devices:
            await self.close_device(device)

    async def do(self, device: Device, act: Callable[[Vault], Awaitable[T]]) -> T | None:
        """Let a device do something; None if it failed, as it may, or if it was cut off in it."""
        self.now += 1
        vault = await self.opened(device)
        doom = device.doom
        assert doom is not None
        result = None
        with anyio.CancelScope() as scope, self._watched(doom, vault, scope):
            try:
                result = await act(vault)
            except SyncAgentError:
                pass
            except Exception:
                if not doom.has_come:
                    raise
        if doom.has_come:  # perhaps in something that nobody waited for
            await self._bury(device)
            return None
        if scope.cancel_called:
            self.done["cancelled"] += 1
            # As a write, after those that have lost their caller and are still to be done.
            await vault.parts()[0].cache.write(self.learn)
        return result

    async def opened(self, device: Device) -> Vault:
        """The vault of a device's process, which is started if there is none."""
        if device.vault is None:
            device.doom = Doom(device.folder, self.new_folder())
            device.vault = self._vault(device, device.doom)
            await device.vault.__aenter__()
        return device.vault

    @contextlib.asynccontextmanager
    async def another(self, device: Device) -> AsyncIterator[Vault]:
        """A second process of a device, beside the one it has."""
        await self.opened(device)
        assert device.doom is not None
        async with self._vault(device, device.doom) as vault:
            yield vault

    async def close_device(self, device: Device) -> None:
        """End a device's process in order; it starts again when it is needed."""
        vault, device.vault, device.doom = device.vault, None, None
        if vault is not None:
            await vault.__aexit__(None, None, None)
        for remote in device.remotes:
            self.done.update(injected.fault.name for injected in remote.injected)
        device.remotes.clear()

    @contextlib.contextmanager
    def database(self, device: Device) -> Iterator[Database]:
        """The cache of a device whose process is closed."""
        assert device.vault is None
        db = open_database(Profile(device.folder), self.root)
        try:
            yield db
        finally:
            db.close()

    def learn(self, db: Database) -> None:
        """Something may be in a cache of which nobody was told: it may stay, and it may be superseded."""
        for (number,) in db.all("SELECT no FROM version"):
            version = blobs.load_version(db, number)
            if Name(version.namespace, version.blob_id) != MINE:
                self.model.suspect(version)
        for namespace, id, flag, tag in db.all(
            "SELECT namespace.name, blob.id, flag, tag FROM flag_tag JOIN blob ON blob.no = blob_no"
            " JOIN namespace ON namespace.no = namespace_no"
        ):
            if Name(namespace, id) != MINE:
                self.model.flag_tags.setdefault(tag + (1 << 63), (Name(namespace, id), flag))
        self.model.removed_tags.update(tag + (1 << 63) for (tag,) in db.all("SELECT tag FROM flag_removed"))

    def batches(self) -> Iterator[Batch]:
        """Every batch at the remote."""
        for name, stored in self.store.objects.items():
            if name.startswith(names.JOURNAL):
                yield decode_batch(open_object(self.keys, name, stored.data))

    def published(self) -> set[bytes]:
        """Versions that a batch at the remote holds."""
        return {
            change.version.id
            for batch in self.batches()
            for change in batch.changes
            if isinstance(change, VersionChange)
        }

    async def is_all_there(self, device: Device) -> bool:
        """Whether the remote has all that a device has published; closes it.

        If not, the remote was put back and this device alone can heal it: to lose both is to lose data.
        """
        await self.close_device(device)
        with self.database(device) as db:
            published = [names.pack_object(pack.id) for pack in outbox.own_announced_packs(db)]
            published += [
                names.batch_object(DeviceId(row[0]), row[1])
                for row in db.all(
                    "SELECT id, own_batch.seq FROM own_batch JOIN device ON device.no = device_no"
                )
            ]
        return set(published) <= set(self.store.objects)

    async def doubt_what_is_nowhere(self) -> None:
        """A device has forgotten something: what is neither published nor in another cache may be lost."""
        kept = self.published()
        for device in self.devices:
            await self.close_device(device)
            with self.database(device) as db:
                kept |= {row[0] for row in db.all("SELECT id FROM version")}
        self.model.doubt(set(self.model.versions) - kept)
        self.model.doubt_flags()

    def new_folder(self) -> Path:
        """A path where nothing is."""
        self._copies += 1
        return self.folder / f"copy{self._copies}"

    def _vault(self, device: Device, doom: Doom) -> Vault:
        profile = Profile(device.folder)
        remote = FaultyRemote(self._make_remote(self.store), lambda call: _fault(device, call))
        device.remotes.append(remote)
        vault = Vault(
            profile,
            lambda: doomed(open_database(profile, self.root), doom),
            remote=DoomedRemote(remote, doom, lambda: vault),
            transfers=2,
            now=lambda: self.now + device.offset_s,
            random=lambda: 0.5,
        )
        return vault

    @contextlib.contextmanager
    def _watched(self, doom: Doom, vault: Vault, scope: anyio.CancelScope) -> Iterator[None]:
        """Count awaits, and end the process, or cancel what it does, at the one that is to be the last."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, SteppedLoop) or not doom.is_at_awaits:
            yield
            return

        def step() -> None:
            if doom.is_here(Kind.AWAIT):
                come_between_commits(doom, vault)
                scope.cancel()
            elif doom.is_here(Kind.CANCEL):
                scope.cancel()

        loop.watch = step
        try:
            yield
        finally:
            loop.watch = None

    async def _bury(self, device: Device) -> None:
        """After the end of a process: what it left is the copy made at that point."""
        assert device.doom is not None
        self.done[f"ended, counting {device.doom.kind.value}"] += 1
        image = device.doom.image
        with contextlib.suppress(Crashed):
            await self.close_device(device)
        shutil.rmtree(device.folder)
        image.rename(device.folder)
        with self.database(device) as db:
            self.learn(db)


def _fault(device: Device, call: object) -> Fault | None:
    if device.is_offline:
        return Fault.FAIL
    return next((rule.fault for rule in device.rules if rule.meets(call)), None)  # type: ignore[arg-type]  # it is a call


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

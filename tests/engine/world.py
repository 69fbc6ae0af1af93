"""What the engine's tests share: three devices of one vault on a memory remote, and remotes that can be led.

Each test starts from a copy of the same vault, whose devices have exchanged
everything and hold no blob. Closing a vault and opening its folder again is a
restart of the process as far as the cache is concerned.
"""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio

import syncagent
from syncagent import names
from syncagent.cache.db import Database
from syncagent.cache.profile import Profile, open_database
from syncagent.crypto.keys import RootSecret, VaultKeys
from syncagent.crypto.sealed import open_object
from syncagent.events import Event, Missed
from syncagent.journal.batch import decode_batch
from syncagent.journal.changes import Batch
from syncagent.model import DeviceId
from syncagent.remote.base import Body, ObjectInfo, ObjectPage, Remote, body_size
from syncagent.remote.memory import MemoryRemote, MemoryStore
from syncagent.reports import Progress
from syncagent.vault import Vault

T = TypeVar("T")

PASSPHRASE = "correct horse"
NOON = 2_000_000_000.0
"""Where clocks stand still: after the real clock with which the vault was made, or it would be far ahead."""


class Clock:
    """Unix seconds that move only when told to."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class World:
    """Devices `a`, `b` and `c` below one folder, and the store they sync over."""

    folder: Path
    store: MemoryStore
    root: RootSecret
    clock: Clock = field(default_factory=Clock)
    dice: float = 0.5

    def open(
        self, name: str, remote: Remote | None = None, *, transfers: int = 4, background: bool = False
    ) -> Vault:
        """One of the devices, for `async with`."""
        profile = Profile(self.folder / name)
        return Vault(
            profile,
            partial(open_database, profile, self.root),  # as `open_vault` does, without deriving the key
            background=background,
            remote=MemoryRemote(self.store) if remote is None else remote,
            transfers=transfers,
            now=self.clock,
            random=lambda: self.dice,
        )

    async def sync(self, name: str, remote: Remote | None = None) -> syncagent.SyncReport:
        """Open a device, sync it and close it."""
        async with self.open(name, remote) as vault:
            return await vault.sync()

    async def put(self, name: str, **blobs: bytes) -> None:
        """Put blobs into `notes` of a device, replacing what is there, and do not sync."""
        async with self.open(name) as vault:
            for blob_id, data in blobs.items():
                await vault.namespace("notes").put(blob_id, data, replace=True)

    async def put_and_sync(self, name: str, **blobs: bytes) -> None:
        """As `put`, and sync."""
        await self.put(name, **blobs)
        await self.sync(name)

    def remote(self) -> "LedRemote":
        """A remote on the store whose calls a test can watch, hold and fail."""
        return LedRemote(MemoryRemote(self.store))

    def names(self, prefix: str = "") -> list[str]:
        """Every object name under a prefix."""
        return sorted(name for name in self.store.objects if name.startswith(prefix))

    def data(self, name: str) -> bytes:
        """The bytes of an object."""
        return self.store.objects[name].data

    async def replace(self, name: str, data: bytes) -> None:
        """Let an object have other bytes."""
        await MemoryRemote(self.store).put(name, data, overwrite=True)

    async def flip(self, name: str, at: int = -20) -> bytes:
        """Change one byte of an object; the bytes it had."""
        before = self.data(name)
        changed = bytearray(before)
        changed[at] ^= 1
        await self.replace(name, bytes(changed))
        return before

    def hide(self, name: str) -> Callable[[], None]:
        """Take an object away; the call that brings it back."""
        stored = self.store.objects.pop(name)
        return partial(self.store.objects.__setitem__, name, stored)

    def clone(self, name: str, copy: str) -> None:
        """Copy a device's folder, as a backup does."""
        shutil.copytree(self.folder / name, self.folder / copy)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a remote; `size` is what it sends or asks for, -1 for all of an object."""

    method: str
    name: str
    size: int


Hook = Callable[[Call], Awaitable[None]]


async def _nothing(call: Call) -> None:
    return None


class LedRemote:
    """A `Remote` around another that notes its calls and runs a hook before and after each has its effect."""

    def __init__(self, inner: Remote) -> None:
        self.inner = inner
        self.before: Hook = _nothing
        self.after: Hook = _nothing
        self.calls: list[Call] = []

    def called(self, method: str, prefix: str = "") -> list[str]:
        """Names a method was called with, in order."""
        return [c.name for c in self.calls if c.method == method and c.name.startswith(prefix)]

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        await self._led(
            Call("put", name, body_size(body)), lambda: self.inner.put(name, body, overwrite=overwrite)
        )

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        size = -1 if stop is None else stop - start
        return await self._led(Call("get", name, size), lambda: self.inner.get(name, start, stop))

    async def head(self, name: str) -> ObjectInfo:
        return await self._led(Call("head", name, 0), lambda: self.inner.head(name))

    async def delete(self, name: str) -> None:
        await self._led(Call("delete", name, 0), lambda: self.inner.delete(name))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        return await self._led(
            Call("list", prefix, 0), lambda: self.inner.list(prefix, after=after, limit=limit)
        )

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        return await self.inner.wait_for_change(cursor, timeout_s)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _led(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(call)
        await self.before(call)
        result = await act()
        await self.after(call)
        return result


class GateRemote(LedRemote):
    """Holds every transfer of packs until `release`; tells how many, and how many bytes, are under way."""

    def __init__(self, inner: Remote) -> None:
        super().__init__(inner)
        self.before = self._hold
        self.is_open = False
        self.held: list[tuple[Call, anyio.Event]] = []
        self.running = 0
        self.most_running = 0
        self.bytes = 0
        self.most_bytes = 0

    async def wait_held(self, count: int) -> None:
        """Wait until so many transfers are held, and everything else has come to rest."""
        with anyio.fail_after(10):
            while len(self.held) < count:
                await anyio.sleep(0.001)
        await anyio.wait_all_tasks_blocked()

    def release(self, index: int = 0) -> Call:
        """Let one held transfer go on."""
        call, event = self.held.pop(index)
        event.set()
        return call

    def open(self) -> None:
        """Hold nothing any more."""
        self.is_open = True
        while self.held:
            self.release()

    async def _hold(self, call: Call) -> None:
        if call.method not in ("put", "get") or not call.name.startswith(names.PACKS):
            return
        self.running += 1
        self.bytes += call.size
        self.most_running = max(self.most_running, self.running)
        self.most_bytes = max(self.most_bytes, self.bytes)
        try:
            if not self.is_open:
                event = anyio.Event()
                self.held.append((call, event))
                try:
                    await event.wait()
                finally:
                    self.held = [(c, e) for c, e in self.held if e is not event]
        finally:
            self.running -= 1
            self.bytes -= call.size


class Fails:
    """A hook that raises its error for matching calls, so many times."""

    def __init__(
        self, error: Exception, method: str, prefix: str = "", *, times: int = 1_000_000, skip: int = 0
    ) -> None:
        self.error = error
        self.method = method
        self.prefix = prefix
        self.times = times
        self.skip = skip

    async def __call__(self, call: Call) -> None:
        if call.method != self.method or not call.name.startswith(self.prefix):
            return
        if self.skip:
            self.skip -= 1
        elif self.times:
            self.times -= 1
            raise self.error


class GoesAway:
    """A hook that lets `skip` matching calls pass; from the next one on, every call raises its error."""

    def __init__(self, error: Exception, method: str, prefix: str = "", *, skip: int = 0) -> None:
        self.first = Fails(error, method, prefix, skip=skip)
        self.is_gone = False

    async def __call__(self, call: Call) -> None:
        if self.is_gone:
            raise self.first.error
        try:
            await self.first(call)
        except type(self.first.error):
            self.is_gone = True
            raise


async def use(vault: Vault, remote: Remote) -> None:
    """Let an open vault go on with another remote."""
    _, engine = vault.parts()
    await engine.remote()
    engine._remotes.append(remote)


async def rows(vault: Vault, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    """What a query over the cache gives."""

    def query(db: Database) -> list[tuple[object, ...]]:
        return db.all(sql, parameters)

    return await vault.parts()[0].cache.read(query)


async def change(vault: Vault, sql: str, *parameters: object) -> int:
    """Change rows behind the library's back, as a bad disk does; how many."""

    def run(db: Database) -> int:
        return db.changed(sql, parameters)

    return await vault.parts()[0].cache.write(run)


async def damage_content(vault: Vault, blob_id: str) -> None:
    """Spoil the stored content of a small blob."""
    count = await change(
        vault,
        "UPDATE payload SET bytes = zeroblob(length(bytes)) WHERE no IN (SELECT payload_no FROM chunk"
        " JOIN version_chunk ON chunk_no = chunk.no JOIN blob ON blob.winner_no = version_no"
        " WHERE blob.id = ?)",
        blob_id,
    )
    assert count == 1


async def damage_version(vault: Vault, blob_id: str) -> None:
    """Spoil the stored fields of a blob's winning version."""
    count = await change(
        vault,
        "UPDATE packed SET bytes = zeroblob(length(bytes)) WHERE no IN (SELECT packed_no FROM version"
        " JOIN blob ON blob.winner_no = version.no WHERE blob.id = ?)",
        blob_id,
    )
    assert count == 1


async def batches(world: World, vault: Vault, device: str | None = None) -> dict[int, Batch]:
    """The opened batches of a device's journal at the remote, by number."""
    ctx, _ = vault.parts()
    owner = DeviceId(bytes.fromhex(device or vault.device_id))
    return {
        names.batch_seq(name): opened(ctx.keys, name, world.data(name))
        for name in world.names(names.journal_prefix(owner))
    }


def opened(keys: VaultKeys, name: str, data: bytes) -> Batch:
    """A batch from its object."""
    return decode_batch(open_object(keys, name, data))


async def listed(vault: Vault) -> dict[str, syncagent.BlobInfo]:
    """Live blobs of `notes` by id."""
    return {blob.id: blob for blob in (await vault.namespace("notes").list()).blobs}


END = Missed(-1)
"""No event: it ends what a listener has been told so far."""


async def heard(vault: Vault, events: AsyncIterator[Event]) -> list[Event]:
    """All that a listener can be told now, without progress."""
    await vault.parts()[1].events.emit_after(END)
    found: list[Event] = []
    while (event := await anext(events)) is not END:
        if not isinstance(event, Progress):
            found.append(event)
    return found


async def statuses(vault: Vault) -> dict[str, str]:
    """The status name of each live blob of `notes`."""
    return {blob_id: blob.status.name for blob_id, blob in (await listed(vault)).items()}


def kinds(report: syncagent.SyncReport) -> list[str]:
    """The kinds of a report's alarms."""
    return [alarm.kind for alarm in report.alarms]

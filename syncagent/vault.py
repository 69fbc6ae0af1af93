"""An open vault: its namespaces, and sync.

`open_vault` opens one that `create_vault` or `join_vault` (membership.py) has
made. A vault belongs to one event loop; several processes may open the same.
"""

import os
import random as dice
import time
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from syncagent import devices, names, places, slots, state
from syncagent.answers import ChangePage
from syncagent.cache import meta, news, queries
from syncagent.cache.commit import Cache
from syncagent.cache.db import Database
from syncagent.cache.place import Place
from syncagent.cache.profile import Credential, Profile, unlock_profile
from syncagent.crypto.keys import RootSecret, VaultKeys
from syncagent.crypto.keyslot import DEFAULT_KDF, FLOOR_KDF, KdfParameters, SlotKind, passphrase_bytes
from syncagent.crypto.recovery import new_recovery_code, recovery_bytes
from syncagent.engine.context import PACKS_UNDER_WAY, Context
from syncagent.engine.engine import Engine
from syncagent.engine.gate import TRANSFERS, TransferGate
from syncagent.engine.loop import BackgroundSync
from syncagent.engine.records import check_vault
from syncagent.engine.report import Listener
from syncagent.errors import ConfigError
from syncagent.events import Event
from syncagent.model import DeviceId
from syncagent.namespace import Namespace
from syncagent.remote.base import Remote
from syncagent.reports import (
    DeviceInfo,
    Explanation,
    KeySlotInfo,
    NamespaceInfo,
    RemoteInfo,
    SyncReport,
    VaultStatus,
)
from syncagent.transaction import Transaction


def open_vault(
    path: str | os.PathLike[str],
    *,
    passphrase: str | None = None,
    recovery_code: str | None = None,
    background: bool = False,
    remote: Remote | None = None,
    transfers: int = TRANSFERS,
    now: Callable[[], float] = time.time,
    random: Callable[[], float] = dice.random,
) -> "Vault":
    """A vault on this device, for `async with`.

    Entering it derives the key, which takes about 0.1 s, and needs no remote.

    Args:
        path: the vault's profile folder.
        passphrase: or
        recovery_code: what opens a key slot.
        background: sync by itself for as long as the vault is open: at once, soon after each change
            here or at the remote, and every 10 to 30 s, or up to 5 minutes with a remote that tells of
            changes; `events` and `status` tell how it goes. Leaving does not wait for what is not sent yet
            (`barrier` does).
        remote: used instead of the vault's own URL; the vault closes it. For your own kind of remote.
        transfers: most objects under way at once, 1 to 8.
        now: Unix time in seconds.
        random: a float in [0, 1), for the jitter of retries.

    Raises (on entering):
        VaultNotFound: there is no vault at the path.
        WrongPassphrase: no key slot opens.
        TooNew: a newer syncagent has changed the cache.
        CacheDamaged: the cache cannot be read.
    """
    profile = Profile(Path(path))
    credential = Credential.of(passphrase=passphrase, recovery_code=recovery_code)
    return Vault(
        profile,
        partial(unlock_profile, profile, credential),
        background=background,
        remote=remote,
        transfers=transfers,
        now=now,
        random=random,
    )


class Vault:
    """An open vault. Made by `open_vault`; usable inside its `async with` only."""

    def __init__(
        self,
        profile: Profile,
        unlock: Callable[[], Database],
        *,
        background: bool = False,
        remote: Remote | None = None,
        transfers: int = TRANSFERS,
        now: Callable[[], float] = time.time,
        random: Callable[[], float] = dice.random,
    ) -> None:
        self._profile = profile
        self._unlock = unlock
        self._is_background = background
        self._given_remote = remote
        self._transfers = transfers
        self._now = now
        self._random = random
        self._ctx: Context | None = None
        self._device = DeviceId(b"")
        self._engine: Engine | None = None
        self._loop: BackgroundSync | None = None
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        if self._ctx is not None:
            raise ConfigError("this vault is open already")
        db = await anyio.to_thread.run_sync(self._unlock)
        try:
            self._ctx = self._context(db)
            self._device = db.run(meta.device_id)
        except BaseException:
            db.close()
            raise
        self._engine = Engine(self._ctx, self._open_remote, TransferGate(self._transfers))
        if self._is_background:
            self._loop = BackgroundSync(self._ctx, self._engine)
            self._engine.tell_changes(self._loop.change)
            self._tasks = anyio.create_task_group()
            await self._tasks.__aenter__()
            self._tasks.start_soon(self._loop.run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return await self._stop_loop(kind, exc, trace)
        finally:
            ctx, engine = self._ctx, self._engine
            self._ctx = self._engine = None
            with anyio.move_on_after(10, shield=True):
                if engine is not None:
                    await engine.events.aclose()
                    await engine.aclose()
            if ctx is not None:
                with anyio.move_on_after(10, shield=True):
                    await ctx.reads.flush(ctx.cache)
                await ctx.cache.aclose()

    @property
    def id(self) -> str:
        """The vault's id in hex: the same on every device."""
        return self.parts()[0].vault.hex()

    @property
    def device_id(self) -> str:
        """This device's id in hex.

        It changes when a sync finds that the profile was copied or restored from a backup.
        """
        _, engine = self.parts()
        return (engine.device or self._device).hex()

    def namespace(self, name: str) -> Namespace:
        """A namespace by name; it comes into being with its first blob. Raises `InvalidName`."""
        ctx, engine = self.parts()
        return Namespace(names.check_namespace(name), ctx, engine)

    async def namespaces(self) -> tuple[NamespaceInfo, ...]:
        """The namespaces that hold a blob, by name, with how many; answered without the remote."""
        ctx, _ = self.parts()
        return await ctx.cache.read(partial(queries.namespaces, now_ms=ctx.now_ms()))

    def transaction(self) -> Transaction:
        """Several changes as one: `async with vault.transaction() as tx`; see `Transaction`."""
        ctx, engine = self.parts()
        return Transaction(ctx, engine)

    async def sync(self, *, progress: Listener | None = None) -> SyncReport:
        """Bring this device and the remote to the same state.

        Reads what other devices have published, then sends and fetches side by
        side. Blobs that fail for a reason of their own are in the report, the others
        go on; what must not pass in silence is in `report.alarms`.

        Args:
            progress: called now and then while it runs, from the event loop; must not block.

        Raises:
            VaultInUse: another process is syncing this vault, or another `Vault` of this one. A round of this
                one, in the background or for another task, is waited for.
            TransientRemoteError: the remote does not answer; everything stays pending.
            RemoteStopped: the remote refuses until the user acts; everything stays pending.
            RemoteRolledBack, WrongVault, RemoteForked: the remote is not what this device knew.
            CacheFull: no room to fetch; what could be sent was sent.
        """
        return await self.parts()[1].sync(progress)

    async def send_missing(
        self, namespace: str | None = None, *, progress: Listener | None = None
    ) -> SyncReport:
        """Send what the remote lacks, of one namespace or all; raises as `sync` does."""
        return await self.parts()[1].send(_checked(namespace), progress)

    async def fetch_missing(
        self, namespace: str | None = None, *, progress: Listener | None = None
    ) -> SyncReport:
        """Read journals, then fetch what is lacking here, of one namespace or all; raises as `sync` does."""
        return await self.parts()[1].fetch(_checked(namespace), progress)

    async def status(self) -> VaultStatus:
        """Counts, last sync and what is in the way; answered without the remote."""
        return await state.status(self.parts()[0])

    async def changes(
        self, since: str | None = None, *, limit: int = 1000, details: bool = False
    ) -> ChangePage:
        """What has changed here since a token, by this device or another, in order; without the remote.

        For an application that keeps an index of its own: take the first pages without a token (every
        live blob, each once), store each page's `token` with what was made of the page, and ask with the last
        one from then on. A page tells how its blobs look now, not how they came to look so; a blob that
        goes on changing may come again. A change of content, metadata, flags, expiry, conflict or sync status
        counts; that it was read does not, and neither does that its time has come: mind `expires_at`. The
        token outlives restarts, and belongs to this device's cache.

        Args:
            since: `token` of the page before; None from the beginning.
            limit: most changes a page, 1 to 10,000.
            details: with the flags and the metadata of each blob.

        Raises:
            TokenExpired: it cannot be told. The last 250,000 changes are remembered, and an older copy of
                the cache that was restored does not know what was lost. Empty the index, begin without a
                token.
        """
        return await state.changes(self.parts()[0], since, limit, details=details)

    def events(
        self, *, queue: int = 1000, only: Collection[type[Event]] | None = None
    ) -> AsyncIterator[Event]:
        """What happens from this call on: `async for event in vault.events()`; see `syncagent.events`.

        Of blobs everything, whichever way this device learns of it: what is put, deleted, sent and fetched
        here, what comes from other devices, and what other processes do as soon as this one commits or syncs:
        also what they did since it last did so, before this call.
        Of syncs those of this process, also the background's first one if the vault was entered just before.
        It ends when the vault is closed, and costs nothing once nobody holds the iterator. A listener that
        did not hear what happened asks `changes`.

        Args:
            queue: most events that wait for a slow listener. Then the oldest are dropped, and `Missed` says
                how many. Progress is told ten times a second at most, and only the newest waits.
            only: the types that this listener hears, `Missed` besides: one of `(SyncFinished,)` cannot be
                crowded out by a hundred thousand blobs that come with a sync.
        """
        if queue < 1:
            raise ConfigError(f"a queue has room for one event at least, not {queue}")
        return self.parts()[1].events.listen(queue, only)

    async def explain(self, namespace: str, blob_id: str) -> Explanation:
        """Why a blob is not in sync, when it is tried next, and what would help; without the remote.

        Raises:
            BlobNotFound: this device has never known a blob of this name. A deleted one is explained too.
        """
        return await state.explain(self.parts()[0], namespace, blob_id)

    async def retry(self, namespace: str | None = None, blob_id: str | None = None) -> int:
        """Make everything that waits after a failure due at the next sync, also what was given up.

        Args:
            namespace: only blobs of this namespace.
            blob_id: only this blob of it.

        Returns:
            How many blobs and changes were waiting.
        """
        count = await state.retry(self.parts()[0], namespace, blob_id)
        if self._loop is not None:
            self._loop.resume()
        return count

    async def barrier(self, timeout_s: float | None = None) -> None:
        """Send, until everything put, changed or deleted here before the call is at the remote.

        Raises:
            TimeoutError: not all of it is there after `timeout_s` seconds; what is not stays pending.
            SyncAgentError: what stopped it: the remote as a whole, or a failure of one of the blobs. What
                failed before and is not due yet stops it too: `retry` makes it due.
        """
        _, engine = self.parts()
        with anyio.fail_after(timeout_s):
            await engine.barrier()

    async def devices(self) -> tuple[DeviceInfo, ...]:
        """Every device of the vault that is known here, this one first."""
        return await devices.list_devices(self.parts()[0])

    async def rename_device(self, device: str, name: str) -> DeviceInfo:
        """Call a device something else, for all devices with the next syncs.

        Args:
            device: its present name, or at least 4 digits of its id.
            name: 1 to 255 bytes without NUL.
        """
        info = await devices.rename_device(self.parts()[0], device, name)
        self.parts()[1].note_change()
        return info

    async def remove_device(self, device: str) -> DeviceInfo:
        """Say that a device is gone. What it has put stays; it is not locked out, for it has the keys."""
        info = await devices.retire_device(self.parts()[0], device)
        self.parts()[1].note_change()
        return info

    async def key_slots(self) -> tuple[KeySlotInfo, ...]:
        """What opens the vault on this device."""
        return await slots.slot_infos(self.parts()[0])

    async def change_passphrase(self, passphrase: str, *, kdf: KdfParameters = DEFAULT_KDF) -> None:
        """Let a new passphrase open the vault, and the old one no more: here at once, for those who join as
        soon as it is published, on other devices with their next sync.

        The vault's keys stay as they are: who had the old passphrase and a copy of this folder or of the
        remote can still open what is in the copy.

        Raises:
            RemoteError: the remote cannot be used; see `replace_slots` for what is in force then.
        """
        ctx, engine = self.parts()
        await slots.replace_slots(ctx, engine, SlotKind.PASSPHRASE, passphrase_bytes(passphrase), kdf)

    async def new_recovery_code(self) -> str:
        """A new recovery code in the place of the old one, shown only here; raises as `change_passphrase`."""
        ctx, engine = self.parts()
        code = new_recovery_code()
        await slots.replace_slots(ctx, engine, SlotKind.RECOVERY, recovery_bytes(code), FLOOR_KDF)
        return code

    async def remote_info(self) -> RemoteInfo:
        """Where the vault's remote is, and whether a token is kept for it."""
        return await places.describe(self.parts()[0])

    async def check_remote(self) -> None:
        """Ask the remote whether it holds this vault.

        Raises:
            RemoteError: it cannot be reached or does not answer as it should.
            RemoteRolledBack, WrongVault: it is there, and this vault is not.
        """
        ctx, engine = self.parts()
        await check_vault(ctx, await engine.remote())

    async def set_remote(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        client_cert: str | os.PathLike[str] | None = None,
    ) -> None:
        """Sync with another remote from now on: a complete copy of the present one, made by whatever means.

        Or with the same one, by another token. What is not given stays as it is at the same server; at
        another one it is none. Empty is none too.

        Args:
            url: as for `join_vault`; the present one by default.
            token: see `create_vault`, as for the following.
            ca_file: certificates to trust instead of the system's.
            client_cert: this device's certificate and key.

        Raises:
            VaultNotFound: no vault is there. A device never puts its vault where none is.
            WrongVault: another vault is there. In both cases nothing was changed.
            RemoteError: it cannot be reached, or does not take the token; nothing was changed.
        """
        ctx, _ = self.parts()
        await places.move(ctx, url, token=token, ca_file=ca_file, client_cert=client_cert)
        if self._loop is not None:
            self._loop.renew()

    def parts(self) -> tuple[Context, Engine]:
        """The vault's inside, for the package's own use. `ConfigError` when it is not open."""
        if self._ctx is None or self._engine is None:
            raise ConfigError("this vault is not open: use it inside `async with open_vault(…)`")
        return self._ctx, self._engine

    async def _stop_loop(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """End the background loop, if there is one, and leave its task group."""
        tasks, self._tasks, self._loop = self._tasks, None, None
        if tasks is None:
            return None
        tasks.cancel_scope.cancel()
        try:
            return await tasks.__aexit__(kind, exc, trace)
        except BaseExceptionGroup as group:
            if exc is not None and group.exceptions == (exc,):
                return None  # what the user's own block raised leaves as it is
            raise

    def _context(self, db: Database) -> Context:
        return Context(
            cache=Cache(db, db.run(news.last_no), news.mark_new),
            keys=VaultKeys(RootSecret(db.run(partial(meta.get_bytes, key=meta.ROOT)))),
            profile=self._profile,
            vault=db.run(meta.vault_id),
            now=self._now,
            random=self._random,
            workers=anyio.CapacityLimiter(max(2, os.cpu_count() or 2)),
            packs=anyio.CapacityLimiter(PACKS_UNDER_WAY),
        )

    async def _open_remote(self, place: Place) -> Remote:
        return await places.open_place(place) if self._given_remote is None else self._given_remote


def _checked(namespace: str | None) -> str | None:
    return None if namespace is None else names.check_namespace(namespace)

"""The sync engine of one open vault: whole rounds, and content someone waits for.

    sync    journals in, then send-missing and fetch-missing side by side
    send    send-missing alone          fetch   journals in, then fetch-missing
    fetch_now   content of one version, ahead of everything queued

One process runs rounds at a time (`cache/lock.py`), and of one vault's rounds one comes after another;
`fetch_now` needs neither.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from syncagent import names
from syncagent.cache import alarms, blobs, meta, waiting
from syncagent.cache.lock import SyncLock
from syncagent.cache.place import Place, load_place
from syncagent.engine.broadcast import Broadcast
from syncagent.engine.context import Context
from syncagent.engine.expiring import give_up_expired
from syncagent.engine.fetch import Fetcher, Part
from syncagent.engine.gate import TransferGate
from syncagent.engine.herald import Herald
from syncagent.engine.identity import become_new_device
from syncagent.engine.listing import list_names
from syncagent.engine.outcome import note_failure, note_success
from syncagent.engine.own import heal_slots
from syncagent.engine.proof import note_doubt, seen_since_ms
from syncagent.engine.publish import OutboxDamaged, ProfileCopied
from syncagent.engine.pull import pull
from syncagent.engine.records import check_vault, put_device_record
from syncagent.engine.report import Arrivals, Listener, Meter, Tally
from syncagent.engine.send import Sender
from syncagent.engine.settings import settle_policies
from syncagent.engine.slots import delete_dropped, refresh_slots
from syncagent.engine.sweeping import sweep_leftovers
from syncagent.engine.tasks import run_together
from syncagent.engine.trouble import FailsAlone
from syncagent.errors import (
    CacheDamaged,
    CacheFull,
    ObjectError,
    OpenError,
    RemoteError,
    RemoteStopped,
    SyncAgentError,
    VaultInUse,
)
from syncagent.model import DeviceId
from syncagent.remote.base import PATIENCE_S, Remote
from syncagent.remote.retry import RetryRemote
from syncagent.reports import Alarm, SyncReport, SyncState
from syncagent.wording import counted

BARRIER_FIRST_S = 0.02
BARRIER_MOST_S = 1.0
"""Pauses of a barrier that waits for another process's sync."""

WAITING_S = 6.0
"""So long a remote may be silent for somebody who waits. It is asked once more, whether it is there."""
WAITING_AWAY_S = 2.0
"""The same where the last sync has found it away."""

_ONLY_SENDING = (ObjectError, OpenError, CacheDamaged, RemoteStopped)
"""What ends sending and not fetching: a batch of ours that is refused, a remote that is full or read-only."""

Job = Callable[[], Coroutine[Any, Any, None]]


class Engine:
    """Runs rounds against one remote, which it opens on first use.

    Args:
        ctx: the open vault.
        open_remote: gives the remote at a place; what it gives is closed by `aclose`.
        gate: the one limit over all transfers.
    """

    def __init__(
        self, ctx: Context, open_remote: Callable[[Place], Awaitable[Remote]], gate: TransferGate
    ) -> None:
        self._ctx = ctx
        self._open_remote = open_remote
        self.gate = gate
        self._opening = anyio.Lock()
        self._turn = anyio.Lock()
        self._fetching: dict[int, _Fetching] = {}
        self._place: Place | None = None
        self._remotes: list[Remote] = []
        self._on_change: Callable[[], None] | None = None
        self.events = Broadcast(ctx.cache)
        self.herald = Herald(self.events)
        self._arrivals = Arrivals()
        self.lock = SyncLock(ctx.profile.lock)
        self.device: DeviceId | None = None
        """The new id that a round has given this device, if one has."""

    async def sync(self, listener: Listener | None = None) -> SyncReport:
        """One whole round. See `Vault.sync`."""
        return await self._round(listener, None, does_pull=True, does_send=True, does_fetch=True)

    async def send(self, namespace: str | None, listener: Listener | None = None) -> SyncReport:
        """Send-missing alone. See `Vault.send_missing`."""
        return await self._round(listener, namespace, does_pull=False, does_send=True, does_fetch=False)

    async def fetch(self, namespace: str | None, listener: Listener | None = None) -> SyncReport:
        """Journals in, then fetch-missing. See `Vault.fetch_missing`."""
        return await self._round(listener, namespace, does_pull=True, does_send=False, does_fetch=True)

    async def barrier(self) -> None:
        """Send until what waits now is at the remote. See `Vault.barrier`."""
        read = self._ctx.cache.read
        until = await read(waiting.mark)
        left = await read(partial(waiting.unpublished, until=until))
        pause_s = BARRIER_FIRST_S
        while left.count:
            try:
                report = await self.send(None)
            except VaultInUse:  # whoever it is may be sending what is waited for
                report = None
                await anyio.sleep(pause_s)
                pause_s = min(pause_s * 1.5, BARRIER_MOST_S)
            before, left = left, await read(partial(waiting.unpublished, until=until))
            if left.count and report is not None:
                if left.error is not None:
                    raise waiting.kind_of(left.error)(left.error.partition(": ")[2])
                if left.count == before.count and not report.sent:
                    raise SyncAgentError(f"{counted(left.count, 'change')} not sent, and nothing says why")

    async def read_journals(self) -> tuple[Alarm, ...]:
        """Journals in alone, for a device that has just joined; its alarms, kept for the first report too."""
        remote = await self.remote()
        await check_vault(self._ctx, remote)
        found = (await pull(self._ctx, remote, self.gate, Arrivals())).alarms
        await self._ctx.cache.write(partial(alarms.keep, found=found))
        return tuple(dict.fromkeys(found))

    async def fetch_now(
        self, versions: Iterable[int], *, part: Part | None = None
    ) -> dict[int, SyncAgentError]:
        """Fetch content ahead of everything queued; why, for each version that could not be.

        Args:
            versions: whose content; with `part` its version alone.
            part: only these chunks of it, and whether they are kept.

        Raises:
            RemoteError: the remote as a whole does not answer. That is told at once: somebody waits.
        """
        wanted = tuple(versions)
        if part is not None or len(wanted) != 1:
            return await self._fetch_now(wanted, part)
        # Five who ask for the same have it fetched once, and are told the same.
        while (running := self._fetching.get(wanted[0])) is not None:
            await running.over.wait()
            if running.error is not None:
                raise running.error
            if running.causes is not None:
                return running.causes  # else whoever fetched it was cancelled
        running = self._fetching[wanted[0]] = _Fetching()
        try:
            running.causes = await self._fetch_now(wanted, None)
        except SyncAgentError as exc:
            running.error = exc
            raise
        finally:
            del self._fetching[wanted[0]]
            running.over.set()
        return running.causes

    async def _fetch_now(self, versions: Sequence[int], part: Part | None) -> dict[int, SyncAgentError]:
        remote = await self.remote()
        if isinstance(remote, RetryRemote):
            remote = remote.once()
        fetcher = Fetcher(
            self._ctx, remote, self.gate, Tally(), Meter("fetch", None), interactive=True, part=part
        )
        failures = await self._ctx.cache.read(partial(meta.find_int, key=meta.SYNC_FAILURES))
        patience = PATIENCE_S.set(WAITING_AWAY_S if failures else WAITING_S)
        try:
            await fetcher.fetch(versions)
        finally:
            PATIENCE_S.reset(patience)
        return fetcher.causes

    def tell_changes(self, listener: Callable[[], None] | None) -> None:
        """Who is told of changes made on this device; from the event loop, must not block."""
        self._on_change = listener

    def note_change(self) -> None:
        """Something was put or deleted here and is durable."""
        if self._on_change is not None:
            self._on_change()

    async def probe(self) -> None:
        """Ask the remote one small question; any answer will do.

        Raises:
            RemoteError: it does not answer. That is noted as a sync's failure is.
        """
        try:
            with contextlib.suppress(ObjectError):
                await (await self.remote()).head(names.VAULT)
        except RemoteError as exc:
            await self._note_failure(exc, Tally())
            raise

    async def aclose(self) -> None:
        """Close the remote, and those before it."""
        remotes, self._remotes, self._place = self._remotes, [], None
        for remote in remotes:
            await remote.aclose()

    async def _round(
        self,
        listener: Listener | None,
        namespace: str | None,
        *,
        does_pull: bool,
        does_send: bool,
        does_fetch: bool,
    ) -> SyncReport:
        async with self._turn:
            return await self._turn_round(
                listener, namespace, does_pull=does_pull, does_send=does_send, does_fetch=does_fetch
            )

    async def _turn_round(
        self,
        listener: Listener | None,
        namespace: str | None,
        *,
        does_pull: bool,
        does_send: bool,
        does_fetch: bool,
    ) -> SyncReport:
        started = time.monotonic()
        tally = Tally()
        listener = self.herald.progress(listener)
        with contextlib.ExitStack() as held:
            await self._hold_lock(held)
            try:
                await self.herald.start()
                try:
                    try:
                        await self._run(tally, listener, namespace, does_pull, does_send, does_fetch)
                    except (ProfileCopied, OutboxDamaged) as exc:
                        await self._become_new_device(exc, tally)
                        # What our other self has published must be known before anything is published again.
                        await self._run(tally, listener, namespace, True, does_send, does_fetch)
                    if await sweep_leftovers(self._ctx):
                        await give_up_expired(self._ctx, await self.remote())
                except VaultInUse:
                    raise
                except SyncAgentError as exc:
                    await self._note_failure(exc, tally)
                    raise
                # Alarms that are noted as told are told: from here nothing cuts off the way to the caller.
                with anyio.CancelScope(shield=True):
                    told = await self._note_success(tally)
                    report = self._report(tally, told, time.monotonic() - started)
                    await self.herald.finish(report)
            except SyncAgentError as exc:
                await self.herald.fail(exc)
                raise
            except BaseException:
                self.herald.interrupt()
                raise
        return report

    def _report(self, tally: Tally, told: tuple[Alarm, ...], duration_s: float) -> SyncReport:
        arrivals, more = self._arrivals.take()
        return SyncReport(
            sent=tally.sent,
            fetched=tally.fetched,
            failed=len(tally.failures),
            sent_bytes=tally.sent_bytes,
            fetched_bytes=tally.fetched_bytes,
            conflicts=tally.conflicts,
            alarms=told,
            failures=tuple(tally.failures.values()),
            duration_s=duration_s,
            arrivals=arrivals,
            more_arrivals=more,
        )

    async def _hold_lock(self, held: contextlib.ExitStack) -> None:
        try:
            held.enter_context(self.lock.held())
        except VaultInUse:
            raise  # who asked for this sync waits, or does not
        except SyncAgentError as exc:
            await self.herald.fail(exc)
            raise

    async def _become_new_device(self, cause: ProfileCopied | OutboxDamaged, tally: Tally) -> None:
        tally.alarms.append(await become_new_device(self._ctx, await self.remote(), cause))
        self.device = await self._ctx.cache.read(meta.device_id)

    async def _run(
        self,
        tally: Tally,
        listener: Listener | None,
        namespace: str | None,
        does_pull: bool,
        does_send: bool,
        does_fetch: bool,
    ) -> None:
        ctx = self._ctx
        remote = await self.remote()
        await check_vault(ctx, remote)
        if await ctx.cache.read(partial(waiting.has_far_times, now_ms=ctx.now_ms())):
            await ctx.cache.write(partial(waiting.mend_times, now_ms=ctx.now_ms()))
        if does_pull:
            slots_there = await list_names(remote, names.KEYS)
            pulled = await pull(ctx, remote, self.gate, self._arrivals)
            if not pulled.is_listed:  # the remote has lost it, or this device has a new id
                joined_at_ms = (
                    await ctx.cache.read(partial(meta.find_int, key=meta.JOINED_AT)) or ctx.now_ms()
                )
                await put_device_record(remote, ctx.keys, await ctx.cache.read(meta.device_id), joined_at_ms)
            tally.conflicts += len(pulled.conflicts)
            tally.fetched += pulled.arrived
            tally.alarms += pulled.alarms
            await note_doubt(ctx, pulled.alarms)
            await refresh_slots(ctx, remote)
            tally.alarms += await heal_slots(ctx, remote, slots_there)
        await settle_policies(ctx)
        number = None
        if namespace is not None:
            # -1 for a namespace that is not known here: it has nothing to send or fetch.
            number = await ctx.cache.read(partial(blobs.find_namespace, name=namespace)) or -1
        held: list[SyncAgentError] = []
        jobs: list[Job] = []
        if does_send:
            since_ms = await seen_since_ms(ctx)
            sender = Sender(
                *(ctx, remote, self.gate, tally, Meter("send", listener)),
                seen_since_ms=since_ms,
                namespace=number,
            )
            jobs.append(partial(_apart, sender.run, _ONLY_SENDING, held))
        if does_fetch:
            fetcher = Fetcher(ctx, remote, self.gate, tally, Meter("fetch", listener), namespace=number)
            jobs.append(partial(_apart, fetcher.run, (CacheFull,), held))
        await run_together(jobs)
        if held:
            raise held[0]
        if does_send:
            await delete_dropped(ctx, remote)

    async def remote(self) -> Remote:
        """The remote, opened on first use and when the vault has moved since, in this or another process.

        The one before stays open, for somebody may still read from it; those before that are closed.
        """
        async with self._opening:
            place = await self._ctx.cache.read(load_place)
            if place != self._place:
                opened = await self._open_remote(place)
                self._place = place
                if opened not in self._remotes:
                    self._remotes.append(opened)
            while len(self._remotes) > 2:
                await self._remotes.pop(0).aclose()
            return self._remotes[-1]

    def forget_connections(self) -> None:
        """Whatever is connected is likely dead: what is asked next goes over new connections."""
        self._place = None

    async def _note_failure(self, error: SyncAgentError, tally: Tally) -> None:
        failure = await note_failure(self._ctx, error, tally.alarms)
        if failure.is_new:
            self.herald.change_state(failure.state, error)

    async def _note_success(self, tally: Tally) -> tuple[Alarm, ...]:
        success = await note_success(self._ctx, tally.alarms)
        if success.is_recovery:
            self.herald.change_state(SyncState.READY)
        return success.alarms


class _Fetching:
    """Content of one version under way for those who wait for it, and how that went."""

    __slots__ = ("causes", "error", "over")

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.causes: dict[int, SyncAgentError] | None = None
        self.error: SyncAgentError | None = None


async def _apart(run: Job, kinds: tuple[type[SyncAgentError], ...], held: list[SyncAgentError]) -> None:
    """Run one half of a sync; these of its errors wait until the other half is done."""
    try:
        await run()
    except OutboxDamaged:
        raise
    except FailsAlone as exc:
        held.append(exc.cause)
    except kinds as exc:
        held.append(exc)

"""The background loop: when it syncs, how long it waits, and that nothing but leaving the vault ends it."""

import contextlib
import os
from collections.abc import Awaitable, Callable

import anyio
import pytest

from syncagent import names
from syncagent.cache.lock import SyncLock
from syncagent.engine.backoff import STOPPED_S, interval_s
from syncagent.engine.herald import WAITS_TOLD
from syncagent.engine.loop import IN_USE_S, BackgroundSync
from syncagent.engine.watch import GATHER_S, LOOK_S, POLL_DEAD_S, POLL_S
from syncagent.errors import (
    ConfigError,
    QuotaExceeded,
    SyncAgentError,
    Unreachable,
    UnsupportedByRemote,
)
from syncagent.events import SyncFinished, SyncStarted, SyncWaiting
from syncagent.remote.memory import MemoryRemote
from syncagent.reports import SyncState
from syncagent.vault import Vault
from tests.engine.world import Fails, LedRemote, World, heard, statuses

pytestmark = pytest.mark.anyio

Step = Callable[[], Awaitable[bool]]
ROUNDS = (SyncFinished, SyncWaiting)


class Unwatched(LedRemote):
    """A remote that cannot tell of changes."""

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        raise UnsupportedByRemote("no")


class Waits:
    """Stands in for waiting: notes how long it was to be, moves the clock so far, and lets steps happen."""

    def __init__(self, world: World, *steps: Step | None) -> None:
        self.world = world
        self.steps = list(steps)
        self.seconds: list[float] = []
        self.scope = anyio.CancelScope()

    async def __call__(self, event: anyio.Event, seconds: float) -> bool:
        if seconds == GATHER_S:
            return False
        if seconds in (LOOK_S, POLL_S + POLL_DEAD_S):
            await anyio.sleep_forever()
        self.seconds.append(round(seconds, 3))
        if not self.steps:
            self.scope.cancel()
            await anyio.sleep_forever()
        step = self.steps.pop(0)
        if step is not None and await step():
            assert event.is_set()
            return True
        assert not event.is_set()
        self.world.clock.now += seconds
        return False


async def run(vault: Vault, waits: Waits) -> BackgroundSync:
    ctx, engine = vault.parts()
    loop = BackgroundSync(ctx, engine, waits)
    engine.tell_changes(loop.change)
    with waits.scope, anyio.fail_after(20):
        await loop.run()
    return loop


# The interval ------------------------------------------------------------------------------------


def test_the_interval_is_short_after_activity_and_grows_to_half_a_minute() -> None:
    """10 s, ×1.3 idle, ×1.5 on failure, 30 s (row D2)."""
    found = [interval_s(30.0, was_active=True, has_failed=False)]
    while found[-1] < 30.0:
        found.append(round(interval_s(found[-1], was_active=False, has_failed=False), 3))
    assert found == [10.0, 13.0, 16.9, 21.97, 28.561, 30.0]
    assert interval_s(30.0, was_active=False, has_failed=False) == 30.0
    assert interval_s(10.0, was_active=False, has_failed=True) == 15.0
    assert interval_s(25.0, was_active=True, has_failed=True) == 30.0


# Syncing -----------------------------------------------------------------------------------------


async def test_it_syncs_at_once_and_waits_longer_while_there_is_nothing_to_do(world: World) -> None:
    await world.put("a", x=b"one")
    remote = Unwatched(MemoryRemote(world.store))
    async with world.open("a", remote) as vault:
        waits = Waits(world, None, None, None)
        await run(vault, waits)
        assert waits.seconds == [10.0, 13.0, 16.9, 21.97]
        assert await statuses(vault) == {"x": "SYNCED"}
    assert len(remote.called("get", names.VAULT)) == 4


async def test_a_local_change_ends_the_wait(world: World) -> None:
    async with world.open("a", Unwatched(MemoryRemote(world.store))) as vault:
        notes = vault.namespace("notes")

        async def put() -> bool:
            await notes.put("x", b"one")
            return True

        async def put_many() -> bool:
            await notes.put_many([("y", b"two")])
            return True

        async def delete() -> bool:
            await notes.delete("y")
            return True

        waits = Waits(world, None, put, put_many, delete)
        await run(vault, waits)
        assert waits.seconds == [13.0, 16.9, 10.0, 10.0, 10.0]
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_a_change_during_a_sync_is_not_missed(world: World) -> None:
    remote = Unwatched(MemoryRemote(world.store))
    async with world.open("a", remote) as vault:
        ctx, engine = vault.parts()
        seen: list[bool] = []

        async def wait(event: anyio.Event, seconds: float) -> bool:
            if seconds == GATHER_S:
                return False
            if seconds in (LOOK_S, POLL_S + POLL_DEAD_S):
                await anyio.sleep_forever()
            seen.append(event.is_set())
            if len(seen) == 2:
                await anyio.sleep_forever()
            return event.is_set()

        loop = BackgroundSync(ctx, engine, wait)
        async with anyio.create_task_group() as group:

            async def change(call: object) -> None:
                if not seen:
                    loop.change()

            remote.before = change
            group.start_soon(loop.run)
            while len(seen) < 2:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert seen == [True, False]


# Failing -----------------------------------------------------------------------------------------


async def test_after_three_failures_only_a_probe_runs_until_it_succeeds(world: World) -> None:
    """Resumes by itself, too (row D3)."""
    await world.put("a", x=b"one")
    remote = Unwatched(MemoryRemote(world.store))
    remote.before = Fails(Unreachable("no"), "get")
    heads: list[int] = []

    async def look() -> bool:
        heads.append(len(remote.called("head", names.VAULT)))
        assert (await vault.status()).state is SyncState.BACKING_OFF
        return False

    async def down() -> bool:
        remote.before = Fails(Unreachable("no"), "head")
        return await look()

    async def back() -> bool:
        remote.before = Fails(Unreachable("no"), "put", times=0)
        return await look()

    async with world.open("a", remote) as vault:
        waits = Waits(world, look, look, down, look, look, back)
        await run(vault, waits)
        # Half of 1, 2, 4 … s with these dice, and never less than the interval.
        assert waits.seconds == [15.0, 22.5, 30.0, 30.0, 30.0, 30.0, 10.0]
        assert len(remote.called("get", names.VAULT)) == 4  # three syncs failed, one went through
        assert heads == [0, 0, 0, 1, 2, 3]
        assert await statuses(vault) == {"x": "SYNCED"}
        assert (await vault.status()).reasons == ()


async def test_the_wait_after_failures_grows_to_ten_minutes(world: World) -> None:
    remote = Unwatched(MemoryRemote(world.store))

    async def fail(call: object) -> None:
        raise Unreachable("no")

    remote.before = fail
    world.dice = 0.999
    async with world.open("a", remote) as vault:
        waits = Waits(world, *[None] * 12)
        await run(vault, waits)
        assert waits.seconds[:3] == [15.0, 22.5, 30.0]
        assert waits.seconds[-2:] == [599.4, 599.4]
        assert waits.seconds == sorted(waits.seconds)
        assert len(remote.called("get")) == 3


async def test_a_local_change_does_not_end_the_wait_after_a_failure_and_retry_does(world: World) -> None:
    remote = Unwatched(MemoryRemote(world.store))
    remote.before = Fails(Unreachable("no"), "get")
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")

        async def put() -> bool:
            await notes.put("x", b"one")
            return False

        async def resume() -> bool:
            remote.before = Fails(Unreachable("no"), "put", times=0)
            await vault.retry()
            loop.resume()
            return True

        ctx, engine = vault.parts()
        waits = Waits(world, put, None, put, None, resume)
        loop = BackgroundSync(ctx, engine, waits)
        engine.tell_changes(loop.change)
        with waits.scope, anyio.fail_after(20):
            await loop.run()
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_a_stopped_sync_is_tried_again_after_ten_minutes(world: World) -> None:
    await world.put("a", x=b"one")
    remote = Unwatched(MemoryRemote(world.store))
    remote.before = Fails(QuotaExceeded("full"), "put")
    async with world.open("a", remote) as vault:
        waits = Waits(world, None, None, None, None)
        await run(vault, waits)
        assert waits.seconds == [STOPPED_S] * 5
        assert (await vault.status()).state is SyncState.STOPPED
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}


async def test_another_process_that_syncs_is_waited_for_and_is_no_failure(world: World) -> None:
    await world.put("a", x=b"one")
    with contextlib.ExitStack() as other:

        async def done() -> bool:
            other.close()
            return False

        async with world.open("a", Unwatched(MemoryRemote(world.store))) as vault:
            other.enter_context(SyncLock(world.folder / "a" / "sync.lock").held())
            waits = Waits(world, None, None, done)
            events = vault.events(only=ROUNDS)
            await run(vault, waits)
            assert waits.seconds == [IN_USE_S, IN_USE_S, IN_USE_S, 10.0]
            assert [type(one) for one in await heard(vault, events)] == [SyncFinished], "it was over soon"
            assert (await vault.status()).reasons == ()
            assert await statuses(vault) == {"x": "SYNCED"}


async def test_another_sync_that_takes_a_while_is_told_once(world: World) -> None:
    async with world.open("a", Unwatched(MemoryRemote(world.store))) as vault:
        events = vault.events(only=(*ROUNDS, SyncStarted))
        with contextlib.ExitStack() as other:

            async def again() -> bool:
                other.enter_context(SyncLock(world.folder / "a" / "sync.lock").held())
                return False

            async def done() -> bool:
                other.close()
                return False

            await again()
            tries = [None] * WAITS_TOLD
            await run(vault, Waits(world, *tries, None, done, again, *tries, None, done))
        told = await heard(vault, events)
        assert [type(one) for one in told] == 2 * [SyncWaiting, SyncStarted, SyncFinished]
        assert isinstance(told[0], SyncWaiting) and told[0].error.pid == os.getpid()


async def test_a_lock_that_cannot_be_made_is_told_as_a_sync_that_could_not_begin(world: World) -> None:
    async with world.open("a") as vault:
        events = vault.events(only=ROUNDS)
        (world.folder / "a" / "sync.lock").unlink()
        (world.folder / "a" / "sync.lock").mkdir()
        with pytest.raises(SyncAgentError):
            await vault.sync()
        (told,) = await heard(vault, events)
        assert isinstance(told, SyncFinished) and told.error is not None


async def test_each_round_is_told_and_so_is_a_probe_that_fails(world: World) -> None:
    await world.put("a", x=b"one")
    remote = Unwatched(MemoryRemote(world.store))
    remote.before = Fails(Unreachable("no"), "get", names.VAULT, times=3)

    async def down() -> bool:
        remote.before = Fails(Unreachable("still not"), "head", times=1)
        return False

    async with world.open("a", remote) as vault:
        events = vault.events(only=ROUNDS)
        await run(vault, Waits(world, None, None, down, None))
        *failed, last = (one for one in await heard(vault, events) if isinstance(one, SyncFinished))
        assert [str(one.error) for one in failed] == ["no", "no", "no", "still not"]
        assert last.report is not None and last.report.sent == 1


# Inside an open vault ----------------------------------------------------------------------------


async def wait_until(vault: Vault, blob_id: str, status: str) -> None:
    with anyio.fail_after(20):
        while (await statuses(vault)).get(blob_id) != status:
            await anyio.sleep(0.01)


async def test_two_devices_with_a_background_loop_reach_each_other(world: World) -> None:
    async with world.open("a", background=True) as one, world.open("b", background=True) as two:
        await one.namespace("notes").put("x", b"one")
        await wait_until(two, "x", "SYNCED")  # by the watch: no interval is as short as this test
        assert (await two.namespace("notes").get("x")).data == b"one"
        await two.namespace("notes").put("y", b"two")
        await wait_until(one, "y", "SYNCED")
    # Leaving ends the loop: the vault can be opened and synced at once.
    async with world.open("a") as one:
        assert (await one.sync()).sent == 0


async def test_what_the_block_raises_leaves_as_it_is(world: World) -> None:
    vault = world.open("a", background=True)
    with pytest.raises(KeyError, match="mine"):
        async with vault:
            raise KeyError("mine")


async def test_leaving_by_a_cancellation_ends_it_too(world: World) -> None:
    """The loop can be interrupted (row E5)."""
    vault = world.open("a", background=True)
    with anyio.move_on_after(0.05) as scope:
        async with vault:
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(ConfigError):
        await vault.status()


async def test_put_works_while_the_remote_is_away_and_arrives_when_it_is_back(world: World) -> None:
    """The upload follows by itself (row A1)."""
    remote = world.remote()

    async def fail(call: object) -> None:
        raise Unreachable("no")

    remote.before = fail
    async with world.open("a", remote, background=True) as vault:
        await vault.namespace("notes").put("x", b"one")
        with anyio.fail_after(20):
            while not (await vault.status()).reasons:
                await anyio.sleep(0.01)
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}
        remote.before = Fails(Unreachable("no"), "put", times=0)
        await vault.retry()
        await wait_until(vault, "x", "SYNCED")

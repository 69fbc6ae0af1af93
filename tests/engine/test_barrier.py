"""`barrier`: what was put before the call is at the remote when it returns, or it says what stopped it."""

import anyio
import pytest

from syncagent import names
from syncagent.cache.lock import SyncLock
from syncagent.errors import CacheDamaged, ObjectRefused, QuotaExceeded, Unreachable
from tests.engine.world import Call, Fails, World, damage_content, rows, statuses

pytestmark = pytest.mark.anyio


async def test_all_that_was_put_and_deleted_is_at_the_remote_afterwards(world: World) -> None:
    await world.put_and_sync("a", old=b"old")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put_many([(f"n{number}", b"%d" % number) for number in range(20)])
        await notes.put("large", bytes(range(256)) * 2048)
        await notes.delete("old")
        await vault.barrier()
        assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
        assert set((await statuses(vault)).values()) == {"SYNCED"}
    assert (await world.sync("b")).fetched == 22  # the deletion is one


async def test_with_nothing_to_send_the_remote_is_not_asked(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    remote = world.remote()
    async with world.open("a", remote) as vault:
        await vault.barrier()
    assert remote.calls == []


@pytest.mark.parametrize("error", [Unreachable("no connection"), QuotaExceeded("full")])
async def test_what_stopped_it_is_raised_and_everything_stays_pending(world: World, error: Exception) -> None:
    remote = world.remote()
    remote.before = Fails(error, "put")
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("x", b"one")
        with pytest.raises(type(error), match=str(error)):
            await vault.barrier()
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}


async def test_a_blobs_own_failure_is_raised_after_the_others_were_sent(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("bad", b"bad")
        await notes.put("good", b"good")
        await damage_content(vault, "bad")
        with pytest.raises(CacheDamaged):
            await vault.barrier()
        assert await statuses(vault) == {"bad": "PENDING_UPLOAD", "good": "SYNCED"}
        await notes.put("more", b"more")
        with pytest.raises(CacheDamaged):  # it is not due yet, and it is still not there
            await vault.barrier()
        assert (await statuses(vault))["more"] == "SYNCED"


async def test_retry_and_barrier_try_again_what_had_failed(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("x", b"one")
        await vault.sync()
        remote.before = Fails(ObjectRefused("no"), "put", times=0)
        await vault.retry()
        await vault.barrier()
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_what_is_put_meanwhile_is_not_waited_for(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"one")

        async def put_more(call: Call) -> None:
            # At every batch: a barrier that waited for these would never end. Numbers of rows come again.
            if call.method == "put" and call.name.startswith(names.JOURNAL):
                await notes.put(f"n{len(remote.calls)}", call.name.encode())

        remote.before = put_more
        with anyio.fail_after(20):
            await vault.barrier()
        assert (await statuses(vault))["x"] == "SYNCED"
        assert len(remote.called("put", names.JOURNAL)) < 10


async def test_a_time_limit_ends_it_and_nothing_is_lost(world: World) -> None:
    remote = world.remote()

    async def hang(call: Call) -> None:
        await anyio.sleep_forever()

    remote.before = hang
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("x", b"one")
        with pytest.raises(TimeoutError):
            await vault.barrier(timeout_s=0.01)
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}
    await world.sync("a")
    assert (await world.sync("b")).fetched == 1


async def test_it_waits_for_a_sync_that_is_running(world: World) -> None:
    async with world.open("a") as vault, anyio.create_task_group() as group:
        await vault.namespace("notes").put("x", b"one")
        done = anyio.Event()

        async def wait() -> None:
            await vault.barrier()
            done.set()

        with SyncLock(world.folder / "a" / "sync.lock").held():
            group.start_soon(wait)
            with anyio.move_on_after(0.1):
                await done.wait()
            assert not done.is_set()
        with anyio.fail_after(10):
            await done.wait()
        assert await statuses(vault) == {"x": "SYNCED"}

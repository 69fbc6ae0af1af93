"""Large content on its way into pack files: bounded, and cut off at every stage without leaving anything."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from syncagent.engine.sources import Source
from syncagent.errors import CacheFull, SourceChanged
from syncagent.model import PackId
from syncagent.namespace import Namespace
from syncagent.vault import Vault
from tests.engine.packdisk import PackDisk
from tests.engine.test_large_content import ChangingPath, grow, pack_files, rewrite, shrink
from tests.engine.test_rollback import contents
from tests.engine.threads import CuttingLimiter, context, is_idle, open_packs, with_threads
from tests.engine.world import World

pytestmark = pytest.mark.anyio

MIB = 1 << 20
PACKS = 5
DATA = random.Random(20).randbytes(PACKS * 8 * MIB)


async def nothing_is_left(world: World, vault: Vault, notes: Namespace) -> None:
    assert is_idle(notes)
    assert pack_files(world, "a") == []
    assert open_packs(world) == []
    assert await contents(vault) == {}


class Pieces:
    """A stream that is no generator: cut off, it leaves nothing to be closed."""

    def __init__(self, data: bytes = DATA, step: int = MIB) -> None:
        self._data = data
        self._step = step
        self.taken = 0

    def __aiter__(self) -> "Pieces":
        return self

    async def __anext__(self) -> bytes:
        start = self.taken * self._step
        if start >= len(self._data):
            raise StopAsyncIteration
        self.taken += 1
        return self._data[start : start + self._step]


# Bounded -------------------------------------------------------------------------------------------


async def test_the_source_waits_for_packs_that_are_under_way(world: World, disk: PackDisk) -> None:
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8), anyio.CapacityLimiter(2))
        source = Pieces()
        disk.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notes.put, "x", source)
            await disk.wait_held(2)
            # Two packs are held, the third is full and waits; the fourth has not been asked for.
            assert source.taken == 24
            assert disk.begun == 2
            disk.release()
        assert (await notes.get("x")).data == DATA
        assert is_idle(notes)


async def test_puts_side_by_side_share_one_bound(world: World, disk: PackDisk) -> None:
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(12), anyio.CapacityLimiter(3))
        disk.hold()
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(notes.put, f"n{number}", DATA[number * MIB :])
            await disk.wait_held(3)
            assert disk.begun == 3
            assert context(notes).packs.borrowed_tokens == 3
            disk.release()
        for number in range(4):
            assert (await notes.get(f"n{number}")).data == DATA[number * MIB :]


async def test_large_content_is_read_while_all_packs_wait_for_a_slow_disk(
    world: World, disk: PackDisk
) -> None:
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(1), anyio.CapacityLimiter(3))
        await notes.put("before", DATA[: 9 * MIB])
        disk.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notes.put, "x", DATA[9 * MIB :])
            await disk.wait_held(5)
            with anyio.fail_after(20):
                assert (await notes.get("before")).data == DATA[: 9 * MIB]
            disk.release()
        assert (await notes.get("x")).data == DATA[9 * MIB :]


async def test_packs_hold_the_content_in_order_whichever_is_written_first(world: World) -> None:
    async with world.open("a") as vault:
        ctx, _ = vault.parts()
        version = await vault.namespace("notes").put("x", DATA)
        found = await ctx.cache.read(lambda db: db.all("SELECT no, id FROM pack WHERE has_file ORDER BY no"))
        ids: list[bytes] = []
        for number, _ in found:
            rows = await ctx.cache.read(
                lambda db, number=number: db.all(  # type: ignore[misc]  # mypy knows no such lambda
                    "SELECT chunk.id FROM pack_chunk JOIN chunk ON chunk.no = chunk_no"
                    " WHERE pack_no = ? ORDER BY position",
                    (number,),
                )
            )
            ids += [row[0] for row in rows]
        assert len(found) == PACKS
        assert tuple(ids) == version.content
        assert sorted(PackId(row[1]).hex() for row in found) == [p.name for p in pack_files(world, "a")]


async def test_bytes_that_their_owner_changes_meanwhile_are_stored_as_they_were_read(
    world: World, disk: PackDisk
) -> None:
    data = bytearray(DATA[: 16 * MIB])
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8), anyio.CapacityLimiter(1))
        disk.hold()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notes.put, "x", memoryview(data))
            await disk.wait_held(1)  # the second pack is hashed, and not sealed yet
            data[:] = bytes(len(data))
            disk.release()
        assert (await notes.get("x")).data == DATA[: 16 * MIB]


# Cut off -------------------------------------------------------------------------------------------


async def test_a_put_cancelled_while_packs_are_written_leaves_nothing(world: World, disk: PackDisk) -> None:
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8))
        disk.hold()
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    await disk.wait_held(3)
                    assert len(pack_files(world, "a")) >= 3
                    scope.cancel()
                    disk.release()

                tasks.start_soon(cancel)
                await notes.put("x", DATA)
        assert scope.cancelled_caught
        await nothing_is_left(world, vault, notes)
        await notes.put("x", DATA)
        assert await contents(vault) == {"x": DATA}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_put_cancelled_by_asyncio_while_packs_are_written_leaves_nothing(
    world: World, disk: PackDisk
) -> None:
    """A bare `Task.cancel`, as `asyncio.timeout` does it: shields do not hold against it."""
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8))
        disk.hold()
        task = asyncio.current_task()
        assert task is not None

        async def cancel(task: asyncio.Task[object]) -> None:
            await disk.wait_held(3)
            task.cancel()
            await anyio.wait_all_tasks_blocked()
            disk.release()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel, task)
            with pytest.raises(asyncio.CancelledError):
                await notes.put("x", DATA)
            task.uncancel()
        await nothing_is_left(world, vault, notes)


@pytest.mark.parametrize("fails_at", range(1, PACKS + 1))
async def test_a_disk_that_is_full_at_one_of_the_packs_leaves_nothing(
    world: World, disk: PackDisk, fails_at: int
) -> None:
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8))
        disk.fails_at = fails_at
        with pytest.raises(CacheFull):
            await notes.put("x", DATA)
        await nothing_is_left(world, vault, notes)
        disk.fails_at = -1
        await notes.put("x", DATA)
        assert await contents(vault) == {"x": DATA}


async def test_nothing_is_stored_before_the_names_of_its_packs_are_durable(
    world: World, disk: PackDisk
) -> None:
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8))
        disk.is_folder_broken = True
        with pytest.raises(CacheFull):
            await notes.put("x", DATA)
        assert disk.begun == PACKS
        await nothing_is_left(world, vault, notes)


@pytest.mark.parametrize("change", [shrink, grow, rewrite])
async def test_a_file_that_changes_after_its_first_pack_is_not_stored(
    world: World, disk: PackDisk, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = ChangingPath(tmp_path / "source")
    Path(path).write_bytes(DATA)
    path.change = change
    path.change_at = 18  # in the third group of eight
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8))
        with pytest.raises(SourceChanged):
            await notes.put("x", path)
        assert disk.begun >= 1
        await nothing_is_left(world, vault, notes)


async def test_what_a_stream_raises_leaves_as_it_is_once_its_packs_are_gone(
    world: World, disk: PackDisk
) -> None:
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8))
        disk.hold()

        async def broken() -> AsyncIterator[bytes]:
            yield DATA[: 24 * MIB]
            await disk.wait_held(3)
            disk.release()
            raise OSError("the pipe broke")

        with pytest.raises(OSError, match="the pipe broke"):
            await notes.put("x", broken())
        await nothing_is_left(world, vault, notes)


async def test_a_stream_may_hold_a_cancel_scope_of_its_own(world: World) -> None:
    """As a download does that gives up after a while."""

    async def timed() -> AsyncIterator[bytes]:
        with anyio.fail_after(60):
            yield DATA[: 9 * MIB]
            yield DATA[9 * MIB :]

    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", timed())
        assert await contents(vault) == {"x": DATA}


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["bytes", "path", "stream"])
async def test_a_put_cut_off_at_every_piece_of_work_leaves_nothing_or_is_whole(
    world: World, tmp_path: Path, kind: str, is_after: bool
) -> None:
    """Reading, hashing, compressing, each pack, and what makes their names durable."""
    data = DATA[: 20 * MIB]
    path = tmp_path / "source"
    path.write_bytes(data)
    at = 0
    async with world.open("a") as vault:
        while True:
            at += 1
            limiter = CuttingLimiter(at, is_after=is_after)
            notes = with_threads(vault, limiter, limiter)
            source: Source = data
            if kind == "path":
                source = path
            elif kind == "stream":
                source = Pieces(data, 777_777)
            with limiter.scope:
                await notes.put("x", source)
            if not limiter.has_cut:
                break
            assert is_idle(notes)
            assert open_packs(world) == []
            if not await contents(vault):
                assert pack_files(world, "a") == []
            else:  # cut off behind the commit, as a cancelled put may be
                assert await contents(vault) == {"x": data}
                break
        assert at > 8
        assert len(pack_files(world, "a")) == 3
        assert await contents(vault) == {"x": data}

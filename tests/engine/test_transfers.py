"""How many objects are really under way at once, and that the limit is one for sending and fetching."""

import random

import anyio
import pytest

from syncagent import names
from syncagent.engine.gate import TransferGate
from syncagent.remote.memory import MemoryRemote
from tests.engine.world import GateRemote, World, statuses

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def large(seed: int, size: int = 300 << 10) -> bytes:
    return random.Random(seed).randbytes(size)


def gate_remote(world: World) -> GateRemote:
    return GateRemote(MemoryRemote(world.store))


async def put_large(world: World, device: str, count: int, first: int = 0) -> None:
    async with world.open(device) as vault:
        for number in range(first, first + count):
            await vault.namespace("notes").put(f"n{number}", large(number))


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (4, 4), (8, 8), (20, 8)])
async def test_as_many_packs_are_sent_at_once_as_were_asked_for(world: World, asked: int, given: int) -> None:
    """The limit is a limit, and it is reached (row A3)."""
    await put_large(world, "a", 12)
    remote = gate_remote(world)
    async with world.open("a", remote, transfers=asked) as vault, anyio.create_task_group() as group:
        group.start_soon(vault.sync)
        await remote.wait_held(given)
        assert len(remote.held) == given
        for _ in range(3):  # each that ends lets exactly one more begin
            remote.release()
            await remote.wait_held(given)
            assert len(remote.held) == given
        remote.open()
    assert remote.most_running == given
    assert len(world.names(names.PACKS)) == 12


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (4, 4), (8, 8), (20, 8)])
async def test_as_many_packs_are_fetched_at_once_as_were_asked_for(
    world: World, asked: int, given: int
) -> None:
    """The limit is a limit, and it is reached (row A3)."""
    await put_large(world, "a", 12)
    await world.sync("a")
    remote = gate_remote(world)
    async with world.open("b", remote, transfers=asked) as vault:
        async with anyio.create_task_group() as group:
            group.start_soon(vault.sync)
            await remote.wait_held(given)
            assert len(remote.held) == given
            remote.open()
        assert set((await statuses(vault)).values()) == {"SYNCED"}
    assert remote.most_running == given


async def test_sending_and_fetching_go_side_by_side_under_one_limit(world: World) -> None:
    await put_large(world, "a", 6)
    await world.sync("a")
    await put_large(world, "b", 6, first=100)
    remote = gate_remote(world)
    were_mixed = False
    async with world.open("b", remote, transfers=4) as vault:
        async with anyio.create_task_group() as group:
            group.start_soon(vault.sync)
            for left in range(12, 0, -1):
                await remote.wait_held(min(4, left))
                assert len(remote.held) == min(4, left)
                were_mixed |= {call.method for call, _ in remote.held} == {"get", "put"}
                remote.release()
            remote.open()
        assert set((await statuses(vault)).values()) == {"SYNCED"}
    assert remote.most_running == 4
    assert were_mixed, "neither half waits for the other to end"


async def test_no_more_than_48_mib_are_under_way_however_many_places_there_are(world: World) -> None:
    async with world.open("a") as vault:
        for number in range(8):  # each one pack of just over 8 MiB
            await vault.namespace("notes").put(f"n{number}", random.Random(number).randbytes(8 * MIB))
    remote = gate_remote(world)
    async with world.open("a", remote, transfers=8) as vault, anyio.create_task_group() as group:
        group.start_soon(vault.sync)
        await remote.wait_held(5)
        assert len(remote.held) == 5
        remote.open()
    assert 40 * MIB < remote.most_bytes <= 48 * MIB
    fetching = gate_remote(world)
    async with world.open("b", fetching, transfers=8) as vault, anyio.create_task_group() as group:
        group.start_soon(vault.sync)
        await fetching.wait_held(5)
        assert len(fetching.held) == 5
        fetching.open()
    assert 40 * MIB < fetching.most_bytes <= 48 * MIB


async def test_content_someone_waits_for_goes_ahead_of_the_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued = anyio.Event()
    transfer = TransferGate.transfer

    def told(gate: TransferGate, size_bytes: int, *, interactive: bool = False) -> object:
        if interactive:
            queued.set()  # whoever waits for this runs no sooner than the transfer stands in the queue
        return transfer(gate, size_bytes, interactive=interactive)

    monkeypatch.setattr(TransferGate, "transfer", told)
    await put_large(world, "a", 10)
    await world.sync("a")
    # Known by name and not fetched: a sync that was stopped at its first pack.
    remote = gate_remote(world)
    async with world.open("b", remote, transfers=2) as vault, anyio.create_task_group() as group:
        group.start_soon(vault.sync)
        await remote.wait_held(2)
        got: list[bytes] = []

        async def get() -> None:
            got.append((await vault.namespace("notes").get("n9")).data)
            group.cancel_scope.cancel()

        before = len(remote.called("get", names.PACKS))
        group.start_soon(get)
        with anyio.fail_after(10):
            await queued.wait()
        assert len(remote.called("get", names.PACKS)) == before, "it takes no place from those who run"
        remote.release()
        await remote.wait_held(2)
        newest = remote.held[-1][0].name
        remote.release(1)
        with anyio.fail_after(10):
            while not got:
                await anyio.sleep(0.001)
    assert got == [large(9)]
    assert remote.called("get", names.PACKS)[before] == newest


@pytest.mark.parametrize("direction", ["put", "get"])
async def test_a_sync_that_is_cancelled_leaks_no_place(world: World, direction: str) -> None:
    await put_large(world, "a", 6)
    device = "a"
    if direction == "get":
        await world.sync("a")
        device = "b"
    remote = gate_remote(world)
    async with world.open(device, remote, transfers=2) as vault:
        for _ in range(3):  # two in flight and four waiting, three times
            async with anyio.create_task_group() as group:
                group.start_soon(vault.sync)
                await remote.wait_held(2)
                group.cancel_scope.cancel()
            assert remote.running == 0
        async with anyio.create_task_group() as group:
            group.start_soon(vault.sync)
            await remote.wait_held(2)
            assert len(remote.held) == 2
            remote.open()
        assert set((await statuses(vault)).values()) == {"SYNCED"}
    assert remote.most_running == 2
    assert list((world.folder / device / "packs").glob("*.tmp")) == []


async def test_one_transfer_that_fails_gives_its_place_back(world: World) -> None:
    await put_large(world, "a", 5)
    await world.sync("a")
    for pack in world.names(names.PACKS)[:3]:
        await world.flip(pack)
    async with world.open("b", transfers=1) as vault:
        report = await vault.sync()
        assert (report.fetched, report.failed) == (2, 3)


async def test_large_content_shares_no_pack_and_small_content_does(world: World) -> None:
    await put_large(world, "a", 3)
    async with world.open("a") as vault:
        await vault.namespace("notes").put_many([(f"s{number}", b"%d" % number) for number in range(100)])
        report = await vault.sync()
        assert report.sent == 103
    assert len(world.names(names.PACKS)) == 4


async def test_journals_are_read_under_the_same_limit(world: World) -> None:
    for number in range(6):
        await world.put_and_sync("a", **{f"n{number}": b"x"})
    running = most = 0

    class Counting(GateRemote):
        async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
            nonlocal running, most
            if not name.startswith(names.JOURNAL):
                return await super().get(name, start, stop)
            running += 1
            most = max(most, running)
            await anyio.wait_all_tasks_blocked()
            try:
                return await super().get(name, start, stop)
            finally:
                running -= 1

    remote = Counting(MemoryRemote(world.store))
    remote.is_open = True
    async with world.open("b", remote, transfers=2) as vault:
        await vault.sync()
    assert most == 2

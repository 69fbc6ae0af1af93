"""Large content read by range, and fetched in parts."""

import anyio
import pytest

from syncagent import names
from syncagent.errors import BlobNotFound, CacheDamaged, ConfigError, Unreachable
from syncagent.model import CHUNK_SIZE
from syncagent.vault import Vault
from tests.engine.test_large_content import content, pack_files
from tests.engine.threads import CuttingLimiter, is_idle, open_packs, with_threads
from tests.engine.world import Call, Fails, World

pytestmark = pytest.mark.anyio

MIB = 1 << 20


# Read ----------------------------------------------------------------------------------------------


async def ranges(vault: Vault, data: bytes) -> None:
    size = len(data)
    async with vault.namespace("notes").open("x") as reader:
        assert reader.size == size
        for start, stop in [
            (0, size),
            (0, 1),
            (size - 1, size),
            (CHUNK_SIZE - 1, CHUNK_SIZE + 1),
            (CHUNK_SIZE, 2 * CHUNK_SIZE),
            (2 * CHUNK_SIZE + 5, 3 * CHUNK_SIZE + 9),
            (5, size - 5),
            (size - 3, size + 100),
        ]:
            assert await reader.read_range(start, stop) == data[start:stop]
        for start, stop in [(size, size + 1), (10, 10), (20, 10)]:
            assert await reader.read_range(start, stop) == b""
        for start, stop in [(-5, 0), (-5, 3), (0, -1)]:
            with pytest.raises(ConfigError, match="from the start"):
                await reader.read_range(start, stop)


async def test_ranges_are_read_across_chunks_and_ends(world: World) -> None:
    data = content(5 * MIB + 77)
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", data)
        await ranges(vault, data)
        await vault.namespace("notes").put("x", data[:3], replace=True)
        async with vault.namespace("notes").open("x") as reader:
            assert await reader.read_range(1, 9) == data[1:3]


async def test_a_reader_stays_with_the_version_it_opened(world: World) -> None:
    """A blob replaced or deleted while it is read (row B6)."""
    data = content(6 * MIB)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", data)
        async with notes.open("x") as reader:
            first = await reader.read_range(0, 10)
            await notes.put("x", b"other", replace=True)
            assert first == data[:10]
            assert b"".join([chunk async for chunk in reader]) == data


async def test_one_reader_serves_several_tasks(world: World) -> None:
    data = content(20 * MIB)
    async with world.open("a") as vault:
        notes = with_threads(vault, anyio.CapacityLimiter(8))
        await notes.put("x", b"text" * (5 * MIB))
        async with notes.open("x") as reader, anyio.create_task_group() as tasks:

            async def read(start: int) -> None:
                for at in range(start, 19 * MIB, 3 * MIB):
                    assert await reader.read_range(at, at + MIB) == (b"text" * (5 * MIB))[at : at + MIB]

            for number in range(8):
                tasks.start_soon(read, number * 1001)
        await notes.put("x", data, replace=True)
        assert (await notes.get("x")).data == data


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("how", ["get", "stream", "range"])
async def test_a_read_cut_off_at_every_thread_leaves_none_at_work_and_no_file_open(
    world: World, how: str, is_after: bool
) -> None:
    data = content(11 * MIB)
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", data)
        at = 0
        while True:
            at += 1
            limiter = CuttingLimiter(at, is_after=is_after)
            notes = with_threads(vault, limiter)
            found = b""
            with limiter.scope:
                if how == "get":
                    found = (await notes.get("x")).data
                else:
                    async with notes.open("x") as reader:
                        if how == "range":
                            found = await reader.read_range(0, len(data))
                        else:
                            found = b"".join([chunk async for chunk in reader])
            assert is_idle(notes)
            assert open_packs(world) == []
            if not limiter.has_cut:
                break
            assert found in (b"", data)
        assert at == 7  # eleven chunks, two a thread
        assert found == data


async def test_damage_in_one_of_many_chunks_is_told_and_healed(world: World) -> None:
    data = content(20 * MIB)
    await world.put("a", x=data)
    async with world.open("a") as vault:
        path = pack_files(world, "a")[1]
        sealed = path.read_bytes()
        path.write_bytes(sealed[: 3 * MIB] + bytes(MIB) + sealed[4 * MIB :])
        with pytest.raises(CacheDamaged):
            await vault.namespace("notes").get("x")
        path.write_bytes(sealed)
        await vault.sync()
        path.write_bytes(sealed[: 3 * MIB] + bytes(MIB) + sealed[4 * MIB :])
        assert (await vault.namespace("notes").get("x")).data == data


async def test_opening_what_is_not_there_says_so(world: World) -> None:
    async with world.open("a") as vault:
        with pytest.raises(BlobNotFound):
            async with vault.namespace("notes").open("x"):
                pass


# Fetched in parts ------------------------------------------------------------------------------------


async def test_a_few_chunks_of_a_large_pack_are_fetched_by_range(world: World) -> None:
    data = bytearray(content(8 * MIB))
    await world.put_and_sync("a", x=bytes(data))
    await world.sync("b")
    packs = set(world.names(names.PACKS))
    for chunk in range(8):  # a new pack of eight chunks, of which `b` is to need two
        data[chunk * MIB] ^= 1
    await world.put_and_sync("a", y=bytes(data))
    [new] = set(world.names(names.PACKS)) - packs
    async with world.open("a") as vault:
        await vault.namespace("notes").put("z", bytes(data[2 * MIB : 4 * MIB]))
        await vault.namespace("notes").delete("y")
        await vault.sync()
    remote = world.remote()
    asked: list[int] = []

    async def note(call: Call) -> None:
        if call.name == new and call.method == "get":
            asked.append(call.size)

    remote.before = note
    async with world.open("b", remote) as vault:
        await vault.sync()
        assert (await vault.namespace("notes").get("z")).data == bytes(data[2 * MIB : 4 * MIB])
    assert len(asked) == 1
    assert 2 * MIB <= asked[0] < 2.1 * MIB


async def test_an_interrupted_fetch_goes_on_at_the_pack_it_stopped_at(world: World) -> None:
    data = content(33 * MIB)  # five packs
    await world.put_and_sync("a", x=data)
    remote = world.remote()
    async with world.open("b", remote, transfers=1) as vault:
        remote.before = Fails(Unreachable("gone"), "get", names.PACKS, skip=3)
        with pytest.raises(Unreachable):
            await vault.sync()
        assert len(pack_files(world, "b")) == 3
        remote.calls.clear()
        remote.before = Fails(Unreachable("gone"), "put", times=0)
        assert (await vault.sync()).fetched == 1
        assert len(remote.called("get", names.PACKS)) == 2
        async with vault.namespace("notes").open("x") as reader:
            assert await reader.read_range(32 * MIB, 33 * MIB) == data[32 * MIB :]
    assert {path.name for path in pack_files(world, "b")} == {
        name.removeprefix(names.PACKS) for name in world.names(names.PACKS)
    }, "what is kept is byte for byte what is at the remote"
    for path in pack_files(world, "b"):
        assert path.read_bytes() == world.data(names.PACKS + path.name)

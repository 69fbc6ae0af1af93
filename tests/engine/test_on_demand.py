"""Content that is elsewhere: fetched when it is read, ahead of everything, as much of it as is read."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent import names
from syncagent.engine.engine import WAITING_AWAY_S, WAITING_S
from syncagent.errors import BlobNotHere, Unreachable
from syncagent.namespace import Namespace
from syncagent.remote.base import PATIENCE_S
from syncagent.remote.memory import MemoryRemote
from syncagent.remote.retry import RetryRemote
from syncagent.vault import Vault

from .world import Call, Fails, GateRemote, LedRemote, World, rows, statuses

pytestmark = pytest.mark.anyio

MIB = 1 << 20


def large(mib: int) -> bytes:
    return b"".join(bytes([number]) * MIB for number in range(mib - 1)) + b"end"


@dataclass
class Place:
    """Device b, which knows everything and has nothing."""

    world: World
    vault: Vault
    remote: LedRemote

    @property
    def notes(self) -> Namespace:
        return self.vault.namespace("notes")

    def asked(self) -> list[int]:
        """Sizes of the reads of packs since the last call."""
        sizes = [
            call.size for call in self.remote.calls if call.method == "get" and call.name.startswith("packs/")
        ]
        self.remote.calls.clear()
        return sizes


@pytest.fixture
async def place(world: World) -> AsyncIterator[Place]:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.settings(fetch="on-demand")
        await notes.put_many([("x", b"small"), ("y", b"other"), ("big", large(20)), ("empty", b"")])
        await vault.sync()
    remote = LedRemote(MemoryRemote(world.store))
    async with world.open("b", remote) as vault:
        await vault.sync()
        place = Place(world, vault, remote)
        assert place.asked() == []
        yield place


async def test_what_is_read_is_fetched_and_stays(place: Place) -> None:
    """Read from the remote, and kept (row C6)."""
    assert (await place.notes.get("x")).data == b"small"
    assert len(place.asked()) == 1
    assert await statuses(place.vault) == {
        "x": "SYNCED",
        "y": "REMOTE_ONLY",
        "big": "REMOTE_ONLY",
        "empty": "SYNCED",
    }
    assert (await place.notes.get("x")).data == b"small" and place.asked() == []


@pytest.mark.parametrize("blob_id", ["x", "big"])
async def test_what_is_not_to_be_kept_leaves_nothing_behind(place: Place, blob_id: str) -> None:
    """Or not kept (row C6)."""
    expected = large(20) if blob_id == "big" else b"small"
    ctx, _ = place.vault.parts()
    for _ in range(2):
        assert (await place.notes.get(blob_id, keep=False)).data == expected
        assert place.asked() != [], "it is fetched each time"
        assert (await statuses(place.vault))[blob_id] == "REMOTE_ONLY"
        async with place.notes.open(blob_id, keep=False) as reader:
            assert b"".join([chunk async for chunk in reader]) == expected
    assert await rows(place.vault, "SELECT 1 FROM chunk WHERE payload_no IS NOT NULL") == []
    assert await rows(place.vault, "SELECT 1 FROM pack WHERE has_file") == []
    assert list(ctx.profile.packs.iterdir()) == []
    assert (await place.notes.get(blob_id)).data == expected
    place.asked()
    assert (await place.notes.get(blob_id, keep=False)).data == expected and place.asked() == []


@pytest.mark.parametrize("keep", [True, False])
async def test_a_range_fetches_the_chunks_it_touches_and_no_others(place: Place, keep: bool) -> None:
    expected = large(20)
    async with place.notes.open("big", keep=keep) as reader:
        assert place.asked() == [], "opening fetches nothing"
        for start, stop in ((5 * MIB + 7, 5 * MIB + 9), (3 * MIB - 1, 3 * MIB + 1), (19 * MIB, 30 * MIB)):
            assert await reader.read_range(start, stop) == expected[start:stop]
            # These chunks are all of one byte, and compressed.
            assert sum(place.asked()) < 3 * (64 << 10)
        again = await reader.read_range(5 * MIB, 5 * MIB + 1)
        assert again == expected[5 * MIB : 5 * MIB + 1]
        assert (place.asked() == []) is keep
    assert (await statuses(place.vault))["big"] == "REMOTE_ONLY"
    async with place.notes.open("big", keep=keep) as reader:
        assert await reader.read_range(0, 1 << 40) == expected
    assert (await statuses(place.vault))["big"] == ("SYNCED" if keep else "REMOTE_ONLY")


async def test_a_range_of_content_that_does_not_compress_fetches_a_chunk(world: World) -> None:
    import random

    content = random.Random(4).randbytes(12 * MIB)
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put("big", content)
        await vault.sync()
    remote = LedRemote(MemoryRemote(world.store))
    async with world.open("b", remote) as vault:
        await vault.sync()
        remote.calls.clear()
        async with vault.namespace("notes").open("big") as reader:
            assert await reader.read_range(4 * MIB, 4 * MIB + 10) == content[4 * MIB : 4 * MIB + 10]
        assert [call.size for call in remote.calls if call.method == "get"] == [MIB + 16]


async def test_offline_it_says_at_once_what_is_here_instead(place: Place) -> None:
    await place.notes.prefetch(["x"])
    first = (await place.notes.stat("x")).version
    async with place.world.open("a") as vault:
        second = await vault.namespace("notes").put("x", b"newer", replace=True)
        await vault.sync()
    await place.vault.sync()
    place.remote.before = Fails(Unreachable("no route"), "get")
    calls = len(place.remote.calls)
    with pytest.raises(BlobNotHere) as caught:
        await place.notes.get("x")
    assert caught.value.available == first
    with pytest.raises(BlobNotHere) as caught:
        await place.notes.get("y", keep=False)
    assert caught.value.available is None
    async with place.notes.open("big") as reader:
        with pytest.raises(BlobNotHere):
            await reader.read_range(0, 1)
    assert (await place.notes.get("x", version=first)).data == b"small"
    assert len(place.remote.calls) > calls
    place.remote.before = Fails(Unreachable("no route"), "none")
    assert (await place.notes.get("x")).version == second


async def test_a_remote_that_is_away_is_asked_once_and_a_moment_of_trouble_is_bridged(
    world: World, tmp_path: Path
) -> None:
    async def never(_: float) -> None:
        raise AssertionError("somebody waits")

    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put("x", b"small")
        await vault.sync()
    led = LedRemote(MemoryRemote(world.store))
    async with world.open("b", RetryRemote(led, sleep=never)) as vault:
        await vault.sync()
        led.calls.clear()
        led.before = Fails(Unreachable("a dropped connection"), "get", times=1)
        assert (await vault.namespace("notes").get("x", keep=False)).data == b"small"
        led.calls.clear()
        both = Fails(Unreachable("away"), "get")
        away = Fails(Unreachable("away"), "head")

        async def hook(call: object) -> None:
            await both(call)  # type: ignore[arg-type]  # a call
            await away(call)  # type: ignore[arg-type]  # a call

        led.before = hook
        with pytest.raises(BlobNotHere):
            await vault.namespace("notes").get("x")
        assert [call.method for call in led.calls] == ["get", "head"]


async def test_a_read_goes_ahead_of_a_large_sync(world: World) -> None:
    """A user's request before what is in the background (row A10)."""
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put("x", b"small")
        for number in range(6):
            await vault.namespace("files").put(f"{number}", bytes([number]) * (300 << 10))
        await vault.sync()
    remote = GateRemote(MemoryRemote(world.store))
    async with world.open("b", remote, transfers=1) as vault:
        gate = vault.parts()[1].gate
        read: list[bytes] = []

        async def get() -> None:
            read.append((await vault.namespace("notes").get("x")).data)

        async with anyio.create_task_group() as group:
            group.start_soon(vault.sync)
            await remote.wait_held(1)
            group.start_soon(get)
            with anyio.fail_after(30):
                while not gate.has_interactive_waiting:  # first it looks, in a thread, where the content is
                    await anyio.sleep(0.001)
            assert read == []
            remote.release()  # what was under way
            await remote.wait_held(1)
            remote.release()  # the next is not one of the five that waited
            with anyio.fail_after(30):
                while not read:
                    await anyio.sleep(0.001)
            assert read == [b"small"]
            remote.open()
        assert len(await rows(vault, "SELECT 1 FROM download")) == 0


async def test_an_altered_pack_gives_an_error_and_no_bytes(place: Place) -> None:
    """Nor handed to a reader, not even in part (row A8)."""
    for name in place.world.names(names.PACKS):
        data = place.world.data(name)
        await place.remote.inner.delete(name)
        await place.remote.inner.put(name, data[:40] + bytes(byte ^ 1 for byte in data[40:]))
    for keep in (True, False):
        with pytest.raises(syncagent.OpenError):
            await place.notes.get("x", keep=keep)
        async with place.notes.open("big", keep=keep) as reader:
            with pytest.raises(syncagent.OpenError):
                await reader.read_range(0, 10)


async def test_a_read_waits_some_seconds_for_a_silent_remote_and_less_where_it_was_found_away(
    world: World,
) -> None:
    """And a sync as long as the remote's own time-outs say."""
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put("x", b"x")
        await vault.sync()
    patience: list[float | None] = []

    async def note(call: Call) -> None:
        patience.append(PATIENCE_S.get())
        raise Unreachable("silent")

    remote = world.remote()
    async with world.open("b", remote) as vault:
        await vault.sync()
        remote.before = note
        with pytest.raises(BlobNotHere):
            await vault.namespace("notes").get("x")
        assert set(patience) == {WAITING_S}
        patience.clear()
        with pytest.raises(Unreachable):
            await vault.sync()
        assert set(patience) == {None}
        patience.clear()
        with pytest.raises(BlobNotHere):
            await vault.namespace("notes").get("x")
        assert set(patience) == {WAITING_AWAY_S}
        assert PATIENCE_S.get() is None


async def test_a_conflict_is_the_same_on_all_devices_wherever_its_content_is(world: World) -> None:
    async with world.open("a") as vault, world.open("b") as other:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.sync()
        await other.sync()
        await vault.namespace("notes").put("x", b"one")
        await other.namespace("notes").put("x", b"two")
        for one in (vault, other, vault, other):
            await one.sync()
        [here], [there] = [await one.namespace("notes").conflicts() for one in (vault, other)]
        assert [one.is_here for one in here.versions] != [one.is_here for one in there.versions]
        assert here == there
        assert (await vault.namespace("notes").resolve("x", b"both", seen=there)).blob_id == "x"


async def test_several_who_ask_for_the_same_content_have_it_fetched_once(world: World) -> None:
    data = random.Random(3).randbytes(600 << 10)
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put("x", data)
        await vault.sync()
    remote = GateRemote(MemoryRemote(world.store))
    async with world.open("b", remote) as vault:
        await vault.sync()
        notes = vault.namespace("notes")
        got: list[bytes] = []

        async def get() -> None:
            got.append((await notes.get("x")).data)

        async with anyio.create_task_group() as group:
            first = anyio.CancelScope()

            async def lead() -> None:
                with first:
                    await get()

            group.start_soon(lead)
            await remote.wait_held(1)
            for _ in range(4):
                group.start_soon(get)
            await anyio.wait_all_tasks_blocked()
            assert len(remote.held) == 1
            first.cancel()  # then another one has it fetched
            await remote.wait_held(1)
            remote.open()
        assert got == [data] * 4
        packs = remote.called("get", names.PACKS)
        assert len(packs) == 2 * len(set(packs)), "by the one who was cancelled, and by one of the others"
        await notes.evict("x")
        remote.before = Fails(Unreachable("gone"), "get", names.PACKS)
        told: list[str] = []

        async def ask() -> None:
            with pytest.raises(BlobNotHere) as caught:
                await notes.get("x")
            told.append(str(caught.value))

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(ask)
        assert len(told) == 4

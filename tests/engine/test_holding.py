"""Pin, prefetch, evict: what is on a device by its user's wish, and that nothing is given up too early."""

import random

import pytest

from syncagent import names
from syncagent.errors import BlobNotFound, BlobNotHere, ConfigError, NotSent, Unreachable
from syncagent.remote.memory import MemoryRemote
from syncagent.vault import Vault

from .world import Fails, GoesAway, LedRemote, World, rows, statuses

pytestmark = pytest.mark.anyio

BIG = random.Random(3).randbytes((20 << 20) + 5)


async def held(vault: Vault) -> tuple[int, int]:
    """Payloads and pack files on a device, and that the folder holds just these files."""
    payloads = await rows(vault, "SELECT 1 FROM payload JOIN chunk ON payload_no = payload.no")
    files = await rows(vault, "SELECT 1 FROM pack WHERE has_file")
    ctx, _ = vault.parts()
    assert len(list(ctx.profile.packs.iterdir())) == len(files)
    return len(payloads), len(files)


async def prepare(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.settings(fetch="on-demand")
        await notes.put_many([("x", b"1"), ("y", b"2"), ("z", b"3")])
        await vault.sync()


# Pin and prefetch --------------------------------------------------------------------------------------


async def test_a_pinned_blob_is_fetched_and_so_are_its_later_versions(world: World) -> None:
    await prepare(world)
    async with world.open("b") as vault:
        await vault.sync()
        notes = vault.namespace("notes")
        await notes.pin("x")
        assert (await statuses(vault))["x"] == "PENDING_DOWNLOAD"
        assert (await vault.sync()).fetched == 1
        assert await statuses(vault) == {"x": "SYNCED", "y": "REMOTE_ONLY", "z": "REMOTE_ONLY"}
    await world.put("a", x=b"new", y=b"new too")
    await world.sync("a")
    async with world.open("b") as vault:
        await vault.sync()
        assert await statuses(vault) == {"x": "SYNCED", "y": "REMOTE_ONLY", "z": "REMOTE_ONLY"}
        await vault.namespace("notes").settings(fetch="eager")
        await vault.namespace("notes").settings(fetch="on-demand")
        assert (await statuses(vault))["y"] == "REMOTE_ONLY"
        await vault.namespace("notes").evict("x")
        with pytest.raises(BlobNotFound):
            await vault.namespace("notes").pin("unknown")
    await world.put("a", x=b"newest")
    await world.sync("a")
    async with world.open("b") as vault:
        await vault.sync()
        assert (await statuses(vault))["x"] == "REMOTE_ONLY", "the pin has gone with the content"


async def test_what_waits_and_is_pinned_stays_wanted_when_the_policy_changes(world: World) -> None:
    await world.put("a", x=b"1", y=b"2")
    await world.sync("a")
    async with world.open("b") as vault:
        await vault.parts()[1].read_journals()
        await vault.namespace("notes").pin("x")
        await vault.namespace("notes").settings(fetch="on-demand")
        assert await statuses(vault) == {"x": "PENDING_DOWNLOAD", "y": "REMOTE_ONLY"}


async def test_some_are_fetched_together_and_what_cannot_be_waits_for_a_sync(world: World) -> None:
    """What is named is fetched ahead (row D6)."""
    await prepare(world)
    remote = LedRemote(MemoryRemote(world.store))
    async with world.open("b", remote) as vault:
        await vault.sync()
        notes = vault.namespace("notes")
        remote.calls.clear()
        results = await notes.prefetch(["x", "unknown", "y", "x"])
        assert [(one.id, type(one.error)) for one in results] == [
            ("x", type(None)),
            ("unknown", BlobNotFound),
            ("y", type(None)),
            ("x", type(None)),
        ]
        assert len(remote.called("get", names.PACKS)) == 1
        assert await statuses(vault) == {"x": "SYNCED", "y": "SYNCED", "z": "REMOTE_ONLY"}
        assert [one.error for one in await notes.prefetch(["x"])] == [None]
        remote.before = GoesAway(Unreachable("away"), "get")
        [result] = await notes.prefetch(["z"])
        assert isinstance(result.error, Unreachable)
        assert (await statuses(vault))["z"] == "PENDING_DOWNLOAD"
        remote.before = Fails(Unreachable("away"), "none")
        await vault.sync()
        assert (await statuses(vault))["z"] == "SYNCED"


async def test_many_that_are_prefetched_are_queued_by_few_transactions(world: World) -> None:
    blobs = {f"{number:03}": b"%d" % number for number in range(120)}
    await world.put("a", **blobs)
    await world.sync("a")
    async with world.open("b") as vault:
        notes = vault.namespace("notes")
        await notes.settings(fetch="on-demand")
        await vault.sync()
        commits = 0

        def note_commit() -> None:
            nonlocal commits
            commits += 1

        vault.parts()[0].cache.on_commit = note_commit
        results = await notes.prefetch([*blobs, "unknown"])
        assert [one.id for one in results if one.error] == ["unknown"]
        assert commits < len(blobs) // 2
        assert await statuses(vault) == dict.fromkeys(blobs, "SYNCED")


# Evict -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"small", BIG])
async def test_evicted_content_is_gone_here_and_comes_back_when_it_is_read(
    world: World, content: bytes
) -> None:
    """A cold blob's content goes, the blob stays (row C5)."""
    for name in ("a", "b"):  # where it was put, and where it was fetched
        async with world.open(name) as vault:
            notes = vault.namespace("notes")
            if name == "a":
                await notes.put("x", b"an older version of it")
                await vault.sync()
                await notes.put("x", content, replace=True)
            await vault.sync()
            await notes.evict("x")
            assert await held(vault) == (0, 0)
            assert await statuses(vault) == {"x": "REMOTE_ONLY"}
            await vault.sync()
            assert await statuses(vault) == {"x": "REMOTE_ONLY"}, "an eager namespace does not fetch it again"
            await notes.evict("x")
            assert (await notes.get("x", keep=False)).data == content
            assert (await notes.get("x", version="~1")).data == b"an older version of it"
            assert (await notes.get("x")).data == content
            assert await statuses(vault) == {"x": "SYNCED"}


async def test_what_another_blob_needs_stays(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for blob_id in ("x", "y"):
            await notes.put(blob_id, b"the same")
            await notes.put(f"big-{blob_id}", BIG)
        await vault.sync()
        before = await held(vault)
        await notes.evict("x")
        await notes.evict("big-x")
        assert await held(vault) == before
        await notes.put("z", b"the same", local_only=False)
        await notes.evict("y")
        assert (await statuses(vault))["y"] == "REMOTE_ONLY"
        assert (await notes.get("z")).data == b"the same"
        await vault.sync()
        await notes.evict("z")
        await notes.evict("big-y")
        assert await held(vault) == (0, 0)


async def test_what_was_not_sent_is_never_given_up(world: World) -> None:
    """The only copy is kept (row C5)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"1")
        await notes.put("here", b"2", local_only=True)
        for blob_id in ("x", "here"):
            with pytest.raises(NotSent):
                await notes.evict(blob_id)
        await vault.sync()
        await notes.put("x", b"newer", replace=True)
        with pytest.raises(NotSent):
            await notes.evict("x")
        assert (await notes.get("x")).data == b"newer"
        with pytest.raises(BlobNotFound):
            await notes.evict("unknown")
        await notes.settings(fetch="pinned")
        await vault.sync()
        with pytest.raises(ConfigError, match="pinned"):
            await notes.evict("x")


@pytest.mark.parametrize("content", [b"small", BIG])
@pytest.mark.parametrize("lack", ["away", "gone", "cut"])
async def test_the_remote_must_show_every_pack(world: World, content: bytes, lack: str) -> None:
    """No local copy goes before the remote has shown its own (row B4)."""
    remote = LedRemote(MemoryRemote(world.store))
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")
        await notes.put("x", content)
        await vault.sync()
        name = world.names(names.PACKS)[-1]
        data = world.data(name)
        if lack == "away":
            remote.before = Fails(Unreachable("away"), "head")
        else:
            await remote.inner.delete(name)
        if lack == "cut":
            await remote.inner.put(name, data[:-1])
        before = await held(vault)
        with pytest.raises(Unreachable if lack == "away" else NotSent):
            await notes.evict("x")
        assert await held(vault) == before
        assert await statuses(vault) == {"x": "SYNCED"}
        assert (await notes.get("x")).data == content


async def test_what_waits_to_be_fetched_is_not_wanted_any_more(world: World) -> None:
    await world.put("a", x=b"1")
    await world.sync("a")
    remote = LedRemote(MemoryRemote(world.store))
    async with world.open("b", remote) as vault:
        await vault.parts()[1].read_journals()
        await vault.namespace("notes").evict("x")
        assert await statuses(vault) == {"x": "REMOTE_ONLY"}
        assert (await vault.sync()).fetched == 0
        remote.before = Fails(Unreachable("away"), "get")
        with pytest.raises(BlobNotHere):
            await vault.namespace("notes").get("x")


async def test_a_part_that_was_read_is_given_up_too(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put("big", BIG)
        await vault.sync()
    async with world.open("b") as vault:
        await vault.sync()
        async with vault.namespace("notes").open("big") as reader:
            assert await reader.read_range(0, 10) == BIG[:10]
        assert (await held(vault))[1] == 1
        await vault.namespace("notes").evict("big")
        assert await held(vault) == (0, 0)
        assert (await vault.namespace("notes").get("big")).data == BIG


async def test_what_has_no_content_has_none_to_give_up(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put_many([("empty", b""), ("x", b"1")])
        await vault.sync()
        await notes.evict("empty")
        assert await statuses(vault) == {"empty": "SYNCED", "x": "SYNCED"}
        await notes.delete("x")
        await vault.sync()
        for call in (notes.evict, notes.pin):
            with pytest.raises(BlobNotFound):
                await call("x")
        assert await rows(vault, "SELECT 1 FROM version WHERE deleted AND status <> 1") == []


async def test_a_deletion_beside_an_edit_is_not_given_up_with_it(world: World) -> None:
    await world.put("a", x=b"1")
    for name in ("a", "b"):
        await world.sync(name)
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("x")
        await vault.sync()
    await world.put("b", x=b"edited")
    for name in ("b", "a"):
        await world.sync(name)
    async with world.open("a") as vault:
        await vault.namespace("notes").evict("x")
        found = await rows(vault, "SELECT deleted, status FROM version WHERE status IS NOT NULL ORDER BY 1")
        assert [status for deleted, status in found if not deleted] == [6]
        assert all(status == 1 for deleted, status in found if deleted)
        assert (await vault.namespace("notes").get("x")).data == b"edited"

"""What fails for one blob on its way in: named with its evidence, tried again at known times, alone."""

import random

import anyio
import msgspec
import pytest

from syncagent import names
from syncagent.crypto.pack import seal_pack
from syncagent.crypto.sealed import seal_object
from syncagent.errors import (
    BlobNotHere,
    CacheFull,
    QuotaExceeded,
    RemoteError,
    SyncAgentError,
    Tampered,
    Unreachable,
)
from syncagent.journal.batch import encode_batch
from syncagent.model import MAX_RETRIES, ChunkId
from syncagent.vault import Vault
from tests.engine.world import (
    NOON,
    Call,
    Fails,
    GoesAway,
    World,
    damage_content,
    damage_version,
    kinds,
    listed,
    opened,
    rows,
    statuses,
)

pytestmark = pytest.mark.anyio


def large(seed: int, size: int = 300 << 10) -> bytes:
    return random.Random(seed).randbytes(size)


async def pack_of(vault: Vault, blob_id: str) -> str:
    """The object name of the pack that holds a blob's content."""
    [(pack_id,)] = await rows(
        vault,
        "SELECT DISTINCT pack.id FROM pack JOIN pack_chunk ON pack_no = pack.no"
        " JOIN version_chunk ON version_chunk.chunk_no = pack_chunk.chunk_no"
        " JOIN blob ON winner_no = version_no WHERE blob.id = ?",
        blob_id,
    )
    assert isinstance(pack_id, bytes)
    return names.pack_object(pack_id)


async def download(vault: Vault, blob_id: str) -> tuple[int, float, str]:
    """(retries, seconds from noon until the next attempt, last error) of a wanted blob."""
    [(retries, at, error)] = await rows(
        vault,
        "SELECT retries, next_attempt_at, last_error FROM download JOIN version ON version.no = version_no"
        " JOIN blob ON blob.no = blob_no WHERE blob.id = ?",
        blob_id,
    )
    assert isinstance(retries, int) and isinstance(at, int) and isinstance(error, str)
    return retries, at / 1000 - NOON, error


async def put_three(world: World) -> str:
    """Three large blobs in packs of their own, published by `a`; the pack of `bad`."""
    await world.put_and_sync("a", bad=large(1), good=large(2), fine=large(3))
    async with world.open("a") as vault:
        return await pack_of(vault, "bad")


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("at", [-20, 0, 5, 10, 100, 200_000])
async def test_a_flipped_byte_anywhere_in_a_pack_fails_its_blob_alone_with_the_evidence(
    world: World, at: int
) -> None:
    """Nothing that does not verify is stored or given (row A8)."""
    pack = await put_three(world)
    await world.flip(pack, at)
    async with world.open("b") as vault:
        report = await vault.sync()
        assert (report.fetched, report.failed) == (2, 1)
        assert [(failure.id, failure.direction) for failure in report.failures] == [("bad", "download")]
        assert [(alarm.kind, alarm.subject) for alarm in report.alarms] == [("Tampered", pack)]
        assert await statuses(vault) == {"bad": "FAILED_DOWNLOAD", "good": "SYNCED", "fine": "SYNCED"}
        retries, wait_s, error = await download(vault, "bad")
        assert (retries, wait_s) == (1, 22.5)
        assert error.startswith("Tampered: ") and pack[len(names.PACKS) :][:16] in error
        with pytest.raises(Tampered):
            await vault.namespace("notes").get("bad")
        assert list((world.folder / "b" / "packs").glob("*.tmp")) == []


async def test_it_is_fetched_when_the_bytes_are_right_again(world: World) -> None:
    pack = await put_three(world)
    right = await world.flip(pack)
    async with world.open("b") as vault:
        await vault.sync()
        await world.replace(pack, right)
        world.clock.now += 22
        assert (await vault.sync()).fetched == 0
        world.clock.now += 1
        report = await vault.sync()
        assert (report.fetched, kinds(report)) == (1, [])
        assert (await vault.namespace("notes").get("bad")).data == large(1)
        assert set((await statuses(vault)).values()) == {"SYNCED"}
        assert not await rows(vault, "SELECT 1 FROM download")


async def test_a_pack_cut_short_fails_its_blob_alone(world: World) -> None:
    pack = await put_three(world)
    right = world.data(pack)
    for wrong in (right[:-1], right[:20], right[: len(right) // 2]):
        await world.replace(pack, wrong)
        world.clone("b", f"b{len(wrong)}")
        async with world.open(f"b{len(wrong)}") as vault:
            report = await vault.sync()
            assert (report.fetched, report.failed) == (2, 1)
            assert kinds(report) == ["BadResponse"]
            assert (await statuses(vault))["bad"] == "PENDING_DOWNLOAD"
            assert (await download(vault, "bad"))[0] == 1
            with pytest.raises(BlobNotHere):
                await vault.namespace("notes").get("bad")


async def test_packs_that_changed_places_fail_and_are_never_taken_for_each_other(world: World) -> None:
    pack = await put_three(world)
    async with world.open("a") as vault:
        other = await pack_of(vault, "good")
    mine, theirs = world.data(pack), world.data(other)
    await world.replace(pack, theirs)
    await world.replace(other, mine)
    async with world.open("b") as vault:
        report = await vault.sync()
        assert sorted(failure.id for failure in report.failures) == ["bad", "good"]
        assert kinds(report) == ["Tampered", "Tampered"]
        assert (await statuses(vault))["fine"] == "SYNCED"


async def test_content_that_its_device_sealed_under_another_contents_id_is_not_kept(world: World) -> None:
    """A pack that verifies, named by a batch that verifies: only the chunk's id tells."""
    await world.put_and_sync("a", x=b"right")
    async with world.open("a") as vault:
        keys = vault.parts()[0].keys
        name = world.names(names.journal_prefix(bytes.fromhex(vault.device_id)))[-1]
    batch = opened(keys, name, world.data(name))
    wrong = seal_pack(keys, [(ChunkId(batch.packs[0].chunks[0].id), b"wrong")])
    await world.replace(names.pack_object(wrong.record.id), wrong.data)
    changed = msgspec.structs.replace(batch, packs=(wrong.record,))
    await world.replace(name, seal_object(keys, name, encode_batch(changed)))
    async with world.open("b") as vault:
        report = await vault.sync()
        assert kinds(report) == ["Tampered"]
        assert await statuses(vault) == {"x": "FAILED_DOWNLOAD"}
        with pytest.raises(Tampered):
            await vault.namespace("notes").get("x")


async def test_a_pack_that_is_missing_is_withheld_uncounted_and_asked_for_by_every_sync(world: World) -> None:
    pack = await put_three(world)
    bring_back = world.hide(pack)
    async with world.open("b") as vault:
        for attempt in range(MAX_RETRIES + 3):
            report = await vault.sync()
            assert [(alarm.kind, alarm.subject) for alarm in report.alarms] == [("Withheld", pack)]
            assert report.failed == 1
            retries, wait_s, error = await download(vault, "bad")
            assert retries == 0
            assert wait_s == 60 * attempt, "it is due at once"
            assert error.startswith("Withheld: ") and pack[len(names.PACKS) :] in error
            assert (await statuses(vault))["bad"] == "PENDING_DOWNLOAD"
            assert (await statuses(vault))["good"] == "SYNCED"
            world.clock.now += 60
        with pytest.raises(BlobNotHere) as caught:
            await vault.namespace("notes").get("bad")
        assert caught.value.available is None
        bring_back()
        assert (await vault.namespace("notes").get("bad")).data == large(1)


async def test_another_pack_that_holds_the_chunk_is_tried(world: World) -> None:
    """Two devices send the same bytes before they hear of each other: each has a pack with them."""
    await world.put("a", x=b"same bytes")
    await world.put("b", y=b"same bytes")
    await world.sync("a")
    first = world.names(names.PACKS)
    async with world.open("b") as vault:
        await vault.send_missing()
    [second] = sorted(set(world.names(names.PACKS)) - set(first))
    for broken, kind in ((first[0], "Tampered"), (second, "Withheld")):
        device = "c" + kind
        world.clone("c", device)
        if kind == "Tampered":
            right = await world.flip(broken)
            restore = None
        else:
            restore = world.hide(broken)
        async with world.open(device) as vault:
            report = await vault.sync()
            assert report.failed == 0 and report.fetched == 2
            assert set(kinds(report)) <= {kind}
            assert (await vault.namespace("notes").get("x")).data == b"same bytes"
        if restore is None:
            await world.replace(broken, right)
        else:
            restore()


async def test_both_packs_broken_say_so(world: World) -> None:
    await world.put("a", x=b"same bytes")
    await world.put("b", y=b"same bytes")
    await world.sync("a")
    async with world.open("b") as vault:
        await vault.send_missing()
    for pack in world.names(names.PACKS):
        await world.flip(pack)
    async with world.open("c") as vault:
        report = await vault.sync()
        assert report.failed == 2
        assert kinds(report) == ["Tampered", "Tampered"]
        assert await statuses(vault) == {"x": "FAILED_DOWNLOAD", "y": "FAILED_DOWNLOAD"}


async def test_a_remote_that_gives_more_than_was_asked_for_is_not_believed(world: World) -> None:
    pack = await put_three(world)
    remote = world.remote()

    async def lengthen(call: Call) -> None:
        if call.name == pack:
            world.hide(pack)
            await world.replace(pack, right[:1000])

    right = world.data(pack)
    remote.before = lengthen
    async with world.open("b", remote) as vault:
        report = await vault.sync()
        assert [failure.id for failure in report.failures] == ["bad"]


async def test_a_blob_of_a_refusing_pack_is_given_up_after_the_last_retry_and_then_tried_daily(
    world: World,
) -> None:
    pack = await put_three(world)
    await world.replace(pack, world.data(pack)[:1000])
    async with world.open("b") as vault:
        waits: list[float] = []
        for _ in range(MAX_RETRIES + 2):
            await vault.sync()
            _, wait_s, _ = await download(vault, "bad")
            waits.append(NOON + wait_s - world.clock.now)
            world.clock.now = NOON + wait_s
        assert waits == [22.5, 45, 90, 180, 360, 720, 1440, 2700, 86_400, 86_400]
        assert (await statuses(vault))["bad"] == "FAILED_DOWNLOAD"


@pytest.mark.parametrize("error", [Unreachable("no connection"), QuotaExceeded("no more reads")])
async def test_trouble_of_the_whole_remote_is_counted_for_no_blob(world: World, error: RemoteError) -> None:
    await put_three(world)
    remote = world.remote()
    remote.before = Fails(error, "get", names.PACKS)
    async with world.open("b", remote) as vault:
        for _ in range(MAX_RETRIES + 2):
            with pytest.raises(type(error)):
                await vault.sync()
        assert set((await statuses(vault)).values()) == {"PENDING_DOWNLOAD"}
        found = await rows(vault, "SELECT retries, next_attempt_at, last_error FROM download")
        assert found == [(0, 0, None)] * 3
        remote.before = Fails(error, "put", times=0)
        assert (await vault.sync()).fetched == 3


async def test_an_interrupted_fetch_goes_on_where_it_was(world: World) -> None:
    await put_three(world)
    remote = world.remote()
    async with world.open("b", remote, transfers=1) as vault:
        remote.before = GoesAway(Unreachable("gone"), "get", names.PACKS, skip=2)
        with pytest.raises(Unreachable):
            await vault.sync()
        got = remote.called("get", names.PACKS)[:2]
        remote.before = Fails(Unreachable("gone"), "put", times=0)
        remote.calls.clear()
        await vault.sync()
        assert len(remote.called("get", names.PACKS)) == 1
        assert not set(remote.called("get", names.PACKS)) & set(got)


async def test_a_full_disk_stops_fetching_and_not_sending(world: World) -> None:
    await put_three(world)
    await world.put("b", mine=b"mine")
    packs = world.folder / "b" / "packs"
    remote = world.remote()
    sent = anyio.Event()

    async def full(call: Call) -> None:
        if call.method == "get" and call.name.startswith(names.PACKS):
            raise CacheFull("the disk of the local cache is full")
        if call.method == "put" and call.name.startswith(names.JOURNAL):
            sent.set()

    remote.before = full
    async with world.open("b", remote) as vault:
        with pytest.raises(CacheFull):
            await vault.sync()
        assert sent.is_set()
        found = await statuses(vault)
        assert found.pop("mine") == "SYNCED"
        assert set(found.values()) == {"PENDING_DOWNLOAD"}
    assert list(packs.iterdir()) == []


# Damage on this device -----------------------------------------------------------------------------


async def test_damaged_content_is_fetched_again_when_it_is_read(world: World) -> None:
    await world.put_and_sync("a", x=b"content")
    await world.sync("b")
    async with world.open("b") as vault:
        await damage_content(vault, "x")
        assert (await vault.namespace("notes").get("x")).data == b"content"
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_a_damaged_row_stops_neither_the_journals_nor_the_other_blobs(world: World) -> None:
    """An edit arrives that loses against a head whose row cannot be read."""
    await world.put("a", x=b"older")
    world.clock.now += 10
    await world.put("b", x=b"newer")
    await world.sync("a")
    await world.put_and_sync("a", y=b"another")
    async with world.open("b") as vault:
        await vault.send_missing()
        await damage_version(vault, "x")
        report = await vault.sync()
        assert (await vault.namespace("notes").get("y")).data == b"another"
        assert report.fetched == 2
        found = await listed(vault)
        assert found["x"].conflict, "what cannot be compared is not called equal"
        assert found["x"].size == len(b"newer")
        with pytest.raises(SyncAgentError):
            await vault.namespace("notes").get("x")

"""Journals of devices that have the keys and write what is not so: they harm nobody else's blobs."""

import hashlib
import os

import msgspec
import pytest

from syncagent.crypto.chunk import content_digest
from syncagent.engine.pull import UNREAD_DEVICES
from syncagent.errors import BlobExists
from syncagent.journal.changes import ExpiresChange, FlagsChange, Head, VersionChange
from syncagent.model import CHUNK_SIZE, DeviceId, PackRecord, Version
from syncagent.remote.memory import MemoryRemote
from syncagent.vault import Vault
from tests.engine.world import World, batches, kinds, rows, statuses, use
from tests.faulty import FaultyDevice

pytestmark = pytest.mark.anyio

FIRST, LAST = bytes(16), b"\xff" * 16
"""Ids of devices: of batches that do not name each other, that of the lesser id is read first."""
BLOBS = {"letter": b"the only letter", "large": os.urandom(600_000)}


def faulty_device(world: World, vault: Vault, id: bytes | None = None) -> FaultyDevice:
    ctx, _ = vault.parts()
    return FaultyDevice(MemoryRemote(world.store), ctx.vault, ctx.keys, id)


async def published(world: World, vault: Vault) -> tuple[list[Version], list[PackRecord]]:
    """Versions and packs of `BLOBS`, once they are put and synced."""
    for blob_id, data in BLOBS.items():
        await vault.namespace("notes").put(blob_id, data)
    await vault.sync()
    journal = (await batches(world, vault)).values()
    versions = [one.version for batch in journal for one in batch.changes if isinstance(one, VersionChange)]
    return versions, [pack for batch in journal for pack in batch.packs]


async def check_all_is_read(world: World, reader: Vault) -> None:
    notes = reader.namespace("notes")
    assert {blob_id: (await notes.get(blob_id)).data for blob_id in BLOBS} == BLOBS
    shown = await statuses(reader)
    assert {shown[blob_id] for blob_id in BLOBS} == {"SYNCED"}


@pytest.mark.parametrize("id", [FIRST, LAST], ids=["first", "last"])
async def test_another_scope_for_anothers_chunks_spoils_only_what_says_so(world: World, id: bytes) -> None:
    async with world.open("a") as a, world.open("c") as c:
        versions, _ = await published(world, a)
        faulty = faulty_device(world, a, id)
        await faulty.publish(
            *(
                VersionChange(
                    faulty.version(
                        f"false {number}",
                        size=one.size,
                        content=one.content,
                        scope=bytes([number]) * 16,
                        content_digest=one.content_digest,
                    )
                )
                for number, one in enumerate(versions * 2)
            )
        )
        assert kinds(await c.sync()) == []
        await check_all_is_read(world, c)
        assert (await c.sync()).failed == 0


async def test_another_scope_that_was_known_first_gives_way(world: World) -> None:
    """Its content was fetched, and did not verify, before the right one came."""
    async with world.open("a") as a, world.open("c") as c:
        versions, packs = await published(world, a)
        journal = world.names(f"journal/{a.device_id}/")[-1:]
        faulty = faulty_device(world, a)
        false = (
            faulty.version(f"false {n}", size=v.size, content=v.content, scope=bytes(16))
            for n, v in enumerate(versions)
        )
        await faulty.publish(*map(VersionChange, false), packs=packs)
        shows = [world.hide(name) for name in journal]
        assert "Tampered" in kinds(await c.sync())
        for show in shows:
            show()
        await c.sync()
        await check_all_is_read(world, c)


@pytest.mark.parametrize("id", [FIRST, LAST], ids=["first", "last"])
@pytest.mark.parametrize("hides", [False, True])
async def test_a_false_record_of_anothers_pack_gives_way_to_the_true_one(
    world: World, id: bytes, hides: bool
) -> None:
    async with world.open("a") as a, world.open("c") as c:
        _, packs = await published(world, a)
        faulty = faulty_device(world, a, id)
        await faulty.publish(packs=[msgspec.structs.replace(one, salt=os.urandom(32)) for one in packs])
        await faulty.publish(
            packs=[msgspec.structs.replace(one, chunks=tuple(reversed(one.chunks))) for one in packs]
        )
        if hides:
            show = world.hide(world.names(f"journal/{a.device_id}/")[-1])
            await c.sync()
            show()
        await c.sync()
        await c.retry()
        assert (await c.sync()).failed == 0
        await check_all_is_read(world, c)
        assert kinds(await c.sync()) == []


@pytest.mark.parametrize("size", [15, 600_000])
@pytest.mark.parametrize("local_only", [None, True])
async def test_a_version_that_claims_the_digest_of_other_bytes_is_no_put_of_them(
    world: World, size: int, local_only: bool | None
) -> None:
    """Else a put of a letter would be acknowledged, and another text kept in its place."""
    letter, false = os.urandom(size), os.urandom(size)
    pieces = [false[at : at + CHUNK_SIZE] for at in range(0, size, CHUNK_SIZE)]
    async with world.open("a") as a:
        notes = a.namespace("notes")
        faulty = faulty_device(world, a)
        await notes.put("known", false)
        digest = content_digest([hashlib.sha256(letter).digest()])
        chunks = tuple(faulty.chunk_id("notes", piece) for piece in pieces)
        claim = faulty.version("letter", size=size, content=chunks, content_digest=digest)
        await faulty.publish(VersionChange(claim))
        await a.sync()
        with pytest.raises(BlobExists):
            await notes.put("letter", letter, local_only=local_only)
        version = await notes.put("letter", letter, replace=True, local_only=local_only)
        assert version.id != claim.id
        assert (await notes.get("letter")).data == letter
        again = await notes.put("letter", letter, local_only=local_only)
        assert again.id == version.id, "the same bytes are no new version"


async def test_devices_that_a_journal_invents_are_asked_for_in_small_number(world: World) -> None:
    async with world.open("a") as a:
        faulty = faulty_device(world, a)
        invented = {DeviceId(os.urandom(16)): Head(5, os.urandom(32)) for _ in range(300)}
        await faulty.publish(heads=invented)
        led = world.remote()
        await use(a, led)
        for _ in range(3):
            led.calls.clear()
            report = await a.sync()
            assert set(kinds(report)) == {"Withheld"}
            assert len(report.alarms) == UNREAD_DEVICES + 1
            assert f"{300 - UNREAD_DEVICES} more devices" in report.alarms[-1].message
            assert len(led.called("list")) < 20 + 2 * UNREAD_DEVICES
    async with world.open("b") as b:  # one that is there is read all the same
        await b.namespace("notes").put("letter", b"the only letter")
        await b.sync()
    async with world.open("a") as a:
        await a.sync()
        assert (await a.namespace("notes").get("letter")).data == b"the only letter"


async def test_what_is_said_of_blobs_that_never_come_is_no_news(world: World) -> None:
    """Else a journal of flags alone would push what an application has not read yet out of the log."""
    async with world.open("a") as a:
        faulty = faulty_device(world, a)
        await a.namespace("notes").put("letter", b"the only letter")
        token = (await a.changes()).token
        before = await rows(a, "SELECT count(*) FROM news")
        await faulty.publish(
            *(FlagsChange("notes", f"ghost {n}", (("seen", n),), (n + 1000,)) for n in range(200)),
            *(ExpiresChange("notes", f"ghost {n}", 1 << 50, False, 1) for n in range(200)),
        )
        await a.sync()
        assert await rows(a, "SELECT count(*) FROM flag_tag") == [(200,)], "it is kept, should they come"
        sent = 1  # the letter
        assert await rows(a, "SELECT count(*) - ? FROM news", sent) == before
        await faulty.publish(VersionChange(faulty.version("ghost 7")))
        await a.sync()
        told = (await a.changes(since=token)).changes
        assert {one.id for one in told} == {"letter", "ghost 7"}
        assert await a.namespace("notes").get_flags("ghost 7") == {"seen"}

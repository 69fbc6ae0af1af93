"""How often a blob was read, and when last: after the answer, of this device alone, never synced."""

import datetime

import pytest

from syncagent.cache.access import Reads, add
from syncagent.engine.reads import MOST_WAITING
from syncagent.errors import BlobNotFound
from syncagent.vault import Vault
from tests.engine.world import World, rows

pytestmark = pytest.mark.anyio


async def read(vault: Vault, blob_id: str) -> tuple[int, float | None]:
    info = await vault.namespace("notes").stat(blob_id)
    return info.reads, None if info.last_read_at is None else info.last_read_at.timestamp()


async def test_reads_are_counted_and_survive_a_restart(world: World) -> None:
    """How often and when last (row C4)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put_many([("x", b"x"), ("y", b"y"), ("z", b"z")])
        assert await read(vault, "x") == (0, None)
        await notes.get("x")
        world.clock.now += 5
        async with notes.open("x") as reader:
            await reader.read_range(0, 1)
        await notes.get_many(["x", "y", "never"])
        with pytest.raises(BlobNotFound):
            await notes.get("never")
        await notes.exists("z")
        assert await read(vault, "x") == (3, world.clock.now) and await read(vault, "y") == (
            1,
            world.clock.now,
        )
        assert await read(vault, "z") == (0, None)
        listed = {blob.id: blob.reads for blob in (await notes.list()).blobs}
        assert listed == {"x": 3, "y": 1, "z": 0}
        await notes.get("z")
    async with world.open("a") as vault:
        assert await read(vault, "z") == (1, world.clock.now)
        await vault.namespace("notes").get("x")
        world.clock.now -= 3600
        await vault.namespace("notes").get("x")
        assert await read(vault, "x") == (5, world.clock.now + 3600), (
            "the latest time, whatever the clock does"
        )


async def test_a_read_writes_nothing_and_no_sync_does_for_it(world: World) -> None:
    """After the answer (row C4)."""
    await world.put_and_sync("a", x=b"x")
    remote = world.remote()
    async with world.open("a", remote) as vault:
        await vault.sync()
        written = await rows(vault, "SELECT count(*), total_changes() FROM access")
        await vault.namespace("notes").get("x")
        await vault.sync()
        assert await rows(vault, "SELECT count(*), total_changes() FROM access") == written
        assert remote.called("put") == []
    await world.sync("b")
    async with world.open("b") as vault:
        assert await read(vault, "x") == (0, None), "other devices do not hear of it"


async def test_a_thousand_blobs_that_were_read_are_written_down(world: World) -> None:
    """In batches (row C4)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        ids = [str(number) for number in range(MOST_WAITING + 5)]
        await notes.put_many([(blob_id, b"") for blob_id in ids])
        await notes.get_many(ids)
        assert await rows(vault, "SELECT count(*) FROM access") == [(MOST_WAITING,)]


async def test_times_are_utc(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"x")
        await vault.parts()[0].cache.write(lambda db: add(db, {("notes", "x"): Reads(2, 1000)}))
        info = await vault.namespace("notes").stat("x")
        assert info.last_read_at == datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)

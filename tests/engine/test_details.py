"""Lists and changes give flags and metadata when asked, the same as one asks for blob by blob."""

import pytest

from syncagent.answers import BlobInfo
from syncagent.model import MetadataValue
from tests.engine.world import World, damage_version

pytestmark = pytest.mark.anyio


async def test_a_list_with_details_says_what_each_blob_says(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        subjects: dict[str, dict[str, MetadataValue]] = {
            f"{number:02}": {"subject": f"number {number}", "seq": number} for number in range(12)
        }
        await notes.put_many([(blob_id, b"x", metadata) for blob_id, metadata in subjects.items()])
        await notes.update_flags(subjects, add={"new", "seen"})
        await notes.update_flags(["03", "07"], remove={"new"})
        await notes.set_flags("05", ())
        await notes.put("04", b"y", metadata={"subject": "another"}, replace=True)
        found: list[BlobInfo] = []
        after = None
        while True:
            page = await notes.list(details=True, limit=5, order_by="changed", after=after)
            found += page.blobs
            after = page.next
            if after is None:
                break
        assert len(found) == 12
        for blob in found:
            assert blob.flags == await notes.get_flags(blob.id)
            assert blob.metadata == (await notes.get(blob.id)).metadata
            assert (await notes.stat(blob.id)).flags == blob.flags
            assert (await notes.stat(blob.id)).metadata == blob.metadata
        told = await vault.changes(details=True)
        assert {one.id: (one.blob.flags, one.blob.metadata) for one in told.changes if one.blob} == {
            blob.id: (blob.flags, blob.metadata) for blob in found
        }


async def test_without_details_none_are_told(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"x", metadata={"subject": "hello"})
        [blob] = (await vault.namespace("notes").list()).blobs
        assert blob.flags is None and blob.metadata is None
        assert "hello" not in repr((await vault.namespace("notes").list(details=True)).blobs)


async def test_metadata_is_there_where_the_content_is_not(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put("x", b"x", metadata={"subject": "hello"})
        await vault.sync()
    await world.sync("b")
    async with world.open("b") as vault:
        [blob] = (await vault.namespace("notes").list(details=True)).blobs
        assert (blob.status.name, blob.metadata) == ("REMOTE_ONLY", {"subject": "hello"})


async def test_metadata_that_cannot_be_read_hides_no_other(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put_many([("x", b"x", {"subject": "one"}), ("y", b"y", {"subject": "two"})])
        await damage_version(vault, "x")
        found = (await notes.list(details=True)).blobs
        assert [blob.metadata for blob in found] == [None, {"subject": "two"}]

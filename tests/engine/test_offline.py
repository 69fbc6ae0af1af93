"""What a device answers and takes by itself: no call here asks the remote anything."""

import pytest

from syncagent.model import SyncStatus
from tests.engine.test_expiry import at
from tests.engine.world import World

pytestmark = pytest.mark.anyio


async def test_nobody_is_asked_for_what_is_known_here(world: World) -> None:
    """Local and remote blobs, by date, by flag, only how many, and namespaces (rows A5, A6, C4)."""
    async with world.open("a") as vault:
        await vault.namespace("mail").settings(fetch="on-demand")
        await vault.namespace("mail").put_many([("there", b"mail"), ("also there", b"more")])
        await vault.namespace("mail").add_flags("there", {"seen"})
        await vault.namespace("notes").put("both", b"note")
        await vault.sync()
    remote = world.remote()
    async with world.open("b", remote) as vault:
        await vault.sync()
        remote.calls.clear()
        mail, notes = vault.namespace("mail"), vault.namespace("notes")
        await notes.put("here", b"new")
        await notes.put("mine", b"kept", local_only=True)
        elsewhere = await mail.list(status=SyncStatus.REMOTE_ONLY, order_by="created")
        assert [blob.id for blob in elsewhere.blobs] == ["there", "also there"]
        assert [blob.id for blob in (await mail.list(flag="seen")).blobs] == ["there"]
        by_status = {
            status: [blob.id for blob in (await notes.list(status=status)).blobs] for status in SyncStatus
        }
        assert {status.name: ids for status, ids in by_status.items() if ids} == {
            "SYNCED": ["both"],
            "PENDING_UPLOAD": ["here"],
            "LOCAL_ONLY": ["mine"],
        }
        latest = await notes.list(order_by="changed", descending=True, limit=1)
        assert [blob.id for blob in latest.blobs] == ["mine"]
        assert (await mail.count(), await mail.count(flag="seen"), await notes.count(prefix="h")) == (2, 1, 1)
        assert [(one.name, one.blobs) for one in await vault.namespaces()] == [("mail", 2), ("notes", 3)]
        assert await mail.get_flags("there") == {"seen"}
        assert (await mail.stat("there")).reads == 0
        assert remote.calls == []


async def test_nobody_is_asked_before_something_is_done_here(world: World) -> None:
    """Deletions, flags, times and the rest are done here at once and sent later (rows A6, A7, C1)."""
    await world.put_and_sync("a", x=b"x", y=b"y")
    await world.sync("b")
    remote = world.remote()
    async with world.open("b", remote) as vault:
        notes = vault.namespace("notes")
        version = await notes.put("y", b"other", replace=True)
        await notes.tag("y", version, "a name")
        await notes.add_flags("y", {"seen"})
        await notes.set_metadata("y", {"title": "y"})
        await notes.set_expiry("y", at(3600))
        await notes.pin("y")
        await notes.settings(fetch="on-demand")
        await notes.delete("x")
        assert [blob.id for blob in (await notes.list()).blobs] == ["y"]
        assert (await vault.status()).pending_changes > 0 and len(await notes.history("y")) == 3
        assert remote.calls == []

"""What a put may be asked besides: what it must replace, what the content must be, where it may go."""

import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from syncagent import names
from syncagent.crypto.chunk import content_digest, digest_of
from syncagent.engine.sources import Source
from syncagent.errors import (
    BlobExists,
    BlobNotFound,
    ConfigError,
    ContentMismatch,
    InvalidName,
    VersionConflict,
    VersionNotFound,
)
from syncagent.model import SyncStatus
from syncagent.vault import Vault
from tests.engine.test_rollback import contents, is_quiet, settle
from tests.engine.world import Call, World, batches, listed, rows, statuses

pytestmark = pytest.mark.anyio

SMALL = b"a small blob"
LARGE = random.Random(7).randbytes(2_500_000)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


async def is_empty(world: World, vault: Vault) -> bool:
    """Whether nothing at all was left behind."""
    files = list((world.folder / "a" / "packs").iterdir())
    return not files and await rows(vault, "SELECT 1 FROM blob UNION SELECT 1 FROM upload") == []


# What the content must be ------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_content_that_is_as_expected_is_stored(world: World, data: bytes) -> None:
    """A hash and a length that are right (row B1)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        digest = hashlib.sha256(data)
        await notes.put("x", data, expected_sha256=digest.digest(), expected_size=len(data))
        await notes.put("y", pieces(data), expected_sha256=digest.hexdigest().upper())
        assert (await notes.get("y")).data == data


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_content_that_is_not_leaves_nothing_behind(world: World, data: bytes, is_stream: bool) -> None:
    """A hash that is not, or a length that is over or under (row B1)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for expected in (
            {"expected_sha256": hashlib.sha256(b"other").hexdigest()},
            {"expected_size": len(data) - 1},
            {"expected_size": len(data) + 1},
            {"expected_size": 0},
        ):
            source = pieces(data) if is_stream else data
            with pytest.raises(ContentMismatch):
                await notes.put("x", source, **expected)
        assert await is_empty(world, vault)


async def test_a_stream_that_is_too_long_is_refused_as_soon_as_it_is(world: World) -> None:
    """Not after all of it has come (row B1)."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1 << 20)

    async with world.open("a") as vault:
        with pytest.raises(ContentMismatch, match="longer than"):
            await vault.namespace("notes").put("x", endless(), expected_size=100)
        assert taken <= 16
        assert await is_empty(world, vault)


@pytest.mark.parametrize("digest", ["xyz", "00", b"short"])
async def test_what_no_content_can_have_is_refused(world: World, digest: str | bytes) -> None:
    async with world.open("a") as vault:
        with pytest.raises(ConfigError):
            await vault.namespace("notes").put("x", SMALL, expected_sha256=digest)
        with pytest.raises(ConfigError):
            await vault.namespace("notes").put("x", SMALL, expected_size=-1)


# What it must replace ----------------------------------------------------------------------------


async def test_a_put_replaces_the_version_it_names_and_no_other(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        first = await notes.put("x", b"one")
        second = await notes.put("x", b"two", if_version=first)
        with pytest.raises(VersionConflict, match=str(second)[:8]):
            await notes.put("x", b"three", if_version=first)
        assert (await notes.get("x")).data == b"two"
        third = await notes.put("x", b"three", if_version=str(second)[:8].upper())
        await notes.put("x", b"four", if_version=str(third))
        for wrong in (str(second)[:7], "", "zzzzzzzz"):
            with pytest.raises(VersionNotFound):
                await notes.put("x", b"five", if_version=wrong)
        for other in (str(first), "~1", "00" * 8):
            with pytest.raises(VersionConflict):
                await notes.put("x", b"five", if_version=other)
        assert (await notes.get("x")).data == b"four"


async def test_if_version_is_named_as_everywhere_else(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        first = await notes.put("x", b"1")
        await vault.sync()
        second = await notes.put("x", b"2", if_version="~0")
        await notes.tag("x", second, "now")
        await notes.tag("x", first, "then")
        for other in ("~1", "then", first, str(first)[:8]):
            with pytest.raises(VersionConflict):
                await notes.put("x", b"3", if_version=other)
            with pytest.raises(VersionConflict):
                await notes.set_metadata("x", {"a": 1}, if_version=other)
            with pytest.raises(VersionConflict):
                async with vault.transaction() as tx:
                    tx.namespace("notes").put("x", b"3", if_version=other)
        for garbage in ("~x", "~9999999", "~9", "no tag"):
            with pytest.raises((InvalidName, VersionNotFound)):
                await notes.put("x", b"3", if_version=garbage)
        await notes.put("x", b"3", if_version="now")
        [present, *_] = await notes.history("x")
        await notes.put("x", b"4", if_version=present)
        async with vault.transaction() as tx:
            tx.namespace("notes").put("x", b"5", if_version="~0")
        assert (await notes.get("x")).data == b"5"


async def test_a_version_that_was_folded_since_is_not_the_present_one(world: World) -> None:
    """It was replaced before it was sent, and is not known any more: what was read is out of date."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        read = await notes.put("x", b"1")
        await notes.put("x", b"2", replace=True)
        await vault.sync()
        assert len(await notes.history("x")) == 1
        with pytest.raises(VersionConflict):
            await notes.put("x", b"3", if_version=read)
        with pytest.raises(VersionConflict):
            await notes.set_metadata("x", {"a": 1}, if_version=read)


async def test_the_end_of_a_conflict_of_nothing_says_that_there_is_nothing(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("gone", b"1")
        await notes.delete("gone")
        await notes.put("there", b"1")
        for blob_id in ("nope", "gone"):
            with pytest.raises(BlobNotFound):
                await notes.resolve(blob_id, b"merged")
            assert not await notes.exists(blob_id)
        with pytest.raises(VersionConflict):
            await notes.resolve("there", b"merged")


async def test_of_two_that_build_on_one_version_one_is_refused(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        base = await notes.put("x", b"base")
        await notes.put("x", LARGE, if_version=base)
        with pytest.raises(VersionConflict):
            await notes.put("x", LARGE[::-1], if_version=base)
        kept = {path.name for path in (world.folder / "a" / "packs").iterdir()}
        assert len(kept) == len(await rows(vault, "SELECT 1 FROM pack WHERE has_file"))


async def test_a_version_of_nothing_is_a_conflict_and_of_a_deletion_makes_it_anew(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        with pytest.raises(VersionConflict, match="not on this device"):
            await notes.put("x", b"one", if_version="0" * 32)
        await notes.put("x", b"one")
        gone = await notes.delete("x")
        await notes.put("x", b"two", if_version=gone)
        assert (await notes.get("x")).data == b"two"


# The id ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_without_an_id_the_content_gives_it(world: World, data: bytes) -> None:
    """The same content, the same id (row C2)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        version = await notes.put(None, data)
        chunks = [data[start : start + (1 << 20)] for start in range(0, len(data), 1 << 20)]
        assert version.blob_id == content_digest([digest_of(chunk) for chunk in chunks]).hex()
        assert await notes.put(None, data) == version
        assert (await notes.get(version.blob_id)).data == data
        assert await notes.count() == 1


# What is sent first ------------------------------------------------------------------------------


async def test_what_has_a_smaller_priority_is_sent_first(world: World) -> None:
    """Whatever was put before it (row A10)."""
    remote = world.remote()
    async with world.open("a", remote, transfers=1) as vault:
        notes = vault.namespace("notes")
        for number, priority in enumerate([4, 2, 1, 3]):
            await notes.put(f"p{priority}", random.Random(number).randbytes(300 << 10), priority=priority)
        sent: list[str] = []

        async def look(call: Call) -> None:
            if call.method == "put" and call.name.startswith(names.JOURNAL):
                return
            if call.method == "put" and call.name.startswith(names.PACKS):
                [(name,)] = await rows(
                    vault,
                    "SELECT DISTINCT blob.id FROM pack JOIN pack_chunk ON pack_no = pack.no"
                    " JOIN version_chunk USING (chunk_no) JOIN version ON version.no = version_no"
                    " JOIN blob ON blob.no = blob_no WHERE pack.id = ?",
                    bytes.fromhex(call.name[len(names.PACKS) :]),
                )
                sent.append(str(name))

        remote.before = look
        await vault.sync()
        [order] = [b.changes for b in (await batches(world, vault)).values() if len(b.changes) == 4]
        assert [change.version.blob_id for change in order] == ["p1", "p2", "p3", "p4"]  # type: ignore[union-attr]  # all are versions
        assert sent == ["p1", "p2", "p3", "p4"]


@pytest.mark.parametrize("priority", [0, 5, -1])
async def test_a_priority_is_one_to_four(world: World, priority: int) -> None:
    async with world.open("a") as vault:
        with pytest.raises(ConfigError):
            await vault.namespace("notes").put("x", SMALL, priority=priority)
        with pytest.raises(ConfigError):
            await vault.namespace("notes").put_many([("x", SMALL)], priority=priority)
        assert await is_empty(world, vault)


async def test_many_have_one_priority(world: World) -> None:
    """A folder or a mailbox can wait as a whole (row A10)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("there", b"and replaced")
        blobs: list[tuple[str, Source]] = [("new", SMALL), ("there", b"other"), ("large", LARGE)]
        await notes.put_many(blobs, replace=True, priority=4)
        waiting = "SELECT DISTINCT priority FROM upload JOIN version ON version.no = version_no WHERE status"
        assert await rows(vault, waiting) == [(4,)]


# What never leaves -------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
async def test_a_local_blob_never_leaves_the_device(world: World, data: bytes) -> None:
    """Neither its content nor its name (row A15)."""
    before = dict(world.store.objects)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("mine", data, local_only=True)
        await notes.put("mine", data + b"more", replace=True)  # stays what it is
        assert (await vault.sync()).sent == 0
        assert await statuses(vault) == {"mine": "LOCAL_ONLY"}
        assert (await vault.status()).counts[SyncStatus.LOCAL_ONLY] == 1
        assert (await notes.get("mine")).data == data + b"more"
        await vault.barrier()
        assert world.store.objects == before
        await notes.delete("mine")
        with pytest.raises(BlobNotFound):
            await notes.get("mine")
        assert (await vault.sync()).sent == 0
    assert world.store.objects == before


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_a_shared_blob_of_the_same_content_sends_nothing_of_a_local_one(
    world: World, data: bytes
) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("mine", data + b"tail", local_only=True)
        [(mine,)] = await rows(vault, "SELECT count(*) FROM pack WHERE has_file")
        await notes.put("theirs", data)
        await vault.sync()
        assert (
            await rows(
                vault,
                "SELECT 1 FROM chunk JOIN pack_chunk ON pack_chunk.chunk_no = chunk.no"
                " JOIN pack ON pack.no = pack_no"
                " JOIN version_chunk ON version_chunk.chunk_no = chunk.no"
                " JOIN version ON version.no = version_no WHERE is_remote AND status = ?",
                int(SyncStatus.LOCAL_ONLY),
            )
            == []
        )
        assert mine == (0 if data == SMALL else mine)
    await world.sync("b")
    async with world.open("b") as vault:
        assert await contents(vault) == {"theirs": data}


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_the_same_bytes_put_as_shared_share_it(world: World, data: bytes) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        kept = await notes.put("x", data, local_only=True)
        assert await notes.put("x", data) == kept
        assert await statuses(vault) == {"x": "LOCAL_ONLY"}
        assert await notes.put("x", data, local_only=False) == kept
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}
        assert (await vault.sync()).sent == 1
    await world.sync("b")
    async with world.open("b") as vault:
        assert await contents(vault) == {"x": data}
    assert await is_quiet(world, "a", "b")


async def test_what_waits_to_be_sent_can_be_kept_and_what_was_sent_cannot(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("waits", b"waits")
        await notes.put("waits", b"waits", local_only=True)
        assert await statuses(vault) == {"waits": "LOCAL_ONLY"}
        await notes.put("sent", b"sent")
        await vault.sync()
        await notes.put("sent", b"sent", local_only=True)
        assert await statuses(vault) == {"waits": "LOCAL_ONLY", "sent": "SYNCED"}
    await world.sync("b")
    async with world.open("b") as vault:
        assert await contents(vault) == {"sent": b"sent"}


async def test_edits_of_a_local_blob_that_is_shared_later_are_one_version_to_the_others(
    world: World,
) -> None:
    await world.put_and_sync("a", x=b"shared from the start")
    await world.sync("b")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(3):
            await notes.put("x", b"private %d" % number, replace=True, local_only=True)
        assert await statuses(vault) == {"x": "LOCAL_ONLY"}
        await vault.sync()
    await world.sync("b")
    async with world.open("b") as vault:
        assert await contents(vault) == {"x": b"shared from the start"}
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"public again", replace=True, local_only=False)
        assert (await vault.sync()).sent == 1
    await settle(world, "a", "b")
    for name in ("a", "b"):
        async with world.open(name) as vault:
            assert await contents(vault) == {"x": b"public again"}
            assert not (await listed(vault))["x"].conflict
            assert await rows(vault, "SELECT count(*) FROM version") == [(2,)]
            assert await rows(vault, "SELECT count(*) FROM hole") == [(0,)]


async def test_deleting_a_blob_that_others_know_deletes_it_there_too(world: World) -> None:
    await world.put_and_sync("a", x=b"known")
    await world.sync("b")
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"private", replace=True, local_only=True)
        await vault.namespace("notes").delete("x")
        assert (await vault.sync()).sent == 1
    await world.sync("b")
    async with world.open("b") as vault:
        assert await contents(vault) == {}
        assert not await rows(vault, "SELECT 1 FROM blob WHERE conflict")


async def test_a_path_takes_the_options_too(world: World, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        with pytest.raises(ContentMismatch):
            await notes.put("x", path, expected_size=3)
        version = await notes.put("x", path, expected_size=len(LARGE), priority=1)
        with pytest.raises(BlobExists):
            await notes.put("x", b"other")
        await notes.put("x", b"other", if_version=version)

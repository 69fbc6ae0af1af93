"""Folding: what was replaced before it was sent is not sent, and what it superseded stays superseded."""

import random

import pytest

from syncagent import names
from syncagent.errors import Unreachable
from syncagent.journal.changes import VersionChange
from tests.engine.world import Fails, World, batches, listed, rows

pytestmark = pytest.mark.anyio

LARGE = random.Random(1).randbytes(300 << 10)


async def test_fifty_replacements_offline_send_one_version_and_one_content(world: World) -> None:
    await world.put_and_sync("a", x=b"first")
    await world.sync("b")
    packs = set(world.names(names.PACKS))
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(50):
            await notes.put("x", b"content %d" % number, replace=True)
        before = await batches(world, vault)
        report = await vault.sync()
        assert report.sent == 1
        after = await batches(world, vault)
        [seq] = set(after) - set(before)
        [change] = after[seq].changes
        assert isinstance(change, VersionChange)
        [pack] = after[seq].packs
        assert len(pack.chunks) == 1
        assert change.version.content == (pack.chunks[0].id,)
        assert len(set(world.names(names.PACKS)) - packs) == 1
        # The version that both devices had is its only parent.
        old = [v for s in before.values() for v in s.changes if isinstance(v, VersionChange)]
        assert [parent.version for parent in change.version.parents] == [old[-1].version.id]
        assert await rows(vault, "SELECT count(*) FROM payload JOIN chunk ON payload_no = payload.no") == [
            (2,)
        ]
    await world.put("b", y=b"unrelated")
    await world.sync("b")
    async with world.open("b") as vault:
        found = await listed(vault)
        assert not found["x"].conflict
        assert (await vault.namespace("notes").get("x")).data == b"content 49"


async def test_a_concurrent_edit_elsewhere_conflicts_with_what_was_folded_as_with_its_parts(
    world: World,
) -> None:
    await world.put_and_sync("a", x=b"first")
    await world.sync("b")
    for number in range(3):
        await world.put("a", x=b"a%d" % number)
    await world.put_and_sync("b", x=b"from b")
    await world.sync("a")
    await world.sync("b")
    for device in ("a", "b"):
        async with world.open(device) as vault:
            assert (await listed(vault))["x"].conflict


async def test_settling_a_conflict_and_editing_on_offline_keeps_both_parents(world: World) -> None:
    await world.put_and_sync("a", x=b"from a")
    await world.put("b", x=b"from b")
    await world.sync("b")
    async with world.open("b") as vault:
        for number in range(5):
            version = await vault.namespace("notes").put("x", b"settled %d" % number, replace=True)
        await vault.sync()
        assert version.blob_id == "x"
    await world.sync("a")
    await world.sync("c")
    for device in ("a", "b", "c"):
        async with world.open(device) as vault:
            [blob] = (await listed(vault)).values()
            assert not blob.conflict
            assert (await vault.namespace("notes").get("x")).data == b"settled 4"


async def test_a_blob_made_and_deleted_offline_sends_no_content(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"never seen")
        await notes.put("large", LARGE)
        await notes.delete("x")
        await notes.delete("large")
        await vault.sync()
    assert world.names(names.PACKS) == []
    await world.sync("b")
    async with world.open("b") as vault:
        assert await listed(vault) == {}


async def test_replaced_large_content_is_not_sent(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", LARGE)
        await vault.namespace("notes").put("x", LARGE[1:], replace=True)
        await vault.sync()
    assert len(world.names(names.PACKS)) == 1
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == LARGE[1:]


async def test_content_that_another_blob_still_has_outlives_the_folding(world: World) -> None:
    """It goes here with the last who needs it (row B2)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"shared")
        await notes.put("y", b"shared")
        await notes.put("x", b"other", replace=True)
        await vault.sync()
        assert (await notes.get("y")).data == b"shared"
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("y")).data == b"shared"


async def test_going_back_to_the_first_content_offline_keeps_it(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for data in (b"one", b"two", b"one"):
            await notes.put("x", data, replace=True)
        await vault.sync()
        assert (await notes.get("x")).data == b"one"
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"one"


async def test_a_version_in_the_outbox_is_never_folded(world: World) -> None:
    await world.put("a", x=b"one")
    remote = world.remote()
    remote.before = Fails(Unreachable("no connection"), "put", names.JOURNAL)
    with pytest.raises(Unreachable):
        await world.sync("a", remote)
    for number in range(3):
        await world.put("a", x=b"later %d" % number)
    async with world.open("a") as vault:
        await vault.sync()
        sent = [
            change.version
            for _, batch in sorted((await batches(world, vault)).items())
            for change in batch.changes
            if isinstance(change, VersionChange)
        ]
        assert len(sent) == 2
        assert [parent.version for parent in sent[1].parents] == [sent[0].id]
    await world.sync("b")
    async with world.open("b") as vault:
        assert not (await listed(vault))["x"].conflict
        assert (await vault.namespace("notes").get("x")).data == b"later 2"


async def test_content_that_is_at_the_remote_already_is_folded_too(world: World) -> None:
    """Nothing of these waits for a pack, so nothing but folding keeps the first ones from going out."""
    await world.put_and_sync("a", x=b"one", y=b"two", z=b"three")
    async with world.open("a") as vault:
        for data in (b"two", b"", b"three"):
            await vault.namespace("notes").put("x", data, replace=True)
        assert (await vault.sync()).sent == 1


async def test_more_edits_than_are_folded_at_once_still_become_one(world: World) -> None:
    async with world.open("a") as vault:
        for number in range(250):
            await vault.namespace("notes").put("x", b"%d" % number, replace=True)
        assert (await vault.sync()).sent == 1
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"249"

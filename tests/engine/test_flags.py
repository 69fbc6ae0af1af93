"""Flags: sets that merge so that setting wins, kept and sent as changes without content."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest

from syncagent.errors import (
    BlobNotFound,
    ConfigError,
    InvalidName,
    LimitExceeded,
    SyncAgentError,
    Unreachable,
)
from syncagent.journal.changes import Change, FlagsChange
from syncagent.namespace import Namespace
from syncagent.vault import Vault
from tests.engine.world import GoesAway, World, batches, change, rows

pytestmark = pytest.mark.anyio


async def flags(world: World, device: str, blob_id: str = "a") -> set[str]:
    async with world.open(device) as vault:
        return set(await vault.namespace("notes").get_flags(blob_id))


async def published(world: World, vault: Vault) -> list[FlagsChange]:
    changes: Iterable[Change] = [
        each for batch in (await batches(world, vault)).values() for each in batch.changes
    ]
    return [each for each in changes if isinstance(each, FlagsChange)]


async def test_flags_are_set_taken_away_and_replaced(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("a", b"a")
        assert await notes.get_flags("a") == frozenset()
        assert await notes.add_flags("a", {"seen", "\\Answered"}) == {"seen", "\\Answered"}
        assert await notes.add_flags("a", ["ü"]) == {"seen", "\\Answered", "ü"}
        assert await notes.remove_flags("a", {"seen", "never set"}) == {"\\Answered", "ü"}
        assert await notes.set_flags("a", {"ü", "new"}) == {"ü", "new"}
    async with world.open("a") as vault:
        assert await vault.namespace("notes").get_flags("a") == {"ü", "new"}


async def test_flags_reach_the_other_devices_and_content_is_not_sent_again(world: World) -> None:
    """They are synced (row A6)."""
    await world.put_and_sync("a", a=b"a", b=b"b")
    packs = world.names("packs/")
    async with world.open("a") as vault:
        await vault.namespace("notes").add_flags("a", {"seen", "kept"})
        assert (await vault.status()).pending_changes == 1
        await vault.sync()
        assert (await vault.status()).pending_changes == 0
    await world.sync("b")
    assert await flags(world, "b") == {"seen", "kept"} and await flags(world, "b", "b") == set()
    async with world.open("b") as vault:
        await vault.namespace("notes").set_flags("a", {"kept"})
        await vault.sync()
    await world.sync("a")
    assert await flags(world, "a") == {"kept"}
    assert world.names("packs/") == packs


async def test_a_flag_set_here_while_it_is_taken_away_there_stays(world: World) -> None:
    """Sets that merge: setting wins (row A6)."""
    await world.put_and_sync("a", a=b"a")
    async with world.open("a") as vault:
        await vault.namespace("notes").add_flags("a", {"seen"})
        await vault.sync()
    await world.sync("b")
    async with world.open("b") as vault:
        await vault.namespace("notes").remove_flags("a", {"seen"})
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.remove_flags("a", {"seen"})
        await notes.add_flags("a", {"seen"})  # anew, which `b` has not seen
    for device in ("b", "a", "b"):
        await world.sync(device)
    assert await flags(world, "a") == await flags(world, "b") == {"seen"}


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_what_is_set_and_taken_away_at_once_is_the_same_in_any_order(world: World, order: str) -> None:
    await world.put_and_sync("a", a=b"a")
    await world.sync("b")
    async with world.open("a") as vault:
        await vault.namespace("notes").set_flags("a", {"x", "y"})
    async with world.open("b") as vault:
        await vault.namespace("notes").set_flags("a", {"y", "z"})
        await vault.namespace("notes").remove_flags("a", {"y"})
    for device in order * 2:
        await world.sync(device)
    assert await flags(world, "a") == await flags(world, "b") == {"x", "y", "z"}


@pytest.mark.parametrize("bad", ["", "a\0b", "x" * 257, "\ud800", 7])
async def test_a_flag_that_cannot_be_is_refused_and_the_old_ones_stay(world: World, bad: str) -> None:
    """One invalid flag, and none is changed (row A6)."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("a", b"a")
        await notes.add_flags("a", {"old"})
        waiting = await rows(vault, "SELECT change FROM upload")
        for call in (notes.add_flags, notes.remove_flags, notes.set_flags):
            with pytest.raises(InvalidName):
                await call("a", ["good", bad])
        with pytest.raises(InvalidName):
            await notes.update_flags(["a"], add=[bad])
        with pytest.raises(InvalidName):
            async with vault.transaction() as tx:
                tx.namespace("notes").set_flags("a", [bad])
        assert await notes.get_flags("a") == {"old"}
        assert await rows(vault, "SELECT change FROM upload") == waiting


async def test_one_text_is_not_taken_for_a_set_of_letters(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("a", b"a")
        with pytest.raises(InvalidName, match="'seen' is one flag"):
            await vault.namespace("notes").add_flags("a", "seen")


async def test_too_many_flags_are_refused_and_can_be_taken_away(world: World) -> None:
    many = {f"flag {number}" for number in range(1000)}
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("a", b"a")
        await notes.set_flags("a", many)
        with pytest.raises(LimitExceeded):
            await notes.add_flags("a", {"one more"})
        assert await notes.get_flags("a") == many
        await vault.sync()
    await world.sync("b")
    assert await flags(world, "b") == many
    async with world.open("a") as vault:
        assert await vault.namespace("notes").set_flags("a", {"one more"}) == {"one more"}
        await vault.sync()
    await world.sync("b")
    assert await flags(world, "b") == {"one more"}


async def test_what_is_not_there_has_no_flags(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("a", b"a")
        await notes.add_flags("a", {"seen"})
        await notes.delete("a")
        calls: list[Callable[[str], object]] = [
            lambda blob_id: notes.get_flags(blob_id),
            lambda blob_id: notes.add_flags(blob_id, {"x"}),
            lambda blob_id: notes.remove_flags(blob_id, {"x"}),
            lambda blob_id: notes.set_flags(blob_id, {"x"}),
        ]
        for blob_id in ("a", "never put"):
            for call in calls:
                with pytest.raises(BlobNotFound):
                    await call(blob_id)  # type: ignore[misc]  # each is a coroutine
        with pytest.raises(InvalidName):
            await notes.get_flags("")
        await notes.put("a", b"a")
        assert await notes.get_flags("a") == frozenset(), "made anew, it begins without them"


async def test_what_is_so_already_is_no_change(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("a", b"a")
        await notes.add_flags("a", {"seen"})
        before = await rows(vault, "SELECT no FROM upload")
        await notes.add_flags("a", {"seen"})
        await notes.remove_flags("a", {"other"})
        await notes.set_flags("a", {"seen"})
        assert await rows(vault, "SELECT no FROM upload") == before


# Many ----------------------------------------------------------------------------------------------


async def test_many_blobs_at_once_with_a_result_each(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put_many([(f"{number:03}", b"x") for number in range(300)])
        ids = ["gone", *(f"{number:03}" for number in range(300)), ""]
        results = await notes.update_flags(ids, add={"seen"}, remove={"new"})
        assert [result.id for result in results] == ids
        assert isinstance(results[0].error, BlobNotFound) and isinstance(results[-1].error, InvalidName)
        assert all(result.flags == {"seen"} and result.error is None for result in results[1:-1])
        await vault.sync()
    await world.sync("b")
    assert await flags(world, "b", "299") == {"seen"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_five_thousand_changes_go_out_in_few_batches(world: World, anyio_backend: str) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        ids = [f"mail {number}" for number in range(2500)]
        await notes.put_many([(blob_id, b"") for blob_id in ids])
        await vault.sync()
        before = len(world.names("journal/"))
        await notes.update_flags(ids, add={"seen"})
        await notes.update_flags(ids, add={"kept"})
        assert (await rows(vault, "SELECT count(*) FROM upload")) == [(5000,)]
        await vault.sync()
        assert len(world.names("journal/")) - before == 5
    await world.sync("b")
    assert await flags(world, "b", "mail 2499") == {"seen", "kept"}


async def test_a_flag_that_goes_on_and_off_before_it_is_sent_is_one_change(world: World) -> None:
    await world.put_and_sync("a", a=b"a", b=b"b")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for _ in range(50):
            await notes.add_flags("a", {"seen"})
            await notes.remove_flags("a", {"seen"})
        await notes.add_flags("b", {"kept"})
        await notes.add_flags("a", {"seen"})
        await vault.sync()
        first, second = await published(world, vault)
        assert first.blob_id == "a" and len(first.add) == 1 and len(first.remove) == 50
        assert second.blob_id == "b"
        assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
    await world.sync("b")
    assert await flags(world, "b") == {"seen"} and await flags(world, "b", "b") == {"kept"}


async def test_a_damaged_change_stops_no_other(world: World) -> None:
    await world.put_and_sync("a", a=b"a", b=b"b")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.add_flags("a", {"one"})
        await notes.add_flags("a", {"two"})
        await notes.add_flags("a", {"three"})
        await change(vault, "UPDATE upload SET change = x'c1' WHERE no = (SELECT min(no) FROM upload)")
        report = await vault.sync()
        assert [alarm.kind for alarm in report.alarms] == ["CacheDamaged"]
    await world.sync("b")
    assert await flags(world, "b") == {"two", "three"}


# Transactions, copies and blobs that stay here ---------------------------------------------------


async def test_flags_in_a_transaction_are_all_or_none(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("a", b"a")
        await notes.add_flags("a", {"unread"})
        with pytest.raises(BlobNotFound):
            async with vault.transaction() as tx:
                tx.namespace("notes").add_flags("a", {"seen"})
                tx.namespace("notes").add_flags("not there", {"seen"})
        assert await notes.get_flags("a") == {"unread"}
        async with vault.transaction() as tx:
            tx.namespace("notes").put("answer", b"answer")
            tx.namespace("notes").add_flags("a", {"answered"})
            tx.namespace("notes").remove_flags("a", {"unread"})
            tx.namespace("notes").set_flags("answer", {"draft"})
            assert await notes.get_flags("a") == {"unread"}, "nothing happens before the block ends"
        assert [version.blob_id for version in tx.versions] == ["answer"]
        await vault.sync()
        with_group = [
            batch
            for batch in (await batches(world, vault)).values()
            if any(isinstance(each, FlagsChange) and each.blob_id == "answer" for each in batch.changes)
        ]
        assert [len(batch.changes) for batch in with_group] == [3], "in one batch, by themselves"
    await world.sync("b")
    assert await flags(world, "b") == {"answered"} and await flags(world, "b", "answer") == {"draft"}


async def test_a_transaction_of_flags_alone_is_sent(world: World) -> None:
    await world.put_and_sync("a", a=b"a", b=b"b")
    async with world.open("a") as vault:
        async with vault.transaction() as tx:
            for blob_id in ("a", "b"):
                tx.namespace("notes").add_flags(blob_id, {"seen"})
        await vault.barrier()
    await world.sync("b")
    assert await flags(world, "b") == await flags(world, "b", "b") == {"seen"}


async def test_nothing_is_lost_when_the_answer_is(world: World) -> None:
    await world.put_and_sync("a", a=b"a")
    async with world.open("a") as vault:
        await vault.namespace("notes").add_flags("a", {"seen"})
    remote = world.remote()
    remote.after = GoesAway(Unreachable("gone"), "put", "journal/")
    with pytest.raises(SyncAgentError):
        await world.sync("a", remote)
    async with world.open("a") as vault:
        await vault.namespace("notes").remove_flags("a", {"seen"})
        await vault.namespace("notes").add_flags("a", {"after"})
        await vault.sync()
    await world.sync("b")
    assert await flags(world, "a") == await flags(world, "b") == {"after"}


async def test_flags_of_a_blob_that_stays_here_are_told_when_it_is_shared(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("a", b"mine", local_only=True)
        await notes.add_flags("a", {"draft", "old"})
        await notes.remove_flags("a", {"old"})
        assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
        await vault.sync()
        assert await published(world, vault) == []
        await notes.put("a", b"mine", local_only=False)
        await vault.sync()
    await world.sync("b")
    assert await flags(world, "b") == {"draft"}


async def test_flags_are_told_too_when_it_is_shared_with_other_content(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("a", b"mine", local_only=True)
        await notes.add_flags("a", {"draft"})
        await notes.put("a", b"ours", replace=True, local_only=False)
        await vault.sync()
    await world.sync("b")
    assert await flags(world, "b") == {"draft"}


async def test_what_waits_of_a_blob_that_is_kept_here_after_all_is_not_sent(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("a", b"mine")
        await notes.put("b", b"ours")
        await notes.add_flags("a", {"secret"})
        await notes.add_flags("b", {"seen"})
        await notes.put("a", b"mine", local_only=True)
        await vault.sync()
        assert [each.blob_id for each in await published(world, vault)] == ["b"]
        assert await notes.get_flags("a") == {"secret"}


async def test_a_vault_that_is_closed_refuses(world: World) -> None:
    async with world.open("a") as vault:
        notes: Namespace = vault.namespace("notes")
        await notes.put("a", b"a")
    with pytest.raises(ConfigError):
        await notes.add_flags("a", {"seen"})


@pytest.mark.parametrize("ids", ["msg", 7, None])
async def test_one_id_in_the_place_of_several_is_refused(world: World, ids: Any) -> None:
    """Its letters are no ids."""
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put_many([(blob_id, b"one") for blob_id in ("m", "s", "g", "msg")])
        for call in (partial(notes.update_flags, add={"seen"}), notes.get_many, notes.prefetch):
            with pytest.raises(InvalidName, match="pass a list" if isinstance(ids, str) else "list of text"):
                await call(ids)
        assert await notes.count(flag="seen") == 0

"""All of a transaction or none of it: here, after a failure of any part, and on every other device."""

import random

import anyio
import pytest

from syncagent import names
from syncagent.errors import (
    BlobExists,
    BlobNotFound,
    BlobNotHere,
    ConfigError,
    ContentMismatch,
    InvalidName,
    LimitExceeded,
    ObjectRefused,
    SyncAgentError,
    Unreachable,
    VersionConflict,
)
from syncagent.journal.changes import VersionChange
from syncagent.transaction import Transaction
from syncagent.vault import Vault
from tests.engine.test_rollback import contents, is_quiet, settle
from tests.engine.world import Call, Fails, World, batches, change, listed, rows, statuses

pytestmark = pytest.mark.anyio

LARGE = random.Random(8).randbytes(600 << 10)


async def groups_in_batches(world: World, vault: Vault) -> list[list[str]]:
    """Blob ids of each batch that holds a transaction, in the batch's order."""
    found: list[list[str]] = []
    for batch in (await batches(world, vault)).values():
        versions = [one.version for one in batch.changes if isinstance(one, VersionChange)]
        if any(version.group for version in versions):
            assert len({version.group for version in versions}) == 1
            found.append([version.blob_id for version in versions])
    return found


# Here --------------------------------------------------------------------------------------------


async def test_nothing_happens_before_the_block_ends_and_then_all_of_it(world: World) -> None:
    async with world.open("a") as vault:
        notes, mail = vault.namespace("notes"), vault.namespace("mail")
        await notes.put("gone", b"gone")
        async with vault.transaction() as tx:
            tx.namespace("notes").put("a", b"a", metadata={"k": 1})
            tx.namespace("mail").put("large", LARGE)
            tx.namespace("notes").delete("gone")
            assert set(await listed(vault)) == {"gone"} and not len(tx.versions)
        assert await contents(vault) == {"a": b"a"}
        assert (await notes.get("a")).metadata == {"k": 1}
        assert (await mail.get("large")).data == LARGE
        assert [(v.blob_id, v.deleted) for v in tx.versions] == [
            ("a", False),
            ("large", False),
            ("gone", True),
        ]
        assert len({version.group for version in tx.versions}) == 1


async def test_an_exception_in_the_block_discards_it(world: World) -> None:
    async with world.open("a") as vault:
        with pytest.raises(KeyError):
            async with vault.transaction() as tx:
                tx.namespace("notes").put("a", b"a")
                raise KeyError("mine")
        assert await contents(vault) == {}
        assert await rows(vault, "SELECT 1 FROM upload") == []


@pytest.mark.parametrize("large_first", [False, True])
@pytest.mark.parametrize("case", ["exists", "not found", "conflict", "mismatch"])
async def test_one_step_that_cannot_be_done_undoes_all(world: World, case: str, large_first: bool) -> None:
    async with world.open("a") as vault:
        version = await vault.namespace("notes").put("there", b"there")
        await vault.namespace("notes").put("there", b"there now", replace=True)
        before = await rows(vault, "SELECT no FROM version")
        kinds: dict[str, type[SyncAgentError]] = {
            "exists": BlobExists,
            "not found": BlobNotFound,
            "conflict": VersionConflict,
            "mismatch": ContentMismatch,
        }
        with pytest.raises(kinds[case]):
            async with vault.transaction() as tx:
                notes = tx.namespace("notes")
                if large_first:
                    notes.put("large", LARGE)
                notes.put("a", b"a")
                match case:
                    case "exists":
                        notes.put("there", b"other")
                    case "not found":
                        notes.delete("never")
                    case "conflict":
                        notes.put("there", b"other", if_version=version)
                    case _:
                        notes.put("b", b"b", expected_size=2)
                notes.put("z", b"z")
        assert await contents(vault) == {"there": b"there now"}
        assert await rows(vault, "SELECT no FROM version") == before
        assert list((world.folder / "a" / "packs").iterdir()) == []


async def test_names_and_options_are_checked_at_once(world: World) -> None:
    async with world.open("a") as vault, vault.transaction() as tx:
        with pytest.raises(InvalidName):
            tx.namespace("No")
        with pytest.raises(InvalidName):
            tx.namespace("notes").put("", b"x")
        with pytest.raises(TypeError):
            tx.namespace("notes").put("x", "text")  # type: ignore[arg-type]  # what is tested
        with pytest.raises(ConfigError):
            tx.namespace("notes").put("x", b"x", priority=9)


async def test_steps_see_the_earlier_ones(world: World) -> None:
    async with world.open("a") as vault:
        async with vault.transaction() as tx:
            notes = tx.namespace("notes")
            notes.put("x", b"one")
            notes.put("x", b"two", replace=True)
            notes.put("y", b"y")
            notes.delete("y")
        assert await contents(vault) == {"x": b"two"}
        with pytest.raises(BlobExists):
            async with vault.transaction() as tx:
                tx.namespace("notes").put("z", b"one")
                tx.namespace("notes").put("z", b"two")
        await vault.sync()
    await world.sync("b")
    async with world.open("b") as vault:
        assert await contents(vault) == {"x": b"two"}
        assert not await rows(vault, "SELECT 1 FROM blob WHERE conflict")


async def test_an_empty_one_does_nothing_and_a_used_one_is_used_up(world: World) -> None:
    async with world.open("a") as vault:
        async with vault.transaction() as tx:
            pass
        assert not len(tx.versions)
        async with vault.transaction() as tx:
            tx.namespace("notes").put("a", b"a")
        with pytest.raises(ConfigError):
            tx.namespace("notes").put("b", b"b")
        with pytest.raises(ConfigError):
            async with tx:
                pass


async def test_one_that_is_too_large_is_refused_and_nothing_is_stored(world: World) -> None:
    async with world.open("a") as vault:
        with pytest.raises(LimitExceeded, match="the transaction has"):
            async with vault.transaction() as tx:
                for number in range(530):
                    tx.namespace("notes").put(f"n{number}", b"", metadata={"k": "x" * 16_000})
        assert await contents(vault) == {}
        async with vault.transaction() as tx:
            for number in range(500):
                tx.namespace("notes").put(f"n{number}", b"", metadata={"k": "x" * 16_000})
        assert (await vault.sync()).sent == 500
        assert [len(ids) for ids in await groups_in_batches(world, vault)] == [500]
    assert (await world.sync("b")).fetched == 500


async def test_cancelled_at_its_end_it_happened_or_not(world: World) -> None:
    async with world.open("a") as vault:
        for deadline in (0.0, 0.001, 0.003):
            with anyio.move_on_after(deadline):
                async with vault.transaction() as tx:
                    for number in range(20):
                        tx.namespace("notes").put(f"{deadline}-{number}", LARGE[: 300 << 10] + b"%d" % number)
        found = await rows(vault, "SELECT group_id, count(*) FROM upload GROUP BY group_id")
        assert all(count == 20 for _, count in found)


# On the way --------------------------------------------------------------------------------------


async def make(vault: Vault, *ids: str, data: bytes = b"") -> Transaction:
    async with vault.transaction() as tx:
        for blob_id in ids:
            tx.namespace("notes").put(blob_id, data + blob_id.encode(), replace=True)
    return tx


async def test_it_goes_out_in_one_batch_also_where_batches_are_cut(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put_many([(f"n{number:04}", b"x%d" % number) for number in range(990)])
        wanted = [f"t{number:04}" for number in range(1_500)]
        await make(vault, *wanted)
        await make(vault, "u1", "u2")
        assert (await vault.sync()).sent == 990 + 1_500 + 2
        assert await groups_in_batches(world, vault) == [wanted, ["u1", "u2"]]
    await world.sync("b")
    assert await is_quiet(world, "a", "b")


async def test_another_device_sees_all_of_it_or_nothing(world: World) -> None:
    async with world.open("a") as vault:
        await make(vault, "x", "y", data=LARGE)
        await vault.sync()
        await make(vault, "x", "y", "z", data=b"new ")
        await vault.sync()
    remote = world.remote()
    seen: list[set[tuple[str, int]]] = []
    async with world.open("b", remote) as vault:

        async def look(call: Call) -> None:
            seen.append({(blob.id, blob.size) for blob in (await listed(vault)).values()})

        remote.before = look
        await vault.sync()
        assert await contents(vault) == {"x": b"new x", "y": b"new y", "z": b"new z"}
    sizes = len(LARGE) + 1
    states: list[set[tuple[str, int]]] = [
        set(),
        {("x", sizes), ("y", sizes)},
        {("x", 5), ("y", 5), ("z", 5)},
    ]
    assert all(one in states for one in seen) and states[2] in seen


async def test_the_old_content_can_be_had_until_the_new_has_come(world: World) -> None:
    async with world.open("a") as vault:
        await make(vault, "x", "y", data=b"old ")
        await vault.sync()
    await world.sync("b")
    async with world.open("a") as vault:
        tx = await make(vault, "x", "y", data=b"new ")
        await vault.sync()
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "get", names.PACKS)
    async with world.open("b", remote) as vault:
        await vault.sync()
        [old] = await rows(
            vault,
            "SELECT lower(hex(version.id)) FROM version JOIN blob ON blob.no = blob_no"
            " WHERE blob.id = 'x' AND version.status IS NULL",
        )
        with pytest.raises(BlobNotHere) as caught:
            await vault.namespace("notes").get("x")
        assert caught.value.available == old[0]
        blob = (await listed(vault))["x"]
        assert blob.version == str(tx.versions[0])


async def test_one_blob_that_cannot_be_sent_holds_the_others_of_its_transaction_and_no_one_else(
    world: World,
) -> None:
    remote = world.remote()

    async def refuse(call: Call) -> None:
        if call.method == "put" and call.name.startswith(names.PACKS) and call.size > 500_000:
            raise ObjectRefused("too large")

    remote.before = refuse
    async with world.open("a", remote) as vault:
        async with vault.transaction() as tx:
            tx.namespace("notes").put("small", b"small")
            tx.namespace("notes").put("large", LARGE)
        await vault.namespace("notes").put("alone", b"alone")
        report = await vault.sync()
        assert report.sent == 1 and [one.id for one in report.failures] == ["large"]
        assert await statuses(vault) == {
            "alone": "SYNCED",
            "large": "PENDING_UPLOAD",
            "small": "PENDING_UPLOAD",
        }
        why = await vault.explain("notes", "small")
        assert "another blob of its transaction" in why.cause
        with pytest.raises(ObjectRefused):
            await vault.barrier()
        await world.sync("b")
        remote.before = Fails(ObjectRefused("never"), "put", times=0)
        world.clock.now += 3600
        assert (await vault.sync()).sent == 2
        assert await groups_in_batches(world, vault) == [["small", "large"]]
    assert (await world.sync("b")).fetched == 2


async def test_a_damaged_row_holds_its_transaction_too(world: World) -> None:
    async with world.open("a") as vault:
        tx = await make(vault, "x", "y")
        await make(vault, "z")
        await change(
            vault,
            "UPDATE packed SET bytes = zeroblob(length(bytes)) WHERE no IN"
            " (SELECT packed_no FROM version WHERE id = ?)",
            tx.versions[1].id,
        )
        report = await vault.sync()
        assert [one.id for one in report.failures] == ["y"] and report.sent == 1
        assert await groups_in_batches(world, vault) == [["z"]]


async def test_sending_one_namespace_sends_the_whole_of_a_transaction_that_touches_it(world: World) -> None:
    async with world.open("a") as vault:
        async with vault.transaction() as tx:
            tx.namespace("notes").put("n", b"n")
            tx.namespace("mail").put("m", LARGE)
        await vault.namespace("mail").put("other", b"other")
        assert (await vault.send_missing("notes")).sent == 2
        assert await groups_in_batches(world, vault) == [["n", "m"]]
        assert (await vault.send_missing("mail")).sent == 1


async def test_an_interrupted_send_sends_all_of_it_or_none(world: World) -> None:
    async with world.open("a") as vault:
        await make(vault, "x", "y", data=LARGE)
        await make(vault, "p", "q", data=b"small ")
    for skip in range(8):
        remote = world.remote()
        remote.before = Fails(Unreachable("gone"), "put", skip=skip, times=1_000)
        try:
            await world.sync("a", remote)
        except Unreachable:
            pass
        else:
            break
        await world.sync("b")
        async with world.open("b") as vault:
            here = set(await listed(vault))
            assert here & {"x", "y"} in (set(), {"x", "y"}) and here & {"p", "q"} in (set(), {"p", "q"})
    await settle(world, "a", "b")
    async with world.open("b") as vault:
        assert set(await contents(vault)) == {"x", "y", "p", "q"}


async def test_a_later_edit_of_one_blob_is_not_folded_into_it(world: World) -> None:
    async with world.open("a") as vault:
        await make(vault, "x", "y", data=b"tx ")
        await vault.namespace("notes").put("x", b"edited", replace=True)
        assert (await vault.sync()).sent == 3
        assert await groups_in_batches(world, vault) == [["x", "y"]]
    await world.sync("b")
    async with world.open("b") as vault:
        assert await contents(vault) == {"x": b"edited", "y": b"tx y"}
        assert not await rows(vault, "SELECT 1 FROM blob WHERE conflict")


async def test_a_local_blob_in_it_stays_here(world: World) -> None:
    async with world.open("a") as vault:
        async with vault.transaction() as tx:
            tx.namespace("notes").put("shared", b"shared")
            tx.namespace("notes").put("mine", b"mine", local_only=True)
        assert (await vault.sync()).sent == 1
        assert await statuses(vault) == {"shared": "SYNCED", "mine": "LOCAL_ONLY"}
    await world.sync("b")
    async with world.open("b") as vault:
        assert await contents(vault) == {"shared": b"shared"}


async def test_a_transaction_that_was_given_up_cannot_be_used_again(world: World) -> None:
    async with world.open("a") as vault:
        tx = vault.transaction()
        with pytest.raises(ZeroDivisionError):
            async with tx:
                tx.namespace("notes").put("discarded", b"1")
                raise ZeroDivisionError
        with pytest.raises(ConfigError, match="used once"):
            async with tx:
                pass
        assert not await vault.namespace("notes").exists("discarded")


async def test_a_transaction_of_flags_alone_cannot_be_used_again(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"1")
        tx = vault.transaction()
        async with tx:
            tx.namespace("notes").add_flags("x", {"seen"})
        await notes.remove_flags("x", {"seen"})
        with pytest.raises(ConfigError, match="used once"):
            async with tx:
                pass
        assert await notes.get_flags("x") == set()

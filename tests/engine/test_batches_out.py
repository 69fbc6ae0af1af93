"""Batches out: packs before the batch that names them, and the same bytes again after every kind of crash."""

import anyio
import pytest

from syncagent import names
from syncagent.errors import (
    Forbidden,
    ObjectRefused,
    OpenError,
    QuotaExceeded,
    SyncAgentError,
    Unreachable,
)
from syncagent.journal.changes import VersionChange
from syncagent.model import SyncStatus
from syncagent.remote.memory import MemoryRemote
from syncagent.remote.retry import RetryRemote
from syncagent.vault import Vault
from tests.engine.world import (
    Call,
    Fails,
    GoesAway,
    Hook,
    LedRemote,
    World,
    batches,
    change,
    kinds,
    listed,
    rows,
    statuses,
    use,
)

pytestmark = pytest.mark.anyio

LARGE = bytes(range(256)) * (2 << 10)


async def _nothing(seconds: float) -> None:
    return None


async def nothing(call: Call) -> None:
    return None


def stop(scope: anyio.CancelScope, method: str, prefix: str) -> Hook:
    """A hook that cancels a scope at a matching call, as a process that is stopped there."""

    async def hook(call: Call) -> None:
        if call.method == method and call.name.startswith(prefix):
            scope.cancel()
            await anyio.lowlevel.checkpoint()

    return hook


async def published(world: World, vault: Vault) -> list[str]:
    """Blob ids in the journal of a device, in order."""
    return [
        change.version.blob_id
        for _, batch in sorted((await batches(world, vault)).items())
        for change in batch.changes
        if isinstance(change, VersionChange)
    ]


# Order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfers", [1, 4])
async def test_every_pack_is_put_before_a_batch_names_it_and_numbers_have_no_gap(
    world: World, transfers: int
) -> None:
    """Other devices read of whole content only (row B3)."""
    remote = world.remote()
    async with world.open("a", remote, transfers=transfers) as vault:
        notes = vault.namespace("notes")
        for number in range(20):  # each a pack of its own: more than two rounds of packs
            await notes.put(f"large{number}", LARGE + bytes([number]))
        await notes.put_many([(f"small{number}", b"%d" % number) for number in range(1100)])
        assert not kinds(await vault.sync())
        own = await batches(world, vault)
        done = remote.called("put")
        named: set[str] = set()
        for seq, batch in sorted(own.items()):
            place = done.index(names.batch_object(bytes.fromhex(vault.device_id), seq)) if seq > 2 else 0
            for pack in batch.packs:
                name = names.pack_object(pack.id)
                assert name not in named
                named.add(name)
                assert done.index(name) < place
        assert named == set(remote.called("put", names.PACKS)) == set(world.names(names.PACKS))
        assert sorted(own) == list(range(1, len(own) + 1))
        assert len(own) > 4, "a long send publishes as it goes"
        ids = await published(world, vault)
        assert sorted(ids) == sorted(set(ids)) and len(ids) == 1120
        assert set((await statuses(vault)).values()) == {"SYNCED"}


async def test_batches_go_out_while_packs_are_still_being_sent(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote, transfers=1) as vault:
        await vault.namespace("notes").put_many([(f"{i}", b"%d" % i) for i in range(9000)])
        await vault.sync()
        done = remote.called("put")
        packs = [at for at, name in enumerate(done) if name.startswith(names.PACKS)]
        journal = [at for at, name in enumerate(done) if name.startswith(names.JOURNAL)]
        assert packs[0] < journal[0] < packs[-1]
        assert len(await published(world, vault)) == 9000
        assert len(journal) < 9 + 4, "and they are full"


async def test_a_sync_ends_though_puts_go_on(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")
        await notes.put("first", b"first")

        async def put_another(call: Call) -> None:
            if call.method == "put" and len(remote.called("put")) < 50:
                await notes.put(f"{len(remote.called('put'))}", call.name.encode())

        remote.before = put_another
        report = await vault.sync()
        assert report.sent >= 1 and len(remote.called("put")) < 20
        assert (await statuses(vault))["first"] == "SYNCED"
        remote.before = nothing
        await vault.sync()
        assert set((await statuses(vault)).values()) == {"SYNCED"}


async def test_content_of_a_batch_is_in_packs_named_there_or_before(world: World) -> None:
    await world.put("a", one=b"shared", two=LARGE)
    await world.sync("a")
    await world.put_and_sync("a", three=b"shared", four=LARGE)
    async with world.open("a") as vault:
        known: set[bytes] = set()
        for _, batch in sorted((await batches(world, vault)).items()):
            known |= {chunk.id for pack in batch.packs for chunk in pack.chunks}
            for each in batch.changes:
                if isinstance(each, VersionChange):
                    assert set(each.version.content) <= known


# Crashes ---------------------------------------------------------------------------------------


async def crash_before_the_put(world: World) -> None:
    remote = world.remote()
    with anyio.CancelScope() as scope:
        remote.before = stop(scope, "put", names.JOURNAL)
        await world.sync("a", remote)
    assert scope.cancelled_caught


async def crash_after_the_put(world: World) -> None:
    remote = world.remote()
    with anyio.CancelScope() as scope:
        remote.after = stop(scope, "put", names.JOURNAL)
        await world.sync("a", remote)
    assert scope.cancelled_caught


async def answer_lost(world: World) -> None:
    remote = world.remote()
    remote.after = GoesAway(Unreachable("the answer was lost"), "put", names.JOURNAL)
    with pytest.raises(Unreachable):
        await world.sync("a", remote)


async def answer_lost_and_asked_again(world: World) -> None:
    remote = world.remote()
    remote.after = Fails(Unreachable("the answer was lost"), "put", names.JOURNAL, times=1)
    await world.sync("a", RetryRemote(remote, sleep=_nothing))


async def never_reached(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(Unreachable("no connection"), "put", names.JOURNAL)
    with pytest.raises(Unreachable):
        await world.sync("a", remote)


@pytest.mark.parametrize(
    "crash",
    [crash_before_the_put, crash_after_the_put, answer_lost, answer_lost_and_asked_again, never_reached],
)
async def test_after_a_crash_the_very_same_bytes_go_out_and_nothing_twice(world: World, crash) -> None:  # type: ignore[no-untyped-def]  # one of the functions above
    await world.put("a", x=b"one", y=LARGE)
    await crash(world)
    async with world.open("a") as vault:
        journal = names.journal_prefix(bytes.fromhex(vault.device_id))
        [(seq, kept)] = await rows(
            vault,
            "SELECT seq, bytes FROM own_batch JOIN payload ON payload.no = payload_no"
            " ORDER BY seq DESC LIMIT 1",
        )
        assert isinstance(seq, int)
        before = {name: world.data(name) for name in world.names(journal)}
        # Put after the batch was cut: it must go in the next one and not change this one.
        await vault.namespace("notes").put("z", b"later")
        await vault.namespace("notes").put("x", b"two", replace=True)
        remote = world.remote()
        await use(vault, remote)
        assert not kinds(await vault.sync())
        assert world.data(names.batch_object(bytes.fromhex(vault.device_id), seq)) == kept
        assert all(world.data(name) == data for name, data in before.items())
        assert sorted(await published(world, vault)) == ["x", "x", "y", "z"]
        assert set((await statuses(vault)).values()) == {"SYNCED"}
        assert not await rows(vault, "SELECT 1 FROM upload UNION SELECT 1 FROM own_batch WHERE NOT confirmed")
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"two"
        assert (await vault.namespace("notes").get("y")).data == LARGE
        assert not any(blob.conflict for blob in (await listed(vault)).values())


async def test_a_crash_after_a_pack_was_put_sends_no_recorded_pack_again(world: World) -> None:
    await world.put("a", one=LARGE + b"1", two=LARGE + b"2", three=LARGE + b"3")
    remote = world.remote()
    with anyio.CancelScope() as scope:
        remote.before = stop(scope, "put", names.JOURNAL)
        await world.sync("a", remote)
    packs = world.names(names.PACKS)
    again = world.remote()
    await world.sync("a", again)
    assert len(packs) == 3
    assert again.called("put", names.PACKS) == []
    assert world.names(names.PACKS) == packs


async def test_a_pack_that_is_there_already_counts_as_put(world: World) -> None:
    await world.put("a", x=LARGE)
    remote = world.remote()
    remote.after = GoesAway(Unreachable("the answer was lost"), "put", names.PACKS)
    with pytest.raises(Unreachable):
        await world.sync("a", remote)
    packs = world.names(names.PACKS)
    report = await world.sync("a")
    assert (report.failed, kinds(report)) == (0, [])
    assert world.names(names.PACKS) == packs
    assert (await world.sync("b")).fetched == 1


async def test_bytes_that_do_not_open_in_the_place_of_a_batch_are_no_copy_of_this_device(
    world: World,
) -> None:
    """Whoever holds the remote can write any bytes under any name; nobody need give up a profile for it."""
    await world.put("a", x=b"one")
    remote = world.remote()

    async with world.open("a", remote) as vault:

        async def intrude(call: Call) -> None:
            if (
                call.method == "put"
                and call.name.startswith(names.JOURNAL)
                and call.name not in world.names()
            ):
                await world.replace(call.name, b"not ours")

        remote.before = intrude
        with pytest.raises(OpenError):
            await vault.sync()
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}


async def test_a_batch_said_to_exist_and_not_given_is_tried_again_later(world: World) -> None:
    await world.put("a", x=b"one")
    remote = world.remote()

    async def steal(call: Call) -> None:
        if call.method == "get" and call.name.startswith(names.JOURNAL):
            world.hide(call.name)

    remote.after = GoesAway(Unreachable("the answer was lost"), "put", names.JOURNAL)
    with pytest.raises(Unreachable):
        await world.sync("a", remote)
    remote = world.remote()
    remote.before = steal
    with pytest.raises(Unreachable):
        await world.sync("a", remote)
    assert (await world.sync("a")).failed == 0
    assert (await world.sync("b")).fetched == 1


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("took longer than 300 s"),
        ObjectRefused("too large for me"),
        QuotaExceeded("no room"),
        Forbidden("read only"),
    ],
)
async def test_a_batch_of_ours_that_is_never_taken_does_not_keep_us_from_fetching(
    world: World, error: SyncAgentError
) -> None:
    await world.put("a", mine=b"mine")
    remote = world.remote()
    remote.before = Fails(error, "put", names.JOURNAL)
    with pytest.raises(type(error)):
        await world.sync("a", remote)
    await world.put_and_sync("b", theirs=LARGE)
    async with world.open("a", remote) as vault:
        with pytest.raises(type(error)):  # the outbox comes before anything else
            await vault.sync()
        assert await statuses(vault) == {"mine": "PENDING_UPLOAD", "theirs": "SYNCED"}
        assert str(error) in (await vault.status()).reasons[0]
        assert not await rows(vault, "SELECT 1 FROM upload WHERE retries > 0"), "no blob's own failure"
        remote.before = Fails(error, "put", times=0)
        await vault.sync()
        assert await statuses(vault) == {"mine": "SYNCED", "theirs": "SYNCED"}


# Packs that wait for their batch -------------------------------------------------------------------


async def test_a_pack_put_a_week_before_its_batch_is_looked_for_before_it_is_named(world: World) -> None:
    await world.put("a", one=LARGE + b"1", two=LARGE + b"2")
    remote = world.remote()
    remote.before = GoesAway(Unreachable("gone"), "put", names.PACKS, skip=1)
    with pytest.raises(Unreachable):
        async with world.open("a", remote, transfers=1) as vault:
            await vault.sync()
    [pack] = world.names(names.PACKS)
    world.hide(pack)  # collected meanwhile: no batch named it
    world.clock.now += 8 * 24 * 3600
    remote = world.remote()
    await world.sync("a", remote)
    assert remote.called("head") == [pack]
    assert pack in world.names(names.PACKS)
    assert (await world.sync("b")).fetched == 2


async def test_a_pack_put_a_moment_before_its_batch_is_not_looked_for(world: World) -> None:
    await world.put("a", one=LARGE + b"1", two=LARGE + b"2")
    remote = world.remote()
    remote.before = GoesAway(Unreachable("gone"), "put", names.PACKS, skip=1)
    with pytest.raises(Unreachable):
        async with world.open("a", remote, transfers=1) as vault:
            await vault.sync()
    world.clock.now += 3600
    remote = world.remote()
    await world.sync("a", remote)
    assert remote.called("head") == []
    assert (await world.sync("b")).fetched == 2


# One part of a vault ---------------------------------------------------------------------------------


async def test_send_missing_of_one_namespace_leaves_the_others_pending(world: World) -> None:
    """Sending knows of namespaces (row A4)."""
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        await vault.namespace("mail").put("y", b"two")
        report = await vault.send_missing("mail")
        assert report.sent == 1
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}
        assert (await vault.send_missing("unknown")).sent == 0
        assert (await vault.send_missing()).sent == 1
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_fetch_missing_of_one_namespace_leaves_the_others_to_be_fetched(world: World) -> None:
    """Fetching knows of namespaces (row A4)."""
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        await vault.namespace("mail").put("x", b"two")
        await vault.sync()
    async with world.open("b") as vault:
        assert (await vault.fetch_missing("mail")).fetched == 1
        assert await statuses(vault) == {"x": "PENDING_DOWNLOAD"}
        assert (await vault.namespace("mail").stat("x")).status is SyncStatus.SYNCED
        assert (await vault.fetch_missing()).fetched == 1
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_a_damaged_row_is_set_aside_and_the_others_are_published(world: World) -> None:
    await world.put_and_sync("a", old=b"content")
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("bad", b"content")  # content that is there: only the row stands in the way
        await notes.put("good", b"content")
        await change(
            vault,
            "UPDATE packed SET bytes = zeroblob(length(bytes)) WHERE no IN (SELECT packed_no FROM version"
            " JOIN blob ON winner_no = version.no WHERE blob.id = 'bad')",
        )
        report = await vault.sync()
        assert await statuses(vault) == {"old": "SYNCED", "bad": "PENDING_UPLOAD", "good": "SYNCED"}
        assert [(failure.id, failure.direction) for failure in report.failures] == [("bad", "upload")]
        assert await rows(vault, "SELECT retries FROM upload") == [(1,)]


@pytest.mark.parametrize("spoilt", [b"", bytes(40), b"\xff" * 40])
async def test_a_damaged_change_without_content_is_put_off_and_the_others_are_published(
    world: World, spoilt: bytes
) -> None:
    async with world.open("a") as vault:
        await vault.rename_device(vault.device_id, "a new name")
        await change(vault, "UPDATE upload SET change = ?", spoilt)
        await vault.namespace("notes").put("x", b"x")
        report = await vault.sync()
        assert (report.sent, kinds(report)) == (1, ["CacheDamaged"])
        assert await statuses(vault) == {"x": "SYNCED"}
        [(retries, next_ms)] = await rows(vault, "SELECT retries, next_attempt_at FROM upload")
        assert (retries, next_ms) == (1, int((world.clock.now + 24 * 3600) * 1000))
        assert kinds(await vault.sync()) == []


async def test_refusing_everything_stops_nothing_that_is_not_refused(world: World) -> None:
    """A tombstone needs no pack: it goes out although every pack is refused (row E5)."""
    await world.put_and_sync("a", old=b"old")
    remote = world.remote()
    remote.before = Fails(ObjectRefused("too large for me"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("new", b"new")
        await vault.namespace("notes").delete("old")
        assert (await vault.sync()).failed == 1
        assert await statuses(vault) == {"new": "PENDING_UPLOAD"}
    await world.sync("b")
    async with world.open("b") as vault:
        assert not await listed(vault)


def test_the_memory_remote_under_test_is_the_real_one(world: World) -> None:
    assert isinstance(world.remote(), LedRemote) and isinstance(world.remote().inner, MemoryRemote)

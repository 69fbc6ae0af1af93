"""Journals in: what a remote may do to what it shows, and that one bad journal stops no other."""

import anyio
import pytest

from syncagent import names
from syncagent.cache import journals
from syncagent.crypto.sealed import seal_object
from syncagent.errors import ObjectRefused, SyncAgentError, Unreachable
from syncagent.journal.batch import encode_batch
from syncagent.model import DeviceId
from syncagent.vault import Vault
from tests.engine.world import Fails, GoesAway, World, batches, kinds, listed, opened, statuses

pytestmark = pytest.mark.anyio


async def device_ids(world: World, *devices: str) -> list[DeviceId]:
    found = []
    for name in devices:
        async with world.open(name) as vault:
            found.append(DeviceId(bytes.fromhex(vault.device_id)))
    return found


async def cursor(vault: Vault, device: DeviceId) -> int:
    return (await vault.parts()[0].cache.read(lambda db: journals.cursor(db, device))).seq


def journal(world: World, device: DeviceId) -> list[str]:
    return world.names(names.journal_prefix(device))


async def two_writers(world: World) -> tuple[list[str], list[str]]:
    """`a` and `b` publish two batches each, which `c` has not seen; the names of those."""
    before = set(world.names())
    ids = await device_ids(world, "a", "b")
    for number in (1, 2):
        async with world.open("a") as vault:
            await vault.namespace("notes").put(f"a{number}", b"from a")
            await vault.send_missing()
        async with world.open("b") as vault:
            await vault.namespace("notes").put(f"b{number}", b"from b")
            await vault.send_missing()
    new = [[name for name in journal(world, device) if name not in before] for device in ids]
    assert [len(each) for each in new] == [2, 2]
    return new[0], new[1]


async def blobs_of(world: World, device: str) -> set[str]:
    async with world.open(device) as vault:
        return set(await listed(vault))


# One journal -------------------------------------------------------------------------------------


async def test_a_journal_that_was_rolled_back_is_named_and_the_others_go_on(world: World) -> None:
    first, _ = await two_writers(world)
    async with world.open("c") as vault:
        await vault.sync()
        bring_back = world.hide(first[1])
        await world.put_and_sync("b", later=b"later")
        for _ in range(2):  # as often as it is asked
            report = await vault.sync()
            [(kind, subject)] = [(alarm.kind, alarm.subject) for alarm in report.alarms]
            assert (kind, subject) == ("RemoteRolledBack", "journal " + first[1].split("/")[1])
        assert set(await listed(vault)) == {"a1", "a2", "b1", "b2", "later"}, "absence deletes nothing"
        bring_back()
        assert kinds(await vault.sync()) == []


async def test_a_rolled_back_journal_that_grows_again_under_the_old_numbers_is_not_followed(
    world: World,
) -> None:
    """The device itself was restored from a backup: its second history does not chain to the first."""
    world.clone("a", "backup")
    await world.put("a", x=b"first story")
    await world.sync("a")
    await world.sync("c")
    last = journal(world, (await device_ids(world, "a"))[0])[-1]
    world.hide(last)
    await world.put("backup", x=b"second story")
    await world.sync("backup")
    await world.put("backup", y=b"third story")
    await world.sync("backup")
    await world.put_and_sync("b", z=b"from b")
    async with world.open("c") as vault:
        report = await vault.sync()
        assert "RemoteForked" in kinds(report)
        assert (await vault.namespace("notes").get("x")).data == b"first story"
        assert set(await listed(vault)) == {"x", "z"}


async def test_a_batch_left_out_is_withheld_and_what_comes_before_it_is_applied(world: World) -> None:
    for number in range(4):
        await world.put_and_sync("a", **{f"n{number}": b"x"})
    await world.put_and_sync("b", other=b"x")
    [device] = await device_ids(world, "a")
    names_a = journal(world, device)
    bring_back = world.hide(names_a[-2])
    async with world.open("c") as vault:
        report = await vault.sync()
        assert set(kinds(report)) == {"Withheld"}
        assert str(names.batch_seq(names_a[-2])) in report.alarms[0].message
        assert set(await listed(vault)) == {"n0", "n1", "other"}
        bring_back()
        assert kinds(await vault.sync()) == []
        assert set(await listed(vault)) == {"n0", "n1", "n2", "n3", "other"}


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("at", [-1, 0, 4, 39, 60])
async def test_an_altered_batch_stops_its_journal_until_the_bytes_are_right_again(
    world: World, at: int
) -> None:
    first, second = await two_writers(world)
    right = await world.flip(first[0], at)
    async with world.open("c") as vault:
        for _ in range(2):
            report = await vault.sync()
            [alarm] = report.alarms
            assert alarm.subject == first[0]
            # In the magic or the epoch it cannot be told from a later format.
            assert alarm.kind in ("Tampered", "TooNew")
            assert set(await listed(vault)) == {"b1", "b2"}
            assert await statuses(vault) == {"b1": "SYNCED", "b2": "SYNCED"}
        await world.replace(first[0], right)
        report = await vault.sync()
        assert kinds(report) == []
        assert set(await listed(vault)) == {"a1", "a2", "b1", "b2"}
        assert await cursor(vault, DeviceId(bytes.fromhex(second[0].split("/")[1]))) > 0


async def test_an_altered_batch_in_the_middle_lets_what_comes_before_it_through(world: World) -> None:
    first, _ = await two_writers(world)
    await world.flip(first[1])
    report = await world.sync("c")
    assert kinds(report) == ["Tampered"]
    assert await blobs_of(world, "c") == {"a1", "b1", "b2"}


async def test_nothing_behind_an_altered_batch_is_read_however_long_the_journal(world: World) -> None:
    async with world.open("a") as vault:
        for number in range(40):  # more than are opened together
            await vault.namespace("notes").put(f"n{number:02}", b"")
            await vault.send_missing()
    names_a = journal(world, (await device_ids(world, "a"))[0])
    await world.flip(names_a[4])
    remote = world.remote()
    report = await world.sync("c", remote)
    assert [(alarm.kind, alarm.subject) for alarm in report.alarms] == [("Tampered", names_a[4])]
    assert len(remote.called("get", names.JOURNAL)) <= 32
    assert len(await blobs_of(world, "c")) == 4 - (len(names_a) - 40)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("data", [b"x", b"SAO1" + bytes(200), bytes(40), b"SAP1" + bytes(500)])
async def test_garbage_under_a_batchs_name_stops_its_journal_alone(world: World, data: bytes) -> None:
    first, _ = await two_writers(world)
    await world.replace(first[0], data)
    report = await world.sync("c")
    assert len(report.alarms) == 1
    assert report.alarms[0].kind in ("Truncated", "Tampered", "TooNew")
    assert await blobs_of(world, "c") == {"b1", "b2"}


async def test_a_batch_under_another_devices_name_does_not_open(world: World) -> None:
    first, second = await two_writers(world)
    mine, theirs = world.data(first[0]), world.data(second[0])
    await world.replace(first[0], theirs)
    await world.replace(second[0], mine)
    report = await world.sync("c")
    assert sorted((alarm.kind, alarm.subject) for alarm in report.alarms) == sorted(
        [("Tampered", first[0]), ("Tampered", second[0])]
    )
    assert await blobs_of(world, "c") == set()


async def test_batches_of_one_journal_that_changed_places_do_not_open(world: World) -> None:
    first, _ = await two_writers(world)
    one, two = world.data(first[0]), world.data(first[1])
    await world.replace(first[0], two)
    await world.replace(first[1], one)
    report = await world.sync("c")
    assert set(kinds(report)) == {"Tampered"}
    assert await blobs_of(world, "c") == {"b1", "b2"}


async def test_a_batch_over_a_limit_stops_its_journal_alone(world: World) -> None:
    """A device of a later version, or a careless one, may write what this one refuses to read."""
    first, _ = await two_writers(world)
    async with world.open("c") as vault:
        keys = vault.parts()[0].keys
        await world.replace(first[0], seal_object(keys, first[0], b"\x00" * (9 << 20)))
        report = await vault.sync()
        assert [(alarm.kind, alarm.subject) for alarm in report.alarms] == [("LimitExceeded", first[0])]
        assert set(await listed(vault)) == {"b1", "b2"}


async def test_a_batch_that_does_not_chain_is_a_fork_and_stops_its_journal_alone(world: World) -> None:
    first, _ = await two_writers(world)
    async with world.open("c") as vault:
        keys = vault.parts()[0].keys
        batch = opened(keys, first[1], world.data(first[1]))
        wrong = encode_batch(type(batch)(batch.hlc, bytes(32), batch.heads, batch.packs, batch.changes))
        await world.replace(first[1], seal_object(keys, first[1], wrong))
        report = await vault.sync()
        [alarm] = report.alarms
        assert (alarm.kind, alarm.subject) == ("RemoteForked", "journal " + first[1].split("/")[1])
        assert set(await listed(vault)) == {"a1", "b1", "b2"}


async def test_a_batch_listed_and_not_given_is_withheld(world: World) -> None:
    first, _ = await two_writers(world)
    remote = world.remote()

    async def steal(call: object) -> None:
        if getattr(call, "method", "") == "get" and getattr(call, "name", "") == first[0]:
            world.store.objects.pop(first[0], None)

    remote.before = steal
    report = await world.sync("c", remote)
    assert "Withheld" in kinds(report)
    assert await blobs_of(world, "c") == {"b1", "b2"}


@pytest.mark.parametrize("method", ["get", "list"])
@pytest.mark.parametrize("error", [Unreachable("took longer than 300 s"), ObjectRefused("not this one")])
async def test_a_journal_that_is_never_given_stops_alone_and_all_else_is_sent_and_fetched(
    world: World, error: SyncAgentError, method: str
) -> None:
    first, _ = await two_writers(world)
    device = first[0].split("/")[1]
    prefix = first[0] if method == "get" else f"journal/{device}/"
    await world.put("c", mine=b"from c")
    remote = world.remote()
    remote.before = Fails(error, method, prefix)
    async with world.open("c", remote) as vault:
        report = await vault.sync()
        assert [(one.kind, one.message) for one in report.alarms] == [(type(error).__name__, str(error))]
        assert device in report.alarms[0].subject
        assert (report.sent, report.fetched) == (1, 2)
        assert await statuses(vault) == {"b1": "SYNCED", "b2": "SYNCED", "mine": "SYNCED"}
        assert len(remote.called(method, prefix)) <= 3
        remote.before = Fails(error, method, prefix, times=0)
        report = await vault.sync()
        assert (kinds(report), report.fetched) == ([], 2)


async def test_any_number_of_journals_may_fail_alone(world: World) -> None:
    """The rule for packs, that several failures in a row are the remote's own, is not for journals."""
    await two_writers(world)
    remote = world.remote()
    remote.before = Fails(Unreachable("no"), "get", names.JOURNAL)
    await world.put("c", mine=b"from c")
    report = await world.sync("c", remote)
    assert kinds(report) == ["Unreachable", "Unreachable"]
    assert report.sent == 1


async def test_a_remote_that_goes_away_while_journals_are_read_is_no_journals_failure(world: World) -> None:
    await two_writers(world)
    remote = world.remote()
    remote.before = GoesAway(Unreachable("gone"), "get", names.JOURNAL, skip=1)
    with pytest.raises(Unreachable):
        await world.sync("c", remote)


# What the others have read -------------------------------------------------------------------------


async def test_a_batch_that_another_device_has_read_and_we_are_not_shown_is_asked_for_twice_and_named(
    world: World,
) -> None:
    first, _ = await two_writers(world)
    await world.sync("b")
    await world.put_and_sync("b", after=b"b has read all of a")
    bring_back = world.hide(first[1])
    remote = world.remote()
    async with world.open("c", remote) as vault:
        report = await vault.sync()
        device = first[1].split("/")[1]
        assert [(alarm.kind, alarm.subject) for alarm in report.alarms] == [("Withheld", f"journal {device}")]
        assert remote.called("list", f"journal/{device}/") == [f"journal/{device}/"] * 2
        assert set(await listed(vault)) == {"a1", "b1", "b2", "after"}
        bring_back()
        report = await vault.sync()
        assert kinds(report) == []
        assert set(await listed(vault)) == {"a1", "a2", "b1", "b2", "after"}


async def test_a_listing_that_lags_behind_for_a_moment_is_no_alarm(world: World) -> None:
    first, _ = await two_writers(world)
    await world.sync("b")
    await world.put_and_sync("b", after=b"b has read all of a")
    bring_back = world.hide(first[1])
    remote = world.remote()
    prefix = "journal/" + first[1].split("/")[1] + "/"

    async def reappear(call: object) -> None:
        if getattr(call, "name", "") == prefix and remote.called("list", prefix)[1:]:
            bring_back()

    remote.before = reappear
    report = await world.sync("c", remote)
    assert kinds(report) == []
    assert "a2" in await blobs_of(world, "c")


async def test_a_whole_device_that_is_hidden_is_missed(world: World) -> None:
    first, _ = await two_writers(world)
    await world.sync("b")
    await world.put_and_sync("b", after=b"b has read all of a")
    device = first[0].split("/")[1]
    for name in [names.DEVICES + device, *world.names(f"journal/{device}/")]:
        world.hide(name)
    report = await world.sync("c")
    assert report.alarms and {alarm.subject for alarm in report.alarms} == {f"journal {device}"}
    assert set(kinds(report)) <= {"RemoteRolledBack", "Withheld"}
    assert await blobs_of(world, "c") == {"b1", "b2", "after"}


async def test_two_devices_that_were_shown_different_histories_find_out(world: World) -> None:
    """`a` and its copy publish under one number; `b` is shown one, `c` the other, and then they talk."""
    world.clone("a", "copy")
    await world.put_and_sync("a", x=b"to b")
    await world.sync("b")
    await world.put("b", y=b"b has read a")
    async with world.open("b") as vault:
        await vault.send_missing()
    shown_to_b = world.hide(journal(world, (await device_ids(world, "a"))[0])[-1])
    await world.put("copy", x=b"to c")
    async with world.open("copy") as vault:
        await vault.send_missing()
    assert kinds(await world.sync("c")) == ["RemoteForked"]
    shown_to_b()


async def test_a_batch_that_others_have_read_differently_is_not_applied_when_it_is_shown_at_last(
    world: World,
) -> None:
    world.clone("a", "copy")
    await world.put_and_sync("a", x=b"to b")
    [device] = await device_ids(world, "a")
    await world.sync("b")
    await world.put("b", y=b"b has read a")
    async with world.open("b") as vault:
        await vault.send_missing()
    world.hide(journal(world, device)[-1])
    assert kinds(await world.sync("c")) == ["Withheld"]
    await world.put("copy", x=b"to c")
    async with world.open("copy") as vault:
        await vault.send_missing()
    async with world.open("c") as vault:
        assert kinds(await vault.sync()) == ["RemoteForked"]
        assert set(await listed(vault)) == {"y"}


async def test_an_edit_that_comes_before_what_it_edits_supersedes_it_and_its_content_is_not_fetched(
    world: World,
) -> None:
    await world.put_and_sync("a", x=b"old")
    [old_pack] = world.names(names.PACKS)
    await world.sync("b")
    await world.put_and_sync("b", x=b"edited")
    [device] = await device_ids(world, "a")
    bring_back = world.hide(journal(world, device)[-1])
    remote = world.remote()
    async with world.open("c", remote) as vault:
        assert kinds(await vault.sync()) == ["Withheld"]
        assert (await vault.namespace("notes").get("x")).data == b"edited"
        bring_back()
        report = await vault.sync()
        assert (kinds(report), report.conflicts) == ([], 0)
        assert (await vault.namespace("notes").get("x")).data == b"edited"
        assert not (await listed(vault))["x"].conflict
    assert old_pack not in remote.called("get")


async def test_batches_go_in_after_those_their_author_had_read(world: World) -> None:
    """No conflict appears for a moment: the edit is merged after what it edits, whatever the device ids."""
    for _ in range(3):
        for device in ("a", "b"):
            async with world.open(device) as vault:
                await vault.sync()
                await vault.namespace("notes").put("x", device.encode() * (1 + _), replace=True)
                await vault.sync()
    report = await world.sync("c")
    assert report.conflicts == 0
    async with world.open("c") as vault:
        assert not (await listed(vault))["x"].conflict
        heads = await batches(world, vault)
        assert heads


# Alarms that are found once ------------------------------------------------------------------------


async def from_the_future(world: World) -> None:
    """A version that every device finds odd at the moment it applies it, and never again."""
    now = world.clock.now
    world.clock.now += 3 * 24 * 3600
    await world.put_and_sync("a", odd=b"dated ahead")
    world.clock.now = now


async def told(vault: Vault) -> list[str]:
    """What the status shows, and what the next two reports tell."""
    shown = [alarm.kind for alarm in (await vault.status()).alarms]
    reports = [kinds(await vault.sync()), kinds(await vault.sync())]
    assert (await vault.status()).alarms == ()
    return [*shown, *reports[0], "then", *reports[1]]


async def test_an_alarm_of_a_round_that_failed_is_shown_and_told_by_the_next_report_once(
    world: World,
) -> None:
    await from_the_future(world)
    remote = world.remote()
    remote.before = GoesAway(Unreachable("gone"), "get", names.PACKS)
    async with world.open("b", remote) as vault:
        with pytest.raises(Unreachable):
            await vault.sync()
        assert (await vault.status()).reasons == ("Unreachable: gone",)
        remote.before = Fails(Unreachable("gone"), "get", times=0)
        assert await told(vault) == ["ClockAhead", "ClockAhead", "then"]


async def test_an_alarm_survives_a_process_that_ends_in_the_round(world: World) -> None:
    await from_the_future(world)
    remote = world.remote()
    with anyio.CancelScope() as scope:

        async def end(call: object) -> None:
            if getattr(call, "name", "").startswith(names.PACKS):
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        remote.before = end
        await world.sync("b", remote)
    async with world.open("b") as vault:
        assert await told(vault) == ["ClockAhead", "ClockAhead", "then"]


async def test_the_status_shows_a_standing_alarm_until_it_is_over(world: World) -> None:
    first, _ = await two_writers(world)
    right = await world.flip(first[0])
    async with world.open("c") as vault:
        for _ in range(2):
            assert kinds(await vault.sync()) == ["Tampered"]
            [alarm] = (await vault.status()).alarms
            assert alarm.subject == first[0]
        await world.replace(first[0], right)
        await vault.sync()
        assert (await vault.status()).alarms == ()

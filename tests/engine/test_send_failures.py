"""What fails for one blob on its way out is counted for that blob, at known times, and stops no other."""

import random

import pytest

from syncagent import names
from syncagent.engine.backoff import GIVEN_UP_S
from syncagent.errors import CacheDamaged, ObjectRefused, QuotaExceeded, RateLimited, Unreachable
from syncagent.model import MAX_RETRIES, SyncStatus
from syncagent.vault import Vault
from tests.engine.world import (
    NOON,
    Call,
    Clock,
    Fails,
    World,
    damage_content,
    damage_version,
    listed,
    rows,
    statuses,
)

pytestmark = pytest.mark.anyio

LARGE = bytes(range(256)) * (2 << 10)


class RefusesLargePacks:
    """A hook that refuses every pack over a size, as a limit at the remote does."""

    def __init__(self) -> None:
        self.refused = 0

    async def __call__(self, call: Call) -> None:
        if call.method == "put" and call.name.startswith(names.PACKS) and call.size > 10_000:
            self.refused += 1
            raise ObjectRefused("larger than this remote takes")


async def upload(vault: Vault, blob_id: str) -> tuple[int, int, str | None]:
    """(retries, seconds until the next attempt, last error) of a pending blob."""
    [(retries, at, error)] = await rows(
        vault,
        "SELECT retries, next_attempt_at, last_error FROM upload JOIN version ON version.no = version_no"
        " JOIN blob ON blob.no = blob_no WHERE blob.id = ?",
        blob_id,
    )
    assert isinstance(retries, int) and isinstance(at, int) and (error is None or isinstance(error, str))
    return retries, round(at / 1000 - NOON), error


# One blob ----------------------------------------------------------------------------------------


async def test_content_damaged_in_the_cache_fails_alone(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put_many([(f"n{number}", b"%d" % number) for number in range(300)])
        await damage_content(vault, "n7")
        report = await vault.sync()
        assert (report.sent, report.failed) == (299, 1)
        [failure] = report.failures
        assert (failure.id, failure.direction) == ("n7", "upload")
        assert failure.error.startswith("CacheDamaged")
        found = await statuses(vault)
        assert {blob for blob, status in found.items() if status != "SYNCED"} == {"n7"}
        retries, wait_s, error = await upload(vault, "n7")
        assert (retries, wait_s) == (1, 22) and error is not None and error.startswith("CacheDamaged")
    assert (await world.sync("b")).fetched == 299


async def test_a_damaged_pack_file_fails_its_blob_alone(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("bad", LARGE)
        [path] = (world.folder / "a" / "packs").iterdir()
        await notes.put("good", LARGE + b"good")
        await notes.put("small", b"small")
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(data)
        report = await vault.sync()
        assert [failure.id for failure in report.failures] == ["bad"]
        assert await statuses(vault) == {"bad": "PENDING_UPLOAD", "good": "SYNCED", "small": "SYNCED"}
    assert (await world.sync("b")).fetched == 2


async def test_damaged_bytes_never_reach_the_remote(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("bad", b"content")
        await damage_content(vault, "bad")
        await vault.sync()
        assert world.names(names.PACKS) == []
        with pytest.raises(CacheDamaged):
            await vault.namespace("notes").get("bad")
        # The same bytes put once more mend it.
        await vault.namespace("notes").put("bad", b"content")
        world.clock.now += 3600
        assert (await vault.sync()).failed == 0
        assert await statuses(vault) == {"bad": "SYNCED"}


async def test_a_damaged_row_that_a_later_put_replaced_stops_no_one(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("bad", b"one")
        await damage_version(vault, "bad")
        await notes.put("bad", b"two", replace=True)
        for number in range(3):  # folds as ever
            await notes.put("good", b"%d" % number, replace=True)
        await vault.sync()
        assert await statuses(vault) == {"bad": "SYNCED", "good": "SYNCED"}
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("bad")).data == b"two"
        assert not (await listed(vault))["bad"].conflict


async def test_a_refused_pack_is_split_until_the_refused_blob_is_alone(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")
        remote.before = refuses = RefusesLargePacks()
        await notes.put_many([(f"n{number}", b"%d" % number) for number in range(8)])
        await notes.put("huge", random.Random(1).randbytes(20_000))
        await notes.put_many([(f"n{number}", b"%d" % number) for number in range(8, 16)])
        report = await vault.sync()
        assert [failure.id for failure in report.failures] == ["huge"]
        assert report.failures[0].error.startswith("ObjectRefused")
        found = await statuses(vault)
        assert {blob for blob, status in found.items() if status != "SYNCED"} == {"huge"}
        # Halved each time: one more than the binary logarithm of 17 blobs, and no more.
        assert refuses.refused == 5
    assert (await world.sync("b")).fetched == 16


async def test_a_refused_pack_file_fails_its_blob_alone(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")
        await notes.put("large", random.Random(1).randbytes(300 << 10))
        await notes.put("small", b"small")
        remote.before = RefusesLargePacks()
        assert [failure.id for failure in (await vault.sync()).failures] == ["large"]
        assert await statuses(vault) == {"large": "PENDING_UPLOAD", "small": "SYNCED"}


async def test_two_blobs_of_one_refused_content_both_fail(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("one", b"same")
        await vault.namespace("notes").put("two", b"same")
        assert sorted(failure.id for failure in (await vault.sync()).failures) == ["one", "two"]
        assert (await upload(vault, "one"))[0] == (await upload(vault, "two"))[0] == 1


# Retries -----------------------------------------------------------------------------------------


async def test_a_blob_is_tried_at_the_times_its_failures_give_and_once_a_day_when_given_up(
    world: World,
) -> None:
    """A counter and a time of its own (row A2)."""
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("bad", b"bad")
        waits: list[int] = []
        for _ in range(MAX_RETRIES + 3):
            before = len(remote.calls)
            report = await vault.sync()
            assert report.failed == 1
            retries, _, error = await upload(vault, "bad")
            assert error == "ObjectRefused: no"
            [(at,)] = await rows(vault, "SELECT next_attempt_at FROM upload")
            assert isinstance(at, int)
            waits.append(round(at / 1000 - world.clock.now))
            given_up = retries > MAX_RETRIES
            assert await statuses(vault) == {"bad": "FAILED_UPLOAD" if given_up else "PENDING_UPLOAD"}
            # Not a moment earlier.
            world.clock.now = at / 1000 - 1
            before = len(remote.called("put", names.PACKS))
            assert (await vault.sync()).failed == 0
            assert len(remote.called("put", names.PACKS)) == before
            world.clock.now = at / 1000
        # dice 0.5: three quarters of 30 s, doubling to an hour
        day = round(GIVEN_UP_S)
        assert waits == [22, 45, 90, 180, 360, 720, 1440, 2700, day, day, day]
        remote.before = Fails(ObjectRefused("no"), "put", times=0)
        assert (await vault.sync()).sent == 1
        assert await statuses(vault) == {"bad": "SYNCED"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("dice", [0.0, 0.25, 0.999])
async def test_the_dice_decide_between_half_the_bound_and_all_of_it(world: World, dice: float) -> None:
    world.dice = dice
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("bad", b"bad")
        await vault.sync()
        [(at,)] = await rows(vault, "SELECT next_attempt_at FROM upload")
        assert isinstance(at, int)
        assert at == int(NOON * 1000) + int((15 + dice * 15) * 1000)


async def test_every_pending_row_has_a_time(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("bad", b"bad")
        await vault.sync()
        await vault.namespace("notes").put("new", b"new")
        times = await rows(
            vault, "SELECT next_attempt_at FROM upload UNION ALL SELECT next_attempt_at FROM download"
        )
        assert len(times) == 2
        assert all(at is not None for (at,) in times)


# The remote as a whole ---------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Unreachable("no connection"), QuotaExceeded("full"), RateLimited("slow")])
async def test_trouble_of_the_whole_remote_is_counted_for_no_blob(world: World, error: Exception) -> None:
    """Only failures of the blob's own count (row A2)."""
    remote = world.remote()
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("one", b"one")
        await vault.namespace("notes").put("two", LARGE)
        for method, prefix in [("get", names.VAULT), ("put", names.PACKS), ("put", names.JOURNAL)]:
            remote.before = Fails(error, method, prefix)
            for _ in range(MAX_RETRIES + 2):
                with pytest.raises(type(error)):
                    await vault.sync()
        assert await rows(vault, "SELECT DISTINCT retries, last_error FROM upload") == [(0, None)]
        assert (await vault.status()).counts[SyncStatus.FAILED_UPLOAD] == 0
        remote.before = Fails(error, "put", times=0)
        assert (await vault.sync()).sent == 2


async def test_a_failed_sync_is_noted_with_its_time_and_a_good_one_clears_it(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote) as vault:
        before = await vault.status()
        assert before.next_attempt is None and before.reasons == ()
        remote.before = Fails(Unreachable("no connection"), "get", names.VAULT)
        for wait_s in (0.5, 1.0, 2.0):
            with pytest.raises(Unreachable):
                await vault.sync()
            status = await vault.status()
            assert status.next_attempt is not None
            assert status.next_attempt.timestamp() == NOON + wait_s
            assert status.reasons == ("Unreachable: no connection",)
            assert status.last_sync == before.last_sync
        remote.before = Fails(RateLimited("slow", retry_after_s=90.0), "get", names.VAULT)
        with pytest.raises(RateLimited):
            await vault.sync()
        status = await vault.status()
        assert status.next_attempt is not None and status.next_attempt.timestamp() == NOON + 90
        remote.before = Fails(Unreachable("no"), "put", times=0)
        await vault.sync()
        status = await vault.status()
        assert (status.next_attempt, status.reasons) == (None, ())
        assert status.last_sync is not None


async def test_a_deletion_that_could_not_be_sent_is_sent_later(world: World) -> None:
    """Deletions are synced, and tried again until they are (row A7)."""
    await world.put_and_sync("a", x=b"x")
    await world.sync("b")
    remote = world.remote()
    remote.before = Fails(Unreachable("gone"), "put")
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").delete("x")
        for _ in range(2):
            with pytest.raises(Unreachable):
                await vault.sync()
            assert (await vault.status()).pending_changes == 1
    await world.sync("b")
    async with world.open("b") as vault:
        assert list(await listed(vault)) == ["x"], "nothing is deleted by what was not said"
    async with world.open("a") as vault:  # what is pending outlives the process
        await vault.sync()
        assert (await vault.status()).pending_changes == 0
    await world.sync("b")
    async with world.open("b") as vault:
        assert await listed(vault) == {}


async def test_what_was_sent_before_the_remote_went_away_is_not_sent_again(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote, transfers=1) as vault:
        for number in range(4):
            await vault.namespace("notes").put(f"n{number}", LARGE + bytes([number]))
        remote.before = Fails(Unreachable("gone"), "put", names.PACKS, skip=2)
        with pytest.raises(Unreachable):
            await vault.sync()
        sent = world.names(names.PACKS)
        assert len(sent) == 2
        remote.before = Fails(Unreachable("gone"), "put", times=0)
        remote.calls.clear()
        await vault.sync()
        assert len(remote.called("put", names.PACKS)) == 2
        assert not set(remote.called("put", names.PACKS)) & set(sent)


def test_a_clock_of_the_tests_stands_still() -> None:
    clock = Clock()
    assert clock() == clock() == NOON

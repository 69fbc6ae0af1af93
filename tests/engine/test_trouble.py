"""An object that keeps failing while the remote answers is that blob's own trouble, and nobody else's."""

import contextlib
import random

import anyio
import pytest

from syncagent import names
from syncagent.engine.trouble import MOST_ASIDE, STRIKES, FailsAlone, Trouble
from syncagent.errors import BlobNotHere, RateLimited, Unreachable
from syncagent.model import SyncStatus
from syncagent.remote.memory import MemoryRemote
from syncagent.remote.retry import RetryRemote
from tests.engine.world import Call, Fails, GoesAway, LedRemote, World, kinds, rows, statuses

pytestmark = pytest.mark.anyio

LARGE = random.Random(2).randbytes(300 << 10)
LARGER = random.Random(3).randbytes(500 << 10)


class Stalls:
    """A hook under which transfers of bodies of some size never come to an end."""

    def __init__(self, method: str, least: int, most: int = 1 << 30) -> None:
        self.method = method
        self.least = least
        self.most = most
        self.tried = 0

    async def __call__(self, call: Call) -> None:
        is_pack = call.method == self.method and call.name.startswith(names.PACKS)
        if is_pack and self.least <= call.size <= self.most:
            self.tried += 1
            raise Unreachable("took longer than 300 s")


async def put_three(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("small", b"small")
        await notes.put("bad", LARGER)
        await notes.put("good", LARGE)


# Sending -----------------------------------------------------------------------------------------


async def test_a_pack_that_always_times_out_fails_its_blob_alone(world: World) -> None:
    await put_three(world)
    remote = world.remote()
    remote.before = stalls = Stalls("put", 310 << 10)
    async with world.open("a", remote) as vault:
        report = await vault.sync()
        assert stalls.tried == STRIKES
        assert [(one.id, one.direction) for one in report.failures] == [("bad", "upload")]
        assert report.failures[0].error == "Unreachable: took longer than 300 s"
        assert await statuses(vault) == {"small": "SYNCED", "good": "SYNCED", "bad": "PENDING_UPLOAD"}
        assert await rows(vault, "SELECT retries FROM upload") == [(1,)]
        remote.before = Fails(Unreachable("never"), "put", times=0)
        world.clock.now += 3600
        assert (await vault.sync()).sent == 1
    assert (await world.sync("b")).fetched == 3


async def test_attempts_below_count_as_strikes(world: World) -> None:
    await put_three(world)
    led = world.remote()
    led.before = stalls = Stalls("put", 310 << 10)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    remote = RetryRemote(led, attempts=4, sleep=pause)
    async with world.open("a", remote) as vault:
        assert (await vault.sync()).failed == 1
    assert stalls.tried == 4 and len(pauses) == 3


async def test_a_shared_pack_that_times_out_is_sent_in_halves(world: World) -> None:
    remote = world.remote()
    remote.before = Stalls("put", 5_000)
    dice = random.Random(3)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put_many([(f"n{i}", dice.randbytes(2_000)) for i in range(6)])
        report = await vault.sync()
        assert (report.sent, report.failed) == (6, 0)
    assert (await world.sync("b")).fetched == 6


async def test_several_objects_that_fail_with_no_success_are_the_remotes_failure(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote, transfers=1) as vault:
        for number in range(3):
            await vault.namespace("notes").put(f"n{number}", LARGE + bytes([number]))
        remote.before = Fails(Unreachable("no"), "put", names.PACKS)
        with pytest.raises(Unreachable):
            await vault.sync()
        assert await rows(vault, "SELECT DISTINCT retries, last_error FROM upload") == [(0, None)]


async def test_a_success_after_them_makes_several_failures_the_blobs_own(world: World) -> None:
    remote = world.remote()
    stalls = Stalls("put", 310 << 10)

    async def in_order(call: Call) -> None:
        """The good one comes when the others have failed."""
        await stalls(call)
        if call.method == "put" and call.name.startswith(names.PACKS):
            with anyio.fail_after(10):
                while stalls.tried < 3 * STRIKES:
                    await anyio.sleep(0.001)

    remote.before = in_order
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")
        for number in range(3):
            await notes.put(f"bad{number}", LARGER + bytes([number]))
        await notes.put("good", LARGE)
        report = await vault.sync()
        assert sorted(one.id for one in report.failures) == ["bad0", "bad1", "bad2"]
        assert (await statuses(vault))["good"] == "SYNCED"


async def test_a_remote_that_goes_away_meanwhile_is_counted_for_no_blob(world: World) -> None:
    await put_three(world)
    remote = world.remote()
    remote.before = GoesAway(Unreachable("gone"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        with pytest.raises(Unreachable):
            await vault.sync()
        assert await rows(vault, "SELECT DISTINCT retries, last_error FROM upload") == [(0, None)]


# Fetching ----------------------------------------------------------------------------------------


async def test_a_pack_that_cannot_be_fetched_fails_its_blob_alone(world: World) -> None:
    await put_three(world)
    await world.sync("a")
    remote = world.remote()
    remote.before = stalls = Stalls("get", 310 << 10)
    async with world.open("b", remote) as vault:
        report = await vault.sync()
        assert stalls.tried == STRIKES
        assert [(one.id, one.direction) for one in report.failures] == [("bad", "download")]
        assert kinds(report) == []
        assert await statuses(vault) == {"small": "SYNCED", "good": "SYNCED", "bad": "PENDING_DOWNLOAD"}
        assert await rows(vault, "SELECT retries FROM download") == [(1,)]
        with pytest.raises(BlobNotHere):
            await vault.namespace("notes").get("bad")
        remote.before = Fails(Unreachable("never"), "put", times=0)
        world.clock.now += 3600
        assert (await vault.sync()).fetched == 1


async def test_fetching_while_no_pack_comes_is_counted_for_no_blob(world: World) -> None:
    await put_three(world)
    await world.sync("a")
    remote = world.remote()
    remote.before = Fails(Unreachable("no"), "get", names.PACKS)
    async with world.open("b", remote) as vault:
        with pytest.raises(Unreachable):
            await vault.sync()
        assert await rows(vault, "SELECT DISTINCT retries, last_error FROM download") == [(0, None)]


# The rule ----------------------------------------------------------------------------------------


async def raising(error: Exception) -> None:
    raise error


async def fine() -> None:
    return None


async def test_so_many_in_a_row_are_the_remotes_failure_at_once(world: World) -> None:
    trouble = Trouble(MemoryRemote(world.store))
    for _ in range(MOST_ASIDE - 1):
        with pytest.raises(FailsAlone):
            await trouble.attempt(lambda: raising(Unreachable("no")))
    with pytest.raises(Unreachable):
        await trouble.attempt(lambda: raising(Unreachable("no")))
    with pytest.raises(Unreachable):
        trouble.check()
    await trouble.attempt(fine)
    trouble.check()


@pytest.mark.parametrize("error", [RateLimited("slow"), Unreachable("busy", retry_after_s=5.0)])
async def test_a_remote_that_asks_for_patience_is_given_it(world: World, error: Exception) -> None:
    remote = LedRemote(MemoryRemote(world.store))
    with pytest.raises(type(error)):
        await Trouble(remote).attempt(lambda: raising(error))
    assert remote.calls == []


async def test_any_answer_shows_that_the_remote_is_there(world: World) -> None:
    trouble = Trouble(MemoryRemote())  # it holds no vault
    with pytest.raises(FailsAlone) as caught:
        await trouble.attempt(lambda: raising(Unreachable("no")))
    assert isinstance(caught.value.cause, Unreachable)


# More that fail than are tried in a row ------------------------------------------------------------


class Poisoned:
    """A hook under which some packs never come to an end; all others do."""

    def __init__(self, method: str, packs: set[str]) -> None:
        self.method = method
        self.packs = packs

    async def __call__(self, call: Call) -> None:
        if call.method == self.method and call.name in self.packs:
            raise Unreachable("took longer than 300 s")


async def syncs_until_done(world: World, device: str, remote: LedRemote, blob_id: str) -> int:
    """How many syncs it takes until a blob is in sync."""
    for count in range(1, 6):
        with contextlib.suppress(Unreachable):
            await world.sync(device, remote)
        async with world.open(device) as vault:
            if (await statuses(vault)).get(blob_id) == "SYNCED":
                return count
    return 0


@pytest.mark.parametrize("count", [MOST_ASIDE, 2 * MOST_ASIDE + 3])
async def test_packs_that_never_go_out_do_not_keep_the_one_behind_them_for_ever(
    world: World, count: int
) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(count):
            await notes.put(f"bad{number}", LARGER + bytes([number]))
        await notes.put("good", LARGE)
    remote = world.remote()
    remote.before = Stalls("put", 310 << 10)
    assert await syncs_until_done(world, "a", remote, "good")
    async with world.open("a") as vault:
        assert (await vault.status()).counts[SyncStatus.PENDING_UPLOAD] == count
        remote.before = Fails(Unreachable("never"), "put", times=0)
        world.clock.now += 3600
        await vault.sync()
        assert (await vault.status()).counts[SyncStatus.SYNCED] == count + 1
        assert not await rows(vault, "SELECT value FROM meta WHERE key = 'stalled_upload'")


@pytest.mark.parametrize("count", [MOST_ASIDE, 2 * MOST_ASIDE + 3])
async def test_packs_that_never_come_do_not_keep_the_one_behind_them_for_ever(
    world: World, count: int
) -> None:
    bad: set[str] = set()
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(count):
            await notes.put(f"bad{number}", LARGER + bytes([number]))
        await vault.sync()
        bad.update(world.names(names.PACKS))
        await notes.put("good", LARGE)
        await vault.sync()
    remote = world.remote()
    remote.before = Poisoned("get", bad)
    assert await syncs_until_done(world, "b", remote, "good")
    async with world.open("b") as vault:
        world.clock.now += 3600
        await vault.sync()
        assert (await vault.status()).counts[SyncStatus.SYNCED] == count + 1
        assert not await rows(vault, "SELECT value FROM meta WHERE key = 'stalled_download'")

"""What passes a throttle in a second is what it was told, by a clock that only moves while someone sleeps."""

import anyio
import anyio.lowlevel
import pytest

from syncagent.remote import open_remote
from syncagent.remote.memory import MemoryRemote
from syncagent.remote.retry import RetryRemote
from syncagent.remote.throttle import SLICE_S, ThrottleRemote

pytestmark = pytest.mark.anyio

PACKS = [f"snapshots/{letter * 32}" for letter in "abcdef"]
KIB = 1024


class Time:
    """Moves when someone sleeps: as far as the one who sleeps longest in a turn."""

    def __init__(self) -> None:
        self.now = 100.0
        self.longest = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()


def throttled(time: Time, *, up: float | None = None, down: float | None = None) -> ThrottleRemote:
    return ThrottleRemote(MemoryRemote(), up_bytes_s=up, down_bytes_s=down, clock=time, sleep=time.sleep)


async def test_puts_pass_at_the_rate_asked_for() -> None:
    time = Time()
    remote = throttled(time, up=10 * KIB)
    for name in PACKS[:4]:
        await remote.put(name, bytes(5 * KIB))
    assert time.now - 100 == pytest.approx(2.0)
    assert time.longest <= SLICE_S


async def test_gets_pass_at_theirs_and_the_directions_do_not_disturb_each_other() -> None:
    time = Time()
    remote = throttled(time, up=100 * KIB, down=10 * KIB)
    await remote.put(PACKS[0], bytes(10 * KIB))
    assert time.now - 100 == pytest.approx(0.1)
    for _ in range(3):
        assert len(await remote.get(PACKS[0])) == 10 * KIB
    # The last one has been given and is not paid for yet.
    assert time.now - 100.1 == pytest.approx(2.0)
    await remote.put(PACKS[1], bytes(10 * KIB))
    assert time.now - 100.1 == pytest.approx(2.1)


async def test_transfers_side_by_side_share_one_line() -> None:
    time = Time()
    remote = throttled(time, up=10 * KIB)
    async with anyio.create_task_group() as group:
        for name in PACKS:
            group.start_soon(remote.put, name, bytes(5 * KIB))
    assert time.now - 100 == pytest.approx(3.0)


async def test_time_in_which_nothing_passed_is_not_saved_up() -> None:
    time = Time()
    remote = throttled(time, up=10 * KIB)
    await remote.put(PACKS[0], bytes(10 * KIB))
    time.now += 3600
    before = time.now
    await remote.put(PACKS[1], bytes(10 * KIB))
    assert time.now - before == pytest.approx(1.0)


async def test_a_cancelled_transfer_has_used_its_part_only() -> None:
    time = Time()
    remote = throttled(time, up=10 * KIB)
    with anyio.CancelScope() as scope:

        async def stop(seconds: float) -> None:
            if time.now > 101:
                scope.cancel()
            await Time.sleep(time, seconds)

        remote._up._sleep = stop
        await remote.put(PACKS[0], bytes(100 * KIB))
    remote._up._sleep = time.sleep
    assert scope.cancelled_caught
    await remote.put(PACKS[1], bytes(10 * KIB))
    assert time.now - 100 < 3
    assert (await remote.list("")).objects[0].name == PACKS[1]


async def test_without_a_rate_nothing_waits() -> None:
    time = Time()
    remote = throttled(time)
    await remote.put(PACKS[0], bytes(1 << 20))
    assert len(await remote.get(PACKS[0])) == 1 << 20
    assert time.now == 100


async def test_a_rate_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="nothing passes"):
        throttled(Time(), up=0)


async def test_open_remote_puts_the_throttle_below_the_retries() -> None:
    remote = await open_remote("memory:", up_bytes_s=1.0)
    assert isinstance(remote, RetryRemote)
    assert isinstance(remote._inner, ThrottleRemote)
    plain = await open_remote("memory:", retry=False, down_bytes_s=5.0)
    assert isinstance(plain, ThrottleRemote)
    assert isinstance(await open_remote("memory:", retry=False), MemoryRemote)

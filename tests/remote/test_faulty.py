"""Each fault does what its name says, when the schedule says so, and the same seed gives the same."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from syncagent.errors import ObjectExists, ObjectNotFound, ObjectRefused, SyncAgentError, Unreachable
from syncagent.remote.memory import MemoryRemote, MemoryStore
from syncagent.testing import Fault, FaultyRemote, Rule, script, seeded
from syncagent.testing.faulty import FAULTS, HONEST, Call, Injected

pytestmark = pytest.mark.anyio

A, B, C, D = (f"devices/{letter * 32}" for letter in "abcd")


async def filled(*names: str) -> MemoryStore:
    store = MemoryStore()
    for name in names:
        await MemoryRemote(store).put(name, b"0123456789")
    return store


def faulty(store: MemoryStore, *rules: Rule) -> FaultyRemote:
    return FaultyRemote(MemoryRemote(store), script(*rules))


async def test_fail_has_no_effect() -> None:
    store = await filled()
    with pytest.raises(Unreachable):
        await faulty(store, Rule(Fault.FAIL)).put(A, b"x")
    assert store.objects == {}


async def test_a_lost_answer_comes_after_the_effect() -> None:
    store = await filled()
    remote = faulty(store, Rule(Fault.LOSE_ANSWER, times=1))
    with pytest.raises(Unreachable):
        await remote.put(A, b"x")
    assert store.objects[A].data == b"x"
    with pytest.raises(ObjectExists):
        await remote.put(A, b"x")


async def test_a_duplicate_has_its_effect_twice_and_the_first_answer() -> None:
    store = await filled()
    remote = faulty(store, Rule(Fault.DUPLICATE))
    await remote.put(A, b"x")
    await remote.put(A, b"y", overwrite=True)
    assert store.objects[A].data == b"y" and store.changes == 3
    with pytest.raises(ObjectExists):
        await remote.put(A, b"z")
    await remote.delete(A)
    assert store.objects == {}


async def test_bytes_are_truncated_or_changed() -> None:
    store = await filled(A)
    assert await faulty(store, Rule(Fault.TRUNCATE)).get(A) == b"01234"
    found = await faulty(store, Rule(Fault.CORRUPT)).get(A, 2, 8)
    assert len(found) == 6 and sum(x != y for x, y in zip(found, b"234567", strict=True)) == 1


async def test_a_stale_page_is_the_one_given_before() -> None:
    store = await filled(A, B)
    remote = faulty(store, Rule(Fault.STALE, skip=1))
    assert [info.name for info in (await remote.list("devices/")).objects] == [A, B]
    await remote.put(C, b"x")
    assert [info.name for info in (await remote.list("devices/")).objects] == [A, B]
    remote.heal()
    assert [info.name for info in (await remote.list("devices/")).objects] == [A, B, C]


async def test_a_short_page_says_that_there_is_more_and_a_cut_one_that_there_is_not() -> None:
    store = await filled(A, B, C, D)
    page = await faulty(store, Rule(Fault.SHORT_PAGE)).list("devices/")
    assert [info.name for info in page.objects] == [A, B] and page.more
    page = await faulty(store, Rule(Fault.CUT_PAGE)).list("devices/")
    assert [info.name for info in page.objects] == [A, B] and not page.more
    single = await faulty(await filled(A), Rule(Fault.SHORT_PAGE)).list("devices/")
    assert [info.name for info in single.objects] == [A] and not single.more
    assert (await faulty(await filled(A), Rule(Fault.CUT_PAGE)).list("devices/")).objects == ()


async def test_slow_waits_and_a_hang_never_ends() -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    store = await filled(A)
    remote = FaultyRemote(MemoryRemote(store), script(Rule(Fault.SLOW)), delay_s=3.0, sleep=sleep)
    assert (await remote.head(A)).size == 10
    assert waited == [3.0]
    with anyio.move_on_after(0.01) as scope:
        await faulty(store, Rule(Fault.HANG)).delete(A)
    assert scope.cancelled_caught and A in store.objects


async def test_one_object_is_refused_for_ever_and_no_other() -> None:
    store = await filled()
    remote = faulty(store, Rule(Fault.REFUSE, prefix=A))
    for _ in range(3):
        with pytest.raises(ObjectRefused):
            await remote.put(A, b"x")
    await remote.put(B, b"x")
    with pytest.raises(ObjectRefused):
        await remote.get(A)
    assert set(store.objects) == {B}


async def test_rules_choose_by_method_name_and_number() -> None:
    store = await filled(A, B)
    rules = (Rule(Fault.FAIL, "get", A, skip=1, times=2), Rule(Fault.CORRUPT, "get", B))
    remote = faulty(store, *rules)
    assert await remote.get(A) == b"0123456789"
    for _ in range(2):
        with pytest.raises(Unreachable):
            await remote.get(A)
    assert await remote.get(A) == b"0123456789"
    assert await remote.get(B) != b"0123456789"
    await remote.head(A)
    assert [one.fault for one in remote.injected] == [Fault.FAIL, Fault.FAIL, Fault.CORRUPT]
    assert remote.injected[0] == Injected(Call("get", A, 1), Fault.FAIL)
    # A script counts for itself: the rules can be used again.
    assert rules[0].times == 2 and rules[0].skip == 1


async def test_offline_fails_everything_until_it_is_healed() -> None:
    store = await filled(A)
    remote = faulty(store)
    remote.is_offline = True
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: remote.put(B, b"x"),
        lambda: remote.get(A),
        lambda: remote.head(A),
        lambda: remote.delete(A),
        lambda: remote.list(""),
        lambda: remote.wait_for_change(None, 0),
    ]
    for call in calls:
        with pytest.raises(Unreachable):
            await call()
    assert set(store.objects) == {A}
    remote.heal()
    await remote.put(B, b"x")
    await remote.aclose()


async def outcomes(seed: int, order: list[str]) -> dict[str, list[str]]:
    """What becomes of ten gets of each name, asked for in some order."""
    remote = FaultyRemote(
        MemoryRemote(await filled(A, B)), seeded(seed, rate=0.5, faults=[Fault.FAIL, Fault.CORRUPT])
    )
    found: dict[str, list[str]] = {A: [], B: []}
    for name in order:
        try:
            found[name].append((await remote.get(name)).decode("latin-1"))
        except SyncAgentError as exc:
            found[name].append(type(exc).__name__)
    assert 0 < len(remote.injected) < len(order)
    return found


async def test_a_seed_gives_the_same_faults_in_whatever_order_calls_come() -> None:
    first = await outcomes(1, [A, B] * 10)
    assert await outcomes(1, [A] * 10 + [B] * 10) == first
    assert await outcomes(2, [A, B] * 10) != first


async def test_the_seeded_schedule_draws_only_what_is_asked_for_and_fits() -> None:
    for faults in (HONEST, tuple(Fault)):
        schedule = seeded(3, rate=1.0, faults=faults)
        for method, fitting in FAULTS.items():
            drawn = {schedule(Call(method, "", number)) for number in range(200)}
            assert drawn == {fault for fault in fitting if fault in faults}
    assert all(seeded(3, rate=0.0)(Call("get", "", number)) is None for number in range(100))


async def test_errors_of_the_remote_itself_come_through() -> None:
    with pytest.raises(ObjectNotFound):
        await faulty(await filled(), Rule(Fault.CORRUPT)).get(A)

"""A listing is what a stranger says: in order, within the grammar and with an end, or it is not used."""

from collections.abc import Callable, Iterator

import anyio
import pytest

from syncagent import names
from syncagent.errors import BadResponse
from syncagent.remote.base import ObjectInfo, ObjectPage
from syncagent.remote.memory import MemoryRemote
from tests.engine.world import LedRemote, World, statuses

pytestmark = pytest.mark.anyio

Page = Callable[[str, str], ObjectPage]


class LyingRemote(LedRemote):
    """Answers listings under a prefix as it is told, and all else as its store does."""

    def __init__(self, world: World, prefix: str, page: Page) -> None:
        super().__init__(MemoryRemote(world.store))
        self._prefix = prefix
        self._page = page
        self.pages = 0

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        if prefix.startswith(self._prefix):
            self.pages += 1
            await anyio.lowlevel.checkpoint()
            return self._page(prefix, after)
        return await super().list(prefix, after=after, limit=limit)


def info(name: str) -> ObjectInfo:
    return ObjectInfo(name, 100, 0.0)


def device(number: int) -> str:
    return f"devices/{number:032x}"


def page(*listed: str, more: bool = False) -> Page:
    return lambda prefix, after: ObjectPage(tuple(map(info, listed)), more)


def endless(make: Callable[[int], str], per_page: int) -> Page:
    numbers: Iterator[int] = iter(range(10**9))

    def answer(prefix: str, after: str) -> ObjectPage:
        return ObjectPage(tuple(info(make(next(numbers))) for _ in range(per_page)), more=True)

    return answer


def _repeats(prefix: str, after: str) -> ObjectPage:
    return ObjectPage((info(device(1)), info(device(2))), more=True)


LIES: dict[str, Page] = {
    "out of order": page(device(2), device(1)),
    "the same name twice": page(device(1), device(1)),
    "the same page again and again": _repeats,
    "no end and nothing on the page": page(more=True),
    "a name outside the grammar": page("devices/../../etc/passwd"),
    "a name that is too long": page("devices/" + "0" * 33),
    "capital letters": page("devices/" + "AB" * 16),
    "a line feed": page("devices/" + "0" * 32 + "\n"),
    "another folder": page("keys/" + "0" * 32),
    "an empty name": page(""),
    "other digits": page("devices/" + "\u0663" * 32),
}


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("lie", LIES)
async def test_a_listing_that_breaks_the_rules_is_refused_and_nothing_is_changed(
    world: World, lie: str
) -> None:
    await world.put("a", x=b"x")
    before = dict(world.store.objects)
    remote = LyingRemote(world, names.DEVICES, LIES[lie])
    async with world.open("a", remote) as vault:
        with anyio.fail_after(10):
            with pytest.raises(BadResponse):
                await vault.sync()
        assert remote.pages <= 2
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}
    assert world.store.objects == before


async def test_a_journal_listing_may_not_go_back_before_what_was_asked_for(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    await world.put_and_sync("a", y=b"x")
    await world.sync("b")

    def answer(prefix: str, after: str) -> ObjectPage:
        return ObjectPage(tuple(info(f"{prefix}{seq:012d}") for seq in range(1, 5)), more=False)

    async with world.open("a") as vault:
        journal = f"journal/{vault.device_id}/"
    remote = LyingRemote(world, journal, answer)
    await world.put("b", z=b"goes out all the same")
    report = await world.sync("b", remote)
    assert [(one.kind, one.subject) for one in report.alarms] == [
        ("BadResponse", f"journal {journal.split('/')[1]}")
    ]
    assert report.sent == 1
    assert remote.pages == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # a million names take a while
async def test_a_listing_that_never_ends_is_stopped(world: World) -> None:
    remote = LyingRemote(world, names.DEVICES, endless(device, 500_001))
    with anyio.fail_after(60), pytest.raises(BadResponse):
        await world.sync("a", remote)
    assert remote.pages == 2, "stopped at a million names"


async def test_a_hundred_thousand_batches_that_are_not_there_cost_one_alarm(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    unknown = "journal/" + "f" * 32 + "/"

    def answer(prefix: str, after: str) -> ObjectPage:
        first = 1 if not after else names.batch_seq(after) + 1
        stop = min(first + 50_000, 100_001)
        listed = tuple(info(f"{prefix}{seq:012d}") for seq in range(first, stop))
        return ObjectPage(listed, more=stop < 100_001)

    remote = LyingRemote(world, unknown, answer)
    await world.replace("devices/" + "f" * 32, b"a device that no one knows")
    async with world.open("b", remote) as vault:
        report = await vault.sync()
        assert [alarm.kind for alarm in report.alarms] == ["Withheld"]
        assert len(remote.called("get", unknown)) <= 32
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_a_batch_number_near_the_end_of_the_format_is_one_gap(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    unknown = "journal/" + "f" * 32 + "/"
    await world.replace("devices/" + "f" * 32, b"a device that no one knows")
    remote = LyingRemote(world, unknown, page(unknown + "9" * 12))
    async with world.open("b", remote) as vault:
        report = await vault.sync()
        assert [alarm.kind for alarm in report.alarms] == ["Withheld"]
        assert await statuses(vault) == {"x": "SYNCED"}


async def test_batch_number_zero_is_never_read(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    unknown = "journal/" + "f" * 32 + "/"
    await world.replace("devices/" + "f" * 32, b"a device that no one knows")
    await world.replace(unknown + "0" * 12, b"no batch has this number")
    remote = world.remote()
    async with world.open("b", remote) as vault:
        report = await vault.sync()
        assert report.alarms == ()
        assert remote.called("get", unknown) == []


async def test_a_small_page_is_followed_by_the_next(world: World) -> None:
    for number in range(5):
        await world.put_and_sync("a", **{f"n{number}": b"x"})

    class SmallPages(LedRemote):
        async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
            return await super().list(prefix, after=after, limit=1)

    remote = SmallPages(MemoryRemote(world.store))
    assert (await world.sync("b", remote)).fetched == 5


class LateRemote(LedRemote):
    """Does not list some objects: some never, others not when their folder is listed first."""

    def __init__(self, world: World, never: set[str], late: set[str]) -> None:
        super().__init__(MemoryRemote(world.store))
        self._never = never
        self._late = late

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        page = await super().list(prefix, after=after, limit=limit)
        hidden = self._never | self._late
        found = [one for one in page.objects if one.name not in hidden]
        self._late = {name for name in self._late if not name.startswith(prefix)}
        return ObjectPage(tuple(found), page.more)


async def test_what_only_a_journal_of_the_second_round_names_is_told_as_withheld_too(world: World) -> None:
    async def published(device: str, **blobs: bytes) -> set[str]:
        before = set(world.names(names.JOURNAL))
        await world.sync(device)
        await world.put_and_sync(device, **blobs)
        return set(world.names(names.JOURNAL)) - before

    await published("a", x=b"1")
    await world.sync("b")
    late = await published("a", x=b"2")
    await published("c", y=b"1")  # names that batch of a
    withheld = await published("c", y=b"2")
    late |= await published("a", x=b"3")  # names that batch of c
    report = await world.sync("b", LateRemote(world, withheld, late))
    [device] = {name.split("/")[1] for name in withheld}
    assert [alarm.kind for alarm in report.alarms if alarm.subject == f"journal {device}"] == ["Withheld"]

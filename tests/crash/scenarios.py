"""What is run, killed and looked at: puts, syncs, copied profiles, migrations; others beside this file.

A scenario is prepared once; each run starts from a copy. What a run has been told
to be done it acknowledges, and `check`, in a fresh process, must find it, finish
the work and find nothing doubled.
"""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from syncagent.cache import meta, schema
from syncagent.cache.db import Database
from syncagent.crypto.keys import cache_key
from tests.crash.members import MEMBERS
from tests.crash.place import (
    Place,
    check_nothing_doubled,
    content,
    device_objects,
    forget_sweep,
    make_old,
    make_place,
    settle,
)
from tests.crash.plain import PLAIN
from tests.crash.points import Points
from tests.crash.work import Acks, Change, Scenario, after, check_blobs


async def check_at_rest(place: Place, wanted: dict[str, bytes], *devices: str) -> list[str]:
    """The devices exchange everything, hold these blobs, and nothing is doubled; the alarms on the way."""
    alarms = await settle(place, *devices)
    for device in devices:
        assert await place.contents(device) == wanted, device
    await check_nothing_doubled(place, *devices)
    return alarms


# Puts --------------------------------------------------------------------------------------------------

SMALL = [
    Change("put", {"a": b"a"}),
    Change("put", {"empty": b""}),
    Change("put", {"b": content(1, 5_000)}),
    Change("put", {"same as b": content(1, 5_000)}),
    Change("put_many", {f"m{number}": content(number, 300) for number in range(5)}),
    Change("put", {"a": b"another"}),
    Change("delete", {"b": None}),
    Change("transaction", {"t1": b"one", "t2": b"two", "a": b"of the transaction"}),
    Change("put", {"large for a row": content(2, 200 << 10)}),
]
LARGE = [
    Change("put", {"one pack": content(3, 300 << 10)}),
    Change("put", {"small": b"small"}),
    Change("put", {"two packs": content(4, 9 << 20)}),
    Change("put", {"one pack": content(5, 400 << 10)}),
    Change("put", {"partly the same": content(4, 9 << 20)[: 1 << 20] + content(6, 300 << 10)}),
]


def puts(changes: Sequence[Change]) -> Scenario:
    """Changes one after another, on a device that does not sync."""

    async def run(place: Place, points: Points) -> None:
        async with place.open("a", points.remote(place.remote())) as vault:
            for number, change in enumerate(changes):
                await change.make(vault)
                points.acknowledge(str(number))

    async def check(place: Place, acks: Acks) -> None:
        check_blobs(await place.contents("a"), changes, len(acks))
        await finish(place, changes, len(acks))
        assert await check_at_rest(place, after(changes), "a", "b") == []

    return Scenario(make_place, run, check)


async def finish(place: Place, changes: Sequence[Change], acknowledged: int) -> None:
    """What was not acknowledged is done once more."""
    async with place.open("a") as vault:
        for change in changes[acknowledged:]:
            await change.make(vault)


TOGETHER = {f"t{number}": content(number, 10 * number) for number in range(40)}


async def _run_together(place: Place, points: Points) -> None:
    """Puts of many callers at once, which share commits."""
    async with place.open("a", points.remote(place.remote())) as vault, anyio.create_task_group() as tasks:

        async def put(key: str) -> None:
            await vault.namespace("notes").put(key, TOGETHER[key], replace=len(key) == 3)
            points.acknowledge(key)

        for key in TOGETHER:
            tasks.start_soon(put, key)


async def _check_together(place: Place, acks: Acks) -> None:
    found = await place.contents("a")
    assert set(acks) <= found.keys() <= TOGETHER.keys()
    assert all(found[key] == TOGETHER[key] for key in found)
    await finish(place, [Change("put", dict(TOGETHER))], 0)
    assert await check_at_rest(place, TOGETHER, "a", "b") == []


# Syncs -------------------------------------------------------------------------------------------------


async def _prepare_send(place: Place) -> None:
    await make_place(place)
    await finish(place, [*SMALL, *LARGE], 0)


async def _prepare_fetch(place: Place) -> None:
    await _prepare_send(place)
    await place.sync("a")


def syncs(device: str, prepare: Callable[[Place], Awaitable[None]]) -> Scenario:
    """One sync of a device, which has everything to send or everything to fetch."""

    async def run(place: Place, points: Points) -> None:
        async with place.open(device, points.remote(place.remote())) as vault:
            await vault.sync()
        points.acknowledge("synced")

    async def check(place: Place, acks: Acks) -> None:
        wanted = after([*SMALL, *LARGE])
        assert await place.contents("a") == wanted
        if acks and device == "b":
            assert await place.contents("b") == wanted
        assert await check_at_rest(place, wanted, "a", "b") == []

    return Scenario(prepare, run, check)


async def _prepare_sweep(place: Place) -> None:
    """Content that was replaced before it was sent, and what interruptions left, all of it old."""
    await make_place(place)
    await finish(place, LARGE, 0)
    packs = place.profile("a").packs
    for name in ("0" * 64, "left.tmp"):
        (packs / name).write_bytes(b"left over")
    for path in packs.iterdir():
        make_old(path)
    async with place.open("a") as vault:
        await forget_sweep(vault)


async def _check_sweep(place: Place, acks: Acks) -> None:
    wanted = after(LARGE)
    assert await place.contents("a") == wanted
    assert await check_at_rest(place, wanted, "a", "b") == []


# A copied profile --------------------------------------------------------------------------------------

BEFORE = [Change("put", {"before": b"before", "large before": content(7, 300 << 10)})]
WAITING = [Change("put", {"waiting": b"waiting", "large waiting": content(8, 300 << 10)})]
OF_COPY = [Change("put", {"of the copy": b"copy", "large of the copy": content(9, 300 << 10)})]
OF_A = [Change("put", {"of a": b"a", "large of a": content(10, 300 << 10)})]


async def _prepare_clone(place: Place) -> None:
    """`copy` is `a` as it was while something waited; since then `a` has sent that, and more."""
    await make_place(place)
    for changes in (BEFORE, WAITING):
        await settle(place, "a", "b")
        await finish(place, changes, 0)
    place.clone("a", "copy")
    await finish(place, OF_A, 0)
    await settle(place, "a", "b")


async def _run_clone(place: Place, points: Points) -> None:
    async with place.open("copy", points.remote(place.remote())) as vault:
        for number, change in enumerate(OF_COPY):
            await change.make(vault)
            points.acknowledge(str(number))
        await vault.sync()
        points.acknowledge("synced")


async def _check_clone(place: Place, acks: Acks) -> None:
    if "synced" in acks:
        assert await place.contents("copy") == after([*BEFORE, *WAITING, *OF_A, *OF_COPY])
    else:  # what `a` has sent meanwhile may be there or not
        found = await place.contents("copy", but=OF_A[0].blobs)
        check_blobs(found, [*BEFORE, *WAITING, *OF_COPY], len(acks) + 2)
    async with place.open("copy") as vault:
        for change in OF_COPY:
            await change.make(vault)
    wanted = after([*BEFORE, *WAITING, *OF_A, *OF_COPY])
    alarms = await check_at_rest(place, wanted, "copy", "a", "b")
    assert len(alarms) <= 1 and all(alarm.startswith("RemoteForked") for alarm in alarms)
    assert len(device_objects(place)) == 3, "the copy became a device once"


# A migration -------------------------------------------------------------------------------------------

SECOND = """CREATE TABLE extra (no INTEGER PRIMARY KEY, id BLOB NOT NULL);
INSERT INTO extra SELECT no, id FROM version;
ALTER TABLE version ADD COLUMN extra INTEGER NOT NULL DEFAULT 0;
"""
THIRD = """UPDATE version SET extra = no;
DROP TABLE extra;
"""
MIGRATIONS = (*schema.MIGRATIONS, SECOND, THIRD)


class _Statements(Database):
    """Each statement is a point, besides the commits."""

    points: Points | None = None

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        done = super().execute(sql, parameters)
        if self.points is not None:
            self.points.say(f"statement {sql.split()[0]}")
        return done


def _database(place: Place) -> _Statements:
    profile = place.profile("a")
    return _Statements(profile.database, cache_key(place.root(), profile.salt.read_bytes()))


async def _run_migration(place: Place, points: Points) -> None:
    db = _database(place)
    db.points = points
    db.open()
    schema.migrate(db, MIGRATIONS)
    points.acknowledge("migrated")
    db.close()


async def _check_migration(place: Place, acks: Acks) -> None:
    wanted = after([*SMALL, *LARGE])
    db = _database(place)
    db.open()
    found = int(db.scalar("PRAGMA user_version"))
    assert found in ((3,) if acks else (1, 2, 3))
    columns = {row[1] for row in db.all("PRAGMA table_info(version)")}
    assert ("extra" in columns) == (found >= 2)
    assert bool(db.all("SELECT 1 FROM sqlite_master WHERE name = 'extra'")) == (found == 2)
    schema.migrate(db, MIGRATIONS)
    assert not db.scalar("SELECT count(*) FROM version WHERE extra <> no")
    db.execute("ALTER TABLE version DROP COLUMN extra")  # this version of the code knows schema 1
    db.execute("PRAGMA user_version = 1")
    assert meta.find_text(db, meta.REMOTE)
    db.close()
    assert await place.contents("a") == wanted
    assert await check_at_rest(place, wanted, "a", "b") == []


SCENARIOS = {
    "put-small": puts(SMALL),
    "put-large": puts(LARGE),
    "put-together": Scenario(make_place, _run_together, _check_together),
    "send": syncs("a", _prepare_send),
    "fetch": syncs("b", _prepare_fetch),
    "sweep": Scenario(_prepare_sweep, syncs("a", _prepare_sweep).run, _check_sweep),
    "clone": Scenario(_prepare_clone, _run_clone, _check_clone),
    "migration": Scenario(_prepare_send, _run_migration, _check_migration),
    **MEMBERS,
    **PLAIN,
}

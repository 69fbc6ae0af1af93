"""Group commit: many callers, few transactions, and nobody pays for another's mistake."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from syncagent.cache.commit import GROUP_SIZE, Cache
from syncagent.cache.db import DamagedConnection, Database
from syncagent.cache.schema import migrate
from syncagent.errors import BlobExists, CacheDamaged, CacheFull, VaultInUse

from .conftest import KEY
from .test_db import SmallDisk

pytestmark = pytest.mark.anyio

Operation = Callable[[Database], Any]


class Counted(SmallDisk):
    """Counts write transactions and connections, and fails where it is told."""

    commits = 0
    connects = 0
    is_broken = False
    full_commits = 0
    is_locked = False
    begins = 0
    is_writing = False

    def _connect(self) -> None:
        if self.is_broken:
            raise DamagedConnection("the disk is gone")
        self.connects += 1
        super()._connect()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        if sql.startswith("BEGIN"):
            self.is_writing = sql == "BEGIN IMMEDIATE"
            self.begins += self.is_writing
            if self.is_writing and self.is_locked:
                raise VaultInUse("another process keeps the cache locked")
        ends = sql == "COMMIT" and self.is_writing
        if ends and self.full_commits:
            self.full_commits -= 1
            raise CacheFull("the disk of the local cache is full")
        result = super().execute(sql, parameters)
        self.commits += ends
        return result


class Gate:
    """An operation that keeps the cache thread until everybody has queued."""

    def __init__(self) -> None:
        self._held = threading.Event()
        self._opened = threading.Event()

    def hold(self, db: Database) -> str:
        self._held.set()
        assert self._opened.wait(30)
        return "held"

    async def wait_held(self) -> None:
        """Until the thread is in it: what is queued from now on is in a later group."""
        assert await anyio.to_thread.run_sync(self._held.wait, 30)

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counted:
    # On a busy machine one insert may take longer than a group is given: what is one group must not depend
    # on that. The tests of the time itself set their own.
    monkeypatch.setattr("syncagent.cache.commit.GROUP_S", 60.0)
    (tmp_path / "cache.db").touch()
    db = Counted(tmp_path / "cache.db", KEY)
    db.open()
    migrate(db)
    db.execute("CREATE TABLE seen (value INTEGER)")
    return db


def insert(db: Database, value: int) -> int:
    db.execute("INSERT INTO seen VALUES (?)", (value,))
    return value


def count(db: Database) -> int:
    return int(db.scalar("SELECT count(*) FROM seen"))


async def together(
    cache: Cache, *operations: Operation, background: bool = False, queued: list[int] | None = None
) -> list[Any]:
    """Run writes that are all queued before the first is taken; each one's result or error.

    `queued` gets their indexes in the order in which they were queued, which trio draws.
    """
    gate = Gate()
    results: list[Any] = [None] * len(operations)

    async def write(index: int, operation: Operation) -> None:
        if queued is not None:
            queued.append(index)
        try:
            results[index] = await cache.write(operation, background=background)
        except Exception as exc:
            results[index] = exc

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(cache.read, gate.hold)
            await gate.wait_held()
            for index, operation in enumerate(operations):
                group.start_soon(write, index, operation)
            await anyio.wait_all_tasks_blocked()
            gate.open()
    return results


def committed(db: Database) -> set[int]:
    """What another connection sees."""
    other = Database(db.path, KEY)
    other.open()
    values = {row[0] for row in other.all("SELECT value FROM seen")}
    other.close()
    return values


async def test_many_writers_share_transactions_and_each_gets_its_own_result(counted: Counted) -> None:
    cache = Cache(counted)
    results: dict[int, int] = {}

    async def write(value: int) -> None:
        results[value] = await cache.write(partial(insert, value=value))

    before = counted.commits
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for value in range(32):
                group.start_soon(write, value)
    assert results == {value: value for value in range(32)}
    assert committed(counted) == set(range(32))
    assert counted.commits - before <= 16
    await cache.aclose()


async def test_what_is_queued_together_is_one_transaction(counted: Counted) -> None:
    cache = Cache(counted)
    other = Database(counted.path, KEY)
    other.open()
    version = other.scalar("PRAGMA data_version")
    before = counted.commits
    quick = [partial(insert, value=value) for value in range(32)]
    assert await together(cache, *quick) == list(range(32))
    assert counted.commits - before == 1
    assert other.scalar("PRAGMA data_version") != version
    other.close()
    await cache.aclose()


async def test_a_transaction_takes_no_more_than_its_time(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncagent.cache.commit.GROUP_S", -1.0)
    cache = Cache(counted)
    before = counted.commits
    queued: list[int] = []
    five = [partial(insert, value=value) for value in range(5)]
    assert await together(cache, *five, queued=queued) == list(range(5))
    assert counted.commits - before == 5, "one each, in order"
    assert [row[0] for row in counted.all("SELECT value FROM seen ORDER BY rowid")] == queued
    await cache.aclose()


async def test_a_group_has_a_size(counted: Counted) -> None:
    cache = Cache(counted)
    before = counted.commits
    await together(cache, *(partial(insert, value=value) for value in range(2 * GROUP_SIZE + 1)))
    assert counted.commits - before == 3
    await cache.aclose()


async def test_an_operation_that_raises_undoes_only_itself(counted: Counted) -> None:
    cache = Cache(counted)

    def refuse(db: Database) -> None:
        insert(db, 99)
        raise BlobExists("it holds other content")

    results = await together(cache, partial(insert, value=1), refuse, partial(insert, value=2))
    assert results[0] == 1 and results[2] == 2
    assert isinstance(results[1], BlobExists)
    assert committed(counted) == {1, 2}
    await cache.aclose()


# One operation for many callers --------------------------------------------------------------------


class Inserts:
    """An operation that inserts every item it is given, or `most` of them, and says how often it ran."""

    def __init__(self, most: int = 1000) -> None:
        self.most = most
        self.runs: list[list[int]] = []

    def insert(self, db: Database, items: Sequence[int]) -> list[int]:
        self.runs.append(list(items[: self.most]))
        for item in items[: self.most]:
            insert(db, item)
        return [item * 10 for item in items[: self.most]]

    def refuse(self, db: Database, items: Sequence[int]) -> list[int]:
        self.insert(db, items)
        raise BlobExists("it holds other content")


async def each(cache: Cache, operation: Callable[[Database, Sequence[int]], list[int]], count: int) -> Any:
    """What each of so many callers gets who ask at the same time, between two other writes."""
    gate = Gate()
    results: dict[int, Any] = {}

    async def write(item: int) -> None:
        try:
            results[item] = await cache.write_each(operation, item)
        except Exception as exc:
            results[item] = exc

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(cache.read, gate.hold)
            await gate.wait_held()
            group.start_soon(cache.write, partial(insert, value=1000))
            await anyio.wait_all_tasks_blocked()
            for item in range(count):
                group.start_soon(write, item)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(cache.write, partial(insert, value=1001))
            await anyio.wait_all_tasks_blocked()
            gate.open()
    return results


async def test_callers_of_the_same_operation_have_it_run_once(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncagent.cache.commit.GROUP_S", 60.0)
    cache = Cache(counted)
    inserts = Inserts()
    operation = inserts.insert
    before = counted.commits
    assert await each(cache, operation, 9) == {item: item * 10 for item in range(9)}
    assert len(inserts.runs) == 1 and sorted(inserts.runs[0]) == list(range(9))
    assert counted.commits - before == 1, "the other writes are in the same transaction"
    assert committed(counted) == {*range(9), 1000, 1001}
    await cache.aclose()


async def test_those_there_was_no_time_for_come_with_the_next(counted: Counted) -> None:
    cache = Cache(counted)
    inserts = Inserts(most=4)
    operation = inserts.insert
    assert await each(cache, operation, 9) == {item: item * 10 for item in range(9)}
    assert [len(run) for run in inserts.runs] == [4, 4, 1]
    assert committed(counted) == {*range(9), 1000, 1001}
    await cache.aclose()


async def test_what_a_shared_operation_raises_concerns_all_its_callers(counted: Counted) -> None:
    cache = Cache(counted)
    operation = Inserts().refuse
    results = await each(cache, operation, 5)
    assert {type(result) for result in results.values()} == {BlobExists} and len(results) == 5
    assert committed(counted) == {1000, 1001}
    await cache.aclose()


async def test_after_a_full_disk_each_caller_is_alone(counted: Counted) -> None:
    cache = Cache(counted)
    inserts = Inserts()
    operation = inserts.insert
    counted.full_commits = 1
    assert await each(cache, operation, 5) == {item: item * 10 for item in range(5)}
    assert [len(run) for run in inserts.runs] == [5, 1, 1, 1, 1, 1]
    assert committed(counted) == {*range(5), 1000, 1001}
    await cache.aclose()


async def test_a_read_sees_every_write_that_has_returned(cache: Cache, db: Database) -> None:
    db.execute("CREATE TABLE seen (value INTEGER)")
    for value in range(3):
        await cache.write(partial(insert, value=value))
        assert await cache.read(count) == value + 1
    assert await cache.read(count, background=True) == 3


async def test_a_reader_in_the_group_does_not_see_what_is_not_committed(counted: Counted) -> None:
    cache = Cache(counted)
    gate = Gate()
    seen: list[int] = []
    failures: list[Exception] = []

    async def write() -> None:
        try:
            await cache.write(partial(insert, value=1))
        except CacheFull as exc:
            failures.append(exc)

    async def read() -> None:
        seen.append(await cache.read(count))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(cache.read, gate.hold)
            await gate.wait_held()
            group.start_soon(write)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            counted.full_commits = 2  # of the group, and of the write alone
            gate.open()
    assert seen == [0]
    assert len(failures) == 1
    assert committed(counted) == set()
    await cache.aclose()


async def test_a_read_of_several_statements_sees_one_state(cache: Cache, db: Database) -> None:
    db.execute("CREATE TABLE seen (value INTEGER)")
    other = Database(db.path, KEY)
    other.open()

    def read(db: Database) -> tuple[int, int]:
        first = count(db)
        insert(other, 1)  # another process, just then
        return first, count(db)

    assert await cache.read(read) == (0, 0)
    assert await cache.read(count) == 1
    other.close()


async def test_a_read_that_raises_keeps_the_connection(counted: Counted) -> None:
    cache = Cache(counted)

    def refuse(db: Database) -> None:
        raise BlobExists("it holds other content")

    before = counted.connects
    for _ in range(2):
        with pytest.raises(BlobExists):
            await cache.read(refuse)
    assert await cache.write(partial(insert, value=1)) == 1
    assert counted.connects == before
    await cache.aclose()


async def test_a_full_disk_fails_one_write_and_keeps_the_others(counted: Counted) -> None:
    counted.room = 20
    counted.reopen()
    cache = Cache(counted)

    def too_much(db: Database) -> None:
        insert(db, 99)
        db.execute("INSERT INTO payload (bytes) VALUES (zeroblob(1000000))")

    small = [partial(insert, value=value) for value in range(6)]
    results = await together(cache, *small[:3], too_much, *small[3:])
    assert isinstance(results.pop(3), CacheFull)
    assert results == list(range(6))
    assert committed(counted) == set(range(6))
    await cache.aclose()


async def test_a_full_disk_at_commit_fails_nobody_for_whom_there_is_room(counted: Counted) -> None:
    cache = Cache(counted)

    def once(db: Database) -> int:
        if not ran:
            ran.append(1)
            counted.full_commits = 1  # the group's; alone, each fits
        return insert(db, 1)

    ran: list[int] = []
    results = await together(cache, once, partial(insert, value=2))
    assert results == [1, 2]
    assert committed(counted) == {1, 2}
    await cache.aclose()


async def test_a_lock_that_another_process_keeps_is_waited_for_once_a_group(counted: Counted) -> None:
    cache = Cache(counted)
    counted.is_locked = True
    before = counted.begins
    results = await together(cache, *(partial(insert, value=value) for value in range(5)))
    assert [type(result) for result in results] == [VaultInUse] * 5
    assert counted.begins - before == 1
    counted.is_locked = False
    assert await cache.write(partial(insert, value=9)) == 9
    assert committed(counted) == {9}
    await cache.aclose()


async def test_damage_in_a_group_costs_only_the_damaged_write(counted: Counted) -> None:
    cache = Cache(counted)
    runs: list[bool] = []

    def damaged(db: Database) -> None:
        runs.append(db.is_suspect)
        insert(db, 99)
        raise DamagedConnection("a page")

    results = await together(cache, partial(insert, value=1), damaged, partial(insert, value=2))
    assert results[0] == 1 and results[2] == 2
    assert isinstance(results[1], CacheDamaged)
    assert runs == [False, False, True], "in the group, alone, and alone once more"
    assert committed(counted) == {1, 2}
    await cache.aclose()


async def test_when_no_connection_can_be_had_everyone_is_told(counted: Counted) -> None:
    cache = Cache(counted)

    def break_down(db: Database) -> None:
        counted.is_broken = True
        raise DamagedConnection("a page")

    results = await together(cache, partial(insert, value=1), break_down, partial(insert, value=2))
    assert [type(result) for result in results] == [CacheDamaged] * 3
    with anyio.fail_after(30):
        with pytest.raises(CacheDamaged):
            await cache.read(count)
        counted.is_broken = False
        assert await cache.read(count) == 0, "the next caller has a fresh one"
        assert await cache.write(partial(insert, value=3)) == 3
    await cache.aclose()


async def test_a_cancelled_waiter_stops_nobody(counted: Counted) -> None:
    cache = Cache(counted)
    gate = Gate()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(cache.read, gate.hold)
            await gate.wait_held()
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(cache.write, partial(insert, value=1))
                await anyio.wait_all_tasks_blocked()
                waiting.cancel_scope.cancel()
            gate.open()
        assert await cache.write(partial(insert, value=2)) == 2
    assert 2 in committed(counted)
    await cache.aclose()


async def test_a_cancelled_leader_finishes_its_group(counted: Counted) -> None:
    cache = Cache(counted)
    gate = Gate()
    done: list[int] = []

    def held(db: Database) -> int:
        gate.hold(db)
        return insert(db, 1)

    async def wait(value: int) -> None:
        done.append(await cache.write(partial(insert, value=value)))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group, anyio.create_task_group() as leading:
            leading.start_soon(cache.write, held)
            await gate.wait_held()
            group.start_soon(wait, 2)
            group.start_soon(wait, 3)
            await anyio.wait_all_tasks_blocked()
            leading.cancel_scope.cancel()
            gate.open()
        assert sorted(done) == [2, 3]
        assert await cache.write(partial(insert, value=4)) == 4
    assert committed(counted) == {1, 2, 3, 4}
    await cache.aclose()


@pytest.mark.parametrize("cancelled", [[0], [0, 1], [0, 1, 2], [1]])
async def test_a_waiter_cancelled_as_it_is_to_lead_stops_nobody(
    counted: Counted, cancelled: list[int]
) -> None:
    cache = Cache(counted)
    gate = Gate()
    scopes = [anyio.CancelScope() for _ in range(3)]
    done: list[int] = []

    async def lead() -> None:
        await cache.read(gate.hold)
        # The next one has just been woken to lead, and has not run yet.
        for index in cancelled:
            scopes[index].cancel()

    async def wait(index: int) -> None:
        with scopes[index]:
            done.append(await cache.write(partial(insert, value=index)))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(lead)
            await anyio.wait_all_tasks_blocked()
            for index in range(3):
                group.start_soon(wait, index)
                await anyio.wait_all_tasks_blocked()
            gate.open()
        assert await cache.write(partial(insert, value=9)) == 9
    assert set(done) >= {0, 1, 2} - set(cancelled)
    assert committed(counted) >= set(done) | {9}
    await cache.aclose()


async def test_a_waiter_cancelled_by_asyncio_as_it_is_to_lead_hands_over(
    counted: Counted, anyio_backend: str
) -> None:
    """A bare `Task.cancel`, as `asyncio.timeout` does it, strikes also when the event is set already."""
    if anyio_backend != "asyncio":
        pytest.skip("only asyncio cancels tasks that way")
    cache = Cache(counted)
    gate = Gate()
    waiting: list[asyncio.Task[Any]] = []
    outcomes: list[str] = []

    async def lead() -> None:
        await cache.read(gate.hold)
        waiting[0].cancel()

    async def wait(value: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        waiting.append(task)
        try:
            await cache.write(partial(insert, value=value))
            outcomes.append("done")
        except asyncio.CancelledError:
            task.uncancel()
            outcomes.append("cancelled")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(lead)
            await anyio.wait_all_tasks_blocked()
            for value in (1, 2):
                group.start_soon(wait, value)
                await anyio.wait_all_tasks_blocked()
            gate.open()
        assert outcomes == ["cancelled", "done"]
        assert await cache.write(partial(insert, value=9)) == 9
    await cache.aclose()


async def test_a_leader_cancelled_by_asyncio_leaves_its_group_whole_and_wakes_the_others(
    counted: Counted, anyio_backend: str
) -> None:
    """A shield does not hold against a bare `Task.cancel`: the thread goes on and nobody else may enter."""
    if anyio_backend != "asyncio":
        pytest.skip("only asyncio cancels tasks that way")
    cache = Cache(counted)
    gate = Gate()
    leader: list[asyncio.Task[Any]] = []
    done: list[int] = []

    def two_rows(db: Database) -> None:
        insert(db, 1)
        gate.hold(db)
        insert(db, 2)

    async def lead() -> None:
        task = asyncio.current_task()
        assert task is not None
        leader.append(task)
        try:
            await cache.write(two_rows)
        except asyncio.CancelledError:
            task.uncancel()

    async def wait(value: int) -> None:
        await cache.write(partial(insert, value=value))
        done.append(value)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(lead)
            await anyio.wait_all_tasks_blocked()
            for value in (3, 4):
                group.start_soon(wait, value)
                await anyio.wait_all_tasks_blocked()
            leader[0].cancel()
            await anyio.wait_all_tasks_blocked()
            assert done == []
            gate.open()
        assert sorted(done) == [3, 4]
        assert await cache.write(partial(insert, value=9)) == 9
    assert committed(counted) >= {1, 2, 3, 4, 9}
    await cache.aclose()


async def test_a_leader_that_gives_up_while_waiting_to_lead_hands_over(counted: Counted) -> None:
    """All who wait are cancelled with the leader: whoever comes later still gets through."""
    cache = Cache(counted)
    gate = Gate()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(cache.read, gate.hold)
            await gate.wait_held()
            for value in range(3):
                group.start_soon(cache.write, partial(insert, value=value))
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
            gate.open()
        assert await cache.write(partial(insert, value=9)) == 9
    await cache.aclose()


async def test_neither_interactive_nor_background_work_starves(counted: Counted) -> None:
    cache = Cache(counted)
    gate = Gate()
    order: list[str] = []

    def note(db: Database, kind: str) -> None:
        order.append(kind)

    async def submit(kind: str) -> None:
        await cache.write(partial(note, kind=kind), background=kind == "b")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(cache.read, gate.hold)
            await gate.wait_held()
            for kind in "b" * 4 + "i" * (3 * GROUP_SIZE):
                group.start_soon(submit, kind)
            await anyio.wait_all_tasks_blocked()
            gate.open()
    text = "".join(order)
    runs = text.split("b")
    assert len(runs) == 5 and text.count("i") == 3 * GROUP_SIZE
    assert all(len(run) <= GROUP_SIZE for run in runs), "background waits for one group at most"
    assert "bb" not in text.rstrip("b"), "and does one operation before the next interactive group"
    await cache.aclose()


async def test_background_work_alone_runs_one_a_transaction(counted: Counted) -> None:
    cache = Cache(counted)
    before = counted.commits
    assert await together(cache, *(partial(insert, value=v) for v in range(3)), background=True) == [0, 1, 2]
    assert counted.commits - before == 3
    await cache.aclose()


async def test_an_item_that_raises_fails_alone(counted: Counted) -> None:
    cache = Cache(counted)
    gate = Gate()
    asked: list[list[int]] = []
    results: dict[int, object] = {}

    def insert_all(db: Database, items: Sequence[int]) -> list[int]:
        asked.append(list(items))
        for value in items:
            insert(db, value)
            if value == 7:
                raise TypeError("nobody has foreseen a seven")
        return list(items)

    async def write(value: int) -> None:
        try:
            results[value] = await cache.write_each(insert_all, value)
        except TypeError:
            results[value] = TypeError

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(cache.read, gate.hold)
            await gate.wait_held()
            for value in range(20):
                group.start_soon(write, value)
            await anyio.wait_all_tasks_blocked()
            gate.open()
    assert results == {value: value for value in range(20)} | {7: TypeError}
    assert sorted(asked[0]) == list(range(20)) and len(asked) == 21
    assert count(counted) == 19
    await cache.aclose()

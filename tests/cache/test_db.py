"""The connection: keys, what errors become, and what is left of it after damage."""

from pathlib import Path

import pytest
from sqlcipher3 import dbapi2 as sqlcipher

from syncagent.cache.db import DamagedConnection, Database, check_schema
from syncagent.cache.schema import migrate
from syncagent.errors import CacheDamaged, CacheFull, ConfigError, SyncAgentError, TooNew, VaultInUse
from syncagent.model import Codec, SyncStatus

from .conftest import KEY
from .samples import PAGE, content, flip_page, page_count

MARKER = b"a plaintext marker that must not be seen"


class SmallDisk(Database):
    """A cache on a disk with room for so many pages more."""

    room: int | None = None

    def _connect(self) -> None:
        super()._connect()
        if self.room is not None:
            pages = self.scalar("PRAGMA page_count")
            self.scalar(f"PRAGMA max_page_count = {pages + self.room}")


@pytest.fixture
def damaged(db: Database) -> Database:
    """A cache in which payload 1 reads, and payload 2 lies on a damaged page."""
    db.execute("INSERT INTO payload VALUES (1, ?)", (content(1, 3 * PAGE),))
    db.scalar("PRAGMA wal_checkpoint(TRUNCATE)")
    before = page_count(db.path)
    db.execute("INSERT INTO payload VALUES (2, ?)", (content(2, 3 * PAGE),))
    db.close()
    flip_page(db.path, before + 1)
    db.open()
    return db


@pytest.mark.parametrize("key", [b"", b"k" * 31, b"k" * 33, b"k" * 64])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Database(Path("cache.db"), key)


def test_the_key_is_not_shown(db: Database) -> None:
    assert KEY.hex() not in repr(db) and repr(KEY) not in repr(db)


def test_a_wrong_key_leaves_the_file_as_it_is(db: Database) -> None:
    db.close()
    before = db.path.read_bytes()
    with pytest.raises(CacheDamaged) as caught:
        Database(db.path, b"x" * 32).open()
    assert "left as it is" in caught.value.safe and caught.value.todo
    assert db.path.read_bytes() == before
    assert [path.name for path in db.path.parent.iterdir()] == ["cache.db"]
    db.open()
    assert db.scalar("PRAGMA user_version") > 0


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    path.write_bytes(content(3, 3 * PAGE))
    with pytest.raises(CacheDamaged):
        Database(path, KEY).open()
    assert path.read_bytes() == content(3, 3 * PAGE)


def test_a_folder_that_cannot_be_entered_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Database(tmp_path / "missing" / "cache.db", KEY).open()
    assert "permissions" in caught.value.todo


def test_a_full_disk_is_named_and_the_connection_goes_on(db: Database) -> None:
    small = SmallDisk(db.path, KEY)
    small.room = 10
    small.open()
    with pytest.raises(CacheFull):
        small.execute("INSERT INTO payload (bytes) VALUES (zeroblob(100000))")
    small.execute("INSERT INTO payload (bytes) VALUES (zeroblob(100))")
    assert small.scalar("SELECT count(*) FROM payload") == 1
    small.close()


def test_a_lock_of_another_process_is_named(db: Database) -> None:
    other = Database(db.path, KEY)
    other.open()
    other.execute("BEGIN IMMEDIATE")
    db.scalar("PRAGMA busy_timeout = 1")
    with pytest.raises(VaultInUse) as caught:
        db.execute("BEGIN IMMEDIATE")
    assert "puts" not in caught.value.safe, "only another process's sync leaves puts alone"
    other.close()


def test_our_own_mistake_is_seen_as_it_is(db: Database) -> None:
    for call in (db.execute, db.changed, db.all, db.one, db.scalar):
        with pytest.raises(Exception, match="no such table") as caught:
            call("SELECT no FROM missing")
        assert not isinstance(caught.value, SyncAgentError | DamagedConnection)
    with pytest.raises(Exception, match="no such table"):
        db.many("INSERT INTO missing VALUES (?)", [(1,)])


def test_the_connection_is_set_up_for_durability(db: Database) -> None:
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "fullfsync": 1,
        "temp_store": 2,
        "cipher_page_size": "4096",
        "cipher_log_level": "NONE",
        "cipher_use_hmac": "1",
    }
    assert {name: db.scalar(f"PRAGMA {name}") for name in expected} == expected


def test_damage_is_not_written_to_stderr(damaged: Database, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DamagedConnection):
        damaged.scalar("SELECT sum(length(hex(bytes))) FROM payload")
    assert capfd.readouterr() == ("", "")


def test_no_plaintext_in_any_file(db: Database) -> None:
    db.execute("INSERT INTO payload (bytes) VALUES (?)", (MARKER * 1000,))
    db.execute("INSERT INTO namespace (name) VALUES (?)", (MARKER.decode(),))
    for is_open in (True, False):
        names = sorted(path.name for path in db.path.parent.iterdir())
        assert ("cache.db-wal" in names) is is_open
        for name in names:
            data = (db.path.parent / name).read_bytes()
            assert MARKER not in data and b"SQLite format 3" not in data and KEY not in data
        db.close()


def test_after_damage_a_fresh_connection_works(damaged: Database) -> None:
    with pytest.raises(DamagedConnection):
        damaged.scalar("SELECT bytes FROM payload WHERE no = 2")
    with pytest.raises(DamagedConnection):  # the connection is of no use for other rows either
        damaged.scalar("SELECT bytes FROM payload WHERE no = 1")
    damaged.reopen()
    assert damaged.scalar("SELECT bytes FROM payload WHERE no = 1") == content(1, 3 * PAGE)


def test_run_gives_the_damaged_row_up_and_goes_on(damaged: Database) -> None:
    runs: list[bool] = []

    def read(db: Database) -> object:
        runs.append(db.is_suspect)
        return db.scalar("SELECT bytes FROM payload WHERE no = 2")

    with pytest.raises(CacheDamaged):
        damaged.run(read)
    assert runs == [False, True], "once more, alone, and told of it"
    assert not damaged.is_suspect
    assert damaged.run(lambda db: db.scalar("SELECT bytes FROM payload WHERE no = 1")) == content(1, 3 * PAGE)


def test_run_repeats_after_damage_that_has_passed(db: Database) -> None:
    runs: list[None] = []

    def read(db: Database) -> int:
        runs.append(None)
        if len(runs) == 1:
            raise DamagedConnection("for a moment")
        return int(db.scalar("SELECT 7"))

    assert db.run(read) == 7


def test_a_large_value_on_a_damaged_page_costs_only_itself(damaged: Database) -> None:
    """In an operation that runs again: what it has done so far in its transaction is kept."""
    query = "SELECT bytes FROM payload WHERE no = ?"

    def write(db: Database) -> list[bytes | None]:
        db.execute("BEGIN")
        db.execute("INSERT INTO payload VALUES (4, ?)", (b"new",))
        values = [db.large_value(query, (number,)) for number in (1, 2, 4, 5)]
        db.execute("COMMIT")
        return values

    assert damaged.run(write) == [content(1, 3 * PAGE), None, b"new", None]
    assert damaged.scalar(query, (4,)) == b"new"
    with pytest.raises(DamagedConnection):
        damaged.large_value(query, (2,))


def test_a_connection_that_could_not_be_set_up_is_not_used(db: Database) -> None:
    good = db.path.with_name("good")
    db._disconnect()
    db.path.rename(good)
    db.path.write_bytes(content(3, 3 * PAGE))
    with pytest.raises(DamagedConnection):
        db.reopen()
    db.path.unlink()
    good.rename(db.path)
    assert db.scalar("SELECT count(*) FROM meta") == 2
    assert db.scalar("PRAGMA temp_store") == 2, "and it is set up in full"


def test_schemas_up_to_our_own_are_accepted() -> None:
    check_schema(0, 3)
    check_schema(3, 3)
    with pytest.raises(TooNew, match="schema 4"):
        check_schema(4, 3)


def test_a_cache_can_be_opened_by_two_connections(db: Database) -> None:
    other = Database(db.path, KEY)
    other.open()
    migrate(other)
    other.execute("INSERT INTO payload VALUES (9, x'00')")
    assert db.scalar("SELECT no FROM payload") == 9
    other.close()


def test_no_kind_of_parameter_that_is_bound_is_looked_up_each_time(db: Database) -> None:
    """sqlcipher3 searches whatever it has no adapter for, and takes as long as SQLite for the row."""
    at_once = {int, float, str, bytearray} | {kind for kind, _ in sqlcipher.adapters}
    assert at_once >= {bytes, bool, type(None), SyncStatus, Codec}
    row = (b"x", True, None, SyncStatus.SYNCED)
    assert db.one("SELECT ?, ?, ?, ?", row) == (b"x", 1, None, 1)

"""Numbered migrations, fixtures of released schemas, and the triggers that count."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import syncagent
from syncagent.cache import blobs, meta, outbox, ownbatches, queries, schema, sendable
from syncagent.cache.db import Database
from syncagent.cache.listing import count_blobs
from syncagent.cache.matching import BlobFilter
from syncagent.cache.profile import Credential, Profile, unlock_profile
from syncagent.cache.schema import SCHEMA, migrate
from syncagent.cache.status import PRECEDENCE, Event
from syncagent.engine.heads import add_version
from syncagent.errors import CacheFull, TooNew
from syncagent.model import DeviceId, SyncStatus, Version

from .conftest import KEY
from .samples import Desk, Home
from .test_db import SmallDisk

FIXTURES = Path(__file__).parent / "fixtures"
EXTRA = "CREATE TABLE extra (no INTEGER PRIMARY KEY);\nINSERT INTO extra VALUES (1);"


def tables(db: Database) -> list[tuple[object, ...]]:
    return db.all("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name")


def test_a_fresh_cache_has_the_newest_schema(db: Database) -> None:
    assert db.scalar("PRAGMA user_version") == SCHEMA == len(schema.MIGRATIONS)
    assert {row[1] for row in tables(db) if row[0] == "trigger"} == {
        "namespace_counted",
        "blob_arrived",
        "blob_counted",
        "version_arrived",
        "version_moved",
        "bare_sent",
        "blob_moved",
        "blob_dated",
        "flag_added",
        "flag_taken",
        "flag_dropped",
        "flag_listed",
        "flag_unlisted",
        "blob_revived",
        "blob_died",
        "flag_counted",
        "flag_uncounted",
    }


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR FAIL INTO blob (namespace_no, id, winner_no, status) VALUES (1, 'x', 1, 2)",
        "INSERT OR FAIL INTO version VALUES (1, x'01', 1, 1, 0, 1, 0, 1, 1, x'02', 2)",
        "UPDATE version SET status = 1",
        "UPDATE blob SET winner_no = 2, deleted = 1, conflict = 1, expires_at = 5",
        "INSERT OR IGNORE INTO flag_tag VALUES (1, 'seen', 1)",
        "INSERT OR IGNORE INTO flag_removed VALUES (1, 1)",
    ],
)
def test_no_trigger_calls_a_function(db: Database, statement: str) -> None:
    """One that does has SQLite keep a copy of every page that each row touches: it might fail."""
    instructions = [row[1] for row in db.all(f"EXPLAIN {statement}")]
    assert instructions.count("Program") >= 1, "a trigger fires"
    assert not {"Function", "PureFunc"} & set(instructions)


def test_migrating_again_writes_nothing(db: Database) -> None:
    other = Database(db.path, KEY)
    other.open()
    before = other.scalar("PRAGMA data_version")
    migrate(db)
    assert other.scalar("PRAGMA data_version") == before
    other.close()


def test_a_newer_schema_is_refused_and_untouched(home: Home) -> None:
    with home.opened() as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    before = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    with pytest.raises(TooNew, match=f"schema {SCHEMA + 1}") as caught:
        unlock_profile(home.profile, Credential.of(passphrase=None, recovery_code=home.recovery_code))
    assert {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()} == before
    assert caught.value.todo  # and what its traceback holds on to is a closed connection


def test_a_migration_is_all_or_nothing(db: Database) -> None:
    before = tables(db)
    broken = EXTRA + "\nINSERT INTO missing VALUES (1);"
    with pytest.raises(Exception, match="no such table"):
        migrate(db, (*schema.MIGRATIONS, broken))
    assert tables(db) == before
    assert db.scalar("PRAGMA user_version") == SCHEMA
    migrate(db, (*schema.MIGRATIONS, EXTRA))
    assert db.scalar("PRAGMA user_version") == SCHEMA + 1
    assert db.scalar("SELECT count(*) FROM extra") == 1
    assert meta.vault_id(db) == b"v" * 16, "what was there is there"


def test_a_migration_that_finds_the_disk_full_says_so(tmp_path: Path) -> None:
    (tmp_path / "cache.db").touch()
    small = SmallDisk(tmp_path / "cache.db", KEY)
    small.room = 20
    small.open()
    with pytest.raises(CacheFull):
        migrate(small)
    small.room = None
    small.reopen()
    assert tables(small) == []
    migrate(small)
    assert small.scalar("PRAGMA user_version") == SCHEMA
    small.close()


def test_two_processes_that_migrate_at_once_migrate_once(db: Database) -> None:
    migrations = (*schema.MIGRATIONS, EXTRA)

    class Late(Database):
        def execute(self, sql: str, parameters: object = ()) -> int:
            if sql == "BEGIN IMMEDIATE":
                migrate(db, migrations)  # the other process comes first
            return super().execute(sql)

    late = Late(db.path, KEY)
    late.open()
    migrate(late, migrations)
    assert late.scalar("SELECT count(*) FROM extra") == 1
    late.close()


# Released schemas ----------------------------------------------------------------------------------


@pytest.fixture(params=sorted(path.name for path in FIXTURES.glob("schema_*")))
def released(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "released"
    shutil.copytree(FIXTURES / request.param, folder)
    return folder


def test_every_schema_has_a_fixture() -> None:
    names = {path.name for path in FIXTURES.glob("schema_*")}
    assert names == {f"schema_{number}" for number in range(1, SCHEMA + 1)}


def test_a_released_schema_becomes_a_fresh_one(released: Path, db: Database) -> None:
    """From each fixture to the newest (row A11)."""
    expected = json.loads((released / "expected.json").read_text("utf-8"))
    credential = Credential.of(passphrase=None, recovery_code=expected["recovery_code"])
    old = unlock_profile(Profile(released / "profile"), credential)
    assert tables(old) == tables(db)
    assert old.scalar("PRAGMA user_version") == SCHEMA
    old.close()


@pytest.mark.anyio
async def test_every_blob_of_a_released_schema_is_readable(released: Path) -> None:
    expected = json.loads((released / "expected.json").read_text("utf-8"))
    async with syncagent.open_vault(released / "profile", passphrase=expected["passphrase"]) as vault:
        notes = vault.namespace("notes")
        for blob_id, digest in expected["notes"].items():
            assert hashlib.sha256((await notes.get(blob_id)).data).hexdigest() == digest
        replaced = await notes.get("replaced")
        assert replaced.data == b"second"
        assert replaced.metadata == {"n": 2, "x": 0.5, "b": b"\0", "t": "ü"}
        assert not await notes.exists("deleted")
        assert (await vault.namespace("mail").get("sent")).data == b"a message"
        status = await vault.status()
        assert status.namespaces["notes"].counts[SyncStatus.PENDING_UPLOAD] == len(expected["notes"]) + 1
        assert status.namespaces["notes"].pending_changes == 1
        assert status.namespaces["mail"].counts[SyncStatus.SYNCED] == 1
        await notes.put("new", b"new")
        assert (await notes.get("new")).data == b"new"


# Counts --------------------------------------------------------------------------------------------


def recount(db: Database) -> dict[tuple[int, int, int], int]:
    """Live and deleted blobs per namespace and status, from the heads."""
    shown: dict[int, tuple[int, int, list[SyncStatus]]] = {}
    for blob, namespace, deleted, status in db.all(
        "SELECT blob.no, namespace_no, blob.deleted, version.status FROM blob"
        " JOIN version ON blob_no = blob.no WHERE version.status IS NOT NULL"
    ):
        shown.setdefault(blob, (namespace, deleted, []))[2].append(SyncStatus(status))
    counts: dict[tuple[int, int, int], int] = {}
    for namespace, deleted, statuses in shown.values():
        key = (namespace, deleted, min(statuses, key=PRECEDENCE.index))
        counts[key] = counts.get(key, 0) + 1
    return counts


def kept(db: Database) -> dict[tuple[int, int, int], int]:
    rows = db.all("SELECT namespace_no, deleted, status, blobs FROM status_count WHERE blobs <> 0")
    return {(row[0], row[1], row[2]): row[3] for row in rows}


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("counting")
    (folder / "cache.db").touch()
    db = Database(folder / "cache.db", KEY)
    db.open()
    migrate(db)
    meta.put(db, meta.DEVICE_ID, b"d" * 16)
    yield Desk(db, folder)
    db.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "replace", "delete", "send", "cut", "confirm", "fail", "arrive", *Event]),
        st.sampled_from(["notes", "mail"]),
        st.integers(0, 3),
    ),
    min_size=5,
    max_size=40,
)


@settings(derandomize=True, deadline=None, max_examples=80)
@given(steps=STEPS)
def test_counts_are_those_of_a_recount(counting: Desk, steps: list[tuple[str | Event, str, int]]) -> None:
    db = counting.db
    db.execute("BEGIN")
    try:
        for number, (step, namespace, which) in enumerate(steps):
            take(counting, step, namespace, which, number)
            assert kept(db) == recount(db)
            total: dict[str, int] = {}
            for (_, deleted, status), blobs_ in kept(db).items():
                if not deleted:
                    total[SyncStatus(status).name] = total.get(SyncStatus(status).name, 0) + blobs_
            assert dict(queries.status_counts(db)) == total
            for name in ("notes", "mail"):
                live = db.scalar(
                    "SELECT count(*) FROM blob JOIN namespace ON namespace.no = namespace_no"
                    " WHERE name = ? AND NOT deleted AND winner_no IS NOT NULL",
                    (name,),
                )
                assert count_blobs(db, BlobFilter(name)) == live
    finally:
        db.execute("ROLLBACK")


def take(desk: Desk, step: str | Event, namespace: str, which: int, number: int) -> None:
    """One step: what the engine does, done by hand."""
    db = desk.db
    blob_id = f"blob-{which}"
    space = blobs.namespace_no(db, namespace)
    row = blobs.find_blob(db, space, blob_id)
    is_live = row is not None and row.winner_no is not None and not row.is_deleted
    match step:
        case "put" if not is_live:
            desk.put(blob_id, b"%d" % number, namespace=namespace)
        case "replace":
            desk.put(blob_id, b"%d" % number, namespace=namespace)
        case "delete" if is_live:
            desk.delete(blob_id, namespace=namespace)
        case "send":
            for unsent in sendable.unsent_chunks(db, desk.now_ms, 3).chunks:
                record_sent(desk, unsent.chunk_no)
        case "cut" if ownbatches.unconfirmed_batch(db) is None:
            desk.cut(limit=which + 1)
        case "confirm":
            batch = ownbatches.unconfirmed_batch(db)
            if batch is not None:
                ownbatches.confirm_batch(db, batch.seq)
        case "fail" if row is not None and row.winner_no is not None:
            outbox.fail_uploads(db, [row.winner_no], error="x", next_attempt_at=0, max_retries=1)
        case "arrive":
            arrive(desk, namespace, blob_id, number)
        case Event() if row is not None and row.winner_no is not None:
            blobs.move_status(db, row.winner_no, step)


def record_sent(desk: Desk, chunk_no: int) -> None:
    pack = desk.db.execute(
        "INSERT INTO pack (id, record_sha256, size, epoch, salt, is_remote, has_file)"
        " VALUES (?, x'', 0, 1, ?, 1, 0)",
        (chunk_no.to_bytes(32, "big"), bytes(32)),
    )
    desk.db.execute("INSERT INTO pack_chunk VALUES (?, 0, ?, 40, 17, 1, 0, 0)", (pack, chunk_no))


def arrive(desk: Desk, namespace: str, blob_id: str, number: int) -> None:
    """A version of another device that has seen nothing of ours: often a conflict."""
    version = Version(
        id=b"%016d" % number,
        hlc=(desk.now_ms + number % 3 - 1) << 16,
        namespace=namespace,
        blob_id=blob_id,
        parents=(),
        deleted=number % 4 == 0,
        size=0,
        created_at=0,
        metadata={},
        scope=bytes(16),
        content=(),
        content_digest=b"%032d" % number,
    )
    status = (SyncStatus.SYNCED, SyncStatus.PENDING_DOWNLOAD, SyncStatus.REMOTE_ONLY)[number % 3]
    add_version(desk.db, version, device=DeviceId(b"o" * 16), seq=number + 1, status=status, chunks=[])


@pytest.mark.parametrize(("one", "other"), [(a, b) for a in SyncStatus for b in SyncStatus])
def test_a_blob_with_two_heads_shows_the_first_of_their_statuses(
    desk: Desk, one: SyncStatus, other: SyncStatus
) -> None:
    for number, status in enumerate((one, other)):
        version = Version(
            id=b"%016d" % number,
            hlc=1,
            namespace="notes",
            blob_id="x",
            parents=(),
            deleted=False,
            size=0,
            created_at=0,
            metadata={},
            scope=bytes(16),
            content=(),
            content_digest=b"%032d" % number,
        )
        add_version(desk.db, version, device=DeviceId(b"o" * 16), seq=1, status=status, chunks=[])
    assert desk.db.scalar("SELECT status FROM blob") == min(one, other, key=PRECEDENCE.index)
    assert desk.db.scalar("SELECT conflict FROM blob") == 1

"""Versions of unknown blobs are stored many at a time, and come out as those stored one by one."""

from pathlib import Path

import msgspec
import pytest

from syncagent.cache import blobs, journals, meta
from syncagent.cache.db import Database, Row
from syncagent.cache.schema import migrate
from syncagent.crypto.keys import VAULT_SCOPE
from syncagent.engine.apply import (
    Applied,
    Incoming,
    apply_ahead,
    apply_batch,
    may_go_ahead,
    record_ahead,
)
from syncagent.engine.arrivals import candidates, newcomers
from syncagent.errors import RemoteForked
from syncagent.journal.chain import chain_start
from syncagent.journal.changes import Batch, Change, FlagsChange, VersionChange
from syncagent.model import CHUNK_SIZE, DeviceId, Parent, Version

from .conftest import KEY
from .samples import NOW_MS, Desk

OTHER = DeviceId(b"o" * 16)
LARGE = CHUNK_SIZE + 5
HERE = b"h" * 32

_STATE = (
    (
        "SELECT namespace.name, blob.id, version.id, blob.deleted, blob.size, blob.created_at, changed,"
        " conflict, blob.status FROM blob JOIN namespace ON namespace.no = namespace_no"
        " LEFT JOIN version ON version.no = winner_no ORDER BY 1, 2"
    ),
    (
        "SELECT version.id, blob.id, device.id, version.seq, hlc, version.deleted, version.size, bytes,"
        " packed_sha256, version.status FROM version JOIN blob ON blob.no = blob_no"
        " JOIN device ON device.no = device_no JOIN packed ON packed.no = packed_no ORDER BY 1"
    ),
    (
        "SELECT version.id, position, chunk.id FROM version_chunk JOIN version ON version.no = version_no"
        " JOIN chunk ON chunk.no = chunk_no ORDER BY 1, 2"
    ),
    "SELECT chunk.id, raw_length, scope, payload_no IS NULL FROM chunk ORDER BY 1",
    "SELECT version.id, priority FROM download JOIN version ON version.no = version_no ORDER BY 1",
    "SELECT version.id, parent_id FROM parent JOIN version ON version.no = version_no ORDER BY 1, 2",
    "SELECT blob.id, parent_id FROM hole JOIN blob ON blob.no = blob_no ORDER BY 1, 2",
    (
        "SELECT name, deleted, status, blobs FROM status_count JOIN namespace ON namespace.no = namespace_no"
        " WHERE blobs ORDER BY 1, 2, 3"
    ),
)


def version(
    number: int,
    blob_id: str,
    *content: bytes,
    size: int | None = None,
    namespace: str = "notes",
    parents: tuple[Parent, ...] = (),
    deleted: bool = False,
    ahead_ms: int = 0,
) -> Version:
    return Version(
        id=b"%016d" % number,
        hlc=(NOW_MS + ahead_ms << 16) + number,
        namespace=namespace,
        blob_id=blob_id,
        parents=parents,
        deleted=deleted,
        size=len(content) if size is None else size,
        created_at=NOW_MS,
        metadata={"title": blob_id},
        scope=VAULT_SCOPE,
        content=content,
        content_digest=content[0] if content else bytes(32),
    )


def new_desk(folder: Path) -> Desk:
    folder.mkdir()
    (folder / "cache.db").touch()
    db = Database(folder / "cache.db", KEY)
    db.open()
    migrate(db)
    meta.put(db, meta.VAULT_ID, b"v" * 16)
    meta.put(db, meta.DEVICE_ID, b"d" * 16)
    (folder / "packs").mkdir()
    return Desk(db, folder / "packs")


def incoming(desk: Desk, *changes: Change, before: bytes | None = None) -> Incoming:
    record, _ = desk.pack(b"in a pack", b"named by nobody")
    before = before or chain_start(meta.vault_id(desk.db), OTHER)
    return Incoming(OTHER, 1, Batch(NOW_MS << 16, before, {}, (record,), changes), bytes(32))


def apply(desk: Desk, *changes: Change) -> Applied:
    return apply_batch(desk.db, incoming(desk, *changes), now_ms=NOW_MS)


def state(db: Database) -> list[list[Row]]:
    return [db.all(sql) for sql in _STATE]


def test_many_at_a_time_come_out_as_one_by_one(tmp_path: Path) -> None:
    many, single = new_desk(tmp_path / "many"), new_desk(tmp_path / "single")
    pack, _ = many.pack(b"in a pack")
    packed = pack.chunks[0].id
    parent = Parent(b"%016d" % 1, OTHER, 1)
    changes: list[Change] = [
        VersionChange(version(1, "replaced", b"1" * 32)),
        VersionChange(version(2, "replaced", b"2" * 32, parents=(parent,))),
        VersionChange(version(3, "plain", packed)),
        VersionChange(version(4, "shared", packed)),
        VersionChange(version(5, "plain", b"2" * 32, namespace="mail")),
        VersionChange(version(6, "empty")),
        VersionChange(version(7, "deleted", deleted=True)),
        VersionChange(version(8, "large", b"3" * 32, b"4" * 32, size=LARGE)),
        VersionChange(version(9, "twice", b"5" * 32)),
        VersionChange(version(10, "twice", b"6" * 32)),
        VersionChange(version(11, "child", b"7" * 32, parents=(Parent(b"?" * 16, OTHER, 9),))),
        VersionChange(version(12, "future", b"8" * 32, ahead_ms=30 * 3600 * 1000)),
        VersionChange(version(13, "here and there", b"9" * 32, b"a" * 32, size=LARGE)),
        FlagsChange("notes", "flagged", (("seen", 7),), ()),
        VersionChange(version(14, "flagged", b"b" * 32)),
        VersionChange(version(15, "here already", HERE)),
    ]
    versions = [change.version for change in changes if isinstance(change, VersionChange)]
    for desk in (many, single):
        payload = desk.db.execute("INSERT INTO payload (bytes) VALUES (x'00')")
        desk.db.execute(
            "INSERT INTO chunk (id, raw_length, scope, payload_no) VALUES (?, 1, ?, ?)",
            (HERE, VAULT_SCOPE, payload),
        )
    assert {int(one.id) for one in newcomers(many.db, candidates(versions))} == {
        3,
        4,
        5,
        6,
        7,
        8,
        12,
        13,
        14,
        15,
    }
    for one in versions:  # a blob of which anything is known goes one by one
        blobs.blob_no(single.db, blobs.namespace_no(single.db, one.namespace), one.blob_id)
    assert not newcomers(single.db, candidates(versions))
    first, second = (apply(desk, *changes) for desk in (many, single))
    assert state(many.db) == state(single.db)
    assert first.arrived == second.arrived == 3
    assert first.alarms == second.alarms and len(first.alarms) == 1
    assert len(first.conflicts) == len(second.conflicts) == 1
    for desk in (many, single):
        desk.db.close()


def test_what_went_ahead_is_no_other_when_the_rest_comes_later(tmp_path: Path) -> None:
    """Also when the program has stopped in between, and knows of nothing that went ahead."""
    whole, known, stopped = (new_desk(tmp_path / name) for name in ("whole", "known", "stopped"))
    changes = [VersionChange(version(number, f"{number}", b"%032d" % number)) for number in range(6)]
    changes.append(VersionChange(version(6, "5", b"x" * 32, parents=(Parent(b"%016d" % 5, OTHER, 1),))))
    apply(whole, *changes)
    for desk in (known, stopped):
        batch = incoming(desk, *changes)
        plain = may_go_ahead(batch.batch)
        assert [int(one.id) for one in plain] == [0, 1, 2, 3, 4]
        record_ahead(desk.db, batch, batch.batch.packs[0], now_ms=NOW_MS)
        first = apply_ahead(desk.db, batch, plain[:3], now_ms=NOW_MS)
        assert first.versions == {one.id for one in plain[:3]}
        assert journals.cursor(desk.db, OTHER).seq == 0, "the batch as a whole has not been read"
        last = apply_batch(
            desk.db, batch, now_ms=NOW_MS, ahead=first.versions if desk is known else frozenset()
        )
        assert not first.alarms and not last.alarms
        assert state(desk.db) == state(whole.db)
        assert not apply_ahead(desk.db, batch, plain, now_ms=NOW_MS).versions, "it has been applied"
    for desk in (whole, known, stopped):
        desk.db.close()


def test_nothing_goes_ahead_of_a_transaction() -> None:
    changes = [VersionChange(version(1, "a")), VersionChange(version(2, "b"))]
    group = msgspec.structs.replace(version(3, "c"), group=bytes(16))
    assert len(may_go_ahead(Batch(1, bytes(32), {}, (), tuple(changes)))) == 2
    assert may_go_ahead(Batch(1, bytes(32), {}, (), (*changes, VersionChange(group)))) == []


def test_nothing_of_a_batch_that_does_not_chain_goes_ahead(desk: Desk) -> None:
    batch = incoming(desk, VersionChange(version(1, "a", b"1" * 32)), before=b"?" * 32)
    before = state(desk.db)
    with pytest.raises(RemoteForked):
        record_ahead(desk.db, batch, batch.batch.packs[0], now_ms=NOW_MS)
    with pytest.raises(RemoteForked):
        apply_ahead(desk.db, batch, may_go_ahead(batch.batch), now_ms=NOW_MS)
    assert state(desk.db) == before


@pytest.mark.parametrize("blob_id", ["a", "b"])
def test_a_known_version_under_any_name_is_no_newcomer(desk: Desk, blob_id: str) -> None:
    apply(desk, VersionChange(version(1, "a", b"1" * 32)))
    assert newcomers(desk.db, [version(1, blob_id, b"1" * 32), version(2, "c", b"1" * 32)]) == [
        version(2, "c", b"1" * 32)
    ]

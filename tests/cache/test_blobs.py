"""Rows of blobs and versions: puts, deletes, heads, holes, folding."""

from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest

from syncagent.cache import blobs, chunks, journals, ownbatches
from syncagent.cache.commit import Cache
from syncagent.cache.db import Database
from syncagent.cache.profile import Profile
from syncagent.engine import local
from syncagent.engine.content import prepared
from syncagent.engine.context import Context
from syncagent.engine.heads import add_version, rank_anew
from syncagent.engine.local import Put
from syncagent.engine.publish import fold
from syncagent.errors import BlobExists, BlobNotFound, CacheDamaged, SourceChanged
from syncagent.journal.batch import encode_version
from syncagent.model import CHUNK_SIZE, DeviceId, GroupId, Parent, SyncStatus, VaultId, Version

from .samples import NOW_MS, Desk, content

OTHER = DeviceId(b"o" * 16)


def context(desk: Desk, cache: Cache) -> Context:
    return Context(
        cache=cache,
        keys=desk.keys,
        profile=Profile(desk.packs.parent),
        vault=VaultId(b"v" * 16),
        now=lambda: NOW_MS / 1000,
        random=lambda: 0.5,
        workers=anyio.CapacityLimiter(2),
        packs=anyio.CapacityLimiter(1),
    )


def arrived(number: int, *parents: Parent, blob_id: str = "a", deleted: bool = False) -> Version:
    return Version(
        id=b"%016d" % number,
        hlc=(NOW_MS << 16) + number,
        namespace="notes",
        blob_id=blob_id,
        parents=parents,
        deleted=deleted,
        size=0,
        created_at=NOW_MS,
        metadata={},
        scope=bytes(16),
        content=(),
        content_digest=b"%032d" % number,
    )


def listed(db: Database) -> tuple[object, ...] | None:
    return db.one(
        "SELECT version.id, blob.deleted, conflict, blob.size FROM blob"
        " JOIN version ON version.no = winner_no"
    )


def count(db: Database, table: str) -> int:
    return int(db.scalar(f"SELECT count(*) FROM {table}"))


def test_names_get_a_number_on_first_use(db: Database) -> None:
    assert blobs.find_namespace(db, "notes") is None
    number = blobs.namespace_no(db, "notes")
    assert blobs.namespace_no(db, "notes") == number == blobs.find_namespace(db, "notes")
    assert blobs.find_blob(db, number, "a") is None
    blob = blobs.blob_no(db, number, "a")
    assert blobs.blob_no(db, number, "a") == blob
    assert blobs.find_blob(db, number, "a") == blobs.BlobRow(blob, None, False)
    assert blobs.blob_no(db, blobs.namespace_no(db, "mail"), "a") != blob
    assert blobs.device_no(db, OTHER) == blobs.device_no(db, OTHER)


def test_a_version_comes_back_as_it_was_stored(desk: Desk) -> None:
    version = desk.put("a", b"one")
    number = desk.number(version)
    loaded = blobs.load_version(desk.db, number)
    assert loaded == version and loaded.content == version.content and loaded.hlc == version.hlc
    assert blobs.same_fields(desk.db, number, version)
    assert not blobs.same_fields(desk.db, number, arrived(1))


def test_versions_are_stored_as_the_journal_holds_them(desk: Desk) -> None:
    """So that a batch is made of what is stored."""
    desk.put("a", b"1")
    metadata = {"é": 1, "z": True, "a": 1.5, "aa": b"", "\U0001f600": "x", "￿": -1, "": 2}
    for number, some in enumerate(({}, metadata, dict(reversed(metadata.items())))):
        version = msgspec.structs.replace(arrived(number), metadata=some)
        add_version(desk.db, version, device=OTHER, seq=1, status=SyncStatus.SYNCED, chunks=[])
        stored = blobs.packed_versions(desk.db, [desk.number(version)])
        assert stored == {desk.number(version): encode_version(version)}


def test_stored_bytes_of_many_versions_are_given_without_the_damaged_ones(desk: Desk) -> None:
    versions = [desk.number(desk.put(f"{i}", b"%d" % i)) for i in range(5)]
    for number, sql in (
        (versions[1], "UPDATE packed SET bytes = zeroblob(length(bytes)) WHERE no = ?"),
        (versions[3], "DELETE FROM packed WHERE no = ?"),
    ):
        desk.db.execute(sql, (desk.db.scalar("SELECT packed_no FROM version WHERE no = ?", (number,)),))
    for desk.db.is_suspect in (False, True):
        assert list(blobs.packed_versions(desk.db, versions)) == [versions[0], versions[2], versions[4]]
    desk.db.is_suspect = False


@pytest.mark.parametrize("sql", ["UPDATE packed SET bytes = zeroblob(length(bytes))", "DELETE FROM packed"])
def test_an_altered_version_is_not_given(desk: Desk, sql: str) -> None:
    number = desk.number(desk.put("a", b"one"))
    desk.db.execute(sql)
    with pytest.raises(CacheDamaged):
        blobs.load_version(desk.db, number)


def test_a_version_that_stands_in_for_another_is_not_given(desk: Desk) -> None:
    one, two = desk.number(desk.put("a", b"one")), desk.number(desk.put("a", b"two"))
    desk.db.execute("UPDATE packed SET bytes = (SELECT bytes FROM packed WHERE no = 1)")
    assert blobs.load_version(desk.db, one).size == 3
    with pytest.raises(CacheDamaged):
        blobs.load_version(desk.db, two)


def test_the_same_content_under_a_name_is_the_same_version(desk: Desk) -> None:
    first = desk.put("a", b"one", replace=False)
    assert desk.put("a", b"one", replace=False) == first
    with pytest.raises(BlobExists):
        desk.put("a", b"two", replace=False)
    second = desk.put("a", b"two")
    assert [parent.version for parent in second.parents] == [first.id]
    assert second.created_at == first.created_at
    assert second.hlc > first.hlc


def test_a_delete_is_a_version_over_every_head(desk: Desk) -> None:
    first = desk.put("a", b"one")
    add_version(desk.db, arrived(1), device=OTHER, seq=1, status=SyncStatus.SYNCED, chunks=[])
    tombstone = desk.delete("a")
    assert {parent.version for parent in tombstone.parents} == {first.id, arrived(1).id}
    assert listed(desk.db) == (tombstone.id, 1, 0, 0)
    with pytest.raises(BlobNotFound):
        desk.delete("a")
    again = desk.put("a", b"one", replace=False)
    assert [parent.version for parent in again.parents] == [tombstone.id]


def test_heads_follow_what_supersedes_them(db: Database) -> None:
    add = partial(add_version, db, device=OTHER, seq=1, status=SyncStatus.SYNCED, chunks=[])
    one, two = arrived(1), arrived(2)
    assert not add(one).is_conflict
    assert add(two).is_conflict
    assert listed(db) == (two.id, 0, 1, 0)
    merged = arrived(3, Parent(one.id, OTHER, 1), Parent(two.id, OTHER, 1))
    added = add(merged)
    assert (added.is_head, added.is_conflict) == (True, False)
    assert [head.id for head in blobs.heads(db, added.blob_no)] == [merged.id]
    assert listed(db) == (merged.id, 0, 0, 0)


def test_a_version_that_is_superseded_when_it_arrives_is_no_head(db: Database) -> None:
    add = partial(add_version, db, device=OTHER, seq=1, status=SyncStatus.SYNCED, chunks=[])
    newer = arrived(2, Parent(arrived(1).id, OTHER, 1))
    add(newer)
    added = add(arrived(1))
    assert not added.is_head and listed(db) == (newer.id, 0, 0, 0)
    assert db.scalar("SELECT status FROM version WHERE id = ?", (arrived(1).id,)) is None


def test_heads_that_are_given_to_another_device_are_ranked_anew(db: Database) -> None:
    """Of two put in one millisecond the device's id decides, and a copied profile takes another id."""
    one, two = arrived(1), msgspec.structs.replace(arrived(1), id=arrived(2).id, size=7)
    for version, device in ((one, b"5" * 16), (two, b"4" * 16)):
        add_version(db, version, device=DeviceId(device), seq=1, status=SyncStatus.SYNCED, chunks=[])
    assert listed(db) == (one.id, 0, 0, 0)
    number = blobs.device_no(db, b"3" * 16)
    db.execute("UPDATE version SET device_no = ? WHERE id = ?", (number, one.id))
    rank_anew(db, 1)
    assert listed(db) == (two.id, 0, 0, 7)
    assert db.scalar("SELECT count(*) FROM version WHERE status IS NOT NULL") == 2
    rank_anew(db, 1)
    assert listed(db) == (two.id, 0, 0, 7)


def test_a_live_version_wins_over_a_deleted_one(db: Database) -> None:
    add = partial(add_version, db, device=OTHER, seq=1, status=SyncStatus.SYNCED, chunks=[])
    add(arrived(1))
    add(arrived(2, deleted=True))
    assert listed(db) == (arrived(1).id, 0, 0, 0)


def test_set_heads_takes_what_it_demotes_off_the_queue(desk: Desk) -> None:
    version = desk.put("a", b"one")
    number = desk.number(version)
    desk.db.execute("INSERT INTO download (version_no, priority) VALUES (?, 2)", (number,))
    desk.put("a", b"two")
    assert desk.status(version) is None
    assert count(desk.db, "download") == 0


def test_holes_fill_when_the_version_or_its_batch_comes(db: Database) -> None:
    blob = blobs.blob_no(db, blobs.namespace_no(db, "notes"), "a")
    other = blobs.device_no(db, OTHER)
    for number, seq in ((1, 5), (2, 6), (1, 5)):
        blobs.add_hole(db, blob, arrived(number).id, OTHER, seq)
    assert blobs.has_holes(db) and count(db, "hole") == 2
    assert blobs.fill_holes(db) == set()
    add_version(db, arrived(2), device=OTHER, seq=6, status=SyncStatus.SYNCED, chunks=[])
    assert blobs.fill_holes(db) == set() and count(db, "hole") == 1, "the version itself; another is missing"
    journals.advance(db, other, 4, bytes(32))
    assert blobs.fill_holes(db) == set() and blobs.is_incomplete(db, blob)
    journals.advance(db, other, 5, bytes(32))
    assert blobs.fill_holes(db) == {blob}, "its batch, without the version: it was pruned"
    assert not blobs.has_holes(db)


# Folding ---------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_folding_gives_the_child_its_grandparents(desk: Desk, cache: Cache) -> None:
    published = desk.put("a", b"one")
    desk.send(b"one")
    ownbatches.confirm_batch(desk.db, desk.cut())
    for data in (b"two", b"three", b"four"):
        last = desk.put("a", data)
    assert await fold(context(desk, cache)) == 2
    loaded = blobs.load_version(desk.db, desk.number(last))
    assert [(parent.version, parent.seq) for parent in loaded.parents] == [(published.id, 1)]
    assert desk.db.all("SELECT parent_id FROM parent") == [(published.id,)]
    assert count(desk.db, "upload") == 1
    assert count(desk.db, "payload") == 2 + 1, "what was published, the last, and the batch"
    assert desk.read(last) == b"four"


@pytest.mark.anyio
async def test_folding_frees_only_content_that_no_version_needs(desk: Desk, cache: Cache) -> None:
    shared, alone = b"shared" * 100, b"alone" * 100
    keeper = desk.put("keeper", shared)
    desk.put("a", shared)
    desk.put("a", alone)
    last = desk.put("a", b"last")
    assert await fold(context(desk, cache)) == 2
    assert desk.read(keeper) == shared and desk.read(last) == b"last"
    left = {row[0] for row in desk.db.all("SELECT bytes FROM payload")}
    assert left == {shared, b"last"}
    again = desk.put("b", alone)
    assert desk.read(again) == alone


@pytest.mark.anyio
async def test_rows_of_a_batch_or_a_transaction_are_not_folded(desk: Desk, cache: Cache) -> None:
    desk.put("a", b"one")
    desk.send(b"one")
    desk.cut()
    desk.put("a", b"two")
    first = desk.put("b", b"three")
    desk.put("b", b"four")
    desk.db.execute(
        "UPDATE upload SET group_id = ? WHERE version_no = ?", (GroupId(b"g"), desk.number(first))
    )
    assert await fold(context(desk, cache)) == 0
    assert count(desk.db, "version") == 4


@pytest.mark.anyio
async def test_folding_leaves_a_row_that_cannot_be_deleted(desk: Desk, cache: Cache) -> None:
    """While an operation runs again after damage."""
    desk.put("a", b"one")
    last = desk.put("a", b"two")
    desk.db.is_suspect = True
    blobs.delete_version(desk.db, 1)
    assert count(desk.db, "payload") == count(desk.db, "packed") == 2
    assert count(desk.db, "version") == 1 and desk.read(last) == b"two"


# Content that goes between its look-up and its commit ---------------------------------------------------


@pytest.mark.anyio
async def test_a_put_does_not_rely_on_content_that_was_folded_away_meanwhile(
    desk: Desk, cache: Cache
) -> None:
    """A large blob's last chunk may be a small blob's only one."""
    ctx = context(desk, cache)
    tail = content(1, 100_000)
    desk.put("small", tail)
    put = Put("notes", "large", {}, replace=False)

    async def store() -> Version:
        scope = desk.keys.namespace_scope("notes")
        async with prepared(ctx, content(2, CHUNK_SIZE) + tail, lambda db: scope) as content_in:
            desk.put("small", b"something else")
            await fold(ctx)
            return await cache.write(
                partial(
                    local.record_put,
                    put=put,
                    content_in=content_in.for_scope,
                    now_ms=NOW_MS,
                    keys=desk.keys,
                    source=desk.source,
                )
            )

    with pytest.raises(SourceChanged):
        await store()
    assert blobs.find_blob(desk.db, blobs.namespace_no(desk.db, "notes"), "large") is None
    assert list(desk.packs.iterdir()) == []
    desk.put("small", b"something else")
    version = await store()
    assert desk.read(version) == content(2, CHUNK_SIZE) + tail


def test_a_chunk_is_stored_once_for_all_who_name_it(desk: Desk, tmp_path: Path) -> None:
    """One stored copy (row B2)."""
    one, two = desk.put("a", b"same"), desk.put("b", b"same")
    other = desk.put("a", b"same", namespace="mail")
    assert one.content == two.content != other.content, "dedup stays within a namespace"
    assert count(desk.db, "payload") == count(desk.db, "chunk") == 2
    assert desk.chunk_number(one) == desk.chunk_number(two)
    assert chunks.is_complete(desk.db, desk.number(two))


@pytest.mark.anyio
async def test_a_chunk_is_stored_once_within_a_blob(desk: Desk, cache: Cache) -> None:
    piece = content(3, CHUNK_SIZE)
    scope = desk.keys.namespace_scope("notes")
    async with prepared(context(desk, cache), piece * 3, lambda db: scope) as content_in:
        made = content_in.for_scope(scope)
    assert len(made.content_digest) == 32 and made.size == 3 * CHUNK_SIZE
    assert len(set(made.chunks)) == 1 and len(made.chunks) == 3
    (record,) = made.packs
    assert [chunk.id for chunk in record.chunks] == [made.chunks[0]]

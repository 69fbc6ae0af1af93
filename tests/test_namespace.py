"""Putting, getting, listing and deleting blobs on one device, without a remote in reach."""

import datetime
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import syncagent
from syncagent.errors import (
    BlobExists,
    BlobNotFound,
    BlobNotHere,
    CacheDamaged,
    ConfigError,
    InvalidName,
    LimitExceeded,
    SourceChanged,
    SyncAgentError,
    Unreachable,
)
from syncagent.model import MetadataValue, SyncStatus
from syncagent.namespace import Namespace
from syncagent.remote.memory import MemoryRemote, named_store
from syncagent.reports import NamespaceInfo
from syncagent.vault import Vault, open_vault

pytestmark = pytest.mark.anyio

PASSPHRASE = "correct horse"
NOON = 2_000_000_000.0


class Gone(MemoryRemote):
    """A remote that cannot be reached."""

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        raise Unreachable("no connection")


async def _make(folder: Path, url: str) -> None:
    await syncagent.create_vault(folder, remote=url, passphrase=PASSPHRASE, kdf=syncagent.FLOOR_KDF)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("namespace") / "a"
    anyio.run(_make, folder, "memory:")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "a"))


@pytest.fixture
async def vault(folder: Path) -> AsyncIterator[Vault]:
    async with open_vault(folder, passphrase=PASSPHRASE, remote=Gone(), now=lambda: NOON) as vault:
        yield vault


@pytest.fixture
def notes(vault: Vault) -> Namespace:
    return vault.namespace("notes")


# Put and get ---------------------------------------------------------------------------------------


async def test_what_was_put_is_what_is_got(notes: Namespace) -> None:
    metadata: dict[str, MetadataValue] = {"title": "x", "n": -(1 << 63), "f": 0.5, "b": True, "raw": b"\0"}
    version = await notes.put("x", b"content", metadata=metadata)
    blob = await notes.get("x")
    assert (blob.id, blob.data, blob.size, blob.metadata) == ("x", b"content", 7, metadata)
    assert blob.version == version and str(blob.version) == version.id.hex()
    assert blob.created_at == datetime.datetime.fromtimestamp(NOON, datetime.UTC)
    assert await notes.exists("x") and not await notes.exists("y")


async def test_a_restart_keeps_what_was_put(vault: Vault, folder: Path) -> None:
    """What `put` has returned for is here, sent or not (row A1)."""
    await vault.namespace("notes").put("x", b"content")
    async with open_vault(folder, passphrase=PASSPHRASE, remote=Gone()) as again:
        assert (await again.namespace("notes").get("x")).data == b"content"


async def test_the_same_bytes_and_metadata_are_no_new_version(notes: Namespace) -> None:
    first = await notes.put("x", b"content", metadata={"n": 1})
    assert await notes.put("x", b"content", metadata={"n": 1}) == first
    assert await notes.put("x", b"content", metadata={"n": 1}, replace=True) == first
    for metadata in ({"n": 1.0}, {"n": True}, {"n": 1, "more": 1}, {}):
        with pytest.raises(BlobExists):
            await notes.put("x", b"content", metadata=metadata)


async def test_other_bytes_need_replace_and_supersede(notes: Namespace) -> None:
    first = await notes.put("x", b"one")
    with pytest.raises(BlobExists):
        await notes.put("x", b"two")
    assert (await notes.get("x")).data == b"one"
    second = await notes.put("x", b"two", replace=True)
    assert [parent.version for parent in second.parents] == [first.id]
    assert second.hlc > first.hlc and second.created_at == first.created_at
    assert (await notes.get("x")).data == b"two"


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("blob_id", ["", "a\0b", "e\u0301", "\ud800", "x" * 1025])
async def test_an_id_outside_the_grammar_is_refused_everywhere(notes: Namespace, blob_id: str) -> None:
    """One grammar for all calls (row B5)."""
    for call in (notes.put(blob_id, b""), notes.get(blob_id), notes.delete(blob_id), notes.exists(blob_id)):
        with pytest.raises(InvalidName):
            await call
    assert await notes.count() == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("blob_id", ["a/../b", " ", "x" * 1024, "\u00e9", "con", "\n", "%00"])
async def test_any_other_id_is_one(notes: Namespace, blob_id: str) -> None:
    await notes.put(blob_id, b"content")
    assert (await notes.get(blob_id)).data == b"content"
    assert [blob.id for blob in (await notes.list()).blobs] == [blob_id]


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize(
    "metadata", [{"x": float("nan")}, {"x": 1 << 63}, {"x": "y" * 20_000}, {"x": None}, {1: "x"}]
)
async def test_metadata_out_of_bounds_stores_nothing(notes: Namespace, metadata: dict[str, object]) -> None:
    with pytest.raises((ConfigError, LimitExceeded)):
        await notes.put("x", b"content", metadata=metadata)  # type: ignore[arg-type]  # that is the point
    assert not await notes.exists("x")


# Many ----------------------------------------------------------------------------------------------


async def test_put_many_stores_what_it_can_and_says_why_not(notes: Namespace, tmp_path: Path) -> None:
    await notes.put("taken", b"one")
    large = b"x" * (300 << 10)
    results = await notes.put_many(
        [
            ("a", b"a"),
            ("taken", b"two"),
            ("", b"nameless"),
            ("large", large),
            ("gone", tmp_path / "gone"),
            ("b", b"b", {"title": "b"}),
            ("a", b"again"),
            ("wrong", b"", {"x": float("inf")}),
        ]
    )
    assert [result.id for result in results] == ["a", "taken", "", "large", "gone", "b", "a", "wrong"]
    assert [type(result.error) for result in results] == [
        type(None),
        BlobExists,
        InvalidName,
        type(None),
        SourceChanged,
        type(None),
        BlobExists,
        type(results[7].error),
    ]
    assert isinstance(results[7].error, (ConfigError, LimitExceeded))
    got = await notes.get_many(["b", "missing", "large", "a", ""])
    assert [result.blob and result.blob.data for result in got] == [b"b", None, large, b"a", None]
    assert isinstance(got[1].error, BlobNotFound) and isinstance(got[4].error, InvalidName)
    with pytest.raises(BlobNotFound):
        _ = got[1].data
    assert await notes.count() == 4


async def test_put_many_takes_thousands(notes: Namespace) -> None:
    results = await notes.put_many((f"n{number:05}", b"%d" % number) for number in range(2000))
    assert all(result.version is not None for result in results)
    assert await notes.count() == 2000
    got = await notes.get_many([f"n{number:05}" for number in range(0, 2000, 7)])
    assert [result.data for result in got] == [b"%d" % number for number in range(0, 2000, 7)]


# Delete and list -----------------------------------------------------------------------------------


async def test_what_is_deleted_is_gone_at_once_and_can_be_made_anew(notes: Namespace) -> None:
    """Gone here at once, sent or not (row A7)."""
    await notes.put("x", b"one")
    tombstone = await notes.delete("x")
    assert tombstone.deleted and tombstone.size == 0
    for call in (notes.get("x"), notes.delete("x"), notes.delete("never")):
        with pytest.raises(BlobNotFound):
            await call
    assert not await notes.exists("x") and await notes.count() == 0
    again = await notes.put("x", b"two")  # no `replace` needed: nothing is there
    assert [parent.version for parent in again.parents] == [tombstone.id]
    assert (await notes.get("x")).data == b"two"


async def test_a_listing_comes_by_pages_in_order_of_id(notes: Namespace, vault: Vault) -> None:
    ids = sorted(f"{letter}{number}" for letter in "abz\u00e9" for number in range(5))
    await notes.put_many([(blob_id, blob_id.encode()) for blob_id in ids])
    await vault.namespace("other").put("elsewhere", b"x")
    seen: list[str] = []
    after = None
    pages = 0
    while True:
        page = await notes.list(after=after, limit=7)
        seen += [blob.id for blob in page.blobs]
        pages += 1
        after = page.next
        if after is None:
            break
    assert seen == ids and pages == 3
    assert [blob.id for blob in (await notes.list(prefix="b")).blobs] == [f"b{number}" for number in range(5)]
    assert await notes.count(prefix="b") == 5
    assert await notes.count(prefix="b%") == 0
    assert len((await notes.list(limit=20)).blobs) == 20 and (await notes.list(limit=20)).next is None
    for limit in (0, -1, 10_001):
        with pytest.raises(ConfigError):
            await notes.list(limit=limit)


async def test_a_listing_tells_the_state_of_each(notes: Namespace) -> None:
    version = await notes.put("x", b"content")
    [blob] = (await notes.list(status=SyncStatus.PENDING_UPLOAD)).blobs
    assert (blob.namespace, blob.id, blob.size, blob.version) == ("notes", "x", 7, str(version))
    assert blob.status is SyncStatus.PENDING_UPLOAD and not blob.conflict
    assert blob.created_at == blob.changed_at == datetime.datetime.fromtimestamp(NOON, datetime.UTC)
    assert (await notes.list(status=SyncStatus.SYNCED)).blobs == ()
    assert await notes.count(status=SyncStatus.PENDING_UPLOAD) == 1
    assert await notes.count(status=SyncStatus.SYNCED) == 0


async def test_namespaces_do_not_see_each_other(vault: Vault) -> None:
    """One id in two of them is two blobs (row A4)."""
    notes, mail = vault.namespace("notes"), vault.namespace("mail")
    await notes.put("x", b"note")
    with pytest.raises(BlobNotFound):
        await mail.get("x")
    await mail.put("x", b"mail")
    await mail.delete("x")
    assert (await notes.get("x")).data == b"note"
    assert await vault.namespaces() == (NamespaceInfo("notes", 1),)


# Content that is elsewhere ---------------------------------------------------------------------------


async def test_content_that_is_not_here_is_fetched_when_asked_for_and_kept(tmp_path: Path) -> None:
    """Local if it is here, else fetched, then kept (row A1)."""
    folder, url = tmp_path / "a", f"memory:namespace-{tmp_path.name}"
    await _make(folder, url)
    store = named_store(url.partition(":")[2])
    async with open_vault(folder, passphrase=PASSPHRASE, remote=MemoryRemote(store)) as sender:
        await sender.namespace("notes").put("small", b"content")
        await sender.namespace("notes").put("large", b"content" * 100_000)
        await sender.sync()
    other = folder.with_name("b")
    await syncagent.join_vault(other, remote=url, passphrase=PASSPHRASE)  # knows the names, has no content
    async with open_vault(other, passphrase=PASSPHRASE, remote=Gone()) as joined:
        notes = joined.namespace("notes")
        assert await notes.exists("small")
        for blob_id in ("small", "large"):
            with pytest.raises(BlobNotHere) as caught:
                await notes.get(blob_id)
            assert caught.value.available is None
        [small, large] = await notes.get_many(["small", "large"])
        assert isinstance(small.error, BlobNotHere) and isinstance(large.error, BlobNotHere)
    async with open_vault(other, passphrase=PASSPHRASE, remote=MemoryRemote(store)) as joined:
        assert (await joined.namespace("notes").get("small")).data == b"content"
        async with joined.namespace("notes").open("large") as reader:
            assert await reader.read_range(699_993, 700_000) == b"content"
    async with open_vault(other, passphrase=PASSPHRASE, remote=Gone()) as joined:
        notes = joined.namespace("notes")
        assert (await notes.get("small")).data == b"content"
        assert (await notes.get("large")).data == b"content" * 100_000
        # Replaced here, and still known: what was here stays readable until something newer is.
        assert [blob.status for blob in (await notes.list()).blobs] == [SyncStatus.SYNCED] * 2


async def test_damage_without_another_copy_is_named_and_harms_no_other(
    vault: Vault, notes: Namespace
) -> None:
    await notes.put("bad", b"bad")
    await notes.put("good", b"good")
    await vault.parts()[0].cache.write(
        lambda db: db.changed(
            "UPDATE payload SET bytes = x'00' WHERE no = (SELECT payload_no FROM chunk JOIN version_chunk"
            " ON chunk_no = chunk.no JOIN blob ON winner_no = version_no WHERE blob.id = 'bad')"
        )
    )
    with pytest.raises(CacheDamaged) as caught:
        await notes.get("bad")
    assert isinstance(caught.value, SyncAgentError) and caught.value.safe
    assert (await notes.get("good")).data == b"good"
    [bad, good] = await notes.get_many(["bad", "good"])
    assert isinstance(bad.error, CacheDamaged) and good.data == b"good"
    # A new put of it needs nothing of the old.
    await notes.put("bad", b"mended", replace=True)
    assert (await notes.get("bad")).data == b"mended"


# Lists ---------------------------------------------------------------------------------------------


async def test_a_list_has_an_order_a_direction_and_a_flag(notes: Namespace) -> None:
    """By date, by flag, or only how many (row A5)."""
    for blob_id, content in (("a", b"333"), ("b", b"1"), ("c", b"22")):
        await notes.put(blob_id, content)
    await notes.put("a", b"4444", replace=True)
    await notes.add_flags("a", {"seen"})
    await notes.add_flags("b", {"seen"})

    async def ids(**options: Any) -> list[str]:
        found: list[str] = []
        after: str | None = None
        while True:
            page = await notes.list(limit=1, after=after, **options)
            found += [blob.id for blob in page.blobs]
            after = page.next
            if after is None:
                return found

    assert await ids() == ["a", "b", "c"]
    assert await ids(order_by="changed") == ["b", "c", "a"]
    assert await ids(order_by="created", descending=True) == ["c", "b", "a"]
    assert await ids(order_by="size") == ["b", "c", "a"]
    assert await ids(flag="seen", order_by="size", descending=True) == ["a", "b"]
    assert (await notes.count(flag="seen"), await notes.count(flag="other")) == (2, 0)
    await notes.delete("a")
    assert await ids(flag="seen") == ["b"]
    assert await notes.count(flag="seen") == 1


async def test_an_order_that_there_is_none_of_and_a_place_of_another_list_are_refused(
    notes: Namespace,
) -> None:
    await notes.put_many([("a", b"1"), ("b", b"2")])
    with pytest.raises(ConfigError, match="colour"):
        await notes.list(order_by="colour")
    place = (await notes.list(limit=1)).next
    with pytest.raises(ConfigError, match="`after`"):
        await notes.list(limit=1, order_by="size", after=place)
    with pytest.raises(ConfigError, match="`after`"):
        await notes.list(after="a")

"""What callers hand in: taken as what it says, or refused before it can do harm to anything else."""

import email
import email.policy
import operator
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from syncagent.crypto.chunk import content_digest, digest_of
from syncagent.errors import BlobExists, ConfigError, InvalidName
from syncagent.model import Dedup, FetchPolicy, SyncStatus
from tests.engine.world import World, rows

pytestmark = pytest.mark.anyio


class Said(str):
    """Text that knows where it comes from, as a mail's headers do."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


def hex_id(data: bytes) -> str:
    return content_digest((digest_of(data),)).hex()


async def test_put_many_makes_ids_of_the_content_as_put_does(world: World) -> None:
    large = bytes(300 << 10)
    async with world.open("a") as vault, world.open("b") as other:
        notes = vault.namespace("notes")
        results = await notes.put_many([(None, b"small"), ("named", b"1"), (None, large), (None, b"small")])
        ids = [result.id for result in results]
        assert [result.error for result in results] == [None] * 4
        assert ids == [hex_id(b"small"), "named", hex_id(large), hex_id(b"small")]
        assert (await notes.put(None, b"small")).blob_id == ids[0]
        assert (await vault.sync()).sent == 3
        await other.sync()
        assert await other.namespace("notes").count() == 3


async def test_put_many_tells_of_one_bad_blob_and_stores_the_others(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("taken", b"1")
        results = await notes.put_many(
            [
                ("first", b"1"),
                (7, b"1"),  # type: ignore[list-item]
                ("text", "not bytes"),  # type: ignore[list-item]
                ("", b"1"),
                ("meta", b"1", ["not a mapping"]),  # type: ignore[list-item]
                ("taken", b"2"),
                ("last", b"1"),
            ]
        )
        kinds = [type(result.error) for result in results]
        nothing = type(None)
        assert kinds == [nothing, InvalidName, ConfigError, InvalidName, ConfigError, BlobExists, nothing]
        assert await notes.count() == 3


async def test_text_of_a_subclass_is_taken_as_text(world: World) -> None:
    async with world.open("a") as vault, world.open("b") as other:
        notes = vault.namespace(Said("notes"))
        version = await notes.put(Said("id"), b"1", metadata={Said("subject"): Said("hello")})
        assert (version.blob_id, version.metadata) == ("id", {"subject": "hello"})
        assert type(version.blob_id) is str
        assert await notes.add_flags(Said("id"), {Said("seen")}) == {"seen"}
        await notes.tag(Said("id"), "~0", Said("draft"))
        await notes.put_many([(Said("many"), b"2", {"x": Said("y")})])
        async with vault.transaction() as tx:
            tx.namespace(Said("notes")).put(Said("tx"), b"3", metadata={"x": Said("y")})
            tx.namespace("notes").add_flags(Said("many"), {Said("todo")})
        assert (await notes.get(Said("id"))).data == b"1" and await notes.exists(Said("id"))
        assert [blob.id for blob in (await notes.list(prefix=Said("id"))).blobs] == ["id"]
        assert await notes.count(flag=Said("todo")) == 1
        assert (await vault.explain(Said("notes"), Said("id"))).status is SyncStatus.PENDING_UPLOAD
        await vault.sync()
        await other.sync()
        there = other.namespace("notes")
        assert (await there.get("id")).metadata == {"subject": "hello"}
        assert await there.get_flags("many") == {"todo"}
        assert (await there.get("id", version="draft")).data == b"1"
        await notes.untag("id", "~0", Said("draft"))
        assert (await notes.history("id"))[0].tags == ()


async def test_a_mail_is_put_under_its_message_id(world: World) -> None:
    mail = email.message_from_bytes(
        b"Subject: hi\r\nMessage-ID: <a@b>\r\n\r\nbody\r\n", policy=email.policy.default
    )
    async with world.open("a") as vault:
        inbox = vault.namespace("mail")
        await inbox.put(mail["Message-ID"], b"1", metadata={"subject": mail["Subject"]})
        assert (await inbox.get("<a@b>")).metadata == {"subject": "hi"}


async def test_a_row_that_no_device_could_read_stops_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot come about any more; a cache of an older version may hold one."""
    monkeypatch.setattr("syncagent.engine.local.check_new", lambda version: None)
    monkeypatch.setattr("syncagent.engine.many.check_new", lambda version: None)
    monkeypatch.setattr("syncagent.names.check_blob_id", lambda blob_id: blob_id)
    async with world.open("a") as vault, world.open("b") as other:
        notes = vault.namespace("notes")
        await notes.put("before", b"1")
        await notes.put("n\0ul", b"2")
        monkeypatch.undo()
        await notes.put("after", b"3")
        async with vault.transaction() as tx:
            tx.namespace("notes").put("grouped", b"4")
        report = await vault.sync()
        assert (report.sent, [failure.id for failure in report.failures]) == (3, ["n\0ul"])
        assert "n\0ul" not in str(report.failures[0].error)
        await other.sync()
        assert await other.namespace("notes").count() == 3
        assert (await vault.sync()).sent == 0
        await notes.put("later", b"5")
        assert (await vault.sync()).sent == 1


async def test_what_cannot_be_published_is_not_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever way it has come past the border."""
    monkeypatch.setattr("syncagent.names.check_blob_id", lambda blob_id: blob_id)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for blob_id, size in (("n\0ul", 1), ("also\0", 300 << 10), (Said("subclass"), 1)):
            with pytest.raises((InvalidName, ConfigError)):
                await notes.put(blob_id, bytes(size))
        assert await rows(vault, "SELECT no FROM version") == []


async def test_versions_that_are_equal_are_not_unequal(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        put = await notes.put("x", b"1", metadata={"a": 1})
        got = (await notes.get("x")).version
        other = await notes.put("x", b"2", replace=True)
        assert put == got and not operator.ne(put, got)
        assert put != other and not operator.eq(put, other)
        assert put != "x"


async def test_what_is_not_a_bool_is_not_taken_for_one(world: World) -> None:
    text: Any = "false"
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"1")
        asked: list[Callable[[], Awaitable[object]]] = [
            lambda: notes.settings(local_only=text),
            lambda: notes.put("y", b"1", local_only=text),
            lambda: notes.put("x", b"2", replace=text),
            lambda: notes.put_many([("x", b"2")], replace=text),
            lambda: notes.set_expiry("x", None, force=text),
            lambda: notes.get("x", keep=text),
            lambda: notes.list(descending=text),
        ]
        for call in asked:
            with pytest.raises(ConfigError, match="True or False"):
                await call()
        with pytest.raises(ConfigError, match="True or False"):
            notes.open("x", keep=text)
        async with vault.transaction() as tx:
            with pytest.raises(ConfigError, match="True or False"):
                tx.namespace("notes").put("x", b"2", replace=text)
        assert (await notes.settings()).local_only is False
        assert (await notes.get("x")).data == b"1" and not await notes.exists("y")


async def test_limits_and_names_of_another_type_are_refused_by_name(world: World) -> None:
    odd: Any
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"1")
        await notes.add_flags("x", {"seen"})
        for odd in (2.5, True, "3", 0):
            for call in (notes.list, vault.changes, partial(notes.history, "x")):
                with pytest.raises(ConfigError, match="a page has"):
                    await call(limit=odd)
        for odd in (None, 7, b"x"):
            for ask in (notes.get, notes.exists, notes.stat, notes.delete, notes.get_flags, notes.pin):
                with pytest.raises(InvalidName):
                    await ask(odd)
            with pytest.raises(InvalidName):
                vault.namespace(odd)
            with pytest.raises(InvalidName):
                await vault.explain("notes", odd)
        for odd in (None, 7):
            for mark in (notes.add_flags, notes.remove_flags, notes.set_flags):
                with pytest.raises(InvalidName):
                    await mark("x", odd)
        assert await notes.get_flags("x") == {"seen"}
        for odd in ("\ud800", "", "n\0ul", "x" * 300, None):
            with pytest.raises(ConfigError, match="device name"):
                await vault.rename_device(vault.device_id, odd)


async def test_settings_take_what_they_give(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        standing = await notes.settings(fetch=FetchPolicy.PINNED, dedup=Dedup.NONE)
        assert standing == await notes.settings(fetch=standing.fetch, dedup=standing.dedup)
        assert standing == await notes.settings(fetch="pinned", dedup=Said("none"))
        odd: Any = Dedup.NONE
        with pytest.raises(ConfigError):
            await notes.settings(fetch=odd)


async def test_a_reader_reads_inside_its_block_and_from_the_start(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for blob_id, size in (("small", 10), ("large", 3 << 20)):
            await notes.put(blob_id, bytes(size))
            async with notes.open(blob_id) as reader:
                assert (
                    await reader.read_range(2, 5) == bytes(3) == await reader.read_range(size - 3, size + 9)
                )
                for start, stop in ((-1, 3), (0, -1), (-5, -2)):
                    with pytest.raises(ConfigError, match="from the start"):
                        await reader.read_range(start, stop)
                chunks = aiter(reader)
                await anext(chunks)
            with pytest.raises(ConfigError, match="inside"):
                await reader.read_range(0, 1)
            with pytest.raises(ConfigError, match="inside"):
                [chunk async for chunk in reader]

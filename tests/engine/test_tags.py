"""Names on versions: on every device, last writer wins; a tagged version is kept."""

import pytest

from syncagent.errors import BlobNotFound, ConfigError, InvalidName, VersionNotFound
from syncagent.vault import Vault
from tests.engine.world import World, rows

pytestmark = pytest.mark.anyio


async def tags(vault: Vault, blob_id: str = "x") -> list[tuple[str, ...]]:
    return [version.tags for version in await vault.namespace("notes").history(blob_id)]


async def test_a_tag_names_a_version_on_every_device(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        first = await notes.put("x", b"first")
        await vault.sync()
        await notes.put("x", b"second", replace=True)
        await notes.tag("x", first, "sent to Ann")
        await notes.tag("x", "~0", "ü")
        assert (await notes.get("x", version="sent to Ann")).data == b"first"
        await vault.sync()
    await world.sync("b")
    async with world.open("b") as vault:
        notes = vault.namespace("notes")
        assert await tags(vault) == [("ü",), ("sent to Ann",)]
        assert (await notes.get("x", version="sent to Ann")).data == b"first"
        await notes.untag("x", first, "sent to Ann")
        await notes.untag("x", first, "never there")
        assert await tags(vault) == [("ü",), ()]
        await vault.sync()
    await world.sync("a")
    async with world.open("a") as vault:
        assert await tags(vault) == [("ü",), ()]
        with pytest.raises(VersionNotFound):
            await vault.namespace("notes").get("x", version="sent to Ann")


async def test_of_two_writers_the_last_one_wins_everywhere(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"x")
        await vault.namespace("notes").tag("x", "~0", "t")
        await vault.sync()
    await world.sync("b")
    async with world.open("a") as vault:
        world.clock.now += 1
        await vault.namespace("notes").untag("x", "~0", "t")
    async with world.open("b") as vault:
        world.clock.now += 1
        await vault.namespace("notes").untag("x", "~0", "t")
        await vault.namespace("notes").tag("x", "~0", "t")
    for device in ("b", "a", "b"):
        await world.sync(device)
    for device in ("a", "b"):
        async with world.open(device) as vault:
            assert await tags(vault) == [("t",)]


async def test_a_tagged_version_is_sent_though_it_was_replaced(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(5):
            version = await notes.put("x", b"%d" % number, replace=True)
            if number == 2:
                await notes.tag("x", version, "kept")
        await vault.sync()
        assert await tags(vault) == [(), ("kept",)], "the others were folded"
    await world.sync("b")
    async with world.open("b") as vault:
        notes = vault.namespace("notes")
        assert (await notes.get("x", version="kept")).data == b"2"
        assert (await notes.get("x")).data == b"4" and await notes.conflicts() == []


async def test_what_is_tagged_so_already_is_no_change(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"x")
        await notes.tag("x", "~0", "t")
        before = await rows(vault, "SELECT no FROM upload")
        await notes.tag("x", "~0", "t")
        await notes.untag("x", "~0", "other")
        assert await rows(vault, "SELECT no FROM upload") == before


async def test_a_tag_on_two_versions_names_neither(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for number in range(2):
            await notes.put("x", b"%d" % number, replace=True)
            await vault.sync()
            await notes.tag("x", "~0", "good")
        assert await tags(vault) == [("good",), ("good",)]
        with pytest.raises(InvalidName, match="several"):
            await notes.get("x", version="good")


@pytest.mark.parametrize("name", ["", "a\0", "~1", "~", "0123abcd", "A" * 32, "x" * 257, "\ud800"])
async def test_a_name_that_cannot_be_a_tag_is_refused(world: World, name: str) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"x")
        with pytest.raises(InvalidName):
            await notes.tag("x", "~0", name)
        assert await tags(vault) == [()]


async def test_there_must_be_such_a_version(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        with pytest.raises(BlobNotFound):
            await notes.tag("x", "~0", "t")
        await notes.put("x", b"x")
        with pytest.raises(VersionNotFound):
            await notes.tag("x", "~1", "t")
        await notes.delete("x")
        await notes.tag("x", "~1", "before it was deleted")
        assert (await notes.get("x", version="before it was deleted")).data == b"x"


async def test_what_stays_here_takes_no_tag(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("mine", b"x", local_only=True)
        with pytest.raises(ConfigError):
            await notes.tag("mine", "~0", "t")
        await notes.put("mine", b"x", local_only=False)
        await notes.tag("mine", "~0", "t")
        await vault.sync()
    await world.sync("b")
    async with world.open("b") as vault:
        (version,) = await vault.namespace("notes").history("mine")
        assert version.tags == ("t",)

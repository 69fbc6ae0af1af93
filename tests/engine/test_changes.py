"""An application's own index, kept in step by `Vault.changes`."""

import random
import shutil

import pytest

from syncagent.answers import BlobInfo, ChangePage
from syncagent.cache import news
from syncagent.errors import ConfigError, TokenExpired
from syncagent.vault import Vault
from tests.engine.world import World, change, rows

pytestmark = pytest.mark.anyio

Index = dict[tuple[str, str], BlobInfo]


class Keeper:
    """What an application does: an index, and the token it belongs to."""

    def __init__(self) -> None:
        self.index: Index = {}
        self.token: str | None = None

    async def follow(self, vault: Vault, *, limit: int = 1000, pages: int = 1_000) -> int:
        """Take pages until there are no more; how many changes."""
        count = 0
        for _ in range(pages):
            try:
                page = await vault.changes(self.token, limit=limit)
            except TokenExpired:
                self.index, self.token = {}, None
                continue
            count += len(page.changes)
            self.take(page)
            if not page.more:
                break
        return count

    def conflicts(self) -> list[str]:
        return [blob.id for blob in self.index.values() if blob.conflict]

    def take(self, page: ChangePage) -> None:
        for one in page.changes:
            if one.blob is None:
                self.index.pop((one.namespace, one.id), None)
            else:
                self.index[one.namespace, one.id] = one.blob
        self.token = page.token


async def whole_list(vault: Vault) -> Index:
    found: Index = {}
    for name in [one.name for one in await vault.namespaces()]:
        after = None
        while True:
            page = await vault.namespace(name).list(after=after)
            found |= {(name, blob.id): blob for blob in page.blobs}
            after = page.next
            if after is None:
                break
    return found


async def test_what_is_put_changed_and_deleted_is_told_once_in_order(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        first = await vault.changes()
        assert (first.changes, first.more) == ((), False)
        await notes.put("x", b"one")
        await notes.put("y", b"one")
        await notes.put("x", b"two", replace=True)
        await vault.namespace("mail").put("z", b"one")
        await notes.delete("y")
        page = await vault.changes(first.token)
        told = [(one.namespace, one.id, one.blob and one.blob.size) for one in page.changes]
        assert told == [("notes", "x", 3), ("mail", "z", 3), ("notes", "y", None)]
        assert not page.more
        assert (await vault.changes(page.token)).changes == ()
        assert (await vault.changes(first.token)).changes == page.changes, "a token may be used again"


async def test_the_beginning_is_every_live_blob_once_in_pages(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put_many([(f"{number}", b"content") for number in range(25)])
        await notes.delete("7")
        keeper = Keeper()
        assert await keeper.follow(vault, limit=4, pages=3) == 12
        await notes.put("late", b"put between two pages")
        await notes.delete("3")
        await keeper.follow(vault, limit=4)
        assert keeper.index == await whole_list(vault)
        assert await keeper.follow(vault) == 0


async def test_changes_of_other_devices_and_of_the_status_are_told(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    keeper = Keeper()
    async with world.open("b") as vault:
        await keeper.follow(vault)
        await vault.sync()
        await keeper.follow(vault)
        assert keeper.index == await whole_list(vault)
        assert keeper.index["notes", "x"].status.name == "SYNCED"
        await vault.namespace("notes").put("x", b"two", replace=True)
        await keeper.follow(vault)
        assert keeper.index["notes", "x"].status.name == "PENDING_UPLOAD"
        await vault.sync()
        await keeper.follow(vault)
        assert keeper.index["notes", "x"].status.name == "SYNCED"


async def test_a_conflict_is_told_when_it_comes_and_when_it_goes(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    await world.sync("b")
    await world.put("a", x=b"older")
    world.clock.now += 1
    await world.put_and_sync("b", x=b"newer")
    keeper = Keeper()
    async with world.open("a") as vault:
        await keeper.follow(vault)
        assert keeper.conflicts() == []
        await vault.sync()
        await keeper.follow(vault)
        assert keeper.conflicts() == ["x"]
        await vault.namespace("notes").put("x", b"both", replace=True)
        await keeper.follow(vault)
        assert keeper.conflicts() == []


async def test_the_token_survives_a_restart_and_sees_what_another_process_puts(world: World) -> None:
    keeper = Keeper()
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        await keeper.follow(vault)
        async with world.open("a") as other:
            await other.namespace("notes").put("y", b"one")
        assert await keeper.follow(vault) == 1
    async with world.open("a") as vault:
        assert await keeper.follow(vault) == 0
        await vault.namespace("notes").delete("x")
        assert await keeper.follow(vault) == 1
        assert set(keeper.index) == {("notes", "y")}


async def test_a_sync_with_nothing_new_tells_nothing(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    async with world.open("b") as vault:
        await vault.sync()
        token = (await vault.changes()).token
        await vault.sync()
        assert (await vault.changes(token)).changes == ()


async def test_a_token_of_another_cache_is_expired(world: World) -> None:
    await world.put_and_sync("a", x=b"one", y=b"two")
    await world.sync("b")
    async with world.open("a") as a, world.open("b") as b:
        token = (await a.changes()).token
        with pytest.raises(TokenExpired):
            await b.changes(token)
        assert (await a.changes(token)).changes == ()


async def test_the_token_of_a_future_that_was_undone_is_expired(world: World) -> None:
    """An older copy of the profile is restored; as many and more changes are made again."""
    await world.put("a", x=b"one")
    world.clone("a", "backup")
    async with world.open("a") as vault:
        before = (await vault.changes()).token
        await vault.namespace("notes").put("lost", b"one")
        lost = (await vault.changes(before)).token
    shutil.rmtree(world.folder / "a")
    world.clone("backup", "a")
    async with world.open("a") as vault:
        assert (await vault.changes(before)).changes == (), "what both have known still holds"
        with pytest.raises(TokenExpired):
            await vault.changes(lost)
        await vault.namespace("notes").put_many([(f"{number}", b"new") for number in range(5)])
        with pytest.raises(TokenExpired):
            await vault.changes(lost)
        assert len((await vault.changes(before)).changes) == 5


@pytest.mark.parametrize("is_beginning", [True, False])
async def test_a_page_that_showed_a_future_that_was_undone_expires_its_token(
    world: World, is_beginning: bool
) -> None:
    """Its token is of what the copy knows, but the page told how a blob looked after the copy was made."""
    async with world.open("a") as vault:
        start = (await vault.changes()).token
    await world.put("a", x=b"one")
    await world.put("a", y=b"one")
    world.clone("a", "backup")
    await world.put("a", x=b"another")
    async with world.open("a") as vault:
        page = await vault.changes(None if is_beginning else start, limit=1)
        [change] = page.changes
        assert page.more and change.id == "x" and change.blob is not None and change.blob.size == 7
    shutil.rmtree(world.folder / "a")
    world.clone("backup", "a")
    async with world.open("a") as vault:
        with pytest.raises(TokenExpired):
            await vault.changes(page.token)


@pytest.mark.parametrize(
    "token",
    ["", "1.0.0.0.0", "2.0.0.0.0.0", "1.x.0.0.0.0", "1.0.0.0.0.0 ", "1.-1.0.0.0.0", "1.1.0.0.0.0", "ö"],
)
async def test_what_is_no_token_is_expired(world: World, token: str) -> None:
    async with world.open("a") as vault:
        with pytest.raises(TokenExpired) as caught:
            await vault.changes(token)
    assert caught.value.todo


@pytest.mark.parametrize("limit", [0, -1, 10_001])
async def test_a_page_has_bounds(world: World, limit: int) -> None:
    async with world.open("a") as vault:
        with pytest.raises(ConfigError, match="1 to 10000"):
            await vault.changes(limit=limit)


async def test_old_news_are_dropped_and_their_tokens_expire(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        first = await vault.changes()
        await notes.put_many([(f"{number}", b"content") for number in range(30)])
        middle = await vault.changes(first.token, limit=20)
        cache = vault.parts()[0].cache
        assert not await cache.read(news.is_long), "few are kept all"
        assert await cache.write(lambda db: news.trim(db, keep=15)) == 15
        assert await cache.write(lambda db: news.trim(db, keep=15)) == 0
        with pytest.raises(TokenExpired):
            await vault.changes(first.token)
        assert len((await vault.changes(middle.token)).changes) == 10
        assert len((await vault.changes()).changes) == 30
        assert await cache.write(lambda db: news.trim(db, keep=1)) == 14
        assert await rows(vault, "SELECT count(*) FROM news") == [(1,)], "the newest stays: numbers go on"


async def test_the_daily_sweep_drops_old_news(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put_many([("x", b"one"), ("y", b"one")])
        await change(vault, "UPDATE news SET no = 1000000 WHERE no = (SELECT max(no) FROM news)")
        world.clock.now += 2 * 24 * 3600
        await vault.sync()
        ((first,),) = await rows(vault, "SELECT min(no) FROM news")
        assert first == 1_000_000


async def test_a_log_that_cannot_be_read_is_an_expired_token(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        token = (await vault.changes()).token
        await change(vault, "UPDATE news SET mark = mark + 1")
        with pytest.raises(TokenExpired):
            await vault.changes(token)
        keeper = Keeper()
        await keeper.follow(vault)
        assert set(keeper.index) == {("notes", "x")}


@pytest.mark.parametrize("seed", range(12))
async def test_an_index_kept_by_changes_equals_the_list(world: World, seed: int) -> None:
    dice = random.Random(seed)
    keepers = {name: Keeper() for name in ("a", "b", "c")}
    kept: dict[str, tuple[Index, str | None]] = {}
    for _ in range(12):
        name = dice.choice("abc")
        world.clock.now += dice.choice((0, 0, 1, 60))
        async with world.open(name) as vault:  # a restart each time
            for _ in range(dice.randrange(5)):
                await _act(vault, dice)
            keeper = keepers[name]
            match dice.randrange(5):
                case 0:
                    kept[name] = dict(keeper.index), keeper.token
                case 1 if name in kept:  # the application, too, goes back to an older state of its own
                    index, keeper.token = kept[name]
                    keeper.index = dict(index)
            await keeper.follow(vault, limit=dice.randint(1, 6), pages=dice.randint(0, 6))
    for name, keeper in keepers.items():
        async with world.open(name) as vault:
            await keeper.follow(vault, limit=3)
            assert keeper.index == await whole_list(vault), name


async def _act(vault: Vault, dice: random.Random) -> None:
    blobs = vault.namespace(dice.choice(("notes", "mail")))
    blob_id = dice.choice("vwxyz")
    match dice.randrange(6):
        case 0 | 1:
            await blobs.put(blob_id, dice.randbytes(3), replace=True, local_only=dice.random() < 0.1 or None)
        case 2:
            await blobs.put_many(
                [(f"{blob_id}{number}", dice.randbytes(3)) for number in range(3)], replace=True
            )
        case 3:
            if await blobs.exists(blob_id):
                await blobs.delete(blob_id)
        case 4:
            async with vault.transaction() as tx:
                tx.namespace("notes").put("in one", dice.randbytes(3), replace=True)
                tx.namespace("mail").put("in one", dice.randbytes(3), replace=True)
        case _:
            await vault.sync()

"""Damage to the files of the cache: the right bytes or `CacheDamaged` for that blob, never other bytes."""

import random
import shutil
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent.cache.db import Database
from syncagent.engine.publish import fold
from syncagent.errors import BlobExists, BlobNotHere, CacheDamaged, SyncAgentError
from syncagent.model import CHUNK_SIZE, SMALL_BLOB, SyncStatus
from syncagent.namespace import Namespace
from syncagent.vault import Vault

from .samples import PASSPHRASE, Home, content, flip, flip_page, page_count

SIZES = [int(4096 * 60 ** (index / 59)) for index in range(60)]
"""60 blobs from 4 KiB to 240 KiB, more small ones than large."""
BLOBS = {f"blob-{index}": content(index, size) for index, size in enumerate(SIZES)}
CHOSEN = "the chosen one"
CHOSEN_CONTENT = content(100, 100_000)
EVERYTHING = {**BLOBS, CHOSEN: CHOSEN_CONTENT}
SAMPLE = 30
"""Pages of several hundred that one run damages; another seed takes others."""


class Stored:
    """A vault that holds `EVERYTHING`; pages from `first_chosen` on came with the chosen blob."""

    def __init__(self, home: Home, first_chosen: int) -> None:
        self.home = home
        self.pages = page_count(home.profile.database)
        self.first_chosen = first_chosen

    def damaged(self, page: int, at: Path) -> Home:
        at.mkdir(exist_ok=True)
        folder = at / f"page-{page}"
        shutil.copytree(self.home.folder, folder)
        home = Home(folder, self.home.remote, self.home.root, self.home.recovery_code)
        flip_page(home.profile.database, page)
        return home


def fill(home: Home, *, is_synced: bool) -> Stored:
    async def put(blobs: dict[str, bytes]) -> None:
        async with home.vault() as vault:
            results = await vault.namespace("notes").put_many(list(blobs.items()))
            assert not [result.error for result in results if result.error]
            if is_synced:
                await vault.sync()

    anyio.run(put, BLOBS)
    first_chosen = page_count(home.profile.database) + 1
    anyio.run(put, {CHOSEN: CHOSEN_CONTENT})
    return Stored(home, first_chosen)


@pytest.fixture(scope="module")
def unsent(first_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return fill(first_home.copy(tmp_path_factory.mktemp("unsent")), is_synced=False)


@pytest.fixture(scope="module")
def synced(first_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    return fill(first_home.copy(tmp_path_factory.mktemp("synced")), is_synced=True)


async def read_all(vault: Vault) -> set[str]:
    """Get every blob; the ids of the damaged ones. All others are right."""
    notes = vault.namespace("notes")
    damaged: set[str] = set()
    for blob_id, expected in EVERYTHING.items():
        try:
            blob = await notes.get(blob_id)
        except CacheDamaged:
            damaged.add(blob_id)
        else:
            assert blob.data == expected
    return damaged


def sampled(stored: Stored) -> list[int]:
    return sorted(random.Random(1).sample(range(2, stored.first_chosen), SAMPLE))


def test_any_damaged_page_costs_the_blobs_on_it_and_no_others(unsent: Stored, tmp_path: Path) -> None:
    costs: list[int] = []

    async def look() -> None:
        for page in sampled(unsent):
            home = unsent.damaged(page, tmp_path)
            before = home.profile.database.read_bytes()
            try:
                async with home.vault(is_remote_gone=True) as vault:
                    damaged = await read_all(vault)
                    readable = sorted(EVERYTHING.keys() - damaged)
                    if readable:
                        assert (await vault.namespace("notes").get(readable[0])).data
                    costs.append(len(damaged))
            except CacheDamaged:
                assert home.profile.database.read_bytes() == before
                costs.append(len(EVERYTHING))
            shutil.rmtree(home.folder)

    anyio.run(look)
    assert sorted(costs)[SAMPLE * 3 // 4] == 1, "nearly every page is one of a blob's payload"


async def put_anew(notes: Namespace, way: int) -> None:
    """Every way to go on from a damaged blob on the vault that met the damage."""
    match way % 4:
        case 0:
            stored = await notes.put(CHOSEN, CHOSEN_CONTENT)
            assert (await notes.get(CHOSEN)).version == stored
            assert (await notes.get(CHOSEN)).data == CHOSEN_CONTENT
        case 1:
            await notes.put(CHOSEN, b"something else", replace=True)
            assert (await notes.get(CHOSEN)).data == b"something else"
        case 2:
            await notes.put("another", CHOSEN_CONTENT)
            assert (await notes.get("another")).data == CHOSEN_CONTENT
            assert (await notes.get(CHOSEN)).data == CHOSEN_CONTENT
        case 3:
            await notes.delete(CHOSEN)
            assert not await notes.exists(CHOSEN)


def test_a_damaged_page_of_a_payload_costs_this_blob_alone(unsent: Stored, tmp_path: Path) -> None:
    """And it can be put again, with the same bytes or others."""
    hits: list[int] = []
    refused: list[int] = []

    async def look() -> None:
        for page in range(unsent.first_chosen, unsent.pages + 1):
            home = unsent.damaged(page, tmp_path)
            async with home.vault(is_remote_gone=True) as vault:
                if await read_all(vault) == {CHOSEN}:
                    hits.append(page)
                    try:
                        await put_anew(vault.namespace("notes"), len(hits))
                        assert await fold(vault.parts()[0]) == (len(hits) % 4 in (1, 3))
                    except CacheDamaged:
                        refused.append(page)
            shutil.rmtree(home.folder)

    anyio.run(look)
    assert len(hits) >= len(CHOSEN_CONTENT) // 4096 - 1
    # The last leaf of a table is where new rows go: with it damaged, a put is refused.
    assert len(refused) <= 2


def test_what_the_remote_has_heals(synced: Stored, tmp_path: Path) -> None:
    costs: list[int] = []

    async def look() -> None:
        own = range(synced.first_chosen + 4, synced.pages - 4, 6)
        for page in [*sampled(synced)[::2], *own]:
            home = synced.damaged(page, tmp_path)
            async with home.vault() as vault:
                damaged = await read_all(vault)
                assert page not in own or not damaged
            async with home.vault(is_remote_gone=True) as vault:
                assert await read_all(vault) == damaged, "what was fetched is kept"
                if not damaged:
                    assert (await vault.status()).counts[SyncStatus.SYNCED] == len(EVERYTHING)
            costs.append(len(damaged))
            shutil.rmtree(home.folder)

    anyio.run(look)
    assert sorted(costs)[len(costs) * 3 // 4] == 0, "only pages with more than payload on them do not heal"


@pytest.mark.parametrize("page", [1])
def test_a_vault_whose_first_page_is_damaged_says_so(unsent: Stored, tmp_path: Path, page: int) -> None:
    home = unsent.damaged(page, tmp_path)
    before = home.profile.database.read_bytes()

    async def look() -> None:
        with pytest.raises(CacheDamaged):
            async with home.vault():
                pass

    anyio.run(look)
    assert home.profile.database.read_bytes() == before


def test_pages_of_the_schema_are_read_when_the_vault_is_opened(unsent: Stored, tmp_path: Path) -> None:
    """Damage there is named on opening, and opening leaves no connection behind."""
    refused: list[CacheDamaged] = []  # kept, with all that their tracebacks refer to

    async def look() -> None:
        for page in range(2, 60):
            home = unsent.damaged(page, tmp_path)
            before = home.profile.database.read_bytes()
            try:
                async with home.vault(is_remote_gone=True):
                    pass
            except CacheDamaged as exc:
                refused.append(exc)
                assert home.profile.database.read_bytes() == before
                assert not list(home.folder.glob("cache.db-*")), "the last connection was closed"
            shutil.rmtree(home.folder)

    anyio.run(look)
    assert 0 < len(refused) < 20


@pytest.mark.anyio
async def test_damage_met_in_a_group_of_writes_costs_only_its_own(unsent: Stored, tmp_path: Path) -> None:
    home = unsent.damaged(unsent.first_chosen + 10, tmp_path)
    results: dict[str, SyncAgentError | None] = {}

    async def put(notes: Namespace, blob_id: str, data: bytes) -> None:
        try:
            await notes.put(blob_id, data)
            results[blob_id] = None
        except SyncAgentError as exc:
            results[blob_id] = exc

    async with home.vault(is_remote_gone=True) as vault:
        notes = vault.namespace("notes")
        assert await read_all(vault) == {CHOSEN}
        version_no = (await vault.parts()[0].cache.read(number_of_chosen))[0]

        async def touch() -> None:
            """A write that cannot do without the damaged row."""
            try:
                await vault.parts()[0].cache.write(lambda db: db.changed(ZERO, (version_no,)))
                results["touched"] = None
            except SyncAgentError as exc:
                results["touched"] = exc

        async with anyio.create_task_group() as group:
            for index in range(10):
                group.start_soon(put, notes, f"new-{index}", content(index, 500))
            group.start_soon(touch)
            for index in range(10, 20):
                group.start_soon(put, notes, f"new-{index}", content(index, 500))
    assert isinstance(results.pop("touched"), CacheDamaged)
    assert results == {f"new-{index}": None for index in range(20)}
    async with home.vault(is_remote_gone=True) as vault:
        notes = vault.namespace("notes")
        for index in range(20):
            assert (await notes.get(f"new-{index}")).data == content(index, 500)


ZERO = "UPDATE payload SET bytes = zeroblob(length(bytes)) WHERE no = ?"


def number_of_chosen(db: Database) -> tuple[int, int]:
    """The payload row of the chosen blob and the packed row of its version."""
    row = db.one(
        "SELECT payload_no, packed_no FROM blob JOIN version ON version.no = winner_no"
        " JOIN version_chunk ON version_no = version.no JOIN chunk ON chunk.no = chunk_no WHERE blob.id = ?",
        (CHOSEN,),
    )
    assert row is not None
    return int(row[0]), int(row[1])


# Bytes that are wrong without any error, as a damaged overflow page may give them -----------------


def zeroed(stored: Stored, at: Path, table: str = "payload") -> Home:
    home = stored.home.copy(at)
    with home.opened() as db:
        payload_no, packed_no = number_of_chosen(db)
        sql = ZERO.replace("payload", table)
        assert db.changed(sql, (payload_no if table == "payload" else packed_no,)) == 1
    return home


@pytest.mark.anyio
async def test_silent_zeroes_are_not_handed_out(unsent: Stored, tmp_path: Path) -> None:
    home = zeroed(unsent, tmp_path)
    async with home.vault(is_remote_gone=True) as vault:
        notes = vault.namespace("notes")
        assert await read_all(vault) == {CHOSEN}
        results = await notes.get_many(list(EVERYTHING))
        assert {result.id for result in results if isinstance(result.error, CacheDamaged)} == {CHOSEN}
        assert (await notes.put(CHOSEN, CHOSEN_CONTENT)).size == len(CHOSEN_CONTENT)
        assert await read_all(vault) == set()


@pytest.mark.anyio
async def test_silent_zeroes_are_not_relied_on_by_another_blob(unsent: Stored, tmp_path: Path) -> None:
    home = zeroed(unsent, tmp_path)
    async with home.vault(is_remote_gone=True) as vault:
        notes = vault.namespace("notes")
        await notes.put("another", CHOSEN_CONTENT)
        assert (await notes.get("another")).data == CHOSEN_CONTENT


@pytest.mark.anyio
async def test_silent_zeroes_heal_from_the_remote(synced: Stored, tmp_path: Path) -> None:
    home = zeroed(synced, tmp_path)
    async with home.vault() as vault:
        assert await read_all(vault) == set()


@pytest.mark.anyio
async def test_a_zeroed_version_is_not_believed_and_can_be_replaced(unsent: Stored, tmp_path: Path) -> None:
    home = zeroed(unsent, tmp_path, "packed")
    async with home.vault(is_remote_gone=True) as vault:
        notes = vault.namespace("notes")
        assert await read_all(vault) == {CHOSEN}
        with pytest.raises(CacheDamaged):
            await notes.put(CHOSEN, b"new")
        await notes.put(CHOSEN, b"new", replace=True)
        assert (await notes.get(CHOSEN)).data == b"new"
        with pytest.raises(BlobExists):
            await notes.put(CHOSEN, CHOSEN_CONTENT)


@pytest.mark.anyio
async def test_what_is_damaged_here_waits_for_a_remote_that_is_away(synced: Stored, tmp_path: Path) -> None:
    home = zeroed(synced, tmp_path)
    async with home.vault(is_remote_gone=True) as vault:
        assert await read_all(vault) == {CHOSEN}
        assert (await vault.status()).counts[SyncStatus.PENDING_DOWNLOAD] == 1
        with pytest.raises(BlobNotHere):
            await vault.namespace("notes").get(CHOSEN)
    async with home.vault() as vault:
        assert (await vault.sync()).fetched == 1
    async with home.vault(is_remote_gone=True) as vault:
        assert await read_all(vault) == set()


# Pack files ----------------------------------------------------------------------------------------


LARGE = content(7, 3 * CHUNK_SIZE - 5)
KINDS = ["flipped", "truncated", "missing", "empty", "swapped"]


def damage_pack(home: Home, kind: str) -> None:
    (path,) = home.profile.packs.iterdir()
    match kind:
        case "flipped":
            flip(path, CHUNK_SIZE + CHUNK_SIZE // 2)  # in the second of three chunks
        case "truncated":
            with path.open("r+b") as file:
                file.truncate(CHUNK_SIZE + 1000)
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "swapped":
            path.write_bytes(path.read_bytes()[::-1])


async def put_large(home: Home, *, is_synced: bool) -> None:
    async with home.vault() as vault:
        await vault.namespace("notes").put("large", LARGE)
        await vault.namespace("notes").put("small", b"small")
        if is_synced:
            await vault.sync()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_a_damaged_pack_file_is_not_handed_out(home: Home, kind: str) -> None:
    assert len(LARGE) > SMALL_BLOB
    await put_large(home, is_synced=False)
    damage_pack(home, kind)
    async with home.vault(is_remote_gone=True) as vault:
        notes = vault.namespace("notes")
        with pytest.raises(CacheDamaged):
            await notes.get("large")
        got = b""
        with pytest.raises(CacheDamaged):
            async with notes.open("large") as reader:
                async for chunk in reader:
                    got += chunk
        assert LARGE.startswith(got)
        assert (await notes.get("small")).data == b"small"
        if kind in ("flipped", "truncated"):
            async with notes.open("large") as reader:
                assert await reader.read_range(10, 20) == LARGE[10:20], "what is not damaged is readable"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_an_acknowledged_put_does_not_rely_on_a_damaged_pack_file(home: Home, kind: str) -> None:
    await put_large(home, is_synced=False)
    damage_pack(home, kind)
    async with home.vault() as vault:
        notes = vault.namespace("notes")
        await notes.put("large", LARGE)
        assert (await notes.get("large")).data == LARGE
        await notes.put("another", LARGE)
        assert (await notes.get("another")).data == LARGE
        report = await vault.sync()
        assert (report.sent, report.failures) == (3, ()), "and it can be sent"
    other = home.folder.parent / "other"
    await syncagent.join_vault(other, remote=home.remote.as_uri(), passphrase=PASSPHRASE)
    async with Home(other, home.remote, home.root, "").vault() as vault:
        await vault.sync()
        assert (await vault.namespace("notes").get("large")).data == LARGE


@pytest.mark.anyio
@pytest.mark.parametrize("kind", KINDS)
async def test_a_damaged_pack_file_heals_from_the_remote(home: Home, kind: str) -> None:
    await put_large(home, is_synced=True)
    damage_pack(home, kind)
    async with home.vault() as vault:
        notes = vault.namespace("notes")
        assert (await notes.get("large")).data == LARGE
        assert (await vault.status()).counts[SyncStatus.SYNCED] == 2
    async with home.vault(is_remote_gone=True) as vault:
        assert (await vault.namespace("notes").get("large")).data == LARGE

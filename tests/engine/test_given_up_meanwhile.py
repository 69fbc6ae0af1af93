"""Content that is given up while a put reads the same bytes: the put stores them all the same."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import anyio
import anyio.from_thread
import pytest

from syncagent import files
from syncagent.engine.sources import Source
from syncagent.namespace import Namespace
from syncagent.vault import Vault
from tests.engine.test_large_content import MIB, ChangingPath, content, pack_files
from tests.engine.world import World, rows, statuses

pytestmark = pytest.mark.anyio

DATA = content(17 * MIB)  # three groups: of two nothing is looked at again once the last one is read


def a_stream(notes: Namespace, folder: Path) -> Source:
    async def pieces() -> AsyncIterator[bytes]:
        yield DATA[: 16 * MIB]
        await notes.evict("x")
        yield DATA[16 * MIB :]

    return pieces()


def a_path(notes: Namespace, folder: Path) -> Source:
    path = ChangingPath(folder / "source")
    Path(path).write_bytes(DATA)
    path.change = lambda _: anyio.from_thread.run(notes.evict, "x")
    path.change_at = 17
    return path


async def put_alone(vault: Vault, source: Source) -> None:
    await vault.namespace("notes").put("y", source)


async def put_in_a_transaction(vault: Vault, source: Source) -> None:
    async with vault.transaction() as tx:
        tx.namespace("notes").put("y", source)
        tx.namespace("notes").put("z", b"small")


@pytest.mark.parametrize("make", [a_stream, a_path])
@pytest.mark.parametrize("put", [put_alone, put_in_a_transaction])
async def test_what_is_given_up_while_it_is_put_again_is_stored(
    world: World,
    tmp_path: Path,
    make: Callable[[Namespace, Path], Source],
    put: Callable[[Vault, Source], Awaitable[None]],
) -> None:
    await world.put_and_sync("a", x=DATA)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await put(vault, make(notes, tmp_path))
        assert (await notes.get("y")).data == DATA
        await vault.sync()
        assert (await statuses(vault))["y"] == "SYNCED"
        assert (await statuses(vault))["x"] in ("SYNCED", "REMOTE_ONLY")


async def test_a_stream_of_what_is_here_leaves_one_copy(world: World) -> None:
    await world.put_and_sync("a", x=DATA)
    async with world.open("a") as vault:
        before = pack_files(world, "a")
        known = await rows(vault, "SELECT count(*) FROM pack")

        async def pieces() -> AsyncIterator[bytes]:
            yield DATA[: 9 * MIB]
            yield DATA[9 * MIB :]

        await vault.namespace("notes").put("y", pieces())
        assert pack_files(world, "a") == before
        assert await rows(vault, "SELECT count(*) FROM pack") == known
        assert (await vault.namespace("notes").get("y")).data == DATA


async def test_a_file_that_is_removed_beside_the_fetch_that_wrote_it_is_not_remembered(
    world: World, observed: Callable[[files.Observer], None]
) -> None:
    """As an eviction does, of content that another read has brought back at the same time."""
    await world.put_and_sync("a", x=DATA)
    removed: list[Path] = []

    def remove(step: files.Step) -> None:
        if step.is_done and step.act is files.Act.SYNC_FOLDER and step.path.name == "packs" and not removed:
            removed.extend(path for path in step.path.iterdir() if path.suffix != ".tmp")
            for path in removed:
                path.unlink()

    async with world.open("b") as vault:
        notes = vault.namespace("notes")
        await notes.settings(fetch="on-demand")
        await vault.sync()
        observed(remove)
        await notes.prefetch(["x"])
        assert removed
        known = [row[0] for row in await rows(vault, "SELECT id FROM pack WHERE has_file")]
        assert sorted(path.name for path in pack_files(world, "b")) == sorted(
            bytes(cast(bytes, pack_id)).hex() for pack_id in known
        )
        assert await statuses(vault) == {"x": "PENDING_DOWNLOAD"}
        assert (await notes.get("x")).data == DATA
        assert await statuses(vault) == {"x": "SYNCED"}

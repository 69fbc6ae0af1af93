"""Content from bytes, files and streams: cut, sealed once, sent once, read by range, fetched in parts."""

import os
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path, PosixPath
from typing import Any, BinaryIO

import anyio
import pytest

from syncagent import names
from syncagent.cache.chunks import ChunkSource
from syncagent.cache.db import Database
from syncagent.crypto.chunk import content_digest, digest_of
from syncagent.engine.storing import NewContent, store_content
from syncagent.errors import BlobExists, LimitExceeded, SourceChanged
from syncagent.model import CHUNK_SIZE, MAX_BLOB_SIZE, SMALL_BLOB, ChunkId
from tests.engine.world import World, listed, rows, statuses

pytestmark = pytest.mark.anyio

MIB = 1 << 20
SIZES = [0, 1, SMALL_BLOB, SMALL_BLOB + 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 8 * MIB + 1]


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


async def pieces(data: bytes, step: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        await anyio.lowlevel.checkpoint()
        yield data[start : start + step]


def pack_files(world: World, device: str) -> list[Path]:
    return sorted((world.folder / device / "packs").iterdir())


# Sources -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_bytes_a_file_and_a_stream_give_the_same_version_and_arrive_whole(
    world: World, tmp_path: Path, size: int
) -> None:
    data = content(size)
    path = tmp_path / "source"
    path.write_bytes(data)
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        versions = [
            await notes.put("bytes", data),
            await notes.put("view", memoryview(data)),
            await notes.put("path", path),
            await notes.put("stream", pieces(data, 777_777)),
        ]
        digest = content_digest(
            [digest_of(data[start : start + CHUNK_SIZE]) for start in range(0, size, CHUNK_SIZE)]
        )
        assert {version.content_digest for version in versions} == {digest}
        assert {version.size for version in versions} == {size}
        assert len({version.content for version in versions}) == 1
        assert len(versions[0].content) == -(-size // CHUNK_SIZE)
        for blob_id in ("bytes", "view", "path", "stream"):
            assert (await notes.get(blob_id)).data == data
        assert bool(pack_files(world, "a")) == (size > SMALL_BLOB)
        await vault.sync()
    assert len(world.names(names.PACKS)) == -(-size // (8 * MIB))
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("path")).data == data
        assert set((await statuses(vault)).values()) == {"SYNCED"}


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("step", [1000, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * MIB])
async def test_a_stream_may_come_in_pieces_of_any_size(world: World, step: int) -> None:
    data = content(9 * MIB + 5)
    async with world.open("a") as vault:
        version = await vault.namespace("notes").put("x", pieces(data, step))
        assert version.size == len(data)
        async with vault.namespace("notes").open("x") as reader:
            assert b"".join([chunk async for chunk in reader]) == data


async def test_empty_pieces_of_a_stream_are_nothing(world: World) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for piece in (b"", b"ab", b"", b"c", b""):
            yield piece

    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", stream())
        assert (await vault.namespace("notes").get("x")).data == b"abc"


async def test_a_stream_that_fails_stores_nothing_and_leaves_no_file(world: World) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for number in range(10):
            yield content(MIB, number)
        raise OSError("the pipe broke")

    async with world.open("a") as vault:
        with pytest.raises(OSError, match="the pipe broke"):
            await vault.namespace("notes").put("x", broken())
        assert await listed(vault) == {}
        assert pack_files(world, "a") == []


async def test_a_put_cancelled_while_it_reads_stores_nothing_and_leaves_no_file(world: World) -> None:
    async with world.open("a") as vault:
        with anyio.CancelScope() as scope:

            async def stream() -> AsyncIterator[bytes]:
                for number in range(10):
                    yield content(MIB, number)
                scope.cancel()
                yield content(MIB, 11)

            await vault.namespace("notes").put("x", stream())
        assert scope.cancelled_caught
        assert await listed(vault) == {}
        assert pack_files(world, "a") == []


async def test_a_stop_in_the_middle_of_a_stream_of_content_leaves_nothing_behind(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", content(6 * MIB))
        async with vault.namespace("notes").open("x") as reader:
            async for chunk in reader:
                assert chunk == content(6 * MIB)[:MIB]
                break


async def test_a_put_that_is_refused_leaves_no_file(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("x", content(2 * MIB))
        before = pack_files(world, "a")
        with pytest.raises(BlobExists):
            await notes.put("x", content(2 * MIB, seed=2))
        assert pack_files(world, "a") == before
        assert (await notes.get("x")).data == content(2 * MIB)


class ChangingPath(PosixPath):
    """A path whose file changes at one of the reads of it."""

    change: Callable[[Path], None]
    change_at = 2

    def open(self, *args: Any, **kwargs: Any) -> Any:
        file: BinaryIO = super().open(*args, **kwargs)
        reads = 0

        class Changing:
            def read(self, size: int) -> bytes:
                nonlocal reads
                reads += 1
                if reads == change_at:
                    change(path)
                return file.read(size)

            def fileno(self) -> int:
                return file.fileno()

            def close(self) -> None:
                file.close()

        path, change, change_at = Path(self), self.change, self.change_at
        return Changing()


def shrink(path: Path) -> None:
    os.truncate(path, 1000)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size - 1)
        file.write(b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("size", [10_000, 2 * MIB, 20 * MIB])
@pytest.mark.parametrize("change", [shrink, grow, rewrite])
async def test_a_file_that_changes_while_it_is_read_is_not_stored(
    world: World, tmp_path: Path, size: int, change: Callable[[Path], None]
) -> None:
    """A file that changes under the read (row D9)."""
    path = ChangingPath(tmp_path / "source")
    Path(path).write_bytes(content(size))
    path.change = change
    path.change_at = 1 if size < MIB else 2
    async with world.open("a") as vault:
        with pytest.raises(SourceChanged):
            await vault.namespace("notes").put("x", path)
        assert await listed(vault) == {}
        assert pack_files(world, "a") == []
        assert not await rows(vault, "SELECT 1 FROM upload UNION SELECT 1 FROM pack")


async def test_a_file_that_vanishes_while_it_is_read_was_read_whole(world: World, tmp_path: Path) -> None:
    path = ChangingPath(tmp_path / "source")
    Path(path).write_bytes(content(9 * MIB))
    path.change = Path.unlink
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", path)
        assert (await vault.namespace("notes").get("x")).data == content(9 * MIB)


async def test_a_file_over_the_limit_is_refused_before_it_is_read(world: World, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.touch()
    os.truncate(path, MAX_BLOB_SIZE + 1)  # sparse
    async with world.open("a") as vault:
        with anyio.fail_after(10), pytest.raises(LimitExceeded, match=str(MAX_BLOB_SIZE + 1)):
            await vault.namespace("notes").put("x", path)
        assert await listed(vault) == {}


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.parametrize("what", ["nothing", "a directory", "a pipe", "below a file"])
async def test_what_is_no_file_is_a_changed_source(world: World, tmp_path: Path, what: str) -> None:
    path = tmp_path / "source"
    match what:
        case "a directory":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "below a file":
            path.write_bytes(b"x")
            path = path / "below"
    async with world.open("a") as vault:
        with anyio.fail_after(5):
            with pytest.raises(SourceChanged):
                await vault.namespace("notes").put("x", path)
        assert await listed(vault) == {}


# Sent once -----------------------------------------------------------------------------------------


async def test_one_changed_byte_sends_about_one_chunk(world: World) -> None:
    data = bytearray(content(16 * MIB))
    await world.put("a", x=bytes(data))
    first = await world.sync("a")
    assert 16 * MIB < first.sent_bytes < 17 * MIB
    await world.sync("b")
    data[5 * MIB + 3] ^= 1
    await world.put("a", x=bytes(data))
    assert (await world.sync("a")).sent_bytes < 1.2 * MIB
    report = await world.sync("b")
    assert report.fetched_bytes < 1.2 * MIB
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == bytes(data)


@pytest.mark.parametrize("size", [1000, 3 * MIB])
async def test_the_same_content_under_another_id_sends_no_pack(world: World, size: int) -> None:
    """Content that is there is named, not sent (row B4)."""
    await world.put_and_sync("a", x=content(size))
    packs = world.names(names.PACKS)
    await world.put("a", y=content(size))
    report = await world.sync("a")
    assert report.sent == 1 and report.sent_bytes < 10_000
    assert world.names(names.PACKS) == packs
    report = await world.sync("b")
    assert report.fetched == 2


async def test_the_same_content_in_another_namespace_shares_nothing(world: World) -> None:
    await world.put_and_sync("a", x=content(1000))
    async with world.open("a") as vault:
        await vault.namespace("mail").put("x", content(1000))
        await vault.sync()
        assert (await vault.namespace("mail").get("x")).data == content(1000)
    assert len(world.names(names.PACKS)) == 2


async def test_content_that_comes_twice_in_a_blob_is_sealed_once(world: World) -> None:
    data = content(MIB) * 20 + b"end"
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", data)
        assert sum(path.stat().st_size for path in pack_files(world, "a")) < 1.2 * MIB
        assert (await vault.sync()).sent_bytes < 1.2 * MIB
    await world.sync("b")
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == data


async def test_content_that_went_away_between_reading_and_storing_is_not_acknowledged(world: World) -> None:
    """A chunk was found here while the put read its source, and folded away before that (row B6)."""
    async with world.open("a") as vault:
        ctx, _ = vault.parts()
        gone = ChunkId(bytes(32))
        new = NewContent(300 << 10, bytes(32), ctx.keys.namespace_scope("notes"), (gone,), (bytes(32),))

        def store(db: Database) -> list[int]:
            return store_content(db, new, keys=ctx.keys, source=ChunkSource(ctx.keys, ctx.profile.packs))

        with pytest.raises(SourceChanged):
            await ctx.cache.write(store)


async def test_two_puts_of_the_same_content_side_by_side_are_both_stored(world: World) -> None:
    """Puts of the same content at once (row B6)."""
    async with world.open("a") as vault:
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(vault.namespace("notes").put, f"n{number}", content(3 * MIB))
        await vault.sync()
    report = await world.sync("b")
    assert report.fetched == 4
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("n3")).data == content(3 * MIB)

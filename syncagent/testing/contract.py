"""What every remote must do, as a suite of tests. Needs pytest and anyio's plugin for it.

A remote passes by subclassing it in a test file, on the backends that the
`anyio_backend` fixture names:

    class TestMyRemote(RemoteContract):
        @contextlib.asynccontextmanager
        async def open_remote(self, folder: Path) -> AsyncIterator[Remote]:
            remote = MyRemote(folder)
            yield remote
            await remote.aclose()
"""

import contextlib
import hashlib
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import anyio
import anyio.lowlevel
import pytest

from syncagent.errors import (
    BadResponse,
    InvalidName,
    ObjectExists,
    ObjectNotFound,
    ObjectRefused,
    SourceChanged,
    UnsupportedByRemote,
)
from syncagent.names import PACKS, VAULT
from syncagent.remote.base import FileSlice, ObjectPage, Remote, max_object_size

DEVICE = "0123456789abcdef" * 2
OTHER_DEVICE = "f" * 32
RECORD = f"devices/{DEVICE}"
BATCH = f"journal/{DEVICE}/000000000001"
MANY_BYTES = bytes(range(256)) * (9 << 10)
"""Two and a quarter mebibytes: more than two pieces, and the last one is short."""

BAD_NAMES = (
    "",
    "/",
    "VAULT",
    "vault/",
    "vault\n",
    "vault\0",
    "vault/../vault",
    "../vault",
    "/etc/passwd",
    ".tmp/" + "0" * 32,
    "keys/" + "0" * 31,
    "keys/" + "A" * 32,
    "packs/" + "0" * 32,
    "packs\\" + "0" * 64,
    "journal/" + "0" * 32,
    f"journal/{DEVICE}/1",
    f"journal/{DEVICE}/00000000000\N{ARABIC-INDIC DIGIT ONE}",
    f"journal/../journal/{DEVICE}/000000000001",
)
BAD_PREFIXES = ("/", "vault", "packs", "pack", "../", "keys/0", ".tmp/", "journal/00/", f"journal/{DEVICE}")


def pack_name(data: bytes) -> str:
    """The only legal name of a pack that holds these bytes; remotes may check it."""
    return PACKS + hashlib.sha256(data).hexdigest()


class RemoteContract:
    """The suite. A subclass gives `open_remote`; `is_persistent` is false where closing loses the objects."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]
    is_persistent: ClassVar[bool] = True

    def open_remote(self, folder: Path) -> contextlib.AbstractAsyncContextManager[Remote]:
        """A remote tied to `folder`: opened again with the same folder, it shows the same objects."""
        raise NotImplementedError

    @pytest.fixture
    async def remote(self, tmp_path: Path) -> AsyncIterator[Remote]:
        """An empty remote."""
        folder = tmp_path / "remote"
        folder.mkdir()
        async with self.open_remote(folder) as remote:
            yield remote

    async def test_bytes_come_back(self, remote: Remote) -> None:
        """What was put is what is got, for the smallest object and for one of several pieces."""
        for data in (b"\0", MANY_BYTES):
            await remote.put(pack_name(data), data)
            assert await remote.get(pack_name(data)) == data

    async def test_largest_objects_are_accepted(self, remote: Remote) -> None:
        """The limits themselves are legal."""
        for name in (RECORD, BATCH):
            data = bytes(max_object_size(name))
            await remote.put(name, data)
            assert await remote.get(name) == data

    async def test_file_slices_come_back(self, remote: Remote, tmp_path: Path) -> None:
        """A slice is stored from its start to its stop, whatever lies around it."""
        source = tmp_path / "source"
        source.write_bytes(MANY_BYTES)
        for start, stop in ((0, len(MANY_BYTES)), (7, len(MANY_BYTES) - 5), (1 << 20, 2 << 20), (3, 4)):
            data = MANY_BYTES[start:stop]
            await remote.put(pack_name(data), FileSlice(source, start, stop))
            assert await remote.get(pack_name(data)) == data

    async def test_ranges_are_half_open(self, remote: Remote) -> None:
        """Every range inside the object gives exactly its bytes; a stop beyond the end is the end."""
        data = bytes(range(100))
        await remote.put(RECORD, data)
        for start, stop in ((0, 1), (0, 100), (1, 99), (99, 100), (50, 1000)):
            assert await remote.get(RECORD, start, stop) == data[start:stop]
        for start in (0, 1, 99):
            assert await remote.get(RECORD, start) == data[start:]

    async def test_a_range_outside_is_refused(self, remote: Remote) -> None:
        """A start at or behind the end is never answered with nothing."""
        await remote.put(RECORD, bytes(100))
        for start, stop in ((100, None), (100, 101), (1 << 40, None)):
            with pytest.raises(BadResponse):
                await remote.get(RECORD, start, stop)

    async def test_a_range_of_nothing_is_a_bug(self, remote: Remote) -> None:
        """Ranges that hold nothing wherever they lie are the caller's mistake."""
        await remote.put(RECORD, bytes(100))
        for start, stop in ((-1, None), (0, 0), (5, 5), (5, 4)):
            with pytest.raises(ValueError, match="range"):
                await remote.get(RECORD, start, stop)

    async def test_head_tells_the_size(self, remote: Remote) -> None:
        """`head` and `list` say the same of an object."""
        await remote.put(RECORD, bytes(100))
        info = await remote.head(RECORD)
        assert (info.name, info.size) == (RECORD, 100)
        assert math.isfinite(info.created) and info.created > 0
        assert (await remote.list("devices/")).objects == (info,)

    async def test_absent_objects_are_not_found(self, remote: Remote) -> None:
        """Also when a neighbour is there."""
        await remote.put(f"journal/{DEVICE}/000000000002", b"x")
        for name in (VAULT, RECORD, BATCH, pack_name(b"x")):
            with pytest.raises(ObjectNotFound):
                await remote.get(name)
            with pytest.raises(ObjectNotFound):
                await remote.get(name, 5, 6)
            with pytest.raises(ObjectNotFound):
                await remote.head(name)

    async def test_put_does_not_replace(self, remote: Remote) -> None:
        """A taken name is refused, even for the same bytes, and keeps its object."""
        await remote.put(RECORD, b"first")
        for data in (b"second", b"first"):
            with pytest.raises(ObjectExists):
                await remote.put(RECORD, data)
        assert await remote.get(RECORD) == b"first"

    async def test_overwrite_replaces(self, remote: Remote) -> None:
        """With `overwrite` the new object is there whole, longer or shorter; an absent one is created."""
        for data in (b"first", b"second, which is longer", b"3"):
            await remote.put(RECORD, data, overwrite=True)
            assert await remote.get(RECORD) == data
            assert (await remote.head(RECORD)).size == len(data)

    async def test_one_of_many_puts_wins(self, remote: Remote) -> None:
        """Of 16 puts of one name at once exactly one succeeds, and its bytes are the stored ones."""
        winners: list[bytes] = []
        losers: list[bytes] = []

        async def put(data: bytes) -> None:
            try:
                await remote.put(BATCH, data)
            except ObjectExists:
                losers.append(data)
            else:
                winners.append(data)

        async with anyio.create_task_group() as puts:
            for number in range(16):
                puts.start_soon(put, bytes([number]) * 100_000)
        assert (len(winners), len(losers)) == (1, 15)
        assert await remote.get(BATCH) == winners[0]

    async def test_delete_is_idempotent(self, remote: Remote) -> None:
        """A deleted object is gone from every answer, its name is free, and absent ones are no error."""
        await remote.put(RECORD, b"first")
        await remote.delete(RECORD)
        await remote.delete(RECORD)
        await remote.delete(f"devices/{OTHER_DEVICE}")
        with pytest.raises(ObjectNotFound):
            await remote.get(RECORD)
        assert (await remote.list("")).objects == ()
        await remote.put(RECORD, b"second")
        assert await remote.get(RECORD) == b"second"

    async def test_lists_are_ascending(self, remote: Remote) -> None:
        """Each prefix gives its objects and no others, in order, with their sizes."""
        sizes = await self._put_many(remote)
        prefixes = ["", "devices/", "journal/", "keys/", "packs/", "snapshots/"]
        prefixes += [f"journal/{DEVICE}/", f"journal/{OTHER_DEVICE}/", f"journal/{'a' * 32}/"]
        for prefix in prefixes:
            page = await remote.list(prefix)
            wanted = sorted(name for name in sizes if name.startswith(prefix))
            assert [info.name for info in page.objects] == wanted
            assert [info.size for info in page.objects] == [sizes[name] for name in wanted]
            assert not page.more

    async def test_paging_sees_each_object_once(self, remote: Remote) -> None:
        """Pages of any size, put together, are the whole listing without repeats."""
        sizes = await self._put_many(remote)
        for prefix in ("", "journal/", f"journal/{DEVICE}/", "packs/"):
            wanted = sorted(name for name in sizes if name.startswith(prefix))
            for limit in (1, 2, 3, len(wanted), len(wanted) + 1):
                seen: list[str] = []
                page = ObjectPage((), more=True)
                while page.more:
                    page = await remote.list(prefix, after=seen[-1] if seen else "", limit=limit)
                    assert len(page.objects) <= limit
                    assert page.objects or not page.more
                    ascending = [*seen[-1:], *(info.name for info in page.objects)]
                    assert ascending == sorted(set(ascending))  # else the paging may never end
                    seen += [info.name for info in page.objects]
                assert seen == wanted

    async def test_after_is_exclusive(self, remote: Remote) -> None:
        """A page begins behind `after`, which need not exist nor lie below the prefix."""
        sizes = await self._put_many(remote)
        afters = [*sizes, f"journal/{'a' * 32}/000000000009", "keys/" + "0" * 32, "snapshots/" + "f" * 32]
        for prefix in ("", "journal/", f"journal/{DEVICE}/"):
            for after in afters:
                page = await remote.list(prefix, after=after)
                wanted = sorted(name for name in sizes if name.startswith(prefix) and name > after)
                assert [info.name for info in page.objects] == wanted

    async def test_limits_below_one_are_a_bug(self, remote: Remote) -> None:
        """A page of nothing would be asked for without end."""
        with pytest.raises(ValueError, match="page"):
            await remote.list("", limit=0)

    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_names_outside_the_grammar_are_refused(self, remote: Remote, name: str) -> None:
        """By every call, before anything else."""
        for overwrite in (False, True):
            with pytest.raises(InvalidName):
                await remote.put(name, b"x", overwrite=overwrite)
        with pytest.raises(InvalidName):
            await remote.get(name)
        with pytest.raises(InvalidName):
            await remote.head(name)
        with pytest.raises(InvalidName):
            await remote.delete(name)
        if name:
            with pytest.raises(InvalidName):
                await remote.list("", after=name)

    @pytest.mark.parametrize("prefix", BAD_PREFIXES)
    async def test_prefixes_outside_the_grammar_are_refused(self, remote: Remote, prefix: str) -> None:
        """Only whole folders are listed."""
        with pytest.raises(InvalidName):
            await remote.list(prefix)

    async def test_sizes_outside_the_limits_are_refused(self, remote: Remote, tmp_path: Path) -> None:
        """Empty and oversized bodies are refused, the latter before they are read."""
        absent = tmp_path / "absent"
        for name in (VAULT, RECORD, BATCH, pack_name(b"x")):
            too_large = FileSlice(absent, 0, max_object_size(name) + 1)
            for body in (b"", FileSlice(absent, 5, 5), FileSlice(absent, 5, 4), too_large):
                with pytest.raises(ObjectRefused):
                    await remote.put(name, body)
        assert (await remote.list("")).objects == ()

    async def test_a_file_that_shrank_stores_nothing(self, remote: Remote, tmp_path: Path) -> None:
        """The name stays free for another attempt."""
        source = tmp_path / "source"
        source.write_bytes(MANY_BYTES)
        body = FileSlice(source, 10, len(MANY_BYTES) + 1)
        with pytest.raises(SourceChanged):
            await remote.put(BATCH, body)
        with pytest.raises(SourceChanged):
            await remote.put(BATCH, FileSlice(tmp_path / "absent", 0, 10))
        with pytest.raises(ObjectNotFound):
            await remote.head(BATCH)
        assert (await remote.list("")).objects == ()
        await remote.put(BATCH, MANY_BYTES)
        with pytest.raises(SourceChanged):
            await remote.put(BATCH, body, overwrite=True)
        assert await remote.get(BATCH) == MANY_BYTES

    async def test_a_put_cancelled_at_once_stores_nothing(self, remote: Remote) -> None:
        """A call in a scope that is already cancelled has no effect."""
        with anyio.CancelScope() as scope:
            scope.cancel()
            await remote.put(BATCH, MANY_BYTES)
        assert scope.cancelled_caught
        with pytest.raises(ObjectNotFound):
            await remote.head(BATCH)

    async def test_a_cancelled_put_stores_all_or_nothing(self, remote: Remote, tmp_path: Path) -> None:
        """Wherever the cancellation comes, no part of the object is visible, and the remote still works."""
        source = tmp_path / "source"
        source.write_bytes(MANY_BYTES)
        for steps in range(12):
            name = f"journal/{DEVICE}/{steps:012d}"
            async with anyio.create_task_group() as puts:
                puts.start_soon(remote.put, name, FileSlice(source, 0, len(MANY_BYTES)))
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                puts.cancel_scope.cancel()
            visible = {info.name: info.size for info in (await remote.list("journal/")).objects}
            if name in visible:
                assert visible[name] == len(MANY_BYTES)
                assert await remote.get(name) == MANY_BYTES
            else:
                with pytest.raises(ObjectNotFound):
                    await remote.get(name)
                await remote.put(name, b"the name is free")

    async def test_calls_may_overlap(self, remote: Remote) -> None:
        """Puts and reads of different objects at the same time do not disturb each other."""
        bodies = [bytes([number]) * (300_000 + number) for number in range(12)]

        async def put_and_get(data: bytes) -> None:
            await remote.put(pack_name(data), data)
            assert await remote.get(pack_name(data)) == data
            assert pack_name(data) in {info.name for info in (await remote.list(PACKS)).objects}

        async with anyio.create_task_group() as calls:
            for data in bodies:
                calls.start_soon(put_and_get, data)
        assert len((await remote.list(PACKS)).objects) == len(bodies)

    async def test_objects_outlive_closing(self, tmp_path: Path) -> None:
        """A remote opened again where it was shows the same objects."""
        if not self.is_persistent:
            pytest.skip("this remote forgets")
        async with self.open_remote(tmp_path) as remote:
            sizes = await self._put_many(remote)
            before = await remote.list("")
        async with self.open_remote(tmp_path) as remote:
            assert await remote.list("") == before
            for name, size in sizes.items():
                assert await remote.get(name) == _content(size)

    async def test_closing_twice_is_no_error(self, remote: Remote) -> None:
        """So that clean-up need not know what was closed before."""
        await remote.aclose()
        await remote.aclose()

    async def test_a_change_wakes_who_waits(self, remote: Remote) -> None:
        """Or the remote says that it cannot tell."""
        try:
            cursor = await remote.wait_for_change(None, 0)
        except UnsupportedByRemote:
            return
        assert await remote.wait_for_change(cursor, 0) == cursor
        answers: list[str] = []

        async def wait() -> None:
            answers.append(await remote.wait_for_change(cursor, 60))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as waits:
                waits.start_soon(wait)
                waits.start_soon(wait)
                await anyio.lowlevel.checkpoint()
                await remote.put(RECORD, b"x")
            assert len(answers) == 2
            assert cursor not in answers
            # A change that came before the question is answered at once, as is a cursor from elsewhere.
            assert await remote.wait_for_change(cursor, 60) == answers[0]
            assert await remote.wait_for_change("of another remote", 60) == answers[0]

    async def _put_many(self, remote: Remote) -> dict[str, int]:
        """Objects of every kind, put in an order that is not theirs; their names and sizes."""
        names = [
            f"journal/{device}/{seq:012d}" for device in (OTHER_DEVICE, DEVICE) for seq in (10, 9, 1, 2, 3)
        ]
        names += [f"{kind}/{char * 32}" for kind in ("snapshots", "devices", "keys") for char in "fa07"]
        names.append(VAULT)
        sizes = {name: size for size, name in enumerate(names, 1)}
        sizes |= {pack_name(_content(size)): size for size in range(100, 106)}
        for name, size in sizes.items():
            await remote.put(name, _content(size))
        return sizes


def _content(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))

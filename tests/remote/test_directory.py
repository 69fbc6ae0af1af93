"""What is special about folders: planted things, crashes, file systems that cannot do all."""

import contextlib
import errno
import os
import socket
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.from_thread
import pytest

import syncagent.remote.directory as directory
from syncagent import files
from syncagent.errors import (
    BadResponse,
    ConfigError,
    Forbidden,
    InvalidName,
    ObjectExists,
    ObjectNotFound,
    ObjectRefused,
    QuotaExceeded,
    RemoteError,
    Unreachable,
    UnsupportedByRemote,
)
from syncagent.remote.base import FileSlice, read_piece
from syncagent.remote.directory import TEMPORARY_FOLDER, DirectoryRemote
from syncagent.rename import rename_without_replacing

pytestmark = pytest.mark.anyio

DEVICE = "0123456789abcdef" * 2
RECORD = f"devices/{DEVICE}"
BATCH = f"journal/{DEVICE}/000000000001"
PACK = "packs/" + "5" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "remote"
    folder.mkdir()
    return folder


@pytest.fixture
def remote(root: Path) -> DirectoryRemote:
    return DirectoryRemote(root)


def temporary_files(root: Path) -> list[Path]:
    return list((root / TEMPORARY_FOLDER).iterdir())


async def names(remote: DirectoryRemote) -> list[str]:
    return [info.name for info in (await remote.list("")).objects]


async def test_objects_are_plain_files(remote: DirectoryRemote, root: Path) -> None:
    await remote.put("vault", b"v")
    await remote.put(BATCH, b"b")
    assert (root / "vault").read_bytes() == b"v"
    assert (root / "journal" / DEVICE / "000000000001").read_bytes() == b"b"
    assert temporary_files(root) == []


async def test_created_is_the_modification_time(remote: DirectoryRemote, root: Path) -> None:
    await remote.put("vault", b"v")
    os.utime(root / "vault", (1_000_000_000.5, 1_000_000_000.5))
    assert (await remote.head("vault")).created == 1_000_000_000.5


async def test_a_missing_root_is_unreachable_and_not_made(tmp_path: Path) -> None:
    root = tmp_path / "unmounted"
    remote = DirectoryRemote(root)
    for overwrite in (False, True):
        with pytest.raises(Unreachable):
            await remote.put("vault", b"v", overwrite=overwrite)
    with pytest.raises(Unreachable):
        await remote.get(BATCH)
    with pytest.raises(Unreachable):
        await remote.head("vault")
    with pytest.raises(Unreachable):
        await remote.delete("vault")
    for prefix in ("", "journal/", "packs/"):
        with pytest.raises(Unreachable):
            await remote.list(prefix)
    assert not root.exists()


async def test_a_root_that_goes_is_unreachable(remote: DirectoryRemote, root: Path) -> None:
    await remote.put(BATCH, b"b")
    root.rename(root.with_name("elsewhere"))
    with pytest.raises(Unreachable):
        await remote.put(PACK, b"p")
    with pytest.raises(Unreachable):
        await remote.get(BATCH)
    assert not root.exists()


async def test_a_file_as_root_is_unreachable(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_bytes(b"precious")
    remote = DirectoryRemote(root)
    with pytest.raises(Unreachable):
        await remote.put("vault", b"v")
    with pytest.raises(Unreachable):
        await remote.get("vault")
    with pytest.raises(Unreachable):
        await remote.list("")
    with pytest.raises(ConfigError):
        await DirectoryRemote.create(root)
    with pytest.raises(ConfigError):
        await DirectoryRemote.create(root / "below")
    assert root.read_bytes() == b"precious"


async def test_create_makes_the_root_and_keeps_an_existing_one(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    remote = await DirectoryRemote.create(root)
    await remote.put("vault", b"v")
    assert await (await DirectoryRemote.create(root)).get("vault") == b"v"


async def test_a_symlinked_root_is_followed(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    await DirectoryRemote(link).put("vault", b"v")
    assert (root / "vault").read_bytes() == b"v"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
async def test_a_read_only_root_is_forbidden(remote: DirectoryRemote, root: Path) -> None:
    await remote.put("vault", b"v")
    root.chmod(0o500)
    try:
        with pytest.raises(Forbidden):
            await remote.put(BATCH, b"b")
        assert await remote.get("vault") == b"v"
    finally:
        root.chmod(0o700)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, QuotaExceeded),
        (errno.EDQUOT, QuotaExceeded),
        (errno.EACCES, Forbidden),
        (errno.EPERM, Forbidden),
        (errno.EROFS, Forbidden),
        (errno.ENOENT, Unreachable),
        (errno.EIO, Unreachable),
        (errno.ESTALE, Unreachable),
        (errno.ETIMEDOUT, Unreachable),
        (errno.EMFILE, Unreachable),
        (None, Unreachable),
    ],
)
async def test_errors_of_the_system_are_translated(
    remote: DirectoryRemote,
    root: Path,
    observed: Callable[[files.Observer], None],
    number: int | None,
    kind: type[RemoteError],
) -> None:
    def failing(step: files.Step) -> None:
        if step.act in (files.Act.SYNC, files.Act.SYNC_FOLDER):
            raise OSError(number, "made up") if number is not None else OSError("made up")

    await remote.put("vault", b"v")
    observed(failing)
    with pytest.raises(kind) as caught:
        await remote.put(PACK, b"p")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(kind):
        await remote.delete("vault")
    assert temporary_files(root) == []
    with pytest.raises(ObjectNotFound):
        await remote.head(PACK)


@pytest.mark.parametrize("planted", ["link", "dangling link", "folder", "pipe", "socket"])
async def test_what_is_not_a_file_is_not_there(
    remote: DirectoryRemote, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    place = root / "vault"
    with contextlib.ExitStack() as stack:
        match planted:
            case "link":
                place.symlink_to(outside)
            case "dangling link":
                place.symlink_to(tmp_path / "absent")
            case "folder":
                place.mkdir()
            case "pipe":
                os.mkfifo(place)
            case "socket":
                monkeypatch.chdir(root)  # the path of a socket may not be long
                stack.enter_context(socket.socket(socket.AF_UNIX)).bind("vault")
        assert await names(remote) == []
        with pytest.raises(ObjectNotFound):
            await remote.get("vault")
        with pytest.raises(ObjectNotFound):
            await remote.head("vault")
        with pytest.raises(ObjectRefused):
            await remote.put("vault", b"v")
        await remote.delete("vault")
        assert os.path.lexists(place)
        if planted == "folder":
            with pytest.raises(ObjectRefused):
                await remote.put("vault", b"v", overwrite=True)
        else:
            await remote.put("vault", b"v", overwrite=True)
            assert await remote.get("vault") == b"v"
    assert outside.read_bytes() == b"secret"
    assert not (tmp_path / "absent").exists()


async def test_linked_folders_lead_nowhere(remote: DirectoryRemote, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / DEVICE).mkdir(parents=True)
    (outside / DEVICE / "000000000001").write_bytes(b"secret")
    (root / "journal").symlink_to(outside)
    (root / "packs").symlink_to(outside)
    for prefix in ("", "journal/", f"journal/{DEVICE}/"):
        assert (await remote.list(prefix)).objects == ()
    with pytest.raises(ObjectNotFound):
        await remote.get(BATCH)
    await remote.delete(BATCH)
    for overwrite in (False, True):
        with pytest.raises(ObjectRefused):
            await remote.put(PACK, b"p", overwrite=overwrite)
    assert [path.name for path in outside.rglob("*")] == [DEVICE, "000000000001"]


async def test_a_linked_temporary_folder_is_not_used(
    remote: DirectoryRemote, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / TEMPORARY_FOLDER).symlink_to(outside)
    with pytest.raises(Unreachable):
        await remote.put("vault", b"v")
    assert list(outside.iterdir()) == []


async def test_a_file_in_place_of_a_folder(remote: DirectoryRemote, root: Path) -> None:
    (root / "journal").mkdir()
    (root / "journal" / DEVICE).write_bytes(b"garbage")
    assert await names(remote) == []
    assert (await remote.list(f"journal/{DEVICE}/")).objects == ()
    with pytest.raises(ObjectNotFound):
        await remote.get(BATCH)
    await remote.delete(BATCH)
    with pytest.raises(ObjectRefused):
        await remote.put(BATCH, b"b")
    await remote.put(f"journal/{'a' * 32}/000000000001", b"others are not affected")


async def test_garbage_is_not_listed(remote: DirectoryRemote, root: Path) -> None:
    await remote.put(PACK, b"p")
    await remote.put(BATCH, b"b")
    for garbage in (
        "README",
        "VAULT",
        "packs/.DS_Store",
        f"{PACK}.part",
        "packs/" + "5" * 63,
        f"journal/{DEVICE}/000000000002 (conflicted copy)",
        f"journal/{DEVICE}/1",
        "journal/.nfs0001/000000000001",
        "other/thing",
    ):
        (root / garbage).parent.mkdir(exist_ok=True)
        (root / garbage).write_bytes(b"garbage")
    for prefix, wanted in (("", [BATCH, PACK]), ("journal/", [BATCH]), ("packs/", [PACK])):
        page = await remote.list(prefix, limit=len(wanted))
        assert [info.name for info in page.objects] == wanted
        assert not page.more


async def test_temporary_files_are_never_listed_or_named(remote: DirectoryRemote, root: Path) -> None:
    (root / TEMPORARY_FOLDER).mkdir()
    (root / TEMPORARY_FOLDER / ("0" * 32)).write_bytes(b"half an obj")
    assert await names(remote) == []
    with pytest.raises(InvalidName):
        await remote.get(f"{TEMPORARY_FOLDER}/{'0' * 32}")
    with pytest.raises(InvalidName):
        await remote.list(f"{TEMPORARY_FOLDER}/")


class Killed(BaseException):
    """Stands for the process ending: no clean-up of ours may be counted on."""


@pytest.mark.parametrize("act", [files.Act.LINK, files.Act.CREATE, files.Act.WRITE, files.Act.MAKE_FOLDER])
async def test_a_crash_before_the_link_leaves_nothing_visible(
    remote: DirectoryRemote, root: Path, observed: Callable[[files.Observer | None], None], act: files.Act
) -> None:
    """No half of an object has a name (row B3)."""

    def kill(step: files.Step) -> None:
        if step.act in (act, files.Act.UNLINK):
            raise Killed

    observed(kill)
    with pytest.raises(Killed):
        await remote.put(PACK, b"p")
    observed(None)
    again = DirectoryRemote(root)
    assert await names(again) == []
    with pytest.raises(ObjectNotFound):
        await again.get(PACK)
    await again.put(PACK, b"p")
    assert await again.get(PACK) == b"p"


async def test_a_crash_after_the_link_leaves_the_whole_object(
    remote: DirectoryRemote, root: Path, observed: Callable[[files.Observer | None], None]
) -> None:
    def kill(step: files.Step) -> None:
        if step.act is files.Act.UNLINK:
            raise Killed

    observed(kill)
    with pytest.raises(Killed):
        await remote.put(PACK, b"p")
    observed(None)
    assert len(temporary_files(root)) == 1
    again = DirectoryRemote(root)
    with pytest.raises(ObjectExists):
        await again.put(PACK, b"p")
    assert await again.get(PACK) == b"p"


async def test_what_crashes_left_is_swept_after_a_day(remote: DirectoryRemote, root: Path) -> None:
    """At the remote (row E7)."""
    folder = root / TEMPORARY_FOLDER
    folder.mkdir()
    (folder / "old").write_bytes(b"left by a crash")
    (folder / "young").write_bytes(b"of another device, just now")
    os.utime(folder / "old", (1_000_000_000, 1_000_000_000))
    await remote.put("vault", b"v")
    assert [path.name for path in temporary_files(root)] == ["young"]


async def test_file_and_folders_are_synced_before_put_returns(
    remote: DirectoryRemote, root: Path, observed: Callable[[files.Observer], None]
) -> None:
    synced: list[str] = []

    def note(step: files.Step) -> None:
        if step.is_done and step.act in (files.Act.SYNC, files.Act.SYNC_FOLDER):
            synced.append(os.path.relpath(step.path, root))

    observed(note)
    (root / "journal").mkdir()  # by another process, which may have died before its fsync
    await remote.put(BATCH, b"b")
    file, *folders = synced
    assert file.startswith(TEMPORARY_FOLDER)
    assert folders == [".", "journal", f"journal/{DEVICE}"]
    synced.clear()
    await remote.put(f"journal/{DEVICE}/000000000002", b"b")
    assert synced[1:] == [f"journal/{DEVICE}"]
    synced.clear()
    # Whoever put it may have died before its fsync, and "exists" is taken for "stored".
    with pytest.raises(ObjectExists):
        await DirectoryRemote(root).put(BATCH, b"b")
    assert synced == [f"journal/{DEVICE}"]
    synced.clear()
    await remote.delete(BATCH)
    assert synced == [f"journal/{DEVICE}"]


async def test_a_huge_object_is_refused_unread(remote: DirectoryRemote, root: Path) -> None:
    await remote.put("vault", b"v")
    await remote.put(PACK, b"p")
    os.truncate(root / "vault", (4 << 10) + 1)
    os.truncate(root / PACK, 1 << 40)  # sparse: reading it would take all memory
    for name in ("vault", PACK):
        with pytest.raises(BadResponse):
            await remote.get(name)
        with pytest.raises(BadResponse):
            await remote.get(name, 0, 1)


async def test_an_emptied_object_is_refused(remote: DirectoryRemote, root: Path) -> None:
    await remote.put("vault", b"v")
    os.truncate(root / "vault", 0)
    with pytest.raises(BadResponse):
        await remote.get("vault")


async def test_a_range_reads_only_the_range(remote: DirectoryRemote, root: Path) -> None:
    await remote.put(PACK, b"p")
    os.truncate(root / PACK, 16 << 20)
    with (root / PACK).open("r+b") as file:
        file.seek(10 << 20)
        file.write(b"here")
    tracemalloc.start()
    try:
        assert await remote.get(PACK, 10 << 20, (10 << 20) + 4) == b"here"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def fail_with(number: int) -> Callable[..., None]:
    def failing(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return failing


@pytest.mark.skipif(sys.platform not in ("linux", "darwin", "win32"), reason="no rename without replace")
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
async def test_without_hard_links_a_rename_does_it(
    remote: DirectoryRemote, root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", fail_with(number))
    winners: list[bytes] = []

    async def put(data: bytes) -> None:
        with contextlib.suppress(ObjectExists):
            await remote.put(PACK, data)
            winners.append(data)

    async with anyio.create_task_group() as puts:
        for letter in b"abcdefgh":
            puts.start_soon(put, bytes([letter]))
    assert [await remote.get(PACK)] == winners
    assert temporary_files(root) == []


async def test_without_both_nothing_is_stored(
    remote: DirectoryRemote, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", fail_with(errno.EPERM))
    monkeypatch.setattr(files, "rename_without_replacing", fail_with(errno.EINVAL))
    with pytest.raises(UnsupportedByRemote):
        await remote.put(PACK, b"p")
    assert await names(remote) == []
    assert temporary_files(root) == []


async def test_a_link_answered_twice_is_a_success(
    remote: DirectoryRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_link = Path.hardlink_to

    def twice(target: Path, source: Path) -> None:
        real_link(target, source)
        real_link(target, source)

    monkeypatch.setattr(Path, "hardlink_to", twice)
    await remote.put(PACK, b"p")
    assert await remote.get(PACK) == b"p"


async def test_a_loser_of_the_last_moment_is_told(
    remote: DirectoryRemote, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_link = Path.hardlink_to

    def late(target: Path, source: Path) -> None:
        target.write_bytes(b"of the other device")
        real_link(target, source)

    monkeypatch.setattr(Path, "hardlink_to", late)
    with pytest.raises(ObjectExists):
        await remote.put(PACK, b"p")
    assert await remote.get(PACK) == b"of the other device"
    assert temporary_files(root) == []


async def test_a_cancelled_put_stops_between_pieces(
    remote: DirectoryRemote, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(4 << 20))
    read: list[int] = []
    real_read = read_piece

    def cancelling(body: FileSlice, offset: int) -> bytes:
        read.append(offset)
        anyio.from_thread.run_sync(scope.cancel)
        return real_read(body, offset)

    monkeypatch.setattr(directory, "read_piece", cancelling)
    with anyio.CancelScope() as scope:
        await remote.put(PACK, FileSlice(source, 0, 4 << 20))
    assert scope.cancelled_caught
    assert read == [0]
    assert await names(remote) == []
    assert temporary_files(root) == []


async def test_a_folder_tells_no_changes(remote: DirectoryRemote) -> None:
    with pytest.raises(UnsupportedByRemote):
        await remote.wait_for_change(None, 0)


def test_rename_without_replacing(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    rename_without_replacing(source, target)
    assert target.read_bytes() == b"new"
    assert not source.exists()
    source.write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        rename_without_replacing(source, target)
    assert (source.read_bytes(), target.read_bytes()) == (b"newer", b"new")
    with pytest.raises(FileNotFoundError):
        rename_without_replacing(tmp_path / "absent", tmp_path / "other")

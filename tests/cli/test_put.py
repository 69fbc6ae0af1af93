"""Putting files and folders."""

import errno
import os
import threading
import unicodedata
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import syncagent
from syncagent.cli import put as put_module
from syncagent.cli import tree as tree_module
from syncagent.cli.tree import TreeFile
from tests.cli.shell import PASSPHRASE, Shell
from tests.engine.world import rows


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    return folder


def ids(shell: Shell, namespace: str = "n") -> list[str]:
    return shell("ls", namespace, "-0").ok().out.split("\0")[:-1]


def test_the_same_again_is_no_new_version(shell: Shell) -> None:
    first = shell("put", "n/a", "-", "--json", stdin=b"x").ok().document
    assert shell("put", "n/a", "-", "--json", stdin=b"x").ok().document == first
    line = shell("put", "n/a", "-", stdin=b"y").failed(1)
    assert "--replace" in line
    second = shell("put", "n/a", "-", "--json", "--replace", stdin=b"y").ok().document
    assert second["version"] != first["version"]
    assert shell("get", "n/a").ok().stdout == b"y"


def test_a_file_larger_than_a_row_from_file_and_stdin(shell: Shell, tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "big").write_bytes(data)
    shell("put", "n/file", str(tmp_path / "big")).ok()
    shell("put", "n/stdin", "-", stdin=data).ok()
    assert shell("get", "n/file").ok().stdout == data
    assert shell("get", "n/stdin").ok().stdout == data


def test_waiting_for_input_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()

    async def read(pieces: list[bytes]) -> None:
        async for piece in put_module._stdin_pieces():
            pieces.append(piece)

    async def interrupt() -> list[bytes]:
        pieces: list[bytes] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, pieces)
            while not pieces:
                await anyio.lowlevel.checkpoint()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        return pieces

    with os.fdopen(read_end) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        # Should a read wait in a thread after all, this ends it, and the test fails instead of hanging.
        rescue = threading.Timer(10, os.close, [write_end])
        rescue.start()
        try:
            os.write(write_end, b"piece")
            assert anyio.run(interrupt) == [b"piece"]
            assert rescue.is_alive()
        finally:
            rescue.cancel()
            rescue.join()
    os.close(write_end)


def test_a_tree(shell: Shell, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Small groups, so that several are needed.
    monkeypatch.setattr(put_module, "GROUP_FILES", 3)
    monkeypatch.setattr(put_module, "GROUP_BYTES", 1000)
    wanted: dict[str, bytes] = {}
    for folder in ("", "a/", "a/b/", "z/"):
        (tree / folder).mkdir(exist_ok=True)
        for number, size in enumerate((0, 1, 400, 999, 300_000)):
            wanted[f"{folder}{number}"] = os.urandom(size)
            (tree / f"{folder}{number}").write_bytes(wanted[f"{folder}{number}"])
    (tree / "hollow").mkdir()
    assert shell("put", "n/", str(tree), "-r").ok().out == "put 20 blobs (1.1 MiB) into n\n"
    assert ids(shell) == sorted(wanted)
    for blob_id, content in wanted.items():
        assert shell("get", f"n/{blob_id}").ok().stdout == content
    # Again: nothing new.
    shell("put", "n/", str(tree), "-r").ok()
    assert ids(shell) == sorted(wanted)


def test_all_of_a_tree_has_the_priority_asked_for(shell: Shell, tree: Path) -> None:
    (tree / "small").write_bytes(b"x")
    (tree / "large").write_bytes(os.urandom(300_000))
    shell("put", "n/", str(tree), "-r", "--priority", "4").ok()

    async def waiting() -> list[tuple[object, ...]]:
        async with syncagent.open_vault(shell.profile, passphrase=PASSPHRASE) as vault:
            return await rows(vault, "SELECT priority FROM upload WHERE version_no IS NOT NULL")

    assert anyio.run(waiting) == [(4,), (4,)]


def test_a_tree_below_a_prefix(shell: Shell, tree: Path) -> None:
    (tree / "f").write_bytes(b"f")
    shell("put", "n/backup/2024/", str(tree), "-r", "--meta", "by=me").ok()
    assert ids(shell) == ["backup/2024/f"]


def test_an_empty_tree(shell: Shell, tree: Path) -> None:
    assert shell("put", "n/", str(tree), "-r").ok().out == "put 0 blobs (0 B) into n\n"


def test_links_and_special_files_are_skipped(shell: Shell, tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (tree / "file").write_bytes(b"file")
    (tree / "link").symlink_to(outside / "secret")
    (tree / "folder-link").symlink_to(outside)
    (tree / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tree / "pipe")
    done = shell("put", "n/", str(tree), "-r")
    assert done.code == 0
    assert done.out == "put 1 blob (4 B) into n, 4 skipped\n"
    assert done.err.count("\n") == done.err.count("was skipped") == 4
    assert done.err.count("a symbolic link") == 3
    assert ids(shell) == ["file"]
    assert shell("put", "n/", str(tree), "-r", "-q").ok().out == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_told_and_the_rest_goes_on(shell: Shell, tree: Path) -> None:
    (tree / "open").write_bytes(b"x")
    (tree / "shut").write_bytes(b"x")
    (tree / "shut").chmod(0)
    assert "'shut'" in shell("put", "n/", str(tree), "-r").failed(3)
    assert ids(shell) == ["open"]


def test_an_unreadable_folder_is_told_and_the_rest_goes_on(
    shell: Shell, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tree / name).mkdir()
        (tree / name / "file").write_bytes(b"x")
    real = os.scandir

    def scandir(path: Path) -> Any:
        if path.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "Permission denied" in shell("put", "n/", str(tree), "-r").failed(3)
    assert ids(shell) == ["a/file", "c/file"]


def test_a_file_that_vanishes_is_told_and_the_rest_goes_on(
    shell: Shell, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tree / name).write_bytes(b"x")
    real = tree_module.read_file

    def read(file: TreeFile) -> bytes:
        if file.blob_id == "b":
            file.path.unlink()
        return real(file)

    monkeypatch.setattr(put_module, "read_file", read)
    done = shell("put", "n/", str(tree), "-r")
    assert "cannot be read" in done.failed(3)
    assert done.out == "put 2 blobs (2 B) into n, 1 failed\n"
    assert ids(shell) == ["a", "c"]


def test_blobs_that_are_there_with_other_bytes_are_told_by_name(shell: Shell, tree: Path) -> None:
    (tree / "a").write_bytes(b"1")
    shell("put", "n/", str(tree), "-r").ok()
    (tree / "a").write_bytes(b"2")
    assert "'a'" in shell("put", "n/", str(tree), "-r").failed(1)
    (tree / "b").write_bytes(b"2")
    assert "'a'" in shell("put", "n/", str(tree), "-r").failed(3)
    shell("put", "n/", str(tree), "-r", "--replace").ok()
    assert shell("get", "n/a").ok().stdout == b"2"


def test_names_are_normalised_and_twins_refused(shell: Shell, tree: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é")
    (tree / decomposed).write_bytes(b"alone")
    (tree / "twin-é").write_bytes(b"composed")
    (tree / f"twin-{decomposed}").write_bytes(b"decomposed")
    (tree / "ok").write_bytes(b"ok")
    if len(list(tree.iterdir())) < 4:
        pytest.skip("this file system does not tell normal forms apart")
    line = shell("put", "n/", str(tree), "-r").failed(3)
    assert "normalisation" in line
    assert sorted(ids(shell)) == sorted(["é", "twin-é", "ok"])
    assert shell("get", "n/twin-é").ok().stdout == b"composed"


def test_twins_by_their_folders(shell: Shell, tree: Path) -> None:
    for folder in ("é", unicodedata.normalize("NFD", "é")):
        (tree / folder).mkdir()
        (tree / folder / "same").write_bytes(folder.encode())
        (tree / folder / f"only-{len(folder)}").write_bytes(b"x")
    assert "normalisation" in shell("put", "n/", str(tree), "-r").failed(3)
    assert shell("get", "n/é/same").ok().stdout == "é".encode()
    assert sorted(ids(shell)) == ["é/only-1", "é/only-2", "é/same"]


def test_two_that_are_both_not_normal(shell: Shell, tree: Path) -> None:
    # Marks of different classes in two orders, neither of them the canonical composition.
    first, second = "a\u0323\u0302", "a\u0302\u0323"
    composed = unicodedata.normalize("NFC", first)
    assert unicodedata.normalize("NFC", second) == composed
    assert composed not in (first, second)
    (tree / first).write_bytes(b"1")
    (tree / second).write_bytes(b"2")
    assert "normalisation" in shell("put", "n/", str(tree), "-r").failed(3)
    assert len(ids(shell)) == 1


def test_names_that_cannot_be_ids(shell: Shell, tree: Path) -> None:
    (tree / "ok").write_bytes(b"ok")
    (tree / os.fsdecode(b"\xff\xfe")).write_bytes(b"x")
    deep = tree
    for _ in range(6):
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x")
    done = shell("put", "n/", str(tree), "-r")
    assert done.code == 3
    assert done.err.count("\n") == 2
    assert "UTF-8" in done.err and "1205 bytes" not in done.out
    assert ids(shell) == ["ok"]


def test_a_full_disk_stops_a_tree(shell: Shell, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from syncagent.answers import PutResult
    from syncagent.errors import CacheFull
    from syncagent.namespace import Namespace

    (tree / "a").write_bytes(b"1")

    async def full(*_: object, **__: object) -> list[PutResult]:
        return [PutResult("a", error=CacheFull("the disk of the local cache is full"))]

    monkeypatch.setattr(Namespace, "put_many", full)
    assert "disk" in shell("put", "n/", str(tree), "-r").failed(5)

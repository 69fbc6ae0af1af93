"""Durable file operations: what is durable when, and that every step is told."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from syncagent import files
from syncagent.files import Act, Step

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders are not fsynced there")

Observed = Callable[[files.Observer | None], None]


def told(steps: list[Step], root: Path) -> list[str]:
    """Finished steps as text, with paths below a root."""
    return [
        " ".join(
            [step.act.value, *(os.path.relpath(path, root) for path in (step.path, step.target) if path)]
        )
        for step in steps
        if step.is_done
    ]


@pytest.fixture
def steps(observed: Observed) -> list[Step]:
    steps: list[Step] = []
    observed(steps.append)
    return steps


def test_every_step_is_told_before_and_after(tmp_path: Path, steps: list[Step]) -> None:
    files.write_file(tmp_path / "a", b"content")
    assert [step.is_done for step in steps] == [False, True] * 5
    assert told(steps, tmp_path) == [
        "create a.tmp",
        "write a.tmp",
        "sync a.tmp",
        "rename a.tmp a",
        "sync folder .",
    ]
    assert (tmp_path / "a").read_bytes() == b"content"


def test_what_is_told_as_synced_was_synced(
    tmp_path: Path, observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        real_fsync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    def check(step: Step) -> None:
        if step.is_done and step.act in (Act.SYNC, Act.SYNC_FOLDER):
            assert synced.pop() == step.path.stat().st_ino
        assert synced == []

    monkeypatch.setattr(os, "fsync", fsync)
    observed(check)
    files.make_folders(tmp_path / "a" / "b")
    files.write_file(tmp_path / "a" / "b" / "c", bytes(100_000))


def test_what_fails_is_not_told_as_done(tmp_path: Path, steps: list[Step]) -> None:
    with pytest.raises(FileNotFoundError):
        files.unlink(tmp_path / "absent")
    assert [step.is_done for step in steps] == [False]


def test_without_an_observer_files_are_the_same(tmp_path: Path) -> None:
    with files.new_file(tmp_path / "a", 0o600) as file:
        file.write(b"one")
        file.write(bytes(1 << 20))
    assert (tmp_path / "a").read_bytes() == b"one" + bytes(1 << 20)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError), files.new_file(tmp_path / "a"):
        pass
    with files.new_file(tmp_path / "a", may_exist=True):
        pass
    assert (tmp_path / "a").read_bytes() == b""


def test_large_and_small_writes_reach_the_file_in_order(tmp_path: Path, steps: list[Step]) -> None:
    pieces = [b"small", bytes(100_000), b"again", b"x" * 9_000]
    with files.new_file(tmp_path / "a") as file:
        for piece in pieces:
            file.write(piece)
    assert (tmp_path / "a").read_bytes() == b"".join(pieces)
    assert told(steps, tmp_path).count("write a") > 1


def test_a_name_is_given_once(tmp_path: Path, steps: list[Step]) -> None:
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "newer").write_bytes(b"newer")
    files.publish(tmp_path / "new", tmp_path / "name")
    with pytest.raises(FileExistsError):
        files.publish(tmp_path / "newer", tmp_path / "name")
    assert (tmp_path / "name").read_bytes() == b"new"
    assert told(steps, tmp_path) == ["link new name"]


def test_a_name_is_given_once_without_hard_links_too(
    tmp_path: Path, steps: list[Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "newer").write_bytes(b"newer")
    files.publish(tmp_path / "new", tmp_path / "name")
    with pytest.raises(FileExistsError):
        files.publish(tmp_path / "newer", tmp_path / "name")
    assert (tmp_path / "name").read_bytes() == b"new"
    assert told(steps, tmp_path) == ["rename new name"]


# Folders ---------------------------------------------------------------------------------------------


def test_folders_are_durable_one_below_the_other(tmp_path: Path, steps: list[Step]) -> None:
    files.make_folders(tmp_path / "a" / "b" / "c", 0o700)
    assert told(steps, tmp_path) == [
        "sync folder ..",  # whoever made the one that is there may have died before it came to that
        "make folder a",
        "sync folder .",
        "make folder a/b",
        "sync folder a",
        "make folder a/b/c",
        "sync folder a/b",
    ]
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o700
    steps.clear()
    files.make_folders(tmp_path / "a" / "b" / "c")
    assert told(steps, tmp_path) == ["sync folder a/b"]


def test_a_folder_that_another_process_makes_meanwhile_is_taken(tmp_path: Path, observed: Observed) -> None:
    def other(step: Step) -> None:
        if step.act is Act.MAKE_FOLDER and not step.is_done:
            step.path.mkdir()

    observed(other)
    files.make_folders(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("planted", ["file", "dangling link"])
def test_what_is_no_folder_is_in_the_way(tmp_path: Path, planted: str) -> None:
    if planted == "file":
        (tmp_path / "a").write_bytes(b"precious")
    else:
        (tmp_path / "a").symlink_to(tmp_path / "absent")
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(OSError, match=r"exists|Not a directory|No such file"):
            files.make_folders(folder)
    assert not (tmp_path / "absent").exists()

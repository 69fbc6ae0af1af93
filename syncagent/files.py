"""The file operations whose order decides what a crash leaves, and the one place that makes files durable.

A file's bytes are durable when `new_file` is left, its name after `sync_folder`:
neither follows from the other. Every operation here tells an observer
when it begins and when it has had its effect, and so does each commit of the
cache; tests set one to end the process at any of these points, or to know what a
power cut would leave. Files that are only read, and locks, are opened elsewhere.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from syncagent.rename import rename_without_replacing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


class Act(Enum):
    """What is done to the disk."""

    CREATE = "create"
    WRITE = "write"
    SYNC = "sync"
    RENAME = "rename"
    LINK = "link"
    UNLINK = "unlink"
    MAKE_FOLDER = "make folder"
    REMOVE_FOLDER = "remove folder"
    SYNC_FOLDER = "sync folder"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation, about to be done or done; `target` is the new name of a rename or link."""

    act: Act
    path: Path
    target: Path | None
    is_done: bool


Observer = Callable[[Step], None]
_observer: Observer | None = None


def observe(observer: Observer | None) -> None:
    """Let a function be called before and after every step of this process, in its thread; None for nobody.

    For tests. What it raises ends the operation there.
    """
    global _observer
    _observer = observer


@contextlib.contextmanager
def step(act: Act, path: Path, target: Path | None = None) -> Iterator[None]:
    """Around what is done to the disk: tells the observer. One that fails is not told as done."""
    observer = _observer
    if observer is None:
        yield
        return
    observer(Step(act, path, target, is_done=False))
    yield
    observer(Step(act, path, target, is_done=True))


@contextlib.contextmanager
def new_file(path: Path, mode: int = 0o666, *, may_exist: bool = False) -> Iterator[BinaryIO]:
    """A file to write to. Leaving normally makes its bytes durable, but not its name; else it stays as it is.

    Raises:
        FileExistsError: it is there, and `may_exist` does not allow to empty it.
    """
    with create(path, mode, may_exist=may_exist) as file:
        yield file
        sync_file(file, path)


def create(path: Path, mode: int = 0o666, *, may_exist: bool = False) -> BinaryIO:
    """A new empty file, open for writing; nothing about it is durable."""
    # O_BINARY exists on Windows only and must be given there.
    flags = os.O_CREAT | os.O_WRONLY | (os.O_TRUNC if may_exist else os.O_EXCL) | getattr(os, "O_BINARY", 0)
    with step(Act.CREATE, path):
        descriptor = os.open(path, flags, mode)
    if _observer is None:
        return os.fdopen(descriptor, "wb")
    return io.BufferedWriter(_ObservedFile(path, descriptor))


def sync_file(file: BinaryIO, path: Path) -> None:
    """Make the bytes of an open file durable, but not its name."""
    file.flush()
    with step(Act.SYNC, path):
        _sync(file.fileno())


def write_file(path: Path, data: bytes) -> None:
    """Give a small file new content, for this user only: it is whole, or as it was. Durable on return."""
    temporary = path.with_name(path.name + ".tmp")
    with new_file(temporary, 0o600, may_exist=True) as file:
        file.write(data)
    rename(temporary, path)
    sync_folder(path.parent)


def rename(source: Path, target: Path) -> None:
    """Move a file, in the place of what is there, or a folder; the new name is not yet durable."""
    with step(Act.RENAME, source, target):
        source.replace(target)


def publish(source: Path, target: Path) -> None:
    """Give a complete file a second name if that is free, in one step; the name is not yet durable.

    Where the file system knows no hard links the file is renamed: `source` may be there or not.

    Raises:
        FileExistsError: the name is taken.
        OSError: also where the file system can do neither.
    """
    try:
        with step(Act.LINK, source, target):
            target.hardlink_to(source)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        with step(Act.RENAME, source, target):
            rename_without_replacing(source, target)


def unlink(path: Path, *, missing_ok: bool = False) -> None:
    """Remove a name; after a power cut it may be there again."""
    with step(Act.UNLINK, path):
        path.unlink(missing_ok=missing_ok)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder whose parent is there; its name is not yet durable."""
    with step(Act.MAKE_FOLDER, folder):
        folder.mkdir(mode)


def make_folders(folder: Path, mode: int = 0o777) -> None:
    """Make a folder and the parents it lacks; durable on return, and no error if it is there.

    The mode is that of the last one.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    there = missing[-1].parent if missing else folder
    with contextlib.suppress(PermissionError):
        sync_folder(there.parent)  # whoever made it may have died before this
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was quicker
            make_folder(path, mode if path == folder else 0o777)
        sync_folder(path.parent)
    if not folder.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))


def remove_folder(folder: Path) -> None:
    """Remove an empty folder."""
    with step(Act.REMOVE_FOLDER, folder):
        folder.rmdir()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: those that came and those that went."""
    if sys.platform == "win32":  # folders cannot be opened there; NTFS journals their entries
        return
    with step(Act.SYNC_FOLDER, folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _sync(descriptor)
        except OSError as exc:
            if exc.errno not in _NO_FOLDER_SYNC:  # some network mounts cannot, and write entries through
                raise
        finally:
            os.close(descriptor)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        # fsync on macOS stops at the drive's own cache; not every file system knows the stronger call.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


class _ObservedFile(io.FileIO):
    """A file that tells the observer of each write that reaches the system."""

    def __init__(self, path: Path, descriptor: int) -> None:
        super().__init__(descriptor, "wb")
        self._path = path

    def write(self, data: "ReadableBuffer", /) -> int:
        with step(Act.WRITE, self._path):
            return super().write(data)

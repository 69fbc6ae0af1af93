"""A remote that is a folder: a disk, a USB stick, a network mount, a folder another program carries away.

Object `a/b` is the file `a/b` below the root. What is not a regular file with a
legal name, reached through real folders, is not there: not listed, not read,
not followed, not removed. The root is never made by a put, so that an absent
mount does not turn into a new, empty remote.

Every call is one function run on a worker thread. This is the only file that
sees the `OSError`s of a remote folder; `_translated` turns them into ours.
"""

import contextlib
import errno
import functools
import itertools
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import ParamSpec, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from syncagent import files
from syncagent.errors import (
    BadResponse,
    ConfigError,
    Forbidden,
    ObjectExists,
    ObjectNotFound,
    ObjectRefused,
    QuotaExceeded,
    RemoteError,
    Unreachable,
    UnsupportedByRemote,
)
from syncagent.names import (
    DEVICES,
    JOURNAL,
    KEYS,
    PACKS,
    SNAPSHOTS,
    VAULT,
    check_object_name,
    is_object_name,
)
from syncagent.remote.base import (
    Body,
    FileSlice,
    ObjectInfo,
    ObjectPage,
    check_get,
    check_list,
    check_put,
    range_end,
    read_piece,
)

FILE_THREADS = 8
"""Threads that work on remote folders at once: as many as the engine keeps objects in flight."""
TEMPORARY_FOLDER = ".tmp"
"""Where objects are written before they get their name; outside the grammar, so never listed."""
TEMPORARY_LIFE_S = 24 * 3600
"""Age at which a temporary file is what a crash left: no put lasts a day, no mount's clock errs by one."""

_TODO_MISSING = "mount or restore the folder"
_ROOM = {errno.ENOSPC, errno.EDQUOT}
_RIGHTS = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_RENAME = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
# A planted pipe must not block the open, a planted link must not be followed. Windows has no such flags.
_READ_FLAGS = (
    os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)

_T = TypeVar("_T")
_P = ParamSpec("_P")
_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("directory_remote_limiter")


def file_limiter() -> anyio.CapacityLimiter:
    """The limiter of all remote folders in this event loop."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(FILE_THREADS)
        _limiter.set(limiter)
        return limiter


class DirectoryRemote:
    """A `Remote` on a folder that exists (`create` makes one)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._synced_folders: set[Path] = set()
        self._swept = False

    @classmethod
    async def create(cls, root: Path) -> "DirectoryRemote":
        """Make the root, with its parents, durably; an existing one is taken as it is."""
        remote = cls(root)
        await remote._write(remote._create_root)
        return remote

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        """See `Remote.put`. Durable: file and folder entries are fsynced.

        A cancelled put stops at the next piece; one that is past its last piece completes.

        Raises:
            ObjectRefused: also when something that is neither file nor folder of ours is in the way.
            UnsupportedByRemote: the file system has neither hard links nor rename without replace.
        """
        size = check_put(name, body)
        await self._write(self._put, name, body, size, overwrite)

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Remote.get`."""
        check_get(name, start, stop)
        return await self._read(self._get, name, start, stop)

    async def head(self, name: str) -> ObjectInfo:
        """See `Remote.head`. `created` is the file's modification time."""
        check_object_name(name)
        return await self._read(self._head, name)

    async def delete(self, name: str) -> None:
        """See `Remote.delete`. Durable on return."""
        check_object_name(name)
        await self._write(self._delete, name)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        """See `Remote.list`. A page reads all names of its folders, but looks at `limit` files only."""
        limit = check_list(prefix, after, limit)
        return await self._read(self._list, prefix, after, limit)

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        """Unsupported: notifications of file systems are silent about other machines on a mount."""
        raise UnsupportedByRemote("a folder does not tell when it changes")

    async def put_file(self, name: str, file: FileSlice, *, overwrite: bool = False) -> None:
        """`put` of the whole of a durable file at a path from `temporary`: moved, and not copied."""
        check_put(name, file)
        await self._write(self._put_file, name, file.path, overwrite)

    def temporary(self) -> Path:
        """A path for a file that `put_file` takes. Blocks; raises what the system raises."""
        return self._temporary()

    async def open(self, name: str) -> BufferedReader:
        """An object's file, to be read and closed by the caller. A put or delete does not show in it."""
        check_object_name(name)
        return await self._read(self._open, name)

    async def check_absent(self, name: str) -> None:
        """`ObjectExists` where a put would say so. To be asked before a body is taken."""
        check_object_name(name)
        await self._write(self._check_free, name, overwrite=False)

    async def aclose(self) -> None:
        """See `Remote.aclose`. Nothing is held open between calls."""
        await anyio.lowlevel.checkpoint()

    async def _write(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        # Not abandoned on cancellation: when the call has returned, nothing appears any more.
        work = functools.partial(self._guarded, function, *args, **kwargs)
        return await anyio.to_thread.run_sync(work, limiter=file_limiter())

    async def _read(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        # Abandoned on cancellation: a mount that hangs must not hold its caller beyond the timeout.
        work = functools.partial(self._guarded, function, *args, **kwargs)
        return await anyio.to_thread.run_sync(work, limiter=file_limiter(), abandon_on_cancel=True)

    # From here on everything runs on a worker thread.

    def _guarded(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise _translated(error, self._root) from error

    def _create_root(self) -> None:
        try:
            files.make_folders(self._root)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"{self._root} cannot be a remote: a file is in the way") from error

    def _put(self, name: str, body: Body, size: int, overwrite: bool) -> None:
        self._check_free(name, overwrite)  # saves writing the bytes; `_publish` decides
        temporary = self._temporary()
        try:
            with files.new_file(temporary) as file:
                written = 0
                while written < size:
                    anyio.from_thread.check_cancelled()
                    written += file.write(read_piece(body, written))
            self._give_name(name, temporary, overwrite)
        finally:
            with contextlib.suppress(OSError):  # what stays is swept a day later
                files.unlink(temporary, missing_ok=True)

    def _put_file(self, name: str, file: Path, overwrite: bool) -> None:
        self._check_free(name, overwrite)
        self._give_name(name, file, overwrite)
        with contextlib.suppress(OSError):  # what stays is swept a day later
            files.unlink(file, missing_ok=True)

    def _give_name(self, name: str, temporary: Path, overwrite: bool) -> None:
        """A durable file becomes a durable object."""
        self._make_folders(name)
        anyio.from_thread.check_cancelled()
        if overwrite:
            files.rename(temporary, self._path(name))
        else:
            self._publish(name, temporary)
        files.sync_folder(self._path(name).parent)

    def _publish(self, name: str, temporary: Path) -> None:
        """Give a complete file its name if that is free: the atomic step of create-if-absent."""
        target = self._path(name)
        try:
            files.publish(temporary, target)
        except FileExistsError:
            # NFS repeats a request whose answer was lost: the link that is "there already" may be this one.
            if not _is_same_file(temporary, target):
                self._check_free(name, overwrite=False)
                raise  # gone again: transient, another attempt decides
        except OSError as error:
            if error.errno not in _NO_RENAME:
                raise
            raise UnsupportedByRemote(
                f"the file system of {self._root} has neither hard links nor rename without replace",
                todo="keep the remote on another file system",
            ) from error

    def _get(self, name: str, start: int, stop: int | None) -> bytes:
        with self._open(name) as file:
            wanted = range_end(name, os.fstat(file.fileno()).st_size, start, stop) - start
            file.seek(start)
            data = file.read(wanted)
        if len(data) < wanted:
            raise BadResponse(f"{name} became shorter while it was read")
        return data

    def _open(self, name: str) -> BufferedReader:
        self._info(name)
        file = os.fdopen(os.open(self._path(name), _READ_FLAGS), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise ObjectNotFound(f"{name} is not at the remote")
        return file

    def _head(self, name: str) -> ObjectInfo:
        return self._info(name)

    def _delete(self, name: str) -> None:
        found = self._lstat(name)
        if found is None or not stat.S_ISREG(found.st_mode):
            return
        path = self._path(name)
        files.unlink(path, missing_ok=True)
        files.sync_folder(path.parent)

    def _list(self, prefix: str, after: str, limit: int) -> ObjectPage:
        self._check_root()
        objects = tuple(itertools.islice(self._infos(prefix, after), limit + 1))
        return ObjectPage(objects[:limit], more=len(objects) > limit)

    def _infos(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        for name in self._names(prefix, after):
            with contextlib.suppress(ObjectNotFound):  # gone since, or not a file
                yield self._info(name)

    def _names(self, prefix: str, after: str) -> Iterator[str]:
        """Legal names after `after` below a prefix, ascending; what they stand for is not looked at."""
        if prefix == "":
            for folder in (DEVICES, JOURNAL, KEYS, PACKS, SNAPSHOTS):
                yield from self._names(folder, after)
            if after < VAULT:  # the last of all names
                yield VAULT
        elif after[: len(prefix)] > prefix:  # the page begins after this whole folder
            return
        elif prefix == JOURNAL:
            for device in sorted(self._entries(JOURNAL)):
                yield from self._names(f"{JOURNAL}{device}/", after)
        else:
            # Left out before sorting: a late page of a long listing costs less than the first.
            last = after.removeprefix(prefix) if after.startswith(prefix) else ""
            for entry in sorted(entry for entry in self._entries(prefix) if entry > last):
                if is_object_name(prefix + entry):
                    yield prefix + entry

    def _entries(self, folder: str) -> Sequence[str]:
        if not all(_is_real_folder(path) for path in self._folders(folder)):
            return []
        return os.listdir(self._root / folder)  # noqa: PTH208 - names are wanted, not paths

    def _info(self, name: str) -> ObjectInfo:
        found = self._lstat(name)
        if found is None or not stat.S_ISREG(found.st_mode):
            raise ObjectNotFound(f"{name} is not at the remote")
        return ObjectInfo(name, found.st_size, found.st_mtime)

    def _lstat(self, name: str) -> os.stat_result | None:
        if all(_is_real_folder(path) for path in self._folders(name)):
            with contextlib.suppress(FileNotFoundError):
                return self._path(name).lstat()
        self._check_root()  # an absent object says nothing when everything is absent
        return None

    def _check_free(self, name: str, overwrite: bool) -> None:
        found = self._lstat(name)
        if found is None:
            return
        if stat.S_ISDIR(found.st_mode) or not (overwrite or stat.S_ISREG(found.st_mode)):
            raise ObjectRefused(f"something that is not an object is in the place of {name}")
        if not overwrite:
            # Whoever linked it may have died before this; callers take "exists" for "stored".
            files.sync_folder(self._path(name).parent)
            raise ObjectExists(f"{name} is there already")

    def _make_folders(self, name: str) -> None:
        for folder in self._folders(name):
            try:
                files.make_folder(folder)
            except FileExistsError:
                if not _is_real_folder(folder):
                    raise ObjectRefused(f"{folder} is in the way: it is not a folder") from None
                if folder in self._synced_folders:
                    continue
            # Also for one that another process made: it may not have come this far.
            files.sync_folder(folder.parent)
            self._synced_folders.add(folder)

    def _temporary(self) -> Path:
        folder = self._root / TEMPORARY_FOLDER
        with contextlib.suppress(FileExistsError):
            files.make_folder(folder)
        if not _is_real_folder(folder):
            raise Unreachable(f"{folder} is in the way: it is not a folder")
        if not self._swept:
            self._swept = True
            _sweep(folder)
        return folder / secrets.token_hex(16)

    def _check_root(self) -> None:
        if not self._root.is_dir():
            raise Unreachable(f"the remote's folder {self._root} is not there", todo=_TODO_MISSING)

    def _path(self, name: str) -> Path:
        return self._root / name

    def _folders(self, name: str) -> Sequence[Path]:
        """The folders between the root and a name, the outermost first."""
        parts = name.split("/")[:-1]
        return [self._root.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]


def _translated(error: OSError, root: Path) -> RemoteError:
    if error.errno in _ROOM:
        return QuotaExceeded(f"the disk of the remote folder {root} is full")
    if error.errno in _RIGHTS:
        return Forbidden(
            f"the remote folder {root} does not allow this: {error.strerror}", todo="check its permissions"
        )
    if error.errno == errno.ENOENT:
        return Unreachable(f"the remote's folder {root}, or a file in it, is gone", todo=_TODO_MISSING)
    return Unreachable(f"the remote folder {root} fails: {error.strerror or type(error).__name__}")


def _is_real_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_same_file(first: Path, second: Path) -> bool:
    try:
        return os.path.samestat(first.lstat(), second.lstat())
    except FileNotFoundError:
        return False


def _sweep(folder: Path) -> None:
    oldest = time.time() - TEMPORARY_LIFE_S
    for path in folder.iterdir():
        # Another device may sweep at the same time, or may own the file: neither stops a put.
        with contextlib.suppress(OSError):
            if path.lstat().st_mtime < oldest:
                files.unlink(path)

"""A folder as blobs: its regular files, in order, with relative paths as ids.

Nothing outside the folder is read: symbolic links are not followed.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from syncagent.cli.text import nfc
from syncagent.errors import InvalidName, SourceChanged, SyncAgentError
from syncagent.names import blob_id_problem


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file to store."""

    path: Path
    blob_id: str
    size: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """An entry that is no regular file."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry that cannot be stored; the others can."""

    path: Path
    error: SyncAgentError


Entry = TreeFile | Skipped | Refused


def walk(root: Path, prefix: str = "", *, without: frozenset[str] = frozenset()) -> Iterator[Entry]:
    """Everything below a folder, one folder in memory at a time.

    Args:
        root: the folder; it may itself be reached through a link.
        prefix: what ids begin with.
        without: names of folders that are left out without a word.

    Two files whose paths differ in Unicode normalisation only would be one blob: the
    one in NFC is taken and the other refused.
    """
    taken: set[str] = set()
    stack = [root]
    while stack:
        folder = stack.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as exc:
            yield Refused(folder, _unreadable(folder, exc))
            continue
        folders: list[Path] = []
        for entry in entries:
            path = Path(entry.path)
            if entry.is_symlink():
                yield Skipped(path, "a symbolic link")
            elif entry.is_dir(follow_symlinks=False):
                if entry.name not in without:
                    folders.append(path)
            elif not entry.is_file(follow_symlinks=False):
                yield Skipped(path, "neither a file nor a folder")
            else:
                yield _file(root, path, prefix, taken)
        stack += reversed(folders)


def read_file(file: TreeFile) -> bytes:
    """The content of a small file.

    Raises:
        SourceChanged: it cannot be read or changed meanwhile.
    """
    try:
        with file.path.open("rb") as stream:
            before = os.fstat(stream.fileno())
            data = stream.read(file.size + 1)
            after = os.fstat(stream.fileno())
    except OSError as exc:
        raise _unreadable(file.path, exc) from exc
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != file.size:
        raise SourceChanged(f"{str(file.path)!r} changed while it was read")
    return data


def _file(root: Path, path: Path, prefix: str, taken: set[str]) -> Entry:
    relative = path.relative_to(root).as_posix()
    normal = nfc(relative)
    blob_id = nfc(prefix + normal)
    problem = blob_id_problem(blob_id)
    if problem:
        return Refused(path, InvalidName(f"{str(path)!r} cannot be a blob id: {problem}"))
    if normal != relative:
        # Only ids of such paths are remembered: they are rare, and memory stays bounded.
        if normal in taken or _is_other_file(root / normal, path):
            return Refused(
                path,
                InvalidName(
                    f"{str(path)!r} differs from another file in Unicode normalisation only",
                    safe="the other one is stored",
                    todo="rename one of them",
                ),
            )
        taken.add(normal)
    try:
        found = path.lstat()
    except OSError as exc:
        return Refused(path, _unreadable(path, exc))
    return TreeFile(path, blob_id, found.st_size, found.st_mtime_ns)


def _is_other_file(twin: Path, path: Path) -> bool:
    """Whether there is another file under the NFC name; some file systems answer with the same one."""
    try:
        found, own = twin.lstat(), path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and not os.path.samestat(found, own)


def _unreadable(path: Path, exc: OSError) -> SourceChanged:
    return SourceChanged(
        f"{str(path)!r} cannot be read: {exc.strerror}",
        safe="the others are stored",
        todo="check its permissions",
    )

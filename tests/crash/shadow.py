"""What a power cut would leave: a record of what is durable, kept while a run goes on.

Of a file, the bytes that were fsynced are kept; what was not is lost, in one of
several ways. Of a folder, the names that came and went since its last fsync are
undone, all of them or some. A rename is whole or not at all, as file systems with
a journal promise, and durable when the folder of its new name is synced.

A database is taken as it was after its last commit: that commits are durable is
SQLCipher's promise, and not examined here. Files that are written without an
fsync on purpose (`sync.lock`) are taken as lost.
"""

import itertools
import os
import random
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from syncagent.files import Act, Step

_UNSYNCED = ("empty", "zeros", "half", "whole")
"""What becomes of bytes that were not synced; which one, the dice say."""


@dataclass(eq=False)
class _File:
    number: int
    is_synced: bool = False
    stash: Path | None = None  # its synced bytes, or the folder of a database's files


@dataclass(eq=False)
class _Folder:
    live: "dict[str, _File | _Folder]" = field(default_factory=dict)
    durable: "dict[str, _File | _Folder]" = field(default_factory=dict)


@dataclass(eq=False)
class _Pending:
    """Names that changed together, and the folder whose fsync makes that durable."""

    home: _Folder
    changes: "list[tuple[_Folder, str, _File | _Folder | None]]"


Shape = tuple[tuple[str, object], ...]


class Shadow:
    """Follows the steps of a run; `image` builds what a power cut would leave at this moment.

    Args:
        root: the folder that is watched; all in it is durable at the start.
        stash: a folder on the same disk for what is to be kept.
    """

    def __init__(self, root: Path, stash: Path) -> None:
        self._root = root
        self._stash = stash
        self._files = itertools.count(1)
        self._kept = itertools.count(1)
        self._pending: list[_Pending] = []
        self._begun: dict[int, list[_Pending]] = {}
        stash.mkdir()
        self._top = self._scan(root)

    def step(self, step: Step) -> None:
        """Take note of a step. Threads call it one at a time."""
        if not step.is_done:
            if step.act is Act.SYNC_FOLDER:  # what comes while it syncs may or may not be part of it
                self._begun[threading.get_ident()] = list(self._pending)
            return
        match step.act:
            case Act.CREATE:
                self._create(step.path)
            case Act.WRITE:
                self._file(step.path).is_synced = False
            case Act.SYNC:
                self._keep(self._file(step.path), step.path)
            case Act.RENAME:
                assert step.target is not None
                self._rename(step.path, step.target)
            case Act.LINK:
                assert step.target is not None
                self._name(step.target, self._at(step.path))
            case Act.UNLINK | Act.REMOVE_FOLDER:
                if step.path.name in self._parent(step.path).live:
                    self._name(step.path, None)
            case Act.MAKE_FOLDER:
                self._name(step.path, _Folder())
            case Act.SYNC_FOLDER:
                self._sync(self._folder(step.path), self._begun.pop(threading.get_ident()))
            case Act.COMMIT:
                self._keep_database(step.path)

    def image(self, target: Path, dice: random.Random | None) -> Shape:
        """Build the folder as the disk would be; its shape, which is the same for the same image.

        Args:
            target: where to build it.
            dice: which of the names that are not durable are there all the same, and what becomes of
                bytes that are not; None for the strictest: none, and empty.
        """
        shown: dict[_Folder, dict[str, _File | _Folder]] = {}
        for pending in self._pending:
            if dice is not None and dice.random() < 0.5:
                for folder, name, node in pending.changes:
                    _set(shown.setdefault(folder, dict(folder.durable)), name, node)
        shape: list[tuple[str, object]] = []
        self._build(self._top, target, shown, dice, shape)
        return tuple(shape)

    def _build(
        self,
        folder: _Folder,
        target: Path,
        shown: "dict[_Folder, dict[str, _File | _Folder]]",
        dice: random.Random | None,
        shape: list[tuple[str, object]],
    ) -> None:
        target.mkdir()
        for name, node in sorted(shown.get(folder, folder.durable).items()):
            path = target / name
            if isinstance(node, _Folder):
                shape.append((path.name, "folder"))
                self._build(node, path, shown, dice, shape)
                shape.append((path.name, "end"))
            elif node.stash is not None and node.stash.is_dir():
                for part in node.stash.iterdir():
                    shutil.copyfile(part, path.with_name(path.name + part.suffix.removeprefix(".db")))
                shape.append((path.name, node.stash.name))
            elif node.is_synced and node.stash is not None:
                os.link(node.stash, path)
                shape.append((path.name, node.number))
            else:
                fate = "empty" if dice is None else dice.choice(_UNSYNCED)
                path.write_bytes(_remains(fate, self._live_path(node)))
                shape.append((path.name, (node.number, fate)))

    # Names ----------------------------------------------------------------------------------------

    def _scan(self, folder: Path) -> _Folder:
        found = _Folder()
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                found.durable[path.name] = self._scan(path)
            elif path.name == "cache.db":
                node = self._new_file()
                found.durable[path.name] = node
                self._copy_database(node, path)
            elif not path.name.startswith(("cache.db-", "sync.lock")):
                node = self._new_file()
                found.durable[path.name] = node
                self._keep(node, path)
        found.live = dict(found.durable)
        return found

    def _create(self, path: Path) -> None:
        assert path.name not in self._parent(path).live, "a kept file may not be written again"
        self._name(path, self._new_file())

    def _rename(self, source: Path, target: Path) -> None:
        node = self._at(source)
        old, new = self._parent(source), self._parent(target)
        del old.live[source.name]
        new.live[target.name] = node
        self._pending.append(_Pending(new, [(old, source.name, None), (new, target.name, node)]))

    def _name(self, path: Path, node: "_File | _Folder | None") -> None:
        folder = self._parent(path)
        _set(folder.live, path.name, node)
        self._pending.append(_Pending(folder, [(folder, path.name, node)]))

    def _sync(self, folder: _Folder, begun: list[_Pending]) -> None:
        for pending in begun:
            if pending.home is folder and pending in self._pending:
                self._pending.remove(pending)
                for place, name, node in pending.changes:
                    _set(place.durable, name, node)

    def _at(self, path: Path) -> "_File | _Folder":
        node: _File | _Folder = self._top
        for part in path.relative_to(self._root).parts:
            assert isinstance(node, _Folder)
            node = node.live[part]
        return node

    def _file(self, path: Path) -> _File:
        node = self._at(path)
        assert isinstance(node, _File)
        return node

    def _folder(self, path: Path) -> _Folder:
        if not path.is_relative_to(self._root):
            return _Folder()  # above what is watched
        node = self._at(path)
        assert isinstance(node, _Folder)
        return node

    def _parent(self, path: Path) -> _Folder:
        return self._folder(path.parent)

    # Bytes ----------------------------------------------------------------------------------------

    def _new_file(self) -> _File:
        return _File(next(self._files))

    def _keep(self, node: _File, path: Path) -> None:
        node.stash = self._stash / f"{next(self._kept)}"
        os.link(path, node.stash)
        node.is_synced = True

    def _keep_database(self, path: Path) -> None:
        if path.is_relative_to(self._root):
            self._copy_database(self._file(path), path)

    def _copy_database(self, node: _File, path: Path) -> None:
        node.stash = self._stash / f"db-{next(self._kept)}"
        node.stash.mkdir()
        for part in (path, path.with_name(path.name + "-wal")):
            if part.exists():
                shutil.copyfile(part, node.stash / part.name)
        node.is_synced = True

    def _live_path(self, wanted: _File) -> Path | None:
        """Where a file lies at this moment, if it still has a name."""
        folders = [(self._top, self._root)]
        while folders:
            folder, path = folders.pop()
            for name, node in folder.live.items():
                if node is wanted:
                    return path / name
                if isinstance(node, _Folder):
                    folders.append((node, path / name))
        return None


def _set(names: "dict[str, _File | _Folder]", name: str, node: "_File | _Folder | None") -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _remains(fate: str, path: Path | None) -> bytes:
    if fate == "empty" or path is None:
        return b""
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # another thread has renamed it, and is about to tell
        return b""
    return {"zeros": bytes(len(data)), "half": data[: len(data) // 2], "whole": data}[fate]

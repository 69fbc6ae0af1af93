"""Folders of objects: `vaults/<user>/<vault>/` in the data folder, each as a directory remote keeps it.

Two users may each have a vault of one name: they are different folders. The
folders are the truth; nothing else knows which vaults and objects there are.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from syncagent.errors import ObjectNotFound, Unreachable
from syncagent.names import PACKS, is_vault_name
from syncagent.remote.base import Body, ObjectInfo, ObjectPage, body_size
from syncagent.remote.directory import TEMPORARY_FOLDER, DirectoryRemote, file_limiter
from syncagent.server.problem import Problem
from syncagent.server.requests import IncomingBody
from syncagent.server.spool import received

FOLDER = "vaults"

_STRIPES = 64

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class StoredVault:
    """The objects of one vault of one user."""

    def __init__(self, user: str, name: str, root: Path) -> None:
        self.user = user
        self.name = name
        self.key = f"{user}/{name}"
        self._remote = DirectoryRemote(root)
        # What replaces or deletes one object goes one after the other, else its size would count twice.
        self._turns = [anyio.Lock() for _ in range(_STRIPES)]

    async def check_absent(self, name: str) -> None:
        """`ObjectExists` where the name is taken."""
        await self._remote.check_absent(name)

    def receiving(
        self, body: IncomingBody, check: Callable[[bytes], None]
    ) -> contextlib.AbstractAsyncContextManager[Body]:
        """Takes a body for `store`; see `received`."""
        return received(body, check, self._remote.temporary)

    async def store(self, name: str, body: Body, *, overwrite: bool) -> int:
        """Keep what was received; durable on return. By how many bytes the vault has grown."""
        async with self._turns[hash(name) % _STRIPES]:
            before = await self._size(name) if overwrite else 0
            if isinstance(body, bytes):
                await self._remote.put(name, body, overwrite=overwrite)
            else:
                await self._remote.put_file(name, body, overwrite=overwrite)
        return body_size(body) - before

    async def delete(self, name: str) -> int:
        """Remove an object; durable on return. By how many bytes the vault has shrunk."""
        async with self._turns[hash(name) % _STRIPES]:
            before = await self._size(name)
            await self._remote.delete(name)
        return before

    async def open(self, name: str) -> BufferedReader:
        """An object's file, closed by the caller."""
        return await self._remote.open(name)

    async def head(self, name: str) -> ObjectInfo:
        """Size and age of an object."""
        return await self._remote.head(name)

    async def list(self, prefix: str, after: str, limit: int) -> ObjectPage:
        """A page of the objects."""
        return await self._remote.list(prefix, after=after, limit=limit)

    async def _size(self, name: str) -> int:
        try:
            return (await self._remote.head(name)).size
        except ObjectNotFound:
            return 0


class Vaults:
    """All vaults in a data folder."""

    def __init__(self, data: Path) -> None:
        self._root = data / FOLDER
        self._open: dict[str, StoredVault] = {}

    async def create(self, user: str, name: str) -> bool:
        """Make a vault, durably; whether it was not there before."""
        folder = self._folder(user, name)
        is_new = not await _on_thread(folder.is_dir)
        await DirectoryRemote.create(folder)
        return is_new

    async def find(self, user: str, name: str) -> StoredVault:
        """A vault that is there, else `Problem`."""
        folder = self._folder(user, name)
        # Looked for each time, and here: somebody may have removed it, and a look takes less than a hop.
        if not folder.is_dir():
            raise await _on_thread(self._absent, name)
        key = f"{user}/{name}"
        if key not in self._open:
            self._open[key] = StoredVault(user, name, folder)
        return self._open[key]

    def check(self) -> None:
        """That the data folder can be read; `OSError` where it cannot. Blocks."""
        os.listdir(self._root)  # noqa: PTH208 - the names alone cost least

    async def names(self, user: str) -> list[str]:
        """The user's vaults, in order."""
        return await _on_thread(self._names, user)

    async def count(self, user: str) -> int:
        """Bytes that all objects of a user take, looked up one by one.

        For the time when no upload is under way: what one of a former process has left is removed.
        """
        return await _on_thread(self._count, user)

    def _folder(self, user: str, name: str) -> Path:
        return self._root / user / name

    def _absent(self, name: str) -> Problem:
        # Whether another user has the name is no secret of theirs worth an answer that misleads.
        if not self._root.is_dir():  # all is away, and with it the answer
            raise Unreachable(f"{self._root} is not there")
        if any((folder / name).is_dir() for folder in self._root.iterdir()):
            return Problem(403, "not-your-vault", f"the vault {name} is another user's")
        return Problem(404, "no-such-vault", f"there is no vault {name}")

    def _names(self, user: str) -> list[str]:
        folder = self._root / user
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(path.name for path in found if is_vault_name(path.name) and path.is_dir())

    def _count(self, user: str) -> int:
        used = 0
        for name in self._names(user):
            folder = self._folder(user, name)
            shutil.rmtree(folder / TEMPORARY_FOLDER, ignore_errors=True)
            for where, _, files in os.walk(folder):
                used += sum((Path(where) / file).lstat().st_size for file in files)
        return used


def size_of(file: BufferedReader) -> int:
    """How long an object is."""
    return os.fstat(file.fileno()).st_size


def changed_at(file: BufferedReader) -> float:
    """When an object was stored, in Unix seconds."""
    return os.fstat(file.fileno()).st_mtime


def digest_of(name: str, file: BufferedReader) -> str:
    """Hex SHA-256 of an object. A pack was named after it when it came; others are small, and read."""
    if name.startswith(PACKS):
        return name.removeprefix(PACKS)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest


async def _on_thread(function: Callable[[*_Args], _T], *args: *_Args) -> _T:
    return await anyio.to_thread.run_sync(function, *args, limiter=file_limiter())

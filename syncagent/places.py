"""From where a vault is kept to an open remote, and from one place to another."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio

from syncagent.cache import meta
from syncagent.cache.db import Database
from syncagent.cache.place import Place, load_place, store_place
from syncagent.engine.context import Context
from syncagent.engine.records import check_vault
from syncagent.errors import (
    ConfigError,
    RemoteError,
    RemoteRolledBack,
    TransientRemoteError,
    Unauthorized,
    VaultNotFound,
)
from syncagent.remote import Access, is_same_server, locate, open_remote
from syncagent.remote.base import Remote
from syncagent.reports import RemoteInfo

FileName = str | os.PathLike[str]


async def find_place(
    url: str,
    *,
    token: str | None,
    ca_file: FileName | None,
    client_cert: FileName | None,
    create: bool = False,
) -> Place:
    """The place that a user means: which vault at the server is asked there if it must be.

    Raises:
        ConfigError: the URL, token or files cannot be used with each other.
        RemoteError: the server does not answer as it should.
    """
    place = Place(url, token or None, _absolute(ca_file), _absolute(client_cert))
    with _nothing_changed(place):
        return replace(place, url=await locate(url, access=_access(place), create=create))


async def open_place(place: Place, *, create: bool = False) -> Remote:
    """The remote at a place; with `create` made there if it is missing."""
    if not place.url:
        raise ConfigError("this vault has no remote", safe="everything put on this device is kept")
    return await open_remote(place.url, access=_access(place), create=create)


@contextlib.asynccontextmanager
async def visit_place(place: Place, *, create: bool = False) -> AsyncIterator[Remote]:
    """The remote at a place where nothing is kept yet; its errors say that nothing was changed."""
    with _nothing_changed(place):
        remote = await open_place(place, create=create)
        try:
            yield remote
        finally:
            with anyio.move_on_after(10, shield=True):
                await remote.aclose()


async def describe(ctx: Context) -> RemoteInfo:
    """Where the remote is, and whether a token is kept for it."""
    place = await ctx.cache.read(load_place)
    return RemoteInfo(place.url, place.token is not None, place.ca_file, place.client_cert)


async def move(
    ctx: Context,
    url: str | None,
    *,
    token: str | None,
    ca_file: FileName | None,
    client_cert: FileName | None,
) -> None:
    """Keep another place, once it is sure that the vault is there. See `Vault.set_remote`."""
    present = await ctx.cache.read(load_place)
    wanted = present.url if url is None else url
    # A token goes to the server it is for, and nowhere else.
    kept = present if is_same_server(present.url, wanted) else Place(wanted)
    place = await find_place(
        wanted,
        token=kept.token if token is None else token,
        ca_file=kept.ca_file if ca_file is None else ca_file,
        client_cert=kept.client_cert if client_cert is None else client_cert,
    )
    async with visit_place(place) as remote:
        try:
            await check_vault(ctx, remote)
        except RemoteRolledBack as exc:
            raise VaultNotFound(
                "there is no vault at that remote",
                todo="copy the present remote there first, with all its files",
            ) from exc
    await ctx.cache.write(partial(_keep, place=place, now_ms=ctx.now_ms()))


def _keep(db: Database, place: Place, now_ms: int) -> None:
    store_place(db, place)
    meta.put(db, meta.DOUBTED_AT, now_ms)  # a copy may lack what was seen at the place before


@contextlib.contextmanager
def _nothing_changed(place: Place) -> Iterator[None]:
    """Other texts for errors of a place that is not in use yet: no work waits, and no token is kept."""
    try:
        yield
    except RemoteError as exc:
        if exc.safe == RemoteError.default_safe:
            exc.safe = "nothing was changed"
        if isinstance(exc, Unauthorized):
            exc.todo = "check the token" if place.token else "give the server's token with --token-file"
        elif exc.todo == TransientRemoteError.default_todo:
            exc.todo = "check the remote's address and try again"
        raise


def _access(place: Place) -> Access:
    return Access(
        token=place.token,
        ca_file=None if place.ca_file is None else Path(place.ca_file),
        client_cert=None if place.client_cert is None else Path(place.client_cert),
    )


def _absolute(name: FileName | None) -> str | None:
    """A file's path, whatever the working directory will be; empty is none."""
    text = "" if name is None else os.fspath(name)
    if not text:
        return None
    path = str(Path(text).absolute())
    try:
        path.encode()
    except UnicodeEncodeError as exc:
        raise ConfigError(f"the file name {path!r} is not UTF-8", todo="give the file another name") from exc
    return path

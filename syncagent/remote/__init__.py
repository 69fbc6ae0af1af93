"""Remotes: where sealed objects are kept. `open_remote` turns a URL into one; `base.py` says what one is.

Importing this costs nothing: each kind of remote is imported when a URL asks for it.
"""

import os
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from syncagent.errors import ConfigError
from syncagent.remote.access import NO_ACCESS, Access

if TYPE_CHECKING:
    from syncagent.remote.base import Remote

__all__ = ["Access", "directory_url", "is_same_server", "locate", "open_remote"]

_TODO = "use a folder, as in file:///absolute/path, or a server, as in https://host/vault"


async def open_remote(
    url: str,
    *,
    access: Access = NO_ACCESS,
    create: bool = False,
    retry: bool = True,
    up_bytes_s: float | None = None,
    down_bytes_s: float | None = None,
) -> "Remote":
    """The remote at a URL, composed with its wrappers; the one place that does this.

    A folder or server is not looked at yet: a missing one shows as `Unreachable` in
    the calls, so that a vault opens without its remote. Only with `create`, and where
    `locate` must ask, the server is.

    Args:
        url: `file:///absolute/path`, `https://host/vault` (`http/address.py` has all forms), or
            `memory:NAME` (the same store for the same name in this process; `memory:` alone is a fresh one).
        access: the token and certificates, for a server.
        create: make the folder, or the vault at the server, when it is missing.
        retry: repeat what fails for a moment.
        up_bytes_s: put no more bytes a second than this.
        down_bytes_s: get no more bytes a second than this.

    Raises:
        ConfigError: no remote of this version has such a URL, or it has no use for this access.
        RemoteError: the folder or vault cannot be created.
    """
    remote = await _open_plain(url, access, create)
    if up_bytes_s is not None or down_bytes_s is not None:
        from syncagent.remote.throttle import ThrottleRemote

        # Below the retries: what is sent twice counts twice.
        remote = ThrottleRemote(remote, up_bytes_s=up_bytes_s, down_bytes_s=down_bytes_s)
    if not retry:
        return remote
    from syncagent.remote.retry import RetryRemote

    return RetryRemote(remote)


async def locate(url: str, *, access: Access = NO_ACCESS, create: bool = False) -> str:
    """The full URL of the vault that a user's URL means; this is what to keep.

    A URL that names a server and no vault there means the vault `default` if one is to be
    made, else the only vault of the token: then the server is asked. Any other is given back as it is.

    Raises:
        ConfigError: the URL or access cannot be used, or the token has several vaults (they are listed).
        VaultNotFound: the token has no vault.
        RemoteError: the server does not answer as it should.
    """
    if _scheme(url) not in ("http", "https"):
        return url
    from syncagent.remote.http.address import DEFAULT_VAULT, check_access, read_address

    address = read_address(url)
    check_access(address, access)
    if address.vault is not None:
        return url
    if create:
        return address.with_vault(DEFAULT_VAULT).url
    from syncagent.remote.http.vaults import only_vault

    return address.with_vault(await only_vault(address, access)).url


def is_same_server(first: str, second: str) -> bool:
    """Whether a token for one URL's server may be sent to the other's: the same protocol, host and port."""
    if not {_scheme(first), _scheme(second)} <= {"http", "https"}:
        return False
    from syncagent.remote.http.address import read_address

    return read_address(first).origin == read_address(second).origin


def directory_url(path: Path) -> str:
    """The `file:` URL of a folder; a relative path is taken from the working directory."""
    return path.absolute().as_uri()


async def _open_plain(url: str, access: Access, create: bool) -> "Remote":
    scheme = _scheme(url)
    if scheme in ("http", "https"):
        return await _open_http(await locate(url, access=access, create=create), access, create)
    if access != NO_ACCESS:
        raise ConfigError(
            "a token or certificate was given, and the remote's address is not one of a server", todo=_TODO
        )
    match scheme:
        case "file":
            from syncagent.remote.directory import DirectoryRemote

            root = _folder(url[5:])
            return await DirectoryRemote.create(root) if create else DirectoryRemote(root)
        case "memory":
            from syncagent.remote.memory import MemoryRemote, named_store

            return MemoryRemote(named_store(url[7:]))
        case _:
            # The rest of the URL is not repeated: it may hold a password.
            raise ConfigError("the remote's address is not a URL that this version knows", todo=_TODO)


async def _open_http(url: str, access: Access, create: bool) -> "Remote":
    import anyio.to_thread

    # Nearly three hundred modules, 150 ms: in a thread, so that nobody who puts meanwhile waits for them.
    await anyio.to_thread.run_sync(_load_http)
    from syncagent.remote.http.address import read_address
    from syncagent.remote.http.client import open_client
    from syncagent.remote.http.remote import HttpRemote

    remote = HttpRemote(await open_client(read_address(url), access))
    if create:
        try:
            await remote.create_vault()
        except BaseException:
            await remote.aclose()
            raise
    return remote


def _load_http() -> None:
    import syncagent.remote.http.remote  # noqa: F401


def _scheme(url: str) -> str:
    scheme, colon, _ = url.partition(":")
    return scheme.lower() if colon else ""


def _folder(rest: str) -> Path:
    """The path in a `file:` URL (RFC 8089), given without its scheme."""
    host, path = "", rest
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        path = slash + path
    if host.lower() not in ("", "localhost"):
        raise ConfigError(
            f"a file: URL names a folder of this machine, not of {host!r}",
            todo="mount the share and use its path, as in file:///mnt/share",
        )
    if not path.startswith("/"):
        raise ConfigError(
            "a file: URL needs an absolute path",
            todo="write it with three slashes, as in file:///home/me/sync",
        )
    if "?" in path or "#" in path:
        raise ConfigError(
            "a file: URL has no query and no fragment", todo="write ? in a path as %3F, and # as %23"
        )
    decoded = os.fsdecode(urllib.parse.unquote_to_bytes(path))
    if "\0" in decoded:
        raise ConfigError("the path in the file: URL contains a NUL")
    if sys.platform == "win32":
        decoded = decoded.removeprefix("/")  # /C:/Users/me is C:/Users/me
    return Path(decoded)

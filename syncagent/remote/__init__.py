"""Remotes: where sealed objects are kept. `open_remote` turns a URL into one; `base.py` says what one is.

Importing this costs nothing: each kind of remote is imported when a URL asks for it.
"""

import os
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from syncagent.errors import ConfigError

if TYPE_CHECKING:
    from syncagent.remote.base import Remote

__all__ = ["directory_url", "open_remote"]


async def open_remote(
    url: str,
    *,
    create: bool = False,
    retry: bool = True,
    up_bytes_s: float | None = None,
    down_bytes_s: float | None = None,
) -> "Remote":
    """The remote at a URL, composed with its wrappers; the one place that does this.

    A folder is not looked at yet: a missing one shows as `Unreachable` in the
    calls, so that a vault opens without its remote.

    Args:
        url: `file:///absolute/path`, or `memory:NAME` (the same store for the same name in this
            process; `memory:` alone is a fresh one).
        create: make the folder when it is missing.
        retry: repeat what fails for a moment.
        up_bytes_s: put no more bytes a second than this.
        down_bytes_s: get no more bytes a second than this.

    Raises:
        ConfigError: no remote of this version has such a URL.
        RemoteError: the folder cannot be created.
    """
    remote = await _open_plain(url, create)
    if up_bytes_s is not None or down_bytes_s is not None:
        from syncagent.remote.throttle import ThrottleRemote

        # Below the retries: what is sent twice counts twice.
        remote = ThrottleRemote(remote, up_bytes_s=up_bytes_s, down_bytes_s=down_bytes_s)
    if not retry:
        return remote
    from syncagent.remote.retry import RetryRemote

    return RetryRemote(remote)


def directory_url(path: Path) -> str:
    """The `file:` URL of a folder; a relative path is taken from the working directory."""
    return path.absolute().as_uri()


async def _open_plain(url: str, create: bool) -> "Remote":
    scheme, colon, rest = url.partition(":")
    match scheme.lower() if colon else "":
        case "file":
            from syncagent.remote.directory import DirectoryRemote

            root = _folder(rest)
            return await DirectoryRemote.create(root) if create else DirectoryRemote(root)
        case "memory":
            from syncagent.remote.memory import MemoryRemote, named_store

            return MemoryRemote(named_store(rest))
        case "http" | "https":
            raise ConfigError(
                "this version has no HTTP remote", todo="use a folder, as in file:///absolute/path"
            )
        case _:
            # The rest of the URL is not repeated: it may hold a password.
            raise ConfigError(
                "the remote's address is not a URL that this version knows",
                todo="use a folder, as in file:///absolute/path",
            )


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

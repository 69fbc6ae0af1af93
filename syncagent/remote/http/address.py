"""Where a vault is at a server: what an `http:` URL means.

    https://host/notes          the vault `notes` of the server at https://host
    https://host/sync/notes     the same below a path, as behind a reverse proxy
    https://host                the server alone; so is everything that ends in /
    https://host/sync/

Reads text only: nothing of the network is imported or asked here.
"""

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass, replace

from syncagent.errors import ConfigError
from syncagent.names import is_vault_name
from syncagent.remote.access import Access

DEFAULT_VAULT = "default"
"""The vault's name at the server, where `init` is given none."""

_SEGMENT = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_TODO = "write it as https://host/vault, with the token in a file of its own"


@dataclass(frozen=True, slots=True)
class Address:
    """A server and, if it was named, a vault there. `base` is "" or a path before `/v1`."""

    origin: str
    base: str
    vault: str | None
    is_encrypted: bool
    is_loopback: bool

    @property
    def api(self) -> str:
        """The URL below which the API's paths begin."""
        return f"{self.origin}{self.base}/v1"

    @property
    def url(self) -> str:
        """The address as text; `read_address` gives the same again."""
        return f"{self.origin}{self.base}/{self.vault or ''}"

    def with_vault(self, name: str) -> "Address":
        """The same server, that vault."""
        return replace(self, vault=name)


def read_address(url: str) -> Address:
    """What a URL with the scheme `http` or `https` means.

    Raises:
        ConfigError: it names no server and vault. What it says is not repeated: it may hold a password.
    """
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ConfigError(
            "the remote's address has characters that a URL cannot have",
            todo="write a host's name in its ASCII form (xn--…)",
        )
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError("the remote's address has no host and port that can be read", todo=_TODO) from error
    if "@" in parts.netloc:
        raise ConfigError("the remote's address has a user or password in it", todo=_TODO)
    if "?" in url or "#" in url:
        raise ConfigError("the remote's address has no query and no fragment", todo=_TODO)
    host, is_loopback = _host(host)
    if port == 0 or parts.netloc.endswith(":"):
        raise ConfigError("the remote's address has no port that can be used", todo=_TODO)
    base, name = _path(parts.path)
    scheme = parts.scheme.lower()
    origin = f"{scheme}://{host}" + (f":{port}" if port is not None else "")
    return Address(origin, base, name, is_encrypted=scheme == "https", is_loopback=is_loopback)


def check_access(address: Address, access: Access) -> None:
    """Refuse to send a token in the clear over a network (`ConfigError`), unless that was asked for."""
    if access.token is None or address.is_encrypted or address.is_loopback or access.plain_http:
        return
    raise ConfigError(
        "the token would travel unencrypted: the remote's address begins with http: and is another machine's",
        safe="nothing was sent",
        todo="use https:, or a tunnel that begins on this machine",
    )


def _host(host: str) -> tuple[str, bool]:
    """The host as it stands in a URL, and whether it is this machine."""
    try:
        address = ipaddress.ip_address(host.replace("%", " "))  # a zone means nothing on another machine
    except ValueError:
        if not _HOST.fullmatch(host):
            raise ConfigError("the remote's address names no host", todo=_TODO) from None
        return host, host == "localhost"
    return (f"[{address}]" if address.version == 6 else str(address)), address.is_loopback


def _path(path: str) -> tuple[str, str | None]:
    """The base path and the vault's name."""
    base, _, name = path.rpartition("/")
    segments = base.split("/")[1:]
    if any(segment in (".", "..") or not _SEGMENT.fullmatch(segment) for segment in segments):
        raise ConfigError("the path in the remote's address cannot be used", todo=_TODO)
    if name and not is_vault_name(name):
        raise ConfigError(
            f"{name[:80]!r} is not the name of a vault at a server",
            todo="use 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit; "
            "a path that names no vault ends in /",
        )
    return base, name or None

"""What a remote on the network wants to know of us: the token, and which certificates count."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from syncagent.errors import ConfigError

_TOKEN = re.compile(r"[!-~]{1,1024}")


@dataclass(frozen=True, slots=True)
class Access:
    """How to be let in at an `http:` or `https:` remote. Other remotes need none.

    Args:
        token: what the server gave its user; goes out as `Authorization: Bearer` and is in no text.
        ca_file: PEM file of the certificates to trust instead of the system's.
        client_cert: PEM file of a certificate and its key, for servers that ask for one.
        plain_http: send the token unencrypted to another machine, where the URL begins with `http:`.
            Whoever is on the way can read it then, and delete everything at the remote with it.

    Raises:
        ConfigError: the token is empty, longer than 1024 bytes, or has other characters than
            printable ASCII without spaces.
    """

    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    client_cert: Path | None = None
    plain_http: bool = False

    def __post_init__(self) -> None:
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ConfigError(
                "the token is not one: it has 1 to 1024 printable ASCII characters and no spaces",
                todo="copy the server's token again, without anything before or after it",
            )


NO_ACCESS = Access()
"""For remotes that ask for nothing."""

"""Vaults for benchmarks: made outside every figure, with the cheapest key derivation unless told."""

from pathlib import Path

import syncagent
from syncagent.remote import directory_url
from syncagent.remote.base import Remote

PASSPHRASE = "benchmark"


async def make_vault(
    profile: Path,
    remote: Path | str,
    *,
    token: str | None = None,
    kdf: syncagent.KdfParameters = syncagent.FLOOR_KDF,
) -> None:
    """A vault's first device; the remote is a folder, or the URL of a server."""
    await syncagent.create_vault(profile, remote=_url(remote), token=token, passphrase=PASSPHRASE, kdf=kdf)


async def join(profile: Path, remote: Path | str, *, token: str | None = None) -> None:
    """One more device, which knows afterwards what the journals say and has no content."""
    await syncagent.join_vault(profile, remote=_url(remote), token=token, passphrase=PASSPHRASE)


def opened(profile: Path, remote: Remote | None = None, *, background: bool = False) -> syncagent.Vault:
    """The device, for `async with`; with another remote than its own, if one is given."""
    return syncagent.open_vault(profile, passphrase=PASSPHRASE, remote=remote, background=background)


def _url(remote: Path | str) -> str:
    return remote if isinstance(remote, str) else directory_url(remote)

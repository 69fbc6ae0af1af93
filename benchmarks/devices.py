"""Vaults for benchmarks: made outside every figure, with the cheapest key derivation unless told."""

from pathlib import Path

import syncagent

PASSPHRASE = "benchmark"


async def make_vault(
    profile: Path, remote: Path, *, kdf: syncagent.KdfParameters = syncagent.FLOOR_KDF
) -> None:
    """A vault's first device; the remote is a folder."""
    await syncagent.create_vault(profile, remote=f"file://{remote}", passphrase=PASSPHRASE, kdf=kdf)


async def join(profile: Path, remote: Path) -> None:
    """One more device, which knows afterwards what the journals say and has no content."""
    await syncagent.join_vault(profile, remote=f"file://{remote}", passphrase=PASSPHRASE)


def opened(profile: Path) -> syncagent.Vault:
    """The device, for `async with`."""
    return syncagent.open_vault(profile, passphrase=PASSPHRASE)

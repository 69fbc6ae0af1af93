"""No byte of what a vault holds or knows is readable in its folder."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

import syncagent
from syncagent import files
from syncagent.cache import meta

from .samples import DEVICE_NAME, PASSPHRASE, Home, content

pytestmark = pytest.mark.anyio

WORD = b"unmistakable words of the plaintext "
NAMESPACE = "unmistakable-namespace"
BLOB_ID = "unmistakable blob id 😀"
METADATA = {"unmistakable key": "unmistakable value"}
FILE_NAME = "unmistakable file name.txt"


def forms(secret: bytes) -> set[bytes]:
    """A secret as it is and as it is often written."""
    return {secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret)}


async def secrets_of(home: Home, vault: syncagent.Vault) -> set[bytes]:
    root = await vault.parts()[0].cache.read(lambda db: meta.get_bytes(db, meta.ROOT))
    assert root == home.root.reveal()
    code = home.recovery_code.encode()
    return {
        WORD[:16],
        NAMESPACE.encode(),
        BLOB_ID.encode()[:16],
        b"unmistakable",
        DEVICE_NAME.encode(),
        PASSPHRASE.encode(),
        *forms(root),
        code,
        code.replace(b"-", b""),
        code.lower(),
        str(home.remote).encode(),
        b"SQLite format 3",
    }


def look(folder: Path, secrets: set[bytes]) -> set[str]:
    """The names of the files looked at; none of them holds, or is called, anything secret."""
    names: set[str] = set()
    for path in folder.rglob("*"):
        relative = str(path.relative_to(folder))
        haystack = relative.encode() + (path.read_bytes() if path.is_file() else b"")
        assert [secret for secret in secrets if secret in haystack] == [], relative
        names.add(relative)
    return names


async def test_nothing_is_readable_in_the_folder(home: Home, tmp_path: Path) -> None:
    source = tmp_path / FILE_NAME
    source.write_bytes(WORD * 30_000)
    async with home.vault() as vault:
        secrets = await secrets_of(home, vault)
        notes = vault.namespace(NAMESPACE)
        await notes.put(BLOB_ID, WORD * 100, metadata=METADATA)
        await notes.put("large", WORD * 10_000)
        await notes.put("from a file", source)
        await notes.put(BLOB_ID, WORD * 200, metadata=METADATA, replace=True)
        names = look(home.folder, secrets)
        assert {"cache.db-wal", "cache.db-shm", "cache.salt", "packs", "keys"} <= names
        await vault.sync()
        await notes.delete("large")
        await notes.get(BLOB_ID)
        look(home.folder, secrets)
        look(home.remote, secrets)
    assert "cache.db-wal" not in look(home.folder, secrets)


async def test_nothing_is_readable_while_content_is_sealed(
    home: Home, observed: Callable[[files.Observer], None]
) -> None:
    seen: set[str] = set()
    async with home.vault() as vault:
        secrets = await secrets_of(home, vault)
        notes = vault.namespace(NAMESPACE)

        def spy(step: files.Step) -> None:
            if step.act is files.Act.SYNC:
                seen.update(look(home.folder, secrets))

        observed(spy)
        await notes.put(BLOB_ID, WORD * 100_000 + content(1, 2 << 20) + WORD)
        assert [name for name in seen if name.endswith(".tmp")], "it was looked at while it was written"
        look(home.folder, secrets)

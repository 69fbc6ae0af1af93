"""A small vault to try things on, opened without deriving a key, and content that is the same each run."""

import contextlib
import hashlib
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

import syncagent
from syncagent.cache import blobs, chunks, meta, outbox, ownbatches, sendable
from syncagent.cache.chunks import ChunkSource
from syncagent.cache.db import Database
from syncagent.cache.profile import Credential, Profile, open_database, open_slots, read_slots
from syncagent.crypto.chunk import digest_of
from syncagent.crypto.keys import RootSecret, VaultKeys, cache_key
from syncagent.crypto.keyslot import FLOOR_KDF
from syncagent.crypto.pack import seal_pack
from syncagent.engine import local, storing
from syncagent.engine.local import Put
from syncagent.model import ChunkId, PackRecord, Scope, SyncStatus, Version
from syncagent.remote.directory import DirectoryRemote
from syncagent.vault import Vault

PASSPHRASE = "a passphrase of several words"
DEVICE_NAME = "the laptop on the desk"
NOW_MS = 1_750_000_000_000
PAGE = 4096


def content(seed: int, size: int) -> bytes:
    """Bytes that look random and are the same every time."""
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class Home:
    """A profile folder beside the folder that is its remote."""

    folder: Path
    remote: Path
    root: RootSecret
    recovery_code: str

    @property
    def profile(self) -> Profile:
        return Profile(self.folder)

    @property
    def keys(self) -> VaultKeys:
        return VaultKeys(self.root)

    def vault(self, *, is_remote_gone: bool = False) -> Vault:
        """The vault, to be entered; its key is known, so that takes 3 ms and not 40."""
        remote = self.remote / "gone" if is_remote_gone else self.remote
        return Vault(
            self.profile, partial(open_database, self.profile, self.root), remote=DirectoryRemote(remote)
        )

    def database(self) -> Database:
        """A second connection, as another process would have it. Not opened."""
        return Database(self.profile.database, cache_key(self.root, self.profile.salt.read_bytes()))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Database]:
        db = self.database()
        db.open()
        try:
            yield db
        finally:
            db.close()

    def copy(self, to: Path) -> "Home":
        """The same vault at another place. Made while it is closed."""
        shutil.copytree(self.folder, to / "profile")
        shutil.copytree(self.remote, to / "remote")
        return Home(to / "profile", to / "remote", self.root, self.recovery_code)


def make_home(at: Path) -> Home:
    """A new vault."""

    async def create() -> str:
        created = await syncagent.create_vault(
            at / "profile",
            remote=(at / "remote").as_uri(),
            passphrase=PASSPHRASE,
            device_name=DEVICE_NAME,
            kdf=FLOOR_KDF,
        )
        return created.recovery_code

    recovery_code = anyio.run(create)
    credential = Credential.of(passphrase=PASSPHRASE, recovery_code=None)
    root = open_slots(read_slots(Profile(at / "profile")), credential).root
    return Home(at / "profile", at / "remote", root, recovery_code)


class Desk:
    """Puts and reads straight on an open cache, as the engine's operations do, without an event loop."""

    def __init__(self, db: Database, packs: Path, root: RootSecret | None = None) -> None:
        self.db = db
        self.packs = packs
        self.keys = VaultKeys(root or RootSecret(b"r" * 32))
        self.source = ChunkSource(self.keys, packs)
        self.device = meta.device_id(db)
        self.now_ms = NOW_MS

    def put(
        self, blob_id: str, data: bytes, *, namespace: str = "notes", replace: bool = True, priority: int = 2
    ) -> Version:
        self.now_ms += 1
        return local.record_put(
            self.db,
            Put(namespace, blob_id, {}, replace, priority),
            lambda scope: storing.small_content(self.keys, scope, data, digest_of(data)),
            now_ms=self.now_ms,
            keys=self.keys,
            source=self.source,
        )

    def delete(self, blob_id: str, *, namespace: str = "notes") -> Version:
        self.now_ms += 1
        return local.record_delete(self.db, namespace, blob_id, now_ms=self.now_ms, keys=self.keys)

    def number(self, version: Version) -> int:
        found = blobs.find_version(self.db, version.id)
        assert found is not None
        return found

    def chunk_number(self, version: Version, position: int = 0) -> int:
        found = chunks.find_chunk(self.db, version.content[position])
        assert found is not None
        return found

    def read(self, version: Version) -> bytes:
        numbers = [self.chunk_number(version, position) for position in range(len(version.content))]
        return b"".join(self.source.read(place) for place in chunks.places(self.db, numbers))

    def pack(self, *contents: bytes, namespace: str = "notes") -> tuple[PackRecord, bytes]:
        """A pack of these chunks with its bytes."""
        scope = self.keys.namespace_scope(namespace)
        sealed = seal_pack(self.keys, [(self.chunk_id(scope, data), data) for data in contents])
        return sealed.record, sealed.data

    def chunk_id(self, scope: Scope, data: bytes) -> ChunkId:
        return self.keys.chunk_id(scope, digest_of(data))

    def send(self, *contents: bytes, namespace: str = "notes") -> int:
        """Do as if a pack with these chunks had been PUT; its number."""
        record, _ = self.pack(*contents, namespace=namespace)
        return chunks.record_pack(
            self.db,
            record,
            is_remote=True,
            has_file=False,
            put_at_ms=self.now_ms,
            seen_at_ms=self.now_ms,
        )

    def cut(self, limit: int = 1000) -> int:
        """Do as if a batch of what is publishable had been cut; its number, 0 when there was nothing."""
        seq = ownbatches.last_own_seq(self.db) + 1
        self.cut_packs(seq)
        rows = sendable.publishable(self.db, self.now_ms, limit).rows
        if not rows:
            return 0
        ownbatches.store_batch(
            self.db,
            seq=seq,
            sealed=b"sealed",
            object_sha256=hashlib.sha256(b"sealed").digest(),
            chain=bytes(32),
            rows=rows,
        )
        return seq

    def cut_packs(self, seq: int = 1) -> None:
        """Do as if a batch had named every pack that has been PUT."""
        for number, _ in outbox.unannounced_packs(self.db, limit=1000):
            outbox.announce(self.db, number, seq)

    def status(self, version: Version) -> SyncStatus | None:
        value = self.db.scalar("SELECT status FROM version WHERE id = ?", (version.id,))
        return None if value is None else SyncStatus(value)


def flip(path: Path, offset: int) -> None:
    """Damage one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def page_count(path: Path) -> int:
    return path.stat().st_size // PAGE


def flip_page(path: Path, page: int) -> None:
    """Damage a byte in the middle of a page, counted from 1."""
    flip(path, (page - 1) * PAGE + PAGE // 2)

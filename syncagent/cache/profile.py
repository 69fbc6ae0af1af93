"""The profile folder of one vault on one device: where things lie, and how it is opened.

    cache.db    the SQLCipher database         cache.salt   32 bytes, salt of the cache key
    packs/      pack files, as at the remote   keys/        copies of the vault's key slots
    sync.lock   held for one sync round; its mtime is the last sync

The slot copies let a passphrase or recovery code open the cache without the
remote. Nothing in the folder holds a key or a plaintext byte outside `cache.db`.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from syncagent import files
from syncagent.cache.db import Database
from syncagent.cache.schema import migrate
from syncagent.crypto.keys import RootSecret, cache_key
from syncagent.crypto.keyslot import KeySlot, SlotContents, SlotKind, open_any, parse_slot, passphrase_bytes
from syncagent.crypto.recovery import recovery_bytes
from syncagent.errors import (
    CacheDamaged,
    CacheFull,
    ConfigError,
    OpenError,
    SyncAgentError,
    TooNew,
    VaultNotFound,
    WrongPassphrase,
)
from syncagent.model import SlotId

MAX_SLOT_BYTES = 4096
_REFUSED = {errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE}
_NO_ROOM = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True, slots=True)
class Profile:
    """The paths of one vault's profile folder."""

    folder: Path

    @property
    def database(self) -> Path:
        """The SQLCipher file."""
        return self.folder / "cache.db"

    @property
    def salt(self) -> Path:
        """The salt of the cache key."""
        return self.folder / "cache.salt"

    @property
    def packs(self) -> Path:
        """The folder of pack files."""
        return self.folder / "packs"

    @property
    def keys(self) -> Path:
        """The folder of slot copies."""
        return self.folder / "keys"

    @property
    def lock(self) -> Path:
        """The sync lock."""
        return self.folder / "sync.lock"

    def exists(self) -> bool:
        """Whether a vault lives here."""
        return self.database.exists() or self.salt.exists()


@dataclass(frozen=True, slots=True)
class Credential:
    """What the user knows: the secret of one kind of key slot."""

    kind: SlotKind
    secret: bytes

    def __repr__(self) -> str:
        return f"<Credential {self.kind.name}>"

    @classmethod
    def of(cls, *, passphrase: str | None, recovery_code: str | None) -> "Credential":
        """Exactly one of the two, or `ConfigError`."""
        if passphrase is not None and recovery_code is None:
            return cls(SlotKind.PASSPHRASE, passphrase_bytes(passphrase))
        if recovery_code is not None and passphrase is None:
            return cls(SlotKind.RECOVERY, recovery_bytes(recovery_code))
        raise ConfigError("give either a passphrase or a recovery code")


def create_profile(folder: Path, root: RootSecret, slots: dict[SlotId, bytes]) -> Database:
    """Make a new profile folder with an empty cache; the open database.

    The caller makes it under a temporary name and calls `publish_profile` once it is complete.
    """
    profile = Profile(folder)
    with disk_errors():
        files.make_folders(folder.parent)
        for path in (folder, profile.packs, profile.keys):
            files.make_folder(path, 0o700)
        salt = os.urandom(32)
        files.write_file(profile.salt, salt)
        for slot_id, data in slots.items():
            files.write_file(profile.keys / slot_id.hex(), data)
        files.create(profile.database, 0o600).close()
    db = Database(profile.database, cache_key(root, salt))
    db.open()
    migrate(db)
    return db


def publish_profile(temporary: Path, folder: Path) -> None:
    """Move a complete profile to its place; everything in it is durable before it has its name."""
    with disk_errors():
        files.sync_folder(temporary / "packs")
        files.sync_folder(temporary / "keys")
        files.sync_folder(temporary)
        with contextlib.suppress(FileNotFoundError):
            files.remove_folder(folder)  # an empty folder the user has made: Windows does not rename over one
        files.rename(temporary, folder)
        files.sync_folder(folder.parent)


def discard_profile(temporary: Path) -> None:
    """Remove a profile that was never published."""
    import shutil  # here, because every command opens a profile and hardly any discards one

    shutil.rmtree(temporary, ignore_errors=True)


def unlock_profile(profile: Profile, credential: Credential) -> Database:
    """Open the cache with a passphrase or recovery code. Slow on purpose: one key derivation.

    Raises:
        VaultNotFound: no profile here.
        WrongPassphrase: no slot of this kind opens.
        CacheDamaged: the database does not open with the key that the slot holds.
    """
    root = open_slots(read_slots(profile), credential).root
    return open_database(profile, root)


def open_slots(slots: list[KeySlot], credential: Credential) -> SlotContents:
    """What the first slot that opens holds, or `WrongPassphrase`."""
    return open_any(slots, credential.kind, credential.secret).contents


def open_database(profile: Profile, root: RootSecret) -> Database:
    """Open the cache with the vault's root secret and migrate it."""
    try:
        salt = profile.salt.read_bytes()
    except OSError as exc:
        raise _unreadable(profile, exc) from exc
    if len(salt) != 32:
        raise CacheDamaged("cache.salt is damaged", todo="restore it from a backup, or join the vault again")
    if not profile.database.exists():
        raise CacheDamaged("cache.db is missing", todo="restore it from a backup, or join the vault again")
    if not profile.database.stat().st_size:  # SQLite would begin a new database in it
        raise CacheDamaged("cache.db is empty", todo="restore it from a backup, or join the vault again")
    db = Database(profile.database, cache_key(root, salt))
    db.open()
    try:
        db.run(migrate)
    except BaseException:
        db.close()
        raise
    return db


def read_slots(profile: Profile) -> list[KeySlot]:
    """The slot copies that can be parsed; one that cannot does not stop the others."""
    if not profile.exists():
        raise VaultNotFound(f"there is no vault at {profile.folder}")
    slots: list[KeySlot] = []
    problem: OpenError | TooNew | None = None
    try:
        for path in sorted(profile.keys.iterdir()):
            if len(path.name) == 32 and path.stat().st_size <= MAX_SLOT_BYTES:
                try:
                    slots.append(parse_slot(SlotId(bytes.fromhex(path.name)), path.read_bytes()))
                except (OpenError, TooNew) as exc:
                    problem = exc
                except ValueError:
                    continue  # not a slot's name
    except OSError as exc:
        raise _unreadable(profile, exc) from exc
    if not slots:
        if isinstance(problem, TooNew):
            raise problem
        raise WrongPassphrase(
            "no key slot of this vault can be read",
            todo="restore the keys folder from the remote or a backup",
        ) from problem
    return slots


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Translate what the file system says of our own files: `CacheFull`, or `ConfigError` for a refusal."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_ROOM:
            raise CacheFull("the disk of the local cache is full") from exc
        raise ConfigError(
            f"{exc.filename or 'a file of the cache'}: {exc.strerror}", todo="check the folder's permissions"
        ) from exc


def _unreadable(profile: Profile, exc: OSError) -> SyncAgentError:
    # What is refused is not damaged.
    kind = ConfigError if exc.errno in _REFUSED else CacheDamaged
    return kind(
        f"the profile at {profile.folder} cannot be read: {exc.strerror}",
        safe="nothing was changed",
        todo="check the folder's permissions",
    )

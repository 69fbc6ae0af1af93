"""The root secret and every key derived from it.

Not here: how the root is stored (`keyslot.py`) and what the keys seal
(`sealed.py`, `pack.py`).
"""

import hmac
import os
from typing import NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from syncagent.errors import TooNew
from syncagent.model import EPOCH, ChunkId, Scope

KEY_SIZE = 32
VAULT_SCOPE = Scope(bytes(16))
"""Dedup scope `vault`: equal content has equal chunk ids in all namespaces."""


class _Secret:
    """What secrets have in common: they show nothing and do not travel by pickle or copy."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is not to be pickled or copied")


class RootSecret(_Secret):
    """The 32 bytes from which all keys of a vault come. Compared in constant time; not hashable."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if len(value) != KEY_SIZE:
            raise ValueError(f"a root secret has {KEY_SIZE} bytes, not {len(value)}")
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves, for the key slot and the cache only."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RootSecret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a dict: hashing is not constant-time


class VaultKeys(_Secret):
    """The purpose keys of one root, derived once; from them, the keys of single objects and packs.

    Safe to share between threads. See `docs/format.md#keys`.
    """

    __slots__ = ("_chunk_id", "_object", "_pack", "epoch")

    def __init__(self, root: RootSecret, epoch: int = EPOCH) -> None:
        check_epoch(epoch)
        self.epoch = epoch
        self._pack = _purpose_key(root, b"pack")
        self._object = _purpose_key(root, b"object")
        self._chunk_id = _purpose_key(root, b"chunk-id")

    def chunk_id(self, scope: bytes, digest: bytes) -> ChunkId:
        """HMAC-SHA256 (RFC 2104) over scope and digest: without the root, an id confirms no guess.

        Args:
            scope: 16 bytes, from the version.
            digest: SHA-256 of the chunk's plaintext.
        """
        return ChunkId(hmac.digest(self._chunk_id, scope + digest, "sha256"))

    def namespace_scope(self, name: str) -> Scope:
        """Dedup scope `namespace`, the default: equal content has equal chunk ids within one namespace.

        It shares its key with `chunk_id`. The two inputs can only be equal when a
        SHA-256 digest is 32 characters of a namespace name, which nobody can find.
        """
        return Scope(hmac.digest(self._chunk_id, b"namespace" + name.encode(), "sha256")[:16])

    def object_key(self, salt: bytes, name: str) -> bytes:
        """The key of one sealed object, which opens under no other name (`docs/format.md#sealed-objects`)."""
        return hkdf(self._object, salt=salt, info=name.encode())

    def pack_key(self, salt: bytes) -> bytes:
        """The key of one pack (`docs/format.md#packs`)."""
        return hkdf(self._pack, salt=salt, info=b"")


def new_root() -> RootSecret:
    """A fresh root secret from the system's random source."""
    return RootSecret(os.urandom(KEY_SIZE))


def random_scope() -> Scope:
    """Dedup scope `none`: equal content has unrelated chunk ids, for namespaces that strangers write into."""
    return Scope(os.urandom(16))


def cache_key(root: RootSecret, salt: bytes) -> bytes:
    """The 32-byte key of this device's cache; `salt` is 32 random bytes stored beside `cache.db`."""
    return hkdf(root.reveal(), salt=salt, info=b"syncagent/1/cache")


def hkdf(key: bytes, *, salt: bytes, info: bytes, length: int = KEY_SIZE) -> bytes:
    """HKDF-SHA256 (RFC 5869), extract and expand. An empty salt is the RFC's default of zeros."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=salt, info=info).derive(key)


def check_epoch(epoch: int) -> None:
    """Nothing, or `TooNew` for an epoch that this format does not have."""
    if epoch != EPOCH:
        raise TooNew(f"epoch {epoch}: made by a newer syncagent, or altered")


def _purpose_key(root: RootSecret, purpose: bytes) -> bytes:
    return hkdf(root.reveal(), salt=b"", info=b"syncagent/1/" + purpose)

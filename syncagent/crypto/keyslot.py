"""Key slots: the root secret, wrapped by a passphrase or a recovery code.

A slot is a small JSON object at the remote, so all of it is hostile input: it
is parsed strictly, its cost is bounded before any work is done, and it has one
valid spelling, byte for byte. See `docs/format.md#key-slots`.
"""

import enum
import hmac
import os
import struct
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from syncagent.crypto.keys import RootSecret, hkdf
from syncagent.errors import ConfigError, LimitExceeded, Tampered, TooNew, Truncated, WrongPassphrase
from syncagent.model import EPOCH, Bytes16, Bytes32, SlotId, VaultId

FORMAT = 1
MAX_SLOT_BYTES = 4096
MAX_SLOTS_TRIED = 8
"""A remote may invent slots: each one tried may cost a gigabyte and seconds."""

_NONCE = bytes(12)
"""Fixed, because each KEK wraps once: its salt is drawn anew at every write (NIST SP 800-38D, section 8)."""


class SlotKind(enum.IntEnum):
    """What opens a slot. In JSON: the name in lower case."""

    PASSPHRASE = 1
    RECOVERY = 2


@dataclass(frozen=True, slots=True)
class KdfParameters:
    """The cost of Argon2id (RFC 9106)."""

    memory_kib: int
    iterations: int
    lanes: int


DEFAULT_KDF = KdfParameters(65536, 3, 4)
"""RFC 9106, section 4, the second recommended choice: it runs on small devices too."""
FLOOR_KDF = KdfParameters(19456, 2, 1)
"""OWASP's minimum for Argon2id: less is refused, or a remote could weaken a slot."""
CEILING_KDF = KdfParameters(1 << 20, 10, 8)
"""More is refused, or a remote could exhaust a device with an invented slot."""


@dataclass(frozen=True, slots=True)
class SlotContents:
    """What a slot wraps: the vault's format and id, and its root secrets by epoch."""

    format: int
    vault_id: VaultId
    roots: Mapping[int, RootSecret]

    @property
    def root(self) -> RootSecret:
        """The root secret of epoch 1, the only one in format 1."""
        return self.roots[EPOCH]


@dataclass(frozen=True, slots=True)
class KeySlot:
    """A slot whose form is right. Whether it is genuine shows when it opens."""

    id: SlotId
    kind: SlotKind
    kdf: KdfParameters
    salt: bytes
    commitment: bytes
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class OpenedSlot:
    """The slot that opened, with what it wraps."""

    slot: KeySlot
    contents: SlotContents


def passphrase_bytes(text: str) -> bytes:
    """The bytes of a passphrase: UTF-8 of its NFC form, so that keyboards agree; spaces at the ends count.

    Raises:
        ConfigError: it is empty, or not text that UTF-8 can hold.
    """
    try:
        encoded = unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError as exc:
        raise ConfigError("the passphrase cannot be written as UTF-8") from exc
    if not encoded:
        raise ConfigError("the passphrase is empty", todo="give one of at least a few words")
    return encoded


def check_kdf(kdf: KdfParameters) -> None:
    """Nothing, or `LimitExceeded` for a cost below the floor or above the ceiling."""
    for name in ("memory_kib", "iterations", "lanes"):
        least, value, most = (getattr(bound, name) for bound in (FLOOR_KDF, kdf, CEILING_KDF))
        if not least <= value <= most:
            raise LimitExceeded(f"Argon2id {name} of {value}: {least} to {most} are allowed")


def seal_slot(
    slot_id: SlotId, kind: SlotKind, secret: bytes, contents: SlotContents, kdf: KdfParameters
) -> bytes:
    """The JSON of a new slot. Costs what `kdf` says; call it on a worker thread.

    Args:
        slot_id: 16 random bytes; the slot does not open under another id.
        kind: what `secret` comes from.
        secret: `passphrase_bytes(…)` or `recovery.recovery_bytes(…)`.
        contents: what opening gives back.
        kdf: within `FLOOR_KDF` and `CEILING_KDF`, or `LimitExceeded`.
    """
    check_kdf(kdf)
    salt = os.urandom(16)
    derived = _derive(secret, salt, kdf)
    wrapped = _Wrapped(
        format=contents.format,
        vault_id=contents.vault_id,
        roots={epoch: root.reveal() for epoch, root in contents.roots.items()},
    )
    return _encode(
        KeySlot(
            id=slot_id,
            kind=kind,
            kdf=kdf,
            salt=salt,
            commitment=derived.commitment,
            wrapped=AESGCM(derived.kek).encrypt(
                _NONCE, msgspec.msgpack.encode(wrapped), _associated_data(slot_id, kind, kdf, salt)
            ),
        )
    )


def parse_slot(slot_id: SlotId, data: bytes) -> KeySlot:
    """The slot in `data`, with its form checked and no key derived.

    Raises:
        Truncated: it ends before its JSON does.
        TooNew: another version, or a field, kind or value that format 1 does not have.
        Tampered: any other spelling than the one that `seal_slot` writes; too large; a cost out of bounds.
    """
    name = f"key slot {slot_id.hex()}"
    if len(data) > MAX_SLOT_BYTES:
        raise Tampered(f"{name} has {len(data)} bytes, {MAX_SLOT_BYTES} are allowed")
    try:
        if msgspec.json.decode(data, type=_Versioned).version != FORMAT:
            raise TooNew(f"{name} has an unknown version: made by a newer syncagent, or altered")
        document = msgspec.json.decode(data, type=_Document)
    except msgspec.ValidationError as exc:
        raise TooNew(f"{name} has unknown fields: made by a newer syncagent, or altered") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        # No string of a slot holds a brace, so an open one means that the end is missing.
        if not data or data.count(b"{") > data.count(b"}"):
            raise Truncated(f"{name} ends after {len(data)} bytes") from exc
        raise Tampered(f"{name} is not JSON") from exc
    slot = KeySlot(
        id=slot_id,
        kind=SlotKind[document.kind.upper()],
        kdf=KdfParameters(document.kdf.memory_kib, document.kdf.iterations, document.kdf.lanes),
        salt=document.kdf.salt,
        commitment=document.commitment,
        wrapped=document.wrapped,
    )
    try:
        check_kdf(slot.kdf)
    except LimitExceeded as exc:
        raise Tampered(f"{name} is out of bounds: {exc}") from exc
    # Duplicate keys, spaces, escapes, odd base64, trailing bytes: what reads the same but is spelt otherwise.
    if _encode(slot) != data:
        raise Tampered(f"{name} is not spelt as syncagent spells it")
    return slot


def open_slot(slot: KeySlot, secret: bytes) -> SlotContents:
    """What the slot wraps. Costs what the slot's parameters say; call it on a worker thread.

    Raises:
        WrongPassphrase: `secret` is wrong or the slot was altered; which of the two cannot be told.
        TooNew: it opens, but holds what format 1 does not have.
        LimitExceeded: this device has too little memory for the slot's parameters.
    """
    derived = _derive(secret, slot.salt, slot.kdf)
    # AES-GCM does not commit to its key: a slot could be made that opens under many passphrases, and so tells
    # its maker at each attempt whether it was one of them (Len et al., "Partitioning Oracle Attacks", 2021).
    if not hmac.compare_digest(derived.commitment, slot.commitment):
        raise _wrong(slot.kind)
    associated_data = _associated_data(slot.id, slot.kind, slot.kdf, slot.salt)
    try:
        plain = AESGCM(derived.kek).decrypt(_NONCE, slot.wrapped, associated_data)
    except InvalidTag as exc:
        raise _wrong(slot.kind) from exc
    try:
        wrapped = msgspec.msgpack.decode(plain, type=_Wrapped)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise TooNew("the key slot holds an unknown layout: made by a newer syncagent") from exc
    if wrapped.format != FORMAT or set(wrapped.roots) != {EPOCH}:
        raise TooNew(f"the vault has format {wrapped.format}: made by a newer syncagent")
    roots = {epoch: RootSecret(root) for epoch, root in wrapped.roots.items()}
    return SlotContents(wrapped.format, VaultId(wrapped.vault_id), roots)


def open_any(slots: Iterable[KeySlot], kind: SlotKind, secret: bytes) -> OpenedSlot:
    """The first slot of `kind` that opens, of at most 8 tried in the order given.

    Raises:
        WrongPassphrase: none opens, or there is none of this kind.
        TooNew: one opens, but holds what format 1 does not have.
        LimitExceeded: none opens, and one could not be tried for want of memory.
    """
    failure: WrongPassphrase | LimitExceeded | None = None
    candidates = [slot for slot in slots if slot.kind is kind]
    for slot in candidates[:MAX_SLOTS_TRIED]:
        try:
            return OpenedSlot(slot, open_slot(slot, secret))
        except LimitExceeded as exc:
            failure = exc
        except WrongPassphrase as exc:
            failure = failure or exc
    raise failure or WrongPassphrase(f"the vault has no key slot for a {_secret_of(kind)}")


class _Kdf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Literal["argon2id"]
    salt: Bytes16
    memory_kib: int
    iterations: int
    lanes: int


class _Versioned(msgspec.Struct, frozen=True):
    version: int


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of a slot. The order of the fields is the format."""

    version: int
    kind: Literal["passphrase", "recovery"]
    kdf: _Kdf
    commitment: Bytes32
    wrapped: bytes


class _Wrapped(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: int
    vault_id: Bytes16
    roots: dict[int, Bytes32]


@dataclass(frozen=True, slots=True, repr=False)
class _Derived:
    kek: bytes
    commitment: bytes


def _derive(secret: bytes, salt: bytes, kdf: KdfParameters) -> _Derived:
    """Argon2id (RFC 9106), then HKDF into two keys that tell nothing about each other."""
    try:
        stretched = Argon2id(
            salt=salt, length=32, iterations=kdf.iterations, lanes=kdf.lanes, memory_cost=kdf.memory_kib
        ).derive(secret)
    except MemoryError as exc:
        raise LimitExceeded(
            f"this device cannot spare the {kdf.memory_kib >> 10} MiB that the key slot asks for",
            todo="close some programs and try again",
        ) from exc
    except UnsupportedAlgorithm as exc:
        raise ConfigError("this installation's OpenSSL has no Argon2id: 3.2 or newer is needed") from exc
    return _Derived(
        kek=hkdf(stretched, salt=b"", info=b"syncagent/1/slot-kek"),
        commitment=hkdf(stretched, salt=b"", info=b"syncagent/1/slot-commitment"),
    )


def _associated_data(slot_id: SlotId, kind: SlotKind, kdf: KdfParameters, salt: bytes) -> bytes:
    """Everything about a slot that is not secret, so that none of it can be exchanged.

    offset  length  field
    0       16      "syncagent/1/slot"
    16      16      slot id
    32      1       kind
    33      4       memory in KiB, u32
    37      4       iterations, u32
    41      1       lanes
    42      16      salt
    """
    costs = struct.pack(">BIIB", kind, kdf.memory_kib, kdf.iterations, kdf.lanes)
    return b"syncagent/1/slot" + slot_id + costs + salt


def _encode(slot: KeySlot) -> bytes:
    return msgspec.json.encode(
        _Document(
            version=FORMAT,
            kind="passphrase" if slot.kind is SlotKind.PASSPHRASE else "recovery",
            kdf=_Kdf(
                name="argon2id",
                salt=slot.salt,
                memory_kib=slot.kdf.memory_kib,
                iterations=slot.kdf.iterations,
                lanes=slot.kdf.lanes,
            ),
            commitment=slot.commitment,
            wrapped=slot.wrapped,
        )
    )


def _wrong(kind: SlotKind) -> WrongPassphrase:
    return WrongPassphrase(f"the {_secret_of(kind)} does not open this vault, or its key slot was altered")


def _secret_of(kind: SlotKind) -> str:
    return "passphrase" if kind is SlotKind.PASSPHRASE else "recovery code"

"""Sealed objects: batches, device records and snapshots, each bound to its name.

Layout (`docs/format.md#sealed-objects`):

    offset  length  field
    0       4       magic "SAO1"
    4       4       epoch, u32
    8       32      salt
    40      n       AES-256-GCM of the body (NIST SP 800-38D)
    40+n    16      tag

    body: u32 frame length, zstd frame, zeros up to the Padmé length of the body
"""

import os
import struct

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from syncagent.crypto.frame import MAX_FRAME_CONTENT, decompress
from syncagent.crypto.keys import VaultKeys, check_epoch
from syncagent.errors import LimitExceeded, Tampered, TooNew, Truncated
from syncagent.model import TAG_SIZE

OBJECT_HEADER = 40
MAX_PAYLOAD = MAX_FRAME_CONTENT

_MAGIC = b"SAO1"
_HEADER = struct.Struct(">4sI32s")
_LENGTH = struct.Struct(">I")
_LEVEL = 3
"""zstd's default: batches are small and sealed once, so speed decides nothing here."""
_NONCE = bytes(12)
"""Fixed, because each key seals one message: it is derived from 32 fresh random bytes."""


def seal_object(keys: VaultKeys, name: str, payload: bytes) -> bytes:
    """`payload` sealed for the object `name`; a fresh salt, so no two results are alike.

    Raises:
        LimitExceeded: `payload` is empty or over 64 MiB.
    """
    if not 1 <= len(payload) <= MAX_PAYLOAD:
        raise LimitExceeded(f"a sealed object holds 1 to {MAX_PAYLOAD} bytes, not {len(payload)}")
    frame = zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(payload)
    length = _LENGTH.size + len(frame)
    body = b"".join((_LENGTH.pack(len(frame)), frame, bytes(padme(length) - length)))
    salt = os.urandom(32)
    header = _HEADER.pack(_MAGIC, keys.epoch, salt)
    return header + AESGCM(keys.object_key(salt, name)).encrypt(_NONCE, body, header)


def open_object(keys: VaultKeys, name: str, data: bytes) -> bytes:
    """The payload of the object `name`, exactly as it was sealed under this name and these keys.

    Raises:
        TooNew: another magic or epoch.
        Truncated: shorter than any sealed object.
        Tampered: altered, moved from another name, sealed with other keys, or not laid out as above.
    """
    if len(data) < OBJECT_HEADER + _LENGTH.size + TAG_SIZE:
        raise Truncated(f"object {name!r} ends after {len(data)} bytes")
    view = memoryview(data)
    header = view[:OBJECT_HEADER]
    magic, epoch, salt = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise TooNew(f"object {name!r} has an unknown layout: made by a newer syncagent, or altered")
    check_epoch(epoch)
    try:
        body = AESGCM(keys.object_key(salt, name)).decrypt(_NONCE, view[OBJECT_HEADER:], header)
    except InvalidTag as exc:
        raise Tampered(f"object {name!r} does not open: altered, moved, or of another vault") from exc
    (frame_length,) = _LENGTH.unpack_from(body)
    end = _LENGTH.size + frame_length
    if padme(end) != len(body) or body.count(0, end) != len(body) - end:
        raise Tampered(f"object {name!r} is padded wrongly")
    return decompress(zstandard.ZstdDecompressor(), memoryview(body)[_LENGTH.size : end], MAX_PAYLOAD)


def padme(length: int) -> int:
    """The Padmé length of `length` bytes: at most 12 % more, and only O(log log n) bits of the size shown.

    Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
    Communication with PURBs", PETS 2019, section 4. Powers of two stay as they are.
    """
    if length < 2:
        return length
    exponent = length.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (length + mask) & ~mask

"""How the frozen vectors were made: a second, independent writer of format 1.

It follows `docs/format.md` and imports nothing of syncagent, so that the good
cases also prove the document. Tests read the frozen files and never run this;
run it by hand when the format gets a new version, and read the diff:

    python tests/vectors/make_vectors.py

A case is one file, `<layout>/good-….json` or `<layout>/bad-….json`:

    about    one sentence
    input    what the reader gets; bytes in hex
    output   good cases: what it must give
    error    bad cases: the class it must raise
    breaks   bad cases: the region or rule that is broken
"""

import base64
import hashlib
import hmac
import json
import random
import shutil
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

HERE = Path(__file__).parent
ZERO_NONCE = bytes(12)
MIB = 1 << 20

Json = dict[str, Any]


def main() -> None:
    """Write all vectors afresh."""
    for folder in HERE.iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    derivation()
    passphrase()
    recovery_code()
    key_slot()
    padme_lengths()
    sealed_object()
    chunk_id()
    content_digest()
    pack()


# What format.md says, written again.


def drawn(label: str, length: int) -> bytes:
    """Bytes that stand for random ones."""
    return hashlib.shake_256(b"syncagent vector " + label.encode()).digest(length)


ROOT = drawn("root", 32)
OTHER_ROOT = drawn("another root", 32)


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """One block of RFC 5869."""
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def purpose(root: bytes, name: str) -> bytes:
    return hkdf(root, b"", b"syncagent/1/" + name.encode())


def padme(length: int) -> int:
    exponent = length.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-length // step) * step


def flipped(data: bytes, offset: int) -> bytes:
    offset %= len(data)
    return data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]


def write(layout: str, name: str, case: Json) -> None:
    path = HERE / layout / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        raise FileExistsError(path)
    path.write_text(json.dumps(case, indent=1) + "\n")


def good(layout: str, name: str, about: str, given: Json, output: Json) -> None:
    write(layout, f"good-{name}", {"about": about, "input": given, "output": output})


def bad(layout: str, name: str, about: str, given: Json, *, breaks: str, error: str) -> None:
    write(layout, f"bad-{name}", {"about": about, "breaks": breaks, "input": given, "error": error})


# zstd frames that a compressor would not write.


def frame_of(content: bytes, level: int = 1) -> bytes:
    return zstandard.ZstdCompressor(level=level).compress(content)


def frame_of_unknown_size(content: bytes) -> bytes:
    stream = zstandard.ZstdCompressor(level=1).compressobj()
    return stream.compress(content) + stream.flush()


def raw_frame(
    content: bytes, *, size: int | None = None, window: int | None = None, dictionary: int = 0
) -> bytes:
    """A frame of one raw block; `window` is the descriptor byte, without it the frame is a single segment."""
    descriptor = 0x80 | (0 if window is not None else 0x20) | (1 if dictionary else 0)
    header = b"\x28\xb5\x2f\xfd" + bytes([descriptor])
    header += bytes([window]) if window is not None else b""
    header += bytes([dictionary]) if dictionary else b""
    header += struct.pack("<I", len(content) if size is None else size)
    return header + (len(content) << 3 | 1).to_bytes(3, "little") + content


def bomb(size: int) -> bytes:
    """A valid frame of `size` equal bytes in blocks of 128 KiB: four bytes each."""
    header = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", size)
    blocks = []
    while size:
        length = min(size, 128 << 10)
        size -= length
        blocks.append((length << 3 | 1 << 1 | (not size)).to_bytes(3, "little") + b"a")
    return header + b"".join(blocks)


# The layouts.


def derivation() -> None:
    salt = drawn("salt", 32)
    name = "journal/" + drawn("device", 16).hex() + "/000000000001"
    good(
        "derivation",
        "keys",
        "the keys of an object, a pack and the cache",
        {"root": ROOT.hex(), "salt": salt.hex(), "name": name},
        {
            "object_key": hkdf(purpose(ROOT, "object"), salt, name.encode()).hex(),
            "pack_key": hkdf(purpose(ROOT, "pack"), salt, b"").hex(),
            "cache_key": hkdf(ROOT, salt, b"syncagent/1/cache").hex(),
        },
    )
    bad(
        "derivation",
        "epoch",
        "format 1 has epoch 1 only",
        {"root": ROOT.hex(), "salt": salt.hex(), "name": name, "epoch": 2},
        breaks="epoch",
        error="TooNew",
    )


def passphrase() -> None:
    good(
        "passphrase",
        "ascii",
        "spaces at the ends count",
        {"text": " open sesame "},
        {"bytes": b" open sesame ".hex()},
    )
    composed = "Grün 한".encode().hex()
    good("passphrase", "composed", "NFC stays", {"text": "Gr\u00fcn \ud55c"}, {"bytes": composed})
    good(
        "passphrase",
        "decomposed",
        "NFD becomes NFC",
        {"text": "Gru\u0308n \u1112\u1161\u11ab"},
        {"bytes": composed},
    )
    bad("passphrase", "empty", "nothing typed", {"text": ""}, breaks="empty", error="ConfigError")
    bad(
        "passphrase",
        "surrogate",
        "half a character",
        {"text": "a\ud800"},
        breaks="encoding",
        error="ConfigError",
    )


def recovery_code() -> None:
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    # Chosen so that the code has both a 0 and a 1: the next label until it does.
    code = ""
    counter = 0
    while not ("0" in code and "1" in code):
        secret = drawn(f"recovery {counter}", 20)
        counter += 1
        check = hashlib.sha256(b"syncagent/1/recovery" + secret).digest()
        bits = f"{int.from_bytes(secret):0160b}" + f"{int.from_bytes(check):0256b}"[:20]
        symbols = "".join(alphabet[int(bits[at : at + 5], 2)] for at in range(0, 180, 5))
        code = "-".join(symbols[at : at + 4] for at in range(0, 36, 4))
    output = {"secret": secret.hex()}
    other = symbols[:-1] + alphabet[(alphabet.index(symbols[-1]) + 1) % 32]
    swapped = next(at for at in range(36) if symbols[at] != symbols[at + 1])

    good("recovery-code", "as-shown", "as it is shown", {"code": code}, output)
    loose = code.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    good("recovery-code", "as-typed", "lower case, spaces, o for 0, l for 1", {"code": f" {loose}\n"}, output)
    loose = symbols.replace("0", "O").replace("1", "I")
    good("recovery-code", "without-dashes", "no dashes, O for 0, I for 1", {"code": loose}, output)
    good(
        "recovery-code",
        "en-dashes",
        "dashes from a word processor",
        {"code": code.replace("-", "\u2013")},
        output,
    )

    def refuse(name: str, about: str, text: str, breaks: str) -> None:
        bad("recovery-code", name, about, {"code": text}, breaks=breaks, error="WrongPassphrase")

    first = alphabet[(alphabet.index(symbols[0]) + 1) % 32]
    refuse("secret-symbol", "one symbol of the secret is another", first + symbols[1:], "secret")
    refuse("check-symbol", "one symbol of the checksum is another", other, "checksum")
    exchanged = symbols[:swapped] + symbols[swapped + 1] + symbols[swapped] + symbols[swapped + 2 :]
    refuse("exchanged", "two neighbours exchanged", exchanged, "checksum")
    refuse("short", "the last symbol is missing", symbols[:-1], "length")
    refuse("long", "one symbol too many", symbols + "0", "length")
    refuse("empty", "nothing typed", "", "length")
    refuse("letter-u", "U is not in the alphabet", "U" + symbols[1:], "alphabet")
    refuse("digit", "a digit of another script", "\u0661" + symbols[1:], "alphabet")


@dataclass(frozen=True)
class Slot:
    """A key slot in parts, so that a case can break any of them."""

    id: bytes = drawn("slot id", 16)
    kind: str = "passphrase"
    secret: bytes = b"correct horse battery staple"
    salt: bytes = drawn("slot salt", 16)
    memory: int = 19456
    iterations: int = 2
    lanes: int = 1
    plain: bytes = msgspec.msgpack.encode([1, drawn("vault id", 16), {1: ROOT}])

    def fields(self) -> Json:
        stretched = Argon2id(
            salt=self.salt, length=32, iterations=self.iterations, lanes=self.lanes, memory_cost=self.memory
        ).derive(self.secret)
        associated = b"syncagent/1/slot" + self.id + bytes([{"passphrase": 1, "recovery": 2}[self.kind]])
        associated += struct.pack(">IIB", self.memory, self.iterations, self.lanes) + self.salt
        kek = hkdf(stretched, b"", b"syncagent/1/slot-kek")
        return {
            "version": 1,
            "kind": self.kind,
            "kdf": {
                "name": "argon2id",
                "salt": base64.b64encode(self.salt).decode(),
                "memory_kib": self.memory,
                "iterations": self.iterations,
                "lanes": self.lanes,
            },
            "commitment": base64.b64encode(hkdf(stretched, b"", b"syncagent/1/slot-commitment")).decode(),
            "wrapped": base64.b64encode(AESGCM(kek).encrypt(ZERO_NONCE, self.plain, associated)).decode(),
        }


def spelt(fields: Json) -> str:
    return json.dumps(fields, separators=(",", ":"))


def key_slot() -> None:
    slot = Slot()
    fields = slot.fields()
    text = spelt(fields)
    output = {"format": 1, "vault_id": drawn("vault id", 16).hex(), "roots": {"1": ROOT.hex()}}

    def given(text: str, of: Slot = slot) -> Json:
        return {"slot_id": of.id.hex(), "secret": of.secret.hex(), "slot": text}

    recovery = replace(slot, kind="recovery", secret=drawn("recovery 0", 20), salt=drawn("recovery salt", 16))
    costly = replace(slot, salt=drawn("costly salt", 16), memory=20000, iterations=3, lanes=2)
    good("key-slot", "passphrase", "a passphrase at the floor", given(text), output)
    good(
        "key-slot",
        "recovery",
        "a recovery code at the floor",
        given(spelt(recovery.fields()), recovery),
        output,
    )
    good(
        "key-slot", "above-floor", "all costs above the floor", given(spelt(costly.fields()), costly), output
    )

    def refuse(name: str, about: str, text: str, breaks: str, error: str, of: Slot = slot) -> None:
        bad("key-slot", name, about, given(text, of), breaks=breaks, error=error)

    def changed(**parts: object) -> str:
        return spelt(fields | parts)

    def changed_kdf(**parts: object) -> str:
        return spelt(fields | {"kdf": fields["kdf"] | parts})

    def flip(name: str, offset: int) -> str:
        return base64.b64encode(flipped(base64.b64decode(fields[name]), offset)).decode()

    # What is wrong without being malformed.
    refuse(
        "secret", "another passphrase", text, "secret", "WrongPassphrase", replace(slot, secret=b"Correct")
    )
    refuse("moved", "under another slot id", text, "slot-id", "WrongPassphrase", replace(slot, id=bytes(16)))
    refuse("kind", "passphrase said to be recovery", changed(kind="recovery"), "kind", "WrongPassphrase")
    moved_salt = base64.b64encode(flipped(slot.salt, 0)).decode()
    refuse("salt", "a flipped bit in the salt", changed_kdf(salt=moved_salt), "salt", "WrongPassphrase")
    refuse(
        "memory", "other memory, within bounds", changed_kdf(memory_kib=19457), "memory", "WrongPassphrase"
    )
    refuse(
        "iterations",
        "other iterations, within bounds",
        changed_kdf(iterations=3),
        "iterations",
        "WrongPassphrase",
    )
    refuse("lanes", "other lanes, within bounds", changed_kdf(lanes=2), "lanes", "WrongPassphrase")
    commitment = changed(commitment=flip("commitment", 0))
    refuse("commitment", "a flipped bit in the commitment", commitment, "commitment", "WrongPassphrase")
    refuse(
        "wrapped",
        "a flipped bit in the root",
        changed(wrapped=flip("wrapped", 30)),
        "wrapped",
        "WrongPassphrase",
    )
    refuse("tag", "a flipped bit in the tag", changed(wrapped=flip("wrapped", -1)), "tag", "WrongPassphrase")
    short = base64.b64encode(base64.b64decode(fields["wrapped"])[:15]).decode()
    refuse("wrapped-short", "shorter than a tag", changed(wrapped=short), "wrapped", "WrongPassphrase")

    # Costs out of bounds.
    for name, field, value in (
        ("memory-below", "memory_kib", 19455),
        ("memory-above", "memory_kib", (1 << 20) + 1),
        ("memory-huge", "memory_kib", 1 << 70),
        ("memory-negative", "memory_kib", -1),
        ("iterations-below", "iterations", 1),
        ("iterations-above", "iterations", 11),
        ("lanes-below", "lanes", 0),
        ("lanes-above", "lanes", 9),
    ):
        refuse(name, f"{field} of {value}", changed_kdf(**{field: value}), name, "Tampered")

    # Other versions, fields and values.
    refuse("version-2", "a later version", changed(version=2), "version", "TooNew")
    refuse("version-0", "no such version", changed(version=0), "version", "TooNew")
    refuse("version-text", "a version in quotes", changed(version="1"), "version", "TooNew")
    refuse("version-true", "a truth value for a number", changed(version=True), "version", "TooNew")
    refuse("kind-unknown", "an unknown kind", changed(kind="face"), "kind", "TooNew")
    refuse("kdf-unknown", "an unknown function", changed_kdf(name="argon2i"), "kdf-name", "TooNew")
    refuse("salt-short", "a salt of 15 bytes", changed_kdf(salt="AAAAAAAAAAAAAAAAAAAA"), "salt", "TooNew")
    refuse(
        "commitment-short",
        "a commitment of 15 bytes",
        changed(commitment="AAAAAAAAAAAAAAAAAAAA"),
        "commitment",
        "TooNew",
    )
    refuse(
        "memory-fraction", "a number with a fraction", text.replace("19456", "19456.5"), "number", "TooNew"
    )
    refuse("field-unknown", "one field too many", changed(hint="pet"), "field", "TooNew")
    refuse("field-unknown-kdf", "one field too many inside kdf", changed_kdf(parallel=1), "field", "TooNew")
    missing = {name: value for name, value in fields.items() if name != "commitment"}
    refuse("field-missing", "no commitment", spelt(missing), "field", "TooNew")
    refuse("not-an-object", "an array", "[1]", "field", "TooNew")

    # Other spellings of the same.
    refuse("space", "a space", text.replace(",", ", ", 1), "spelling", "Tampered")
    refuse("order", "fields in another order", spelt(dict(reversed(fields.items()))), "spelling", "Tampered")
    refuse("escape", "an escape", text.replace("argon2id", "\\u0061rgon2id"), "spelling", "Tampered")
    twice = text.replace('"kind":', '"kind":"recovery","kind":', 1)
    refuse("duplicate", "a field twice", twice, "duplicate", "Tampered")
    refuse("base64-unpadded", "base64 without its padding", text.replace("=", ""), "base64", "TooNew")
    tail = base64.b64encode(bytes(16)).decode()
    loose = spelt(replace(slot, salt=bytes(16)).fields()).replace(tail, tail[:-3] + "B==")
    refuse("base64-loose", "base64 with loose bits set", loose, "base64", "Tampered")

    # Ends.
    refuse("trailing-newline", "a newline after it", text + "\n", "trailing", "Tampered")
    refuse("trailing", "a second slot after it", text + text, "trailing", "Tampered")
    refuse("oversized", "4097 bytes", text + " " * (4097 - len(text)), "oversized", "Tampered")
    refuse(
        "oversized-wrapped",
        "a wrapped part of 4 KiB",
        changed(wrapped="AAAA" * 1024),
        "oversized",
        "Tampered",
    )
    refuse("nested", "brackets 4000 deep", '{"version":1,"kind":' + "[" * 4000, "nested", "Truncated")
    refuse("truncated-empty", "nothing", "", "truncated", "Truncated")
    refuse("truncated-kdf", "it ends after kdf", text[: text.index("}") + 1], "truncated", "Truncated")
    refuse("truncated-string", "it ends within a string", text[:-5], "truncated", "Truncated")
    refuse("truncated-brace", "only the last brace is missing", text[:-1], "truncated", "Truncated")

    # What an authentic slot may wrap.
    vault_id = drawn("vault id", 16)
    for name, about, plain in (
        ("format", "a vault of format 2", [2, vault_id, {1: ROOT}]),
        ("epoch", "a root of epoch 2 beside the first", [1, vault_id, {1: ROOT, 2: OTHER_ROOT}]),
        ("no-root", "no root at all", [1, vault_id, {}]),
        ("root-short", "a root of 31 bytes", [1, vault_id, {1: ROOT[:31]}]),
        ("vault-id-short", "a vault id of 15 bytes", [1, vault_id[:15], {1: ROOT}]),
        ("extra", "one element too many", [1, vault_id, {1: ROOT}, 0]),
    ):
        other = replace(slot, plain=msgspec.msgpack.encode(plain))
        refuse(f"contents-{name}", about, spelt(other.fields()), "contents", "TooNew", other)
    trailing = replace(slot, plain=slot.plain + b"\0")
    refuse(
        "contents-trailing",
        "a byte after the contents",
        spelt(trailing.fields()),
        "contents",
        "TooNew",
        trailing,
    )


def padme_lengths() -> None:
    lengths = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 100, 1000, 1023, 1025, 10_000, 100_000, 999_999]
    lengths += [MIB - 1, MIB, MIB + 1, (8 * MIB) + 1, (16 * MIB) - 1, 16 * MIB, 123_456_789]
    good(
        "padme",
        "lengths",
        "lengths and what they become",
        {"lengths": lengths},
        {"padded": [padme(n) for n in lengths]},
    )


OBJECT = "journal/" + drawn("device", 16).hex() + "/000000000042"


def sealed(
    body: bytes, *, name: str = OBJECT, root: bytes = ROOT, epoch: int = 1, magic: bytes = b"SAO1"
) -> bytes:
    salt = drawn("object salt", 32)
    header = magic + struct.pack(">I", epoch) + salt
    return header + AESGCM(hkdf(purpose(root, "object"), salt, name.encode())).encrypt(
        ZERO_NONCE, body, header
    )


def body_of(frame: bytes, *, claimed: int | None = None, padded: int | None = None) -> bytes:
    body = struct.pack(">I", len(frame) if claimed is None else claimed) + frame
    return body.ljust(padme(len(body)) if padded is None else padded, b"\0")


def sealed_object() -> None:
    payload = drawn("payload", 80) + b" and something that compresses" * 3
    frame = frame_of(payload)
    body = body_of(frame)
    data = sealed(body)
    assert len(body) - len(frame) - 4 > 0

    def given(data: bytes, name: str = OBJECT, root: bytes = ROOT) -> Json:
        return {"root": root.hex(), "name": name, "object": data.hex()}

    good("sealed-object", "batch", "under a batch's name", given(data), {"payload": payload.hex()})
    good(
        "sealed-object",
        "one-byte",
        "the smallest payload",
        given(sealed(body_of(frame_of(b"x")))),
        {"payload": "78"},
    )
    device = "devices/" + drawn("device", 16).hex()
    text = b"a device record " * 20
    under_device = sealed(body_of(frame_of(text, 19)), name=device)
    good(
        "sealed-object",
        "level-19",
        "another level of zstd",
        given(under_device, device),
        {"payload": text.hex()},
    )
    raw = sealed(body_of(raw_frame(payload)))
    good(
        "sealed-object", "raw-block", "a frame that does not compress", given(raw), {"payload": payload.hex()}
    )
    windowed = sealed(body_of(raw_frame(payload, window=0x50)))
    good("sealed-object", "window", "a window of 1 MiB for less", given(windowed), {"payload": payload.hex()})

    def refuse(name: str, about: str, data: bytes, breaks: str, error: str = "Tampered") -> None:
        bad("sealed-object", name, about, given(data), breaks=breaks, error=error)

    refuse("magic", "a flipped bit in the magic", flipped(data, 3), "magic", "TooNew")
    refuse("magic-authentic", "another magic, sealed so", sealed(body, magic=b"SAO2"), "magic", "TooNew")
    refuse("epoch", "a flipped bit in the epoch", flipped(data, 7), "epoch", "TooNew")
    refuse("epoch-authentic", "epoch 2, sealed so", sealed(body, epoch=2), "epoch", "TooNew")
    refuse("salt", "a flipped bit in the salt", flipped(data, 8), "salt")
    refuse("body-first", "a flipped bit at the start of the body", flipped(data, 40), "body")
    refuse("body-last", "a flipped bit at the end of the body", flipped(data, -17), "body")
    refuse("tag-first", "a flipped bit at the start of the tag", flipped(data, -16), "tag")
    refuse("tag-last", "a flipped bit at the end of the tag", flipped(data, -1), "tag")
    for at, what in ((0, "nothing"), (4, "magic"), (8, "magic and epoch"), (39, "less than a header")):
        refuse(f"truncated-{at}", f"{what} only", data[:at], "truncated", "Truncated")
    refuse("truncated-40", "the header only", data[:40], "truncated", "Truncated")
    refuse("truncated-59", "no room for a length and a tag", data[:59], "truncated", "Truncated")
    refuse("truncated-60", "room for a length and a tag", data[:60], "truncated")
    refuse("truncated-tag", "without its tag", data[:-16], "truncated")
    refuse("truncated-last", "without its last byte", data[:-1], "truncated")
    refuse("trailing", "a byte after it", data + b"\0", "trailing")
    bad(
        "sealed-object",
        "name",
        "under another batch's name",
        given(data, OBJECT[:-1] + "3"),
        breaks="name",
        error="Tampered",
    )
    bad(
        "sealed-object",
        "root",
        "with another root",
        given(data, root=OTHER_ROOT),
        breaks="key",
        error="Tampered",
    )

    # Authentic, with a body that breaks its rules.
    refuse(
        "length-beyond",
        "a frame longer than the body",
        sealed(body_of(frame, claimed=len(body))),
        "frame-length",
    )
    refuse("length-huge", "a frame of 4 GiB", sealed(body_of(frame, claimed=(1 << 32) - 1)), "frame-length")
    refuse(
        "length-short",
        "a frame one byte too short",
        sealed(body_of(frame, claimed=len(frame) - 1)),
        "frame-length",
    )
    refuse("length-zero", "no frame", sealed(body_of(b"")), "frame-length")
    refuse("padding-first", "nonzero at the start", sealed(flipped(body, len(frame) + 4)), "padding")
    refuse("padding-last", "nonzero at the end", sealed(flipped(body, -1)), "padding")
    refuse("padme-none", "no padding", sealed(body[: len(frame) + 4]), "padme-length")
    refuse("padme-less", "one byte less", sealed(body[:-1]), "padme-length")
    refuse(
        "padme-more",
        "padded to the step after",
        sealed(body.ljust(padme(len(body) + 1), b"\0")),
        "padme-length",
    )
    refuse("frame-oversized", "64 MiB and one byte", sealed(body_of(bomb((64 << 20) + 1))), "frame-size")
    claims = raw_frame(payload, size=0xFFFFFFFF)
    refuse("frame-claims", "claims 4 GiB, holds less", sealed(body_of(claims)), "frame-size")
    smaller = raw_frame(payload, size=len(payload) - 1)
    refuse("frame-claims-less", "claims a byte less than it holds", sealed(body_of(smaller)), "frame-size")
    larger = raw_frame(payload, size=len(payload) + 1)
    refuse("frame-claims-more", "claims a byte more than it holds", sealed(body_of(larger)), "frame-size")
    refuse(
        "frame-unsized",
        "does not say its size",
        sealed(body_of(frame_of_unknown_size(payload))),
        "frame-size",
    )
    refuse("frame-empty", "no content", sealed(body_of(frame_of(b""))), "frame-size")
    refuse("frame-two", "a second frame", sealed(body_of(frame + frame)), "frame-count")
    refuse("frame-trailing", "a byte after the frame", sealed(body_of(frame + b"\0")), "frame-count")
    skippable = b"\x50\x2a\x4d\x18" + struct.pack("<I", 4) + b"skip"
    refuse("frame-skippable", "a skippable frame first", sealed(body_of(skippable + frame)), "frame-count")
    refuse("frame-magic", "no zstd frame", sealed(body_of(flipped(frame, 0))), "frame-header")
    refuse("frame-header-cut", "a frame header without its end", sealed(body_of(frame[:5])), "frame-header")
    refuse(
        "frame-window",
        "a window of 128 MiB",
        sealed(body_of(raw_frame(payload, window=0x88))),
        "frame-window",
    )
    refuse(
        "frame-dictionary",
        "a dictionary",
        sealed(body_of(raw_frame(payload, dictionary=7))),
        "frame-dictionary",
    )
    checked = zstandard.ZstdCompressor(level=1, write_checksum=True).compress(payload)
    refuse("frame-checksum", "a wrong checksum", sealed(body_of(flipped(checked, -1))), "frame-content")
    refuse("frame-cut", "a frame without its end", sealed(body_of(frame[:-3])), "frame-content")


def id_of(root: bytes, scope: bytes, raw: bytes) -> bytes:
    return hmac.digest(purpose(root, "chunk-id"), scope + hashlib.sha256(raw).digest(), "sha256")


def chunk_id() -> None:
    raw = b"the same content in three scopes"
    name = "notes"
    scopes = {
        "vault": bytes(16),
        "namespace": hmac.digest(purpose(ROOT, "chunk-id"), b"namespace" + name.encode(), "sha256")[:16],
        "none": drawn("scope", 16),
    }
    for dedup, scope in scopes.items():
        given = {
            "root": ROOT.hex(),
            "dedup": dedup,
            "namespace": name,
            "scope": scope.hex(),
            "content": raw.hex(),
        }
        output = {"digest": hashlib.sha256(raw).hexdigest(), "chunk_id": id_of(ROOT, scope, raw).hex()}
        good("chunk-id", dedup, f"dedup scope {dedup}", given, output)
    true = {
        "root": ROOT.hex(),
        "scope": bytes(16).hex(),
        "content": raw.hex(),
        "chunk_id": id_of(ROOT, bytes(16), raw).hex(),
    }

    def refuse(name: str, about: str, breaks: str, **parts: str) -> None:
        bad("chunk-id", name, about, true | parts, breaks=breaks, error="Tampered")

    refuse("content", "a flipped bit in the content", "content", content=flipped(raw, 5).hex())
    refuse("content-short", "one byte less", "content", content=raw[:-1].hex())
    refuse(
        "id",
        "a flipped bit in the id",
        "chunk-id",
        chunk_id=flipped(bytes.fromhex(true["chunk_id"]), 31).hex(),
    )
    refuse("scope", "another scope", "scope", scope=scopes["namespace"].hex())
    refuse("root", "another root", "key", root=OTHER_ROOT.hex())
    refuse("plain-digest", "a plain SHA-256 for the id", "chunk-id", chunk_id=hashlib.sha256(raw).hexdigest())


def content_digest() -> None:
    for name, about, unit, size in (
        ("empty", "nothing: no chunk", "", 0),
        ("one-byte", "one chunk of one byte", "61", 1),
        ("one-chunk", "one full chunk", "6162", MIB),
        ("two-chunks", "a full chunk and one byte", "616263", MIB + 1),
        ("three-chunks", "two full chunks and a half", "00", MIB * 5 // 2),
    ):
        pattern = bytes.fromhex(unit)
        content = (pattern * (size // max(len(pattern), 1) + 1))[:size]
        digests = [hashlib.sha256(content[at : at + MIB]).digest() for at in range(0, size, MIB)]
        output = {
            "chunks": len(digests),
            "digests": [digest.hex() for digest in digests],
            "content_digest": hashlib.sha256(b"".join(digests)).hexdigest(),
        }
        good("content-digest", name, about, {"repeated": unit, "size": size}, output)


@dataclass(frozen=True)
class Piece:
    """A chunk to be sealed, with room to lie about each of its parts."""

    raw: bytes
    codec: int = 0
    stored: bytes | None = None
    raw_length: int | None = None

    @property
    def id(self) -> bytes:
        return id_of(ROOT, bytes(16), self.raw)

    @property
    def length(self) -> int:
        return len(self.raw) if self.raw_length is None else self.raw_length

    @property
    def bytes_stored(self) -> bytes:
        if self.stored is not None:
            return self.stored
        return frame_of(self.raw) if self.codec == 1 else self.raw


PACK_SALT = drawn("pack salt", 32)


def sealed_pack(pieces: list[Piece], *, magic: bytes = b"SAP1", epoch: int = 1) -> bytes:
    aead = AESGCM(hkdf(purpose(ROOT, "pack"), PACK_SALT, b""))
    data = magic + struct.pack(">I", epoch) + PACK_SALT
    for position, piece in enumerate(pieces):
        associated = piece.id + struct.pack(">IB", piece.length, piece.codec)
        data += aead.encrypt(position.to_bytes(12), piece.bytes_stored, associated)
    return data + drawn("pack padding", padme(len(data)) - len(data))


def record_of(data: bytes, pieces: list[Piece]) -> Json:
    return {
        "id": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "epoch": 1,
        "salt": PACK_SALT.hex(),
        "chunks": [
            [piece.id.hex(), len(piece.bytes_stored) + 16, piece.length, piece.codec] for piece in pieces
        ],
    }


def pack() -> None:
    generator = random.Random(1)
    text = b"".join(b"line %d of a text that compresses\n" % line for line in range(12))
    pieces = [Piece(generator.randbytes(100)), Piece(text, 1), Piece(generator.randbytes(100)), Piece(b"z")]
    data = sealed_pack(pieces)
    record = record_of(data, pieces)
    ends = [40]
    for chunk in record["chunks"]:
        ends.append(ends[-1] + chunk[1])
    assert ends[-1] < len(data)

    def given(data: bytes, record: Json, root: bytes = ROOT) -> Json:
        return {"root": root.hex(), "record": record, "pack": data.hex()}

    raws = [piece.raw.hex() for piece in pieces]
    good("pack", "mixed", "stored and compressed chunks", given(data, record), {"chunks": raws})
    single = sealed_pack([Piece(b"a")])
    good(
        "pack",
        "one-byte",
        "the smallest",
        given(single, record_of(single, [Piece(b"a")])),
        {"chunks": ["61"]},
    )
    part = {"root": ROOT.hex(), "record": record, "position": 1, "range": data[ends[1] : ends[2]].hex()}
    good("pack", "range", "one chunk from a range", part, {"chunk": raws[1]})

    def refuse(
        name: str, about: str, data: bytes, record: Json, breaks: str, error: str = "Tampered"
    ) -> None:
        bad("pack", name, about, given(data, record), breaks=breaks, error=error)

    def refuse_range(
        name: str, about: str, at: int, sealed: bytes, breaks: str, error: str, **parts: object
    ) -> None:
        given = {"root": ROOT.hex(), "record": record | parts, "position": at, "range": sealed.hex()}
        bad("pack", name, about, given, breaks=breaks, error=error)

    def renamed(data: bytes) -> Json:
        return record | {"id": hashlib.sha256(data).hexdigest()}

    # The object is not the recorded one.
    for name, offset in (("header", 0), ("chunk", 50), ("padding", -1)):
        refuse(f"digest-{name}", f"a flipped bit in the {name}", flipped(data, offset), record, "digest")
    refuse("digest-record", "another id in the record", data, record | {"id": bytes(32).hex()}, "digest")
    refuse("trailing", "a byte after it", data + b"\0", record, "trailing")
    for name, end in (
        ("empty", 0),
        ("header", 40),
        ("chunk", ends[2]),
        ("padding", ends[-1]),
        ("last", len(data) - 1),
    ):
        refuse(f"truncated-{name}", f"{end} bytes only", data[:end], record, "truncated", "Truncated")

    # It has the recorded name, but the bytes are altered.
    for name, offset, breaks, error in (
        ("magic", 3, "magic", "TooNew"),
        ("epoch", 7, "epoch", "Tampered"),
        ("salt", 8, "salt", "Tampered"),
        ("chunk-first", 40, "chunk", "Tampered"),
        ("chunk-compressed", ends[1] + 3, "chunk", "Tampered"),
        ("tag-first", ends[1] - 16, "tag", "Tampered"),
        ("tag-last", ends[4] - 1, "tag", "Tampered"),
    ):
        altered = flipped(data, offset)
        refuse(name, f"a flipped bit at {offset}", altered, renamed(altered), breaks, error)
    third = data[ends[2] : ends[3]]
    swapped = data[:40] + third + data[ends[1] : ends[2]] + data[40 : ends[1]] + data[ends[3] :]
    refuse("swapped", "two chunks of equal length exchanged", swapped, renamed(swapped), "order")
    order = [record["chunks"][at] for at in (2, 1, 0, 3)]
    refuse(
        "swapped-both", "exchanged in the record too", swapped, renamed(swapped) | {"chunks": order}, "order"
    )
    bad("pack", "root", "with another root", given(data, record, OTHER_ROOT), breaks="key", error="Tampered")

    # The record is wrong.
    refuse("record-epoch", "epoch 2", data, record | {"epoch": 2}, "record-epoch", "TooNew")
    refuse("record-salt", "another salt", data, record | {"salt": bytes(32).hex()}, "record-salt")
    refuse(
        "record-size", "another Padmé length", data, record | {"size": padme(len(data) + 1)}, "padme-length"
    )
    unpadded = data[: ends[-1]]
    refuse("padme-none", "no padding", unpadded, renamed(unpadded) | {"size": len(unpadded)}, "padme-length")

    def lying(position: int, field: int, value: object) -> list[list[object]]:
        chunks = [list(chunk) for chunk in record["chunks"]]
        chunks[position][field] = value
        return chunks

    first = data[40 : ends[1]]
    refuse_range(
        "record-chunk-id",
        "another chunk's id",
        0,
        first,
        "chunk-id",
        "Tampered",
        chunks=lying(0, 0, pieces[1].id.hex()),
    )
    refuse_range(
        "record-raw-length", "another length", 0, first, "raw-length", "Tampered", chunks=lying(0, 2, 99)
    )
    second = data[ends[1] : ends[2]]
    refuse_range("record-codec", "stored, it says", 1, second, "codec", "Tampered", chunks=lying(1, 3, 0))
    refuse_range(
        "record-more", "chunks beyond the end", 0, first, "record-sizes", "Tampered", chunks=lying(0, 1, 5000)
    )
    many = [[pieces[0].id.hex(), MIB, MIB - 16, 0]] * 17
    too_large = {"size": padme(40 + 17 * MIB), "chunks": many}
    refuse_range("record-oversized", "17 MiB", 0, b"", "pack-size", "Tampered", **too_large)

    # A range is wrong.
    refuse_range("range-short", "a byte less", 0, first[:-1], "range", "Truncated")
    refuse_range("range-empty", "nothing", 0, b"", "range", "Truncated")
    refuse_range("range-long", "a byte more", 0, data[40 : ends[1] + 1], "range", "Tampered")
    refuse_range("range-shifted", "a byte later", 0, data[41 : ends[1] + 1], "range", "Tampered")
    refuse_range("position", "the chunk at another position", 2, first, "position", "Tampered")

    # Authentic, but the chunk breaks its rules.
    for name, about, piece, breaks, error in (
        ("codec-unknown", "codec 2", Piece(text, 2), "codec", "TooNew"),
        (
            "stored-short",
            "stored, a byte less than it says",
            Piece(text, raw_length=len(text) + 1),
            "raw-length",
            "Tampered",
        ),
        (
            "stored-long",
            "stored, a byte more than it says",
            Piece(text, raw_length=len(text) - 1),
            "raw-length",
            "Tampered",
        ),
        (
            "frame-short",
            "a byte less than it says",
            Piece(text, 1, raw_length=len(text) + 1),
            "raw-length",
            "Tampered",
        ),
        (
            "frame-long",
            "a byte more than it says",
            Piece(text, 1, raw_length=len(text) - 1),
            "raw-length",
            "Tampered",
        ),
        ("frame-oversized", "2 MiB", Piece(text, 1, bomb(2 * MIB)), "frame-size", "Tampered"),
        (
            "frame-over-raw-length",
            "2 MiB, and says so",
            Piece(text, 1, bomb(2 * MIB), 2 * MIB),
            "raw-length",
            "Tampered",
        ),
        ("frame-unsized", "no size", Piece(text, 1, frame_of_unknown_size(text)), "frame-size", "Tampered"),
        ("frame-two", "two frames", Piece(text, 1, frame_of(text) * 2), "frame-count", "Tampered"),
        (
            "frame-trailing",
            "a byte after it",
            Piece(text, 1, frame_of(text) + b"\0"),
            "frame-count",
            "Tampered",
        ),
        ("frame-window", "8 MiB", Piece(text, 1, raw_frame(text, window=0x68)), "frame-window", "Tampered"),
        (
            "frame-dictionary",
            "a dictionary",
            Piece(text, 1, raw_frame(text, dictionary=7)),
            "frame-dictionary",
            "Tampered",
        ),
        ("frame-magic", "no frame", Piece(text, 1, text), "frame-header", "Tampered"),
        ("frame-cut", "no end", Piece(text, 1, frame_of(text)[:-3]), "frame-content", "Tampered"),
        ("chunk-empty", "no content", Piece(b""), "raw-length", "Tampered"),
    ):
        data = sealed_pack([piece])
        refuse(name, f"one chunk: {about}", data, record_of(data, [piece]), breaks, error)
    refuse("magic-authentic", "another magic, sealed so", *other_magic(), "magic", "TooNew")


def other_magic() -> tuple[bytes, Json]:
    data = sealed_pack([Piece(b"a")], magic=b"SAP2")
    return data, record_of(data, [Piece(b"a")])


if __name__ == "__main__":
    main()

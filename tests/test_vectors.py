"""The frozen vectors of format 1, each read and none regenerated.

`vectors/make_vectors.py` tells what a case file holds. A new layout needs a
reader here, and every way to break it a bad case.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from syncagent import errors
from syncagent.crypto.chunk import chunk_count, content_digest, digest_of, verify_chunk
from syncagent.crypto.keys import VAULT_SCOPE, RootSecret, VaultKeys, cache_key
from syncagent.crypto.keyslot import open_slot, parse_slot, passphrase_bytes
from syncagent.crypto.pack import PackOpener, check_pack
from syncagent.crypto.recovery import is_recovery_code, recovery_bytes
from syncagent.crypto.sealed import open_object, padme
from syncagent.model import CHUNK_SIZE, ChunkId, Codec, PackedChunk, PackRecord, SlotId

VECTORS = Path(__file__).parent / "vectors"

Json = Mapping[str, Any]


def read_derivation(given: Json) -> Json:
    root = RootSecret(unhex(given["root"]))
    keys = VaultKeys(root, given.get("epoch", 1))
    salt = unhex(given["salt"])
    return {
        "object_key": keys.object_key(salt, given["name"]).hex(),
        "pack_key": keys.pack_key(salt).hex(),
        "cache_key": cache_key(root, salt).hex(),
    }


def read_passphrase(given: Json) -> Json:
    return {"bytes": passphrase_bytes(given["text"]).hex()}


def read_recovery_code(given: Json) -> Json:
    return {"secret": recovery_bytes(given["code"]).hex()}


def read_key_slot(given: Json) -> Json:
    slot = parse_slot(SlotId(unhex(given["slot_id"])), given["slot"].encode())
    contents = open_slot(slot, unhex(given["secret"]))
    roots = {str(epoch): root.reveal().hex() for epoch, root in contents.roots.items()}
    return {"format": contents.format, "vault_id": contents.vault_id.hex(), "roots": roots}


def read_padme(given: Json) -> Json:
    return {"padded": [padme(length) for length in given["lengths"]]}


def read_sealed_object(given: Json) -> Json:
    return {"payload": open_object(keys_of(given), given["name"], unhex(given["object"])).hex()}


def read_chunk_id(given: Json) -> Json:
    keys = keys_of(given)
    raw = unhex(given["content"])
    scope = unhex(given["scope"])
    if "chunk_id" in given:
        verify_chunk(keys, scope, ChunkId(unhex(given["chunk_id"])), raw)
    if given.get("dedup") == "vault":
        assert scope == VAULT_SCOPE
    if given.get("dedup") == "namespace":
        assert scope == keys.namespace_scope(given["namespace"])
    digest = digest_of(raw)
    chunk_id = keys.chunk_id(scope, digest)
    verify_chunk(keys, scope, chunk_id, raw)
    return {"digest": digest.hex(), "chunk_id": chunk_id.hex()}


def read_content_digest(given: Json) -> Json:
    pattern = unhex(given["repeated"])
    size = given["size"]
    content = (pattern * (size // max(len(pattern), 1) + 1))[:size]
    digests = [digest_of(content[at : at + CHUNK_SIZE]) for at in range(0, size, CHUNK_SIZE)]
    assert len(digests) == chunk_count(size)
    return {
        "chunks": chunk_count(size),
        "digests": [digest.hex() for digest in digests],
        "content_digest": content_digest(digests).hex(),
    }


def read_pack(given: Json) -> Json:
    fields = given["record"]
    record = PackRecord(
        unhex(fields["id"]),
        fields["size"],
        fields["epoch"],
        unhex(fields["salt"]),
        tuple(
            PackedChunk(unhex(chunk_id), stored_length, raw_length, cast(Codec, codec))
            for chunk_id, stored_length, raw_length, codec in fields["chunks"]
        ),
    )
    keys = keys_of(given)
    if "range" in given:
        return {"chunk": PackOpener(keys, record).open(given["position"], unhex(given["range"])).hex()}
    data = unhex(given["pack"])
    check_pack(record, data)
    opener = PackOpener(keys, record)
    view = memoryview(data)
    positions = range(len(record.chunks))
    return {"chunks": [opener.open(at, view[opener.offset(at) : opener.stop(at)]).hex() for at in positions]}


READERS: dict[str, Callable[[Json], Json]] = {
    "derivation": read_derivation,
    "passphrase": read_passphrase,
    "recovery-code": read_recovery_code,
    "key-slot": read_key_slot,
    "padme": read_padme,
    "sealed-object": read_sealed_object,
    "chunk-id": read_chunk_id,
    "content-digest": read_content_digest,
    "pack": read_pack,
}

REGIONS: dict[str, set[str]] = {
    "derivation": {"epoch"},
    "passphrase": {"empty", "encoding"},
    "recovery-code": {"secret", "checksum", "length", "alphabet"},
    "key-slot": {
        # what is bound
        "secret", "slot-id", "kind", "salt", "memory", "iterations", "lanes", "commitment", "wrapped", "tag",
        # what it may cost
        "memory-below", "memory-above", "memory-huge", "memory-negative",
        "iterations-below", "iterations-above", "lanes-below", "lanes-above",
        # how it is spelt
        "version", "kdf-name", "number", "field", "spelling", "duplicate", "base64", "nested",
        "trailing", "oversized", "truncated",
        # what it holds
        "contents",
    },
    "padme": set(),
    "sealed-object": {
        "magic", "epoch", "salt", "body", "tag", "truncated", "trailing", "name", "key",
        "frame-length", "padding", "padme-length",
        "frame-size", "frame-count", "frame-header", "frame-window", "frame-dictionary", "frame-content",
    },
    "chunk-id": {"content", "chunk-id", "scope", "key"},
    "content-digest": set(),
    "pack": {
        "digest", "trailing", "truncated", "magic", "epoch", "salt", "chunk", "tag", "order", "key",
        "record-epoch", "record-salt", "record-sizes", "padme-length", "pack-size",
        "chunk-id", "raw-length", "codec", "range", "position",
        "frame-size", "frame-count", "frame-header", "frame-window", "frame-dictionary", "frame-content",
    },
}  # fmt: skip

CASES = sorted(VECTORS.glob("*/*.json"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_vector(path: Path) -> None:
    case = json.loads(path.read_text())
    read = READERS[path.parent.name]
    if path.name.startswith("good-"):
        assert read(case["input"]) == case["output"]
    else:
        with pytest.raises(errors.SyncAgentError) as raised:
            read(case["input"])
        assert type(raised.value).__name__ == case["error"]


def test_every_layout_is_read_and_every_way_to_break_it_has_a_bad_case() -> None:
    assert {path.parent.name for path in CASES} == set(READERS) == set(REGIONS)
    for layout, regions in REGIONS.items():
        cases = [path for path in CASES if path.parent.name == layout]
        assert any(path.name.startswith("good-") for path in cases), layout
        bad = [path for path in cases if path.name.startswith("bad-")]
        assert {json.loads(path.read_text())["breaks"] for path in bad} == regions, layout
        assert all(path.name.startswith(("good-", "bad-")) for path in cases)


def test_the_examples_of_the_document_are_vectors() -> None:
    document = (VECTORS.parent.parent / "docs" / "format.md").read_text()
    slot = json.loads((VECTORS / "key-slot" / "good-passphrase.json").read_text())
    code = json.loads((VECTORS / "recovery-code" / "good-as-shown.json").read_text())
    unbroken = document.replace("\n    ", "")
    for example in (
        slot["input"]["slot_id"],
        slot["input"]["slot"],
        slot["output"]["vault_id"],
        slot["output"]["roots"]["1"],
    ):
        assert example in unbroken
    assert unhex(slot["input"]["secret"]).decode() in document
    assert f"`{code['input']['code']}` is `{code['output']['secret']}`" in document
    lengths, padded = (
        [int(cell) for cell in line.split("|")[2:-1]]
        for line in document.splitlines()
        if line.startswith(("| L |", "| padme(L) |"))
    )
    assert [padme(length) for length in lengths] == padded


def test_good_recovery_codes_are_told_from_other_texts() -> None:
    for path in (VECTORS / "recovery-code").glob("*.json"):
        code = json.loads(path.read_text())["input"]["code"]
        assert is_recovery_code(code) is path.name.startswith("good-")


def keys_of(given: Json) -> VaultKeys:
    return VaultKeys(RootSecret(unhex(given["root"])))


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)

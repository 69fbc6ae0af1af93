import copy
import pickle

import pytest

from syncagent.crypto.keys import (
    VAULT_SCOPE,
    RootSecret,
    VaultKeys,
    cache_key,
    hkdf,
    new_root,
    random_scope,
)
from syncagent.errors import TooNew

ROOT = RootSecret(bytes(range(32)))


@pytest.mark.parametrize(
    ("key", "salt", "info", "length", "expected"),
    [
        pytest.param(
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            id="RFC 5869 A.1",
        ),
        pytest.param(
            "0b" * 22,
            "",
            "",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            id="RFC 5869 A.3",
        ),
    ],
)
def test_hkdf_is_that_of_the_rfc(key: str, salt: str, info: str, length: int, expected: str) -> None:
    derived = hkdf(bytes.fromhex(key), salt=bytes.fromhex(salt), info=bytes.fromhex(info), length=length)
    assert derived.hex() == expected


@pytest.mark.parametrize("secret", [ROOT, VaultKeys(ROOT)], ids=["root", "keys"])
def test_secrets_show_nothing_and_do_not_travel(secret: object) -> None:
    assert repr(secret) == str(secret) == f"<{type(secret).__name__}>"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        copy.copy(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)
    with pytest.raises(AttributeError):
        _ = secret.__dict__


def test_roots_compare_by_value_and_are_not_hashed() -> None:
    assert RootSecret(bytes(range(32))) == ROOT
    assert RootSecret(bytes(32)) != ROOT
    assert bytes(range(32)) != ROOT
    with pytest.raises(TypeError):
        hash(ROOT)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_root_has_32_bytes(length: int) -> None:
    with pytest.raises(ValueError):
        RootSecret(bytes(length))


def test_fresh_secrets_differ() -> None:
    assert new_root() != new_root()
    assert random_scope() != random_scope()
    assert len(random_scope()) == len(VAULT_SCOPE) == 16


@pytest.mark.parametrize("epoch", [0, 2, 1 << 31])
def test_only_epoch_1_exists(epoch: int) -> None:
    with pytest.raises(TooNew):
        VaultKeys(ROOT, epoch)


def test_every_key_is_for_one_use() -> None:
    keys = VaultKeys(ROOT)
    other = VaultKeys(new_root())
    salt = bytes(32)
    derived = [
        ROOT.reveal(),
        keys.pack_key(salt),
        keys.pack_key(bytes(31) + b"\1"),
        keys.object_key(salt, ""),
        keys.object_key(salt, "vault"),
        keys.object_key(bytes(31) + b"\1", "vault"),
        other.object_key(salt, "vault"),
        cache_key(ROOT, salt),
        cache_key(ROOT, bytes(31) + b"\1"),
    ]
    assert len(set(derived)) == len(derived)
    assert all(len(key) == 32 for key in derived)
    assert keys.epoch == 1


def test_scopes_part_equal_content() -> None:
    keys = VaultKeys(ROOT)
    digest = bytes(32)
    scopes = [VAULT_SCOPE, keys.namespace_scope("mail"), keys.namespace_scope("notes"), random_scope()]
    assert len({keys.chunk_id(scope, digest) for scope in scopes}) == 4
    assert keys.namespace_scope("mail") == keys.namespace_scope("mail")
    assert keys.namespace_scope("mail") != VaultKeys(new_root()).namespace_scope("mail")

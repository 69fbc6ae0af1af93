"""The profile folder: unlocking it offline, what it lets others see, and that it is there whole or not."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import syncagent
from syncagent import files
from syncagent.cache import meta, profile
from syncagent.cache.profile import (
    Credential,
    Profile,
    create_profile,
    open_database,
    open_slots,
    publish_profile,
    read_slots,
    unlock_profile,
)
from syncagent.crypto.keys import RootSecret
from syncagent.crypto.keyslot import FLOOR_KDF
from syncagent.errors import (
    CacheDamaged,
    CacheFull,
    ConfigError,
    SyncAgentError,
    TooNew,
    VaultExists,
    VaultNotFound,
    WrongPassphrase,
)
from tests.conftest import no_room

from .samples import PASSPHRASE, Home

GOOD = Credential.of(passphrase=PASSPHRASE, recovery_code=None)


def passphrase_slot(home: Home) -> Path:
    (path,) = (path for path in home.profile.keys.iterdir() if b'"passphrase"' in path.read_bytes())
    return path


@pytest.fixture(params=["passphrase", "recovery code"])
def credential(request: pytest.FixtureRequest, home: Home) -> Credential:
    if request.param == "passphrase":
        return GOOD
    return Credential.of(passphrase=None, recovery_code=home.recovery_code)


def test_a_vault_is_unlocked_without_its_remote(home: Home, credential: Credential) -> None:
    shutil.rmtree(home.remote)
    db = unlock_profile(home.profile, credential)
    assert meta.get_bytes(db, meta.ROOT) == home.root.reveal()
    db.close()


def test_a_credential_is_one_of_the_two_and_does_not_show(home: Home) -> None:
    for both in ((None, None), (PASSPHRASE, home.recovery_code)):
        with pytest.raises(ConfigError):
            Credential.of(passphrase=both[0], recovery_code=both[1])
    assert PASSPHRASE not in repr(GOOD) and "PASSPHRASE" in repr(GOOD)


@pytest.mark.parametrize(
    "wrong", [PASSPHRASE + " ", PASSPHRASE.upper(), " " + PASSPHRASE, "x"], ids=["end", "case", "start", "x"]
)
def test_a_wrong_passphrase_changes_nothing(home: Home, wrong: str) -> None:
    before = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    with pytest.raises(WrongPassphrase):
        unlock_profile(home.profile, Credential.of(passphrase=wrong, recovery_code=None))
    assert {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()} == before


def test_a_missing_profile_is_not_a_wrong_passphrase(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(VaultNotFound):
            unlock_profile(Profile(folder), GOOD)
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "altered", "unknown", "newer", "empty", "large", "text"])
def test_a_damaged_slot_copy_does_not_stop_a_good_one(home: Home, damage: str) -> None:
    good = passphrase_slot(home)
    for name in ("0" * 32, "f" * 32):  # one sorts before the good one, one after
        bad = good.with_name(name)
        data = good.read_bytes()
        match damage:
            case "cut":
                bad.write_bytes(data[: len(data) // 2])
            case "altered":  # still a slot, which does not open
                at = data.index(b'"commitment":"') + 20
                bad.write_bytes(data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :])
            case "unknown":
                bad.write_bytes(data.replace(b'"commitment"', b'"commitmeot"'))
            case "newer":
                bad.write_bytes(data.replace(b'"version":1', b'"version":2'))
            case "empty":
                bad.write_bytes(b"")
            case "large":
                bad.write_bytes(data + b" " * 5000)
            case "text":
                bad.write_bytes(b"\xff\xfe")
        assert bad.read_bytes() != data
    good.with_name("notes.txt").write_text("not a slot")
    good.with_name("z" * 32).write_text("not a slot either")
    unlock_profile(home.profile, GOOD).close()


def test_without_a_good_slot_copy_the_recovery_code_still_opens(home: Home) -> None:
    slot = passphrase_slot(home)
    slot.write_bytes(slot.read_bytes()[:100])
    with pytest.raises(WrongPassphrase):
        unlock_profile(home.profile, GOOD)
    unlock_profile(home.profile, Credential.of(passphrase=None, recovery_code=home.recovery_code)).close()
    for path in home.profile.keys.iterdir():
        path.write_bytes(b"{")
    with pytest.raises(WrongPassphrase) as caught:
        read_slots(home.profile)
    assert "restore" in caught.value.todo


def test_slots_that_are_all_newer_are_not_a_wrong_passphrase(home: Home) -> None:
    for path in home.profile.keys.iterdir():
        path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(TooNew):
        unlock_profile(home.profile, GOOD)


@pytest.mark.parametrize(
    ("name", "data"), [("cache.salt", None), ("cache.salt", b"short"), ("cache.db", None), ("keys", None)]
)
def test_a_missing_part_is_named_and_nothing_is_made_in_its_place(
    home: Home, name: str, data: bytes | None
) -> None:
    path = home.folder / name
    if path.is_dir():
        shutil.rmtree(path)
    elif data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    names = sorted(home.folder.iterdir())
    with pytest.raises(CacheDamaged):
        unlock_profile(home.profile, GOOD)
    assert sorted(home.folder.iterdir()) == names


def test_a_salt_of_another_profile_does_not_open(home: Home) -> None:
    home.profile.salt.write_bytes(os.urandom(32))
    before = home.profile.database.read_bytes()
    with pytest.raises(CacheDamaged):
        open_database(home.profile, home.root)
    assert home.profile.database.read_bytes() == before


@pytest.mark.anyio
async def test_nobody_else_may_read_the_folder(home: Home, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = tmp_path / "fresh"
        await syncagent.create_vault(
            folder, remote=(tmp_path / "fresh-remote").as_uri(), passphrase=PASSPHRASE, kdf=FLOOR_KDF
        )
        async with syncagent.open_vault(folder, passphrase=PASSPHRASE) as vault:
            await vault.namespace("notes").put("large", bytes(300_000))
            await vault.sync()
            paths = [folder, *folder.rglob("*")]
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
            kinds = {path.name: path.is_dir() for path in paths}
    finally:
        os.umask(before)
    assert {"cache.db", "cache.db-wal", "cache.db-shm", "cache.salt", "sync.lock", "packs", "keys"} <= set(
        modes
    )
    assert len(modes) == 8 + 2 + 1, "two slots and a pack file"
    assert modes == {name: 0o700 if kinds[name] else 0o600 for name in modes}


# Whole or not at all -----------------------------------------------------------------------------------


def test_a_profile_is_published_under_its_name(tmp_path: Path) -> None:
    root = RootSecret(b"r" * 32)
    (tmp_path / "wanted").mkdir()
    create_profile(tmp_path / "temporary", root, {}).close()
    publish_profile(tmp_path / "temporary", tmp_path / "wanted")
    assert [path.name for path in tmp_path.iterdir()] == ["wanted"]
    open_database(Profile(tmp_path / "wanted"), root).close()


def test_a_folder_with_something_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "wanted").mkdir()
    (tmp_path / "wanted" / "a file").write_text("mine")
    create_profile(tmp_path / "temporary", RootSecret(b"r" * 32), {}).close()
    with pytest.raises(SyncAgentError):
        publish_profile(tmp_path / "temporary", tmp_path / "wanted")
    assert (tmp_path / "wanted" / "a file").read_text() == "mine"


@pytest.mark.anyio
@pytest.mark.parametrize("step", ["create_profile", "_write_identity", "_claim", "publish_profile"])
async def test_an_interrupted_creation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from syncagent import membership

    def interrupt(*args: object) -> None:
        if step == "create_profile":  # half-way: some of the files are there
            assert isinstance(args[0], Path)
            args[0].mkdir()
            (args[0] / "cache.salt").write_bytes(bytes(32))
        raise CacheFull("the disk of the local cache is full")

    async def claim(*args: object) -> None:
        interrupt(*args)

    (tmp_path / "here").mkdir()
    wanted = tmp_path / "here" / "profile"
    with monkeypatch.context() as patch:
        patch.setattr(membership, step, claim if step == "_claim" else interrupt)
        with pytest.raises(CacheFull):
            await create(wanted, tmp_path)
    assert list((tmp_path / "here").iterdir()) == []
    if step != "publish_profile":  # the remote is claimed by then: that vault cannot be made twice
        await create(wanted, tmp_path)
        async with syncagent.open_vault(wanted, passphrase=PASSPHRASE):
            pass


async def create(wanted: Path, tmp_path: Path) -> None:
    await syncagent.create_vault(
        wanted, remote=(tmp_path / "remote").as_uri(), passphrase=PASSPHRASE, kdf=FLOOR_KDF
    )


@pytest.mark.anyio
async def test_a_vault_is_never_made_over_another(home: Home, tmp_path: Path) -> None:
    with pytest.raises(VaultExists):
        await create(home.folder, tmp_path / "elsewhere")
    home.profile.database.unlink()
    with pytest.raises(VaultExists):  # what is left of one may still be of use
        await create(home.folder, tmp_path / "elsewhere")


def test_a_small_file_is_whole_or_as_it_was(
    tmp_path: Path, observed: Callable[[files.Observer], None]
) -> None:
    path = tmp_path / "file"
    files.write_file(path, b"before")
    observed(no_room)
    with pytest.raises(CacheFull), profile.disk_errors():
        files.write_file(path, b"after")
    assert path.read_bytes() == b"before"


def test_what_a_slot_copy_opens_is_the_vault(home: Home) -> None:
    assert open_slots(read_slots(home.profile), GOOD).root == home.root

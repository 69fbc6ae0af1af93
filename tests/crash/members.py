"""Creating a vault, joining it and replacing its passphrase, killed anywhere."""

import contextlib
from pathlib import Path

import syncagent
from syncagent.cache.profile import Credential, Profile, open_slots, read_slots
from syncagent.errors import VaultExists, WrongPassphrase
from syncagent.remote.base import Remote
from syncagent.remote.directory import DirectoryRemote
from syncagent.vault import Vault
from tests.crash.place import Place, contents
from tests.crash.points import Points
from tests.crash.work import Acks, Scenario
from tests.engine.world import PASSPHRASE

NEW = "new secret"


async def prepare_nothing(place: Place) -> None:
    place.folder.mkdir(parents=True)


async def _create(place: Place) -> None:
    await syncagent.create_vault(
        place.folder / "home" / "vaults" / "a",
        remote=(place.folder / "mnt" / "remote").as_uri(),
        passphrase=PASSPHRASE,
        device_name="a",
        kdf=syncagent.FLOOR_KDF,
    )


async def _join(place: Place, path: str, passphrase: str = PASSPHRASE) -> None:
    remote = place.folder / "mnt" / "remote"
    await syncagent.join_vault(
        place.folder / path, remote=remote.as_uri(), passphrase=passphrase, device_name=path.replace("/", "-")
    )


def _open(place: Place, path: str, passphrase: str, remote: Remote | None = None) -> Vault:
    # The vault's own URL is that of the folder from which this one was copied.
    remote = DirectoryRemote(place.folder / "mnt" / "remote") if remote is None else remote
    return syncagent.open_vault(place.folder / path, passphrase=passphrase, remote=remote)


async def _run_create(place: Place, points: Points) -> None:
    await _create(place)
    points.acknowledge("created")


async def _check_create(place: Place, acks: Acks) -> None:
    profile = place.folder / "home" / "vaults" / "a"
    if acks:
        assert profile.is_dir(), "an acknowledged vault is gone"
    if not profile.exists():
        with contextlib.suppress(VaultExists):
            await _create(place)
    if not profile.exists():  # it was made at the remote: its passphrase opens it
        await _join(place, "home/vaults/a")
    await _check_members(place, PASSPHRASE, "home/vaults/a")


async def _check_members(place: Place, passphrase: str, path: str) -> None:
    """The vault is usable here, another device can join it, and blobs go over."""
    async with _open(place, path, passphrase) as vault:
        await vault.namespace("notes").put("x", b"x")
        report = await vault.sync()
        assert not report.alarms and not report.failed
    await _join(place, "other", passphrase)
    async with _open(place, "other", passphrase) as vault:
        report = await vault.sync()
        assert not report.alarms and not report.failed
        assert await contents(vault) == {"x": b"x"}
    for left in (place.folder / path).parent.glob("*.new-*"):
        assert left.is_dir()  # removed a day later by another attempt, see test_interrupted_membership


async def _run_join(place: Place, points: Points) -> None:
    await _join(place, "home/vaults/b")
    points.acknowledge("joined")


async def _prepare_join(place: Place) -> None:
    await prepare_nothing(place)
    await _create(place)


async def _check_join(place: Place, acks: Acks) -> None:
    profile = place.folder / "home" / "vaults" / "b"
    if acks:
        assert profile.is_dir(), "an acknowledged device is gone"
    if not profile.exists():
        await _join(place, "home/vaults/b")
    await _check_members(place, PASSPHRASE, "home/vaults/b")


async def _run_passphrase(place: Place, points: Points) -> None:
    remote = points.remote(DirectoryRemote(place.folder / "mnt" / "remote"))
    async with _open(place, "home/vaults/a", PASSPHRASE, remote) as vault:
        await vault.change_passphrase(NEW, kdf=syncagent.FLOOR_KDF)
    points.acknowledge("changed")


async def _check_passphrase(place: Place, acks: Acks) -> None:
    path = "home/vaults/a"
    if not acks:
        opening = PASSPHRASE if _opens(place.folder / path, PASSPHRASE) else NEW
        async with _open(place, path, opening) as vault:
            await vault.change_passphrase(NEW, kdf=syncagent.FLOOR_KDF)
    await _check_members(place, NEW, path)
    assert not _opens(place.folder / path, PASSPHRASE), "the replaced passphrase still opens the vault"
    try:
        await _join(place, "late", PASSPHRASE)
    except WrongPassphrase:
        return
    raise AssertionError("the replaced passphrase still lets a device join")


def _opens(profile: Path, passphrase: str) -> bool:
    try:
        open_slots(read_slots(Profile(profile)), Credential.of(passphrase=passphrase, recovery_code=None))
    except WrongPassphrase:
        return False
    return True


MEMBERS = {
    "init": Scenario(prepare_nothing, _run_create, _check_create),
    "join": Scenario(_prepare_join, _run_join, _check_join),
    "passphrase": Scenario(_prepare_join, _run_passphrase, _check_passphrase),
}

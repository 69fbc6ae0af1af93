"""Vaults, users and tokens of the reference server, as the library meets them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import syncagent
from syncagent.errors import (
    AppendOnly,
    ConfigError,
    ObjectExists,
    ObjectNotFound,
    ObjectRefused,
    QuotaExceeded,
    RemoteRolledBack,
    RemoteStopped,
    Unauthorized,
    VaultNotFound,
    WrongPassphrase,
)
from syncagent.remote import Access, locate, open_remote
from tests.server.running import RunningServer, add_user, running_server

pytestmark = pytest.mark.anyio

_numbers = itertools.count(1)
RECORD = f"devices/{'0' * 32}"
PACK = f"packs/{'0' * 64}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


def new_user(
    server: RunningServer, *, quota_bytes: int | None = None, is_append_only: bool = False
) -> Access:
    """The access of a user without vaults."""
    name = f"user-{next(_numbers)}"
    return Access(token=add_user(server.data, name, quota_bytes=quota_bytes, is_append_only=is_append_only))


@pytest.fixture
def access(server: RunningServer) -> Access:
    return new_user(server)


async def test_a_server_without_a_name_is_asked_for_the_tokens_only_vault(
    server: RunningServer, access: Access
) -> None:
    with pytest.raises(VaultNotFound, match="no vault"):
        await locate(server.url, access=access)
    first = await open_remote(server.url, access=access, create=True)
    await first.put(RECORD, b"x")
    assert await locate(server.url, access=access) == f"{server.url}/default"
    assert await locate(f"{server.url}/", access=access) == f"{server.url}/default"
    again = await open_remote(server.url, access=access)
    assert await again.get(RECORD) == b"x"
    other = await open_remote(f"{server.url}/other", access=access, create=True)
    with pytest.raises(ConfigError, match="has 2 vaults at the server: 'default, other'") as caught:
        await locate(server.url, access=access)
    assert f"{server.url}/default" in caught.value.todo
    for remote in (first, again, other):
        await remote.aclose()


async def test_making_a_vault_again_takes_it_as_it_is(server: RunningServer, access: Access) -> None:
    for data in (b"x", None):
        remote = await open_remote(f"{server.url}/mine", access=access, create=True)
        if data:
            await remote.put(RECORD, data)
        assert await remote.get(RECORD) == b"x"
        await remote.aclose()


async def test_who_may_not_is_told(server: RunningServer, access: Access) -> None:
    for wrong in (Access(), Access(token="wrong"), Access(token="x" * 1024)):
        remote = await open_remote(f"{server.url}/mine", access=wrong, retry=False)
        for call in (remote.get("vault"), remote.head("vault"), remote.list(""), remote.put(RECORD, b"x")):
            with pytest.raises(Unauthorized, match="401"):
                await call
        with pytest.raises(Unauthorized):
            await remote.wait_for_change(None, 0)
        with pytest.raises(Unauthorized):
            await remote.delete(RECORD)
        await remote.aclose()
        with pytest.raises(Unauthorized):
            await locate(server.url, access=wrong)
        with pytest.raises(Unauthorized):
            await open_remote(f"{server.url}/mine", access=wrong, create=True)


async def test_a_vault_that_is_not_there_is_no_empty_one(server: RunningServer, access: Access) -> None:
    remote = await open_remote(f"{server.url}/nowhere", access=access, retry=False)
    for call in (remote.list(""), remote.put(RECORD, b"x"), remote.get(RECORD), remote.delete(RECORD)):
        with pytest.raises(RemoteStopped, match="no vault 'nowhere'"):
            await call
    with pytest.raises(RemoteStopped, match="no vault 'nowhere'"):
        await remote.wait_for_change(None, 0)
    with pytest.raises(ObjectNotFound):
        await remote.get("vault")
    await remote.aclose()


async def test_a_token_that_may_only_add(server: RunningServer) -> None:
    access = new_user(server, is_append_only=True)
    remote = await open_remote(f"{server.url}/adds", access=access, create=True, retry=False)
    await remote.put(RECORD, b"first")
    for call in (remote.delete(RECORD), remote.put(RECORD, b"second", overwrite=True)):
        with pytest.raises(AppendOnly):
            await call
    with pytest.raises(ObjectExists):
        await remote.put(RECORD, b"second")
    assert await remote.get(RECORD) == b"first"
    await remote.aclose()


async def test_a_quota_is_named(server: RunningServer) -> None:
    access = new_user(server, quota_bytes=100)
    remote = await open_remote(f"{server.url}/tiny", access=access, create=True, retry=False)
    await remote.put(RECORD, bytes(90))
    with pytest.raises(QuotaExceeded, match="'tiny'") as caught:
        await remote.put("vault", bytes(11))
    assert "100" in str(caught.value)
    await remote.put("vault", bytes(10))
    await remote.aclose()


async def test_a_pack_under_another_name_is_refused_for_itself(server: RunningServer, access: Access) -> None:
    remote = await open_remote(f"{server.url}/mine", access=access, create=True, retry=False)
    with pytest.raises(ObjectRefused, match="422"):
        await remote.put(PACK, b"whatever")
    with pytest.raises(ObjectNotFound):
        await remote.head(PACK)
    await remote.aclose()


async def made(folder: Path, url: str, access: Access) -> None:
    await syncagent.create_vault(
        folder, remote=url, token=access.token, passphrase="of a test", kdf=syncagent.FLOOR_KDF
    )


async def test_a_vault_that_is_gone_at_the_server_is_a_remote_that_went_back(tmp_path: Path) -> None:
    """Also where the server knows nothing of it any more: no device takes that for an empty remote."""
    data = tmp_path / "data"
    with running_server(data) as server:
        url, access = f"{server.url}/gone", new_user(server)
        await made(tmp_path / "a", url, access)
    (vault,) = (data / "vaults").glob("*/gone")
    vault.rename(tmp_path / "kept")
    async with syncagent.open_vault(tmp_path / "a", passphrase="of a test") as device:
        await device.namespace("notes").put("x", b"x")
        with running_server(data, port=int(server.url.rpartition(":")[2])):
            with pytest.raises(RemoteRolledBack):
                await device.sync()
            with pytest.raises(VaultNotFound):
                await syncagent.join_vault(
                    tmp_path / "b", remote=url, token=access.token, passphrase="of a test"
                )
            (tmp_path / "kept").rename(vault)
            assert (await device.sync()).sent == 1


async def test_a_passphrase_is_changed_with_a_token_that_may_not_delete(
    server: RunningServer, tmp_path: Path
) -> None:
    """The old slot stays at the remote, and no journal lists it any more."""
    access = new_user(server, is_append_only=True)
    url = f"{server.url}/append"
    await made(tmp_path / "a", url, access)
    async with syncagent.open_vault(tmp_path / "a", passphrase="of a test") as device:
        await device.change_passphrase("another", kdf=syncagent.FLOOR_KDF)
        for _ in range(2):
            assert (await device.sync()).failed == 0
    remote = await open_remote(url, access=access)
    assert len((await remote.list("keys/")).objects) == 3
    await remote.aclose()
    with pytest.raises(WrongPassphrase):
        await syncagent.join_vault(tmp_path / "b", remote=url, token=access.token, passphrase="of a test")
    await syncagent.join_vault(tmp_path / "c", remote=url, token=access.token, passphrase="another")

"""The object `vault` at the remote: missing, another vault's, or garbled."""

import pytest

from syncagent import names
from syncagent.errors import RemoteRolledBack, TooNew, WrongVault
from tests.engine.world import World, statuses

pytestmark = pytest.mark.anyio


async def test_a_missing_vault_object_is_a_rollback_and_is_never_made_again(world: World) -> None:
    world.hide(names.VAULT)
    await world.put("a", x=b"x")
    before = set(world.names())
    async with world.open("a") as vault:
        with pytest.raises(RemoteRolledBack):
            await vault.sync()
        assert await statuses(vault) == {"x": "PENDING_UPLOAD"}
    assert set(world.names()) == before


async def test_an_emptied_remote_is_a_rollback(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    world.store.objects.clear()
    async with world.open("a") as vault:
        with pytest.raises(RemoteRolledBack):
            await vault.sync()
        assert (await vault.namespace("notes").get("x")).data == b"x"
    assert not world.store.objects


async def test_another_vault_is_refused_before_anything_is_sent(world: World) -> None:
    await world.replace(names.VAULT, b'{"format":1,"vault_id":"' + b"00" * 16 + b'"}')
    await world.put("a", x=b"x")
    remote = world.remote()
    with pytest.raises(WrongVault):
        await world.sync("a", remote)
    assert [call.method for call in remote.calls] == ["get"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"{}",
        b"[]",
        b'{"format":2,"vault_id":"' + b"00" * 16 + b'"}',
        b'{"format":1,"vault_id":"00"}',
        b'{"format":1,"vault_id":"zz"}',
        b'{"format":1,"vault_id":"' + b"00" * 16 + b'","more":1}',
        b"[" * 3000,
    ],
)
async def test_a_garbled_vault_object_is_too_new(world: World, data: bytes) -> None:
    await world.replace(names.VAULT, data)
    with pytest.raises(TooNew):
        await world.sync("a")

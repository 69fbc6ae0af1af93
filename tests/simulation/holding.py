"""What users want to have on a device: policies, pins, content given up and brought back."""

from functools import partial

from syncagent.cache import holding
from syncagent.cache.db import Database
from syncagent.model import NamespaceSettings, SyncStatus
from syncagent.names import SETTINGS
from syncagent.vault import Vault
from tests.simulation.model import Content, Name
from tests.simulation.sim import Device, Simulation

WAYS = ("pin", "evict", "evict", "prefetch", "look", "look")
POLICIES = ("eager", "on-demand", "on-demand", "pinned")
_ELSEWHERE = f"SELECT DISTINCT blob_no FROM version WHERE status = {SyncStatus.REMOTE_ONLY}"


async def set_policy(simulation: Simulation, device: Device, namespace: str, policy: str) -> None:
    """For all devices, once they hear of it."""
    await simulation.do(device, lambda vault: vault.namespace(namespace).settings(fetch=policy))


async def hold(simulation: Simulation, device: Device, name: Name, way: str) -> None:
    """Pin, evict or prefetch a blob, or read it without keeping it."""

    async def act(vault: Vault) -> None:
        namespace = vault.namespace(name.namespace)
        match way:
            case "pin":
                await namespace.pin(name.id)
            case "evict":
                await namespace.evict(name.id)
            case "prefetch":
                await namespace.prefetch([name.id])
            case _:
                blob = await namespace.get(name.id, keep=False)
                found = Content.of(blob.data, blob.metadata)
                assert found in simulation.model.attempted.get(name, set()), "bytes that nobody put there"

    await simulation.do(device, act)


async def want_everything(simulation: Simulation, device: Device) -> None:
    """Bring back all that is elsewhere, expired blobs too, so that it can be looked at."""

    def find(db: Database) -> list[int]:
        return [row[0] for row in db.all(_ELSEWHERE)]

    cache = (await simulation.opened(device)).parts()[0].cache
    for blob in await cache.read(find):
        await cache.write(partial(holding.want, blob=blob))


async def settings_of(vault: Vault) -> dict[str, NamespaceSettings]:
    """Of every namespace that has some."""

    def query(db: Database) -> list[str]:
        return [
            row[0]
            for row in db.all(
                "SELECT blob.id FROM blob JOIN namespace ON namespace.no = namespace_no WHERE name = ?",
                (SETTINGS,),
            )
        ]

    names = await vault.parts()[0].cache.read(query)
    return {name: await vault.namespace(name).settings() for name in names}

"""What users do with old versions: read them, and put names on them."""

from syncagent.vault import Vault
from tests.simulation.model import Content, Name
from tests.simulation.sim import Device, Simulation

TAG = "PLAINTEXT-MARKER"


async def read_old(simulation: Simulation, device: Device, name: Name, back: int) -> None:
    """Get one of the versions that the history shows."""

    async def act(vault: Vault) -> None:
        namespace = vault.namespace(name.namespace)
        versions = [one for one in await namespace.history(name.id) if not one.deleted]
        chosen = versions[back % len(versions)] if versions else None
        if chosen is None:
            return
        blob = await namespace.get(name.id, version=chosen)
        found = Content.of(blob.data, blob.metadata)
        assert found in simulation.model.attempted.get(name, set()), "bytes that nobody put there"
        known = simulation.model.versions.get(blob.version.id)
        assert blob.version.id.hex() == chosen.id
        assert known is None or known.content == found, "another version's content"

    await simulation.do(device, act)


async def tag(simulation: Simulation, device: Device, name: Name, back: int, is_on: bool) -> None:
    """Put the name on one of the versions, or take it off."""

    async def act(vault: Vault) -> bytes:
        namespace = vault.namespace(name.namespace)
        versions = await namespace.history(name.id)
        chosen = versions[back % len(versions)]
        change = namespace.tag if is_on else namespace.untag
        await change(name.id, chosen, TAG)
        tagged = {one.id for one in await namespace.history(name.id) if TAG in one.tags}
        assert (chosen.id in tagged) is is_on, "what was said of a tag did not hold"
        return bytes.fromhex(chosen.id)

    version = await simulation.do(device, act)
    if version is not None and is_on:
        simulation.model.tagged.add(version)

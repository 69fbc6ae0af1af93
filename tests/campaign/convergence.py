"""Many devices, thousands of blobs, long times offline: in the end all are equal, and what it took.

    python -m tests.campaign.convergence [--devices 20 --blobs 5000 --operations 20000 --seed 1]

The same seed makes the same edits in the same order on the same devices.
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from syncagent import names
from syncagent.remote.base import Body, ObjectInfo, ObjectPage, Remote, body_size
from syncagent.remote.memory import MemoryRemote
from tests.simulation import users
from tests.simulation.alone import alone
from tests.simulation.checks import check_all
from tests.simulation.healing import heal
from tests.simulation.model import Name
from tests.simulation.sim import NOTES, Device, Simulation, content
from tests.simulation.template import device_name, make_vault, scratch
from tests.simulation.users import Edit

T = TypeVar("T")

ONLINE = 0.3
"""Share of devices that are online at a time."""
SYNC_EVERY = 60
"""Edits of all devices together between two syncs of some device."""


@dataclass(slots=True)
class Traffic:
    """What all devices have asked of the remote."""

    requests: Counter[str] = field(default_factory=Counter)
    sent_bytes: int = 0
    fetched_bytes: int = 0
    batches: int = 0


class CountingRemote:
    """A `Remote` around another that counts its calls and their bytes."""

    def __init__(self, inner: Remote, traffic: Traffic) -> None:
        self._inner = inner
        self._traffic = traffic

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        """See `Remote.put`."""
        self._traffic.sent_bytes += body_size(body)
        self._traffic.batches += name.startswith(names.JOURNAL)
        await self._counted("put", lambda: self._inner.put(name, body, overwrite=overwrite))

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Remote.get`."""
        data = await self._counted("get", lambda: self._inner.get(name, start, stop))
        self._traffic.fetched_bytes += len(data)
        return data

    async def head(self, name: str) -> ObjectInfo:
        """See `Remote.head`."""
        return await self._counted("head", lambda: self._inner.head(name))

    async def delete(self, name: str) -> None:
        """See `Remote.delete`."""
        await self._counted("delete", lambda: self._inner.delete(name))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        """See `Remote.list`."""
        return await self._counted("list", lambda: self._inner.list(prefix, after=after, limit=limit))

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        """See `Remote.wait_for_change`."""
        return await self._inner.wait_for_change(cursor, timeout_s)

    async def aclose(self) -> None:
        """See `Remote.aclose`."""
        await self._inner.aclose()

    async def _counted(self, method: str, act: Callable[[], Awaitable[T]]) -> T:
        self._traffic.requests[method] += 1
        return await act()


async def converge(*, devices: int, blobs: int, operations: int, seed: int) -> Traffic:
    """Edit, sync now and then, heal, and check; what it took of the remote."""
    traffic = Traffic()
    with tempfile.TemporaryDirectory(dir=scratch()) as place:
        template = await make_vault(Path(place, "template"), devices)
        Path(place, "run").mkdir()
        simulation = Simulation(
            template,
            Path(place, "run"),
            [device_name(number) for number in range(devices)],
            make_remote=lambda store: CountingRemote(MemoryRemote(store), traffic),
        )
        try:
            await _edit(simulation, random.Random(seed), blobs, operations)
            await heal(simulation)
            await check_all(simulation)
        finally:
            await simulation.close()
    return traffic


async def _edit(simulation: Simulation, dice: random.Random, blobs: int, operations: int) -> None:
    named = [Name(NOTES, f"blob/{number:05}") for number in range(blobs)]
    online: list[Device] = []
    for number in range(operations):
        simulation.now += dice.expovariate(1 / 30)
        if number % (operations // 20) == 0:  # who is online changes now and then
            online = [device for device in simulation.devices if dice.random() < ONLINE]
        device = dice.choice(simulation.devices)
        name = dice.choice(named)
        kind = dice.random()
        if kind < 0.75:
            data = content("small", dice.randrange(10 * operations))
            await users.put(simulation, device, Edit(name, data))
        elif kind < 0.85:
            await users.delete(simulation, device, name)
        else:
            text, is_set = dice.choice(["seen", "kept"]), dice.random() < 0.6
            await users.flag(simulation, device, name, text, is_set)
        if number % SYNC_EVERY == 0 and online:
            await users.sync(simulation, dice.choice(online))


def main() -> None:
    """Run it and say what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--blobs", type=int, default=5_000)
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with alone(arguments.seed) as process:
        traffic = process.run(converge(**vars(arguments)))
    print(f"{arguments.devices} devices are equal after {arguments.operations} operations")
    print(f"requests: {', '.join(f'{count} {method}' for method, count in sorted(traffic.requests.items()))}")
    print(f"bytes: {traffic.sent_bytes} sent, {traffic.fetched_bytes} fetched; {traffic.batches} batches")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()

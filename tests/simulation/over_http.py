"""The simulation with its store behind the reference server: objects are files, and calls are requests."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import httpx

from syncagent.names import is_object_name
from syncagent.remote.base import Remote
from syncagent.remote.http.address import read_address
from syncagent.remote.http.client import HttpClient
from syncagent.remote.http.remote import HttpRemote
from syncagent.remote.memory import MemoryStore, _Stored
from tests.engine.world import World
from tests.server.running import RunningServer, add_user, client_of
from tests.simulation.sim import Simulation

USER = "simulation"


class Served:
    """Gives simulations: each has a vault of its own at one server."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._token = add_user(server.data, USER)
        self._numbers = itertools.count()

    def make(self, template: World, folder: Path, devices: Sequence[str]) -> Simulation:
        """See `play`."""
        vault = f"run-{next(self._numbers)}"
        with client_of(self._server.url, self._token) as client:
            client.put(f"/v1/vaults/{vault}").raise_for_status()
        address = read_address(f"{self._server.url}/{vault}")

        def remote(store: MemoryStore) -> Remote:
            return HttpRemote(HttpClient(address, self._token, httpx.AsyncHTTPTransport()))

        simulation = Simulation(template, folder, devices, remote)
        simulation.store = StoreOnDisk(self._server.data / "vaults" / USER / vault, simulation.store)
        return simulation


class StoreOnDisk(MemoryStore):
    """The objects of a vault as the server keeps them: read and put back behind its back."""

    def __init__(self, folder: Path, before: MemoryStore) -> None:
        self._folder = folder
        self.objects = before.objects

    @property
    def objects(self) -> dict[str, _Stored]:  # a field, to whoever has the store
        """All of them, as they are now."""
        found = {}
        for path in sorted(self._folder.rglob("*")):
            name = path.relative_to(self._folder).as_posix()
            if is_object_name(name) and path.is_file():
                found[name] = _Stored(path.read_bytes(), path.stat().st_mtime)
        return found

    @objects.setter
    def objects(self, wanted: dict[str, _Stored]) -> None:
        for name in self.objects.keys() - wanted.keys():
            (self._folder / name).unlink()
        for name, stored in wanted.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stored.data)

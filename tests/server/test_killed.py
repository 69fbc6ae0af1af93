"""The server is killed while two devices upload: what it said is stored is there, and nothing by halves."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from random import Random

import httpx
import pytest

from tests.server.running import add_user, client_of, object_path, running_server

OBJECTS_OF_A_DEVICE = 20


def objects_of(device: int) -> dict[str, bytes]:
    """What a device uploads: large and small, in this order."""
    random = Random(device)
    objects = {}
    for seq in range(OBJECTS_OF_A_DEVICE):
        data = random.randbytes(700_000 if seq % 2 else 3_000)
        objects[f"packs/{hashlib.sha256(data).hexdigest()}"] = data
        objects[f"journal/{device:032x}/{seq + 1:012d}"] = data[:2_000]
    return objects


def upload(
    url: str, token: str, objects: dict[str, bytes], acknowledged: set[str], told: "SimpleQueue[str]"
) -> None:
    """Put what is not yet known to be there, until the server goes."""
    try:
        with client_of(url, token) as client:
            for name, data in objects.items():
                if name not in acknowledged:
                    headers = {"If-None-Match": "*"}
                    answer = client.put(object_path(name), content=data, headers=headers)
                    assert answer.status_code in (201, 412)  # stored before, and the answer was lost
                    acknowledged.add(name)
                    told.put(name)
    except httpx.TransportError:
        return


def listed(client: httpx.Client) -> Iterator[str]:
    after, more = "", True
    while more:
        page = client.get("/v1/vaults/default/objects", params={"after": after}).json()
        yield from (one["name"] for one in page["objects"])
        after, more = page["objects"][-1]["name"], page["more"]


@pytest.mark.slow
def test_a_killed_server_loses_nothing_and_shows_no_halves(tmp_path: Path) -> None:
    data = tmp_path / "data"
    token = add_user(data, quota_bytes=1 << 30)
    devices = [objects_of(1), objects_of(2)]
    everything = {name: body for objects in devices for name, body in objects.items()}
    acknowledged: list[set[str]] = [set(), set()]
    port = 0
    for answers in (7, 23, None):  # so many, and the server is killed
        told: SimpleQueue[str] = SimpleQueue()
        with running_server(data, port=port) as server, client_of(server.url, token) as client:
            port = int(server.url.rpartition(":")[2])
            client.put("/v1/vaults/default")
            with ThreadPoolExecutor(2) as pool:
                uploads = [
                    pool.submit(upload, server.url, token, objects, done, told)
                    for objects, done in zip(devices, acknowledged, strict=True)
                ]
                if answers is not None:
                    for _ in range(answers):
                        told.get(timeout=60)
                    server.kill()
                for one in uploads:
                    one.result()
        with running_server(data, port=port) as server, client_of(server.url, token) as client:
            there = list(listed(client))
            assert set().union(*acknowledged) <= set(there)
            for name in there:
                assert client.get(object_path(name)).content == everything[name]
    assert sorted(everything) == there

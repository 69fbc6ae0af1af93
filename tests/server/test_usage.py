"""Quotas, to the byte: beside each other, after what fails, and after a crash."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest

from syncagent.errors import ConfigError
from syncagent.server.embedded import EmbeddedServer
from syncagent.server.usage import Usage
from tests.server.raw import connected, head, read_answer, status_of
from tests.server.running import (
    RECORD,
    accounts_of,
    add_user,
    batch_name,
    client_of,
    object_path,
    pack_name,
    running_server,
)

QUOTA = 100_000


@pytest.fixture
def token(server: EmbeddedServer, user: str) -> str:
    return server.add_user(user, quota_bytes=QUOTA)


@pytest.fixture
def client(server: EmbeddedServer, token: str) -> Iterator[httpx.Client]:
    with client_of(server.url, token) as client:
        client.put("/v1/vaults/default")
        yield client


def put(client: httpx.Client, seq: int, size: int, **headers: str) -> int:
    answer = client.put(object_path(batch_name(seq)), content=bytes(size), headers=headers)
    return answer.status_code


def begun(seq: int, size: int, token: str) -> bytes:
    """A put up to its body, which waits to be asked for it."""
    lines = (f"Content-Length: {size}", "Expect: 100-continue")
    return head("PUT", object_path(batch_name(seq)), token, *lines)


def test_what_does_not_fit_is_refused_and_says_how_much(client: httpx.Client, user: str) -> None:
    assert put(client, 1, 60_000) == 201
    answer = client.put(object_path(batch_name(2)), content=bytes(40_001))
    assert answer.status_code == 507
    document = answer.json()
    assert document["type"] == "quota-exceeded"
    assert (document["vault"], document["quota_bytes"]) == ("default", QUOTA)
    assert (document["used_bytes"], document["needed_bytes"]) == (60_000, 40_001)
    assert f"the vault default cannot take 40,001 bytes more: {user} uses 60,000 of" in document["detail"]
    assert put(client, 2, 40_000) == 201
    assert put(client, 3, 1) == 507


def test_all_vaults_of_a_user_count(client: httpx.Client) -> None:
    """What a user takes of the disk (row E6)."""
    client.put("/v1/vaults/second")
    assert put(client, 1, 60_000) == 201
    path = object_path(batch_name(1), vault="second")
    assert client.put(path, content=bytes(60_000)).status_code == 507
    assert client.put(path, content=bytes(40_000)).status_code == 201


def test_what_is_deleted_makes_room(client: httpx.Client) -> None:
    assert put(client, 1, QUOTA) == 201
    for _ in range(2):  # the second finds nothing, and gives nothing back
        client.delete(object_path(batch_name(1)))
    assert put(client, 2, QUOTA) == 201
    assert put(client, 3, 1) == 507


def test_what_is_replaced_counts_once(client: httpx.Client) -> None:
    for size in (40_000, 50_000, 10, 40_000):
        assert put(client, 1, size) == 201
    assert put(client, 2, 60_000) == 201
    assert put(client, 3, 1) == 507


def test_what_is_refused_counts_nothing(client: httpx.Client) -> None:
    put(client, 1, 50_000)
    for _ in range(3):
        assert put(client, 1, 50_000, **{"If-None-Match": "*"}) == 412
        assert put(client, 2, 50_000, **{"Content-Digest": f"sha-256=:{'A' * 43}=:"}) == 422
        assert client.put(object_path(pack_name(b"x")), content=bytes(50_000)).status_code == 422
    assert put(client, 2, 50_000) == 201


def test_uploads_under_way_have_their_room(server: EmbeddedServer, client: httpx.Client, token: str) -> None:
    with connected(server.url) as slow:
        slow.sendall(begun(1, 60_000, token))
        assert slow.recv(65536).startswith(b"HTTP/1.1 100")  # asked for its body: its room is reserved
        assert put(client, 2, 60_000) == 507
        assert put(client, 2, 40_000) == 201
        slow.sendall(bytes(60_000))
        assert status_of(read_answer(slow)) == 201
        assert put(client, 3, 1) == 507


def test_an_upload_that_breaks_off_gives_its_room_back(
    server: EmbeddedServer, client: httpx.Client, token: str
) -> None:
    with connected(server.url) as broken:
        broken.sendall(begun(1, QUOTA, token))
        assert broken.recv(65536).startswith(b"HTTP/1.1 100")
        broken.sendall(bytes(99_999))
        assert put(client, 2, 1) == 507
    for _ in range(100_000):  # until the server has noticed
        if (status := put(client, 2, QUOTA)) != 507:
            break
    assert status == 201


def test_a_new_quota_holds_at_once(tmp_path: Path) -> None:
    """A quota is changed while the server runs (row E6)."""
    data = tmp_path / "data"
    with EmbeddedServer(data) as server, client_of(server.url, server.add_user("alice")) as client:
        client.put("/v1/vaults/default")
        assert put(client, 1, 200_000) == 201
        assert put(client, 2, 200_000, **{"Content-Digest": f"sha-256=:{'A' * 43}=:"}) == 422
        assert list((data / "vaults" / "alice" / "default" / ".tmp").iterdir()) == []
        with accounts_of(data) as accounts:
            accounts.set_quota("alice", QUOTA)
            assert put(client, 2, 1) == 507
            assert client.get(object_path(batch_name(1))).status_code == 200
            assert client.delete(object_path(batch_name(1))).status_code == 204
            assert put(client, 2, QUOTA) == 201


def test_after_a_crash_what_is_there_counts_and_what_was_coming_does_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    token = add_user(data, quota_bytes=QUOTA)
    with running_server(data) as server, client_of(server.url, token) as client:
        client.put("/v1/vaults/default")
        assert put(client, 1, 10_000) == 201
        with connected(server.url) as slow:
            slow.sendall(
                head(
                    "PUT", object_path(batch_name(2)), token, "Content-Length: 90000", "Expect: 100-continue"
                )
            )
            assert slow.recv(65536).startswith(b"HTTP/1.1 100")
            slow.sendall(bytes(70_000))
            assert put(client, 3, 1) == 507
            server.kill()
    folder = data / "vaults" / "alice" / "default"
    (folder / ".tmp").mkdir(exist_ok=True)
    (folder / ".tmp" / ("0" * 32)).write_bytes(bytes(80_000))
    with running_server(data) as server, client_of(server.url, token) as client:
        listed = client.get("/v1/vaults/default/objects").json()["objects"]
        assert [(one["name"], one["size"]) for one in listed] == [(batch_name(1), 10_000)]
        assert put(client, 2, 90_001) == 507
        assert put(client, 2, 90_000) == 201
        assert list((folder / ".tmp").iterdir()) == []


def test_what_was_removed_by_hand_counts_no_more_after_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EmbeddedServer(data) as server:
        token = server.add_user("alice", quota_bytes=QUOTA)
        with client_of(server.url, token) as client:
            client.put("/v1/vaults/default")
            client.put(object_path(RECORD), content=bytes(4000))
            assert put(client, 1, 96_000) == 201
            server.stop()
            (data / "vaults" / "alice" / "default" / batch_name(1)).unlink()
            server.start()
            assert put(client, 2, 96_001) == 507
            assert put(client, 2, 96_000) == 201
            server.stop()
    with accounts_of(data) as accounts:
        assert [one.used_bytes for one in accounts.users()] == [QUOTA]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_numbers_that_cannot_be_noted_are_noted_later() -> None:
    noted: list[dict[str, int]] = []
    fails = [True, False, False]

    def note(numbers: Mapping[str, int]) -> None:
        noted.append(dict(numbers))
        if fails.pop(0):
            raise ConfigError("the disk is full")

    async def nothing_there(user: str) -> int:
        return 0

    usage = Usage(nothing_there)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(usage.keep_noted, note)
        for user in ("alice", "bob"):
            async with usage.writing(user, 10, quota_bytes=None, vault="default") as change:
                change.grown_bytes = 10
            while len(noted) < (1 if user == "alice" else 2):
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert noted == [{"alice": 10}, {"alice": 10, "bob": 10}, {}]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_objects_are_counted_while_nothing_is_written() -> None:
    """Counting removes the temporary files of the user's vaults: none may belong to an upload."""
    writing = 0
    counts: list[int] = []
    goes_on = anyio.Event()

    async def count(user: str) -> int:
        counts.append(writing)
        await anyio.wait_all_tasks_blocked()
        assert writing == 0, "a write has begun beside the count"
        return 0

    async def write(*, fails: bool = False, waits: bool = False) -> None:
        nonlocal writing
        async with usage.writing("alice", 10, quota_bytes=None, vault="default"):
            writing += 1
            try:
                if waits:
                    await goes_on.wait()
                if fails:  # nobody knows what it has stored
                    raise ZeroDivisionError
            finally:
                writing -= 1

    usage = Usage(count)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(write, waits=True))
        tasks.start_soon(partial(write, waits=True))
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ZeroDivisionError):
            await write(fails=True)
        await write()
        assert counts == [0], "two are under way, and the number is to be counted anew"
        goes_on.set()
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            tasks.start_soon(write)
    assert counts == [0, 0]


def test_whatever_happens_at_once_the_sum_is_right(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with EmbeddedServer(data) as server:
        token = server.add_user("alice", quota_bytes=QUOTA)

        def work(number: int) -> None:
            with client_of(server.url, token) as client:
                for turn in range(40):
                    seq = (number + turn) % 3
                    match (number * 7 + turn * 5) % 4:
                        case 0:
                            client.delete(object_path(batch_name(seq)))
                        case 1:
                            put(client, seq, 10_000 + number, **{"If-None-Match": "*"})
                        case _:
                            put(client, seq, 70_000 * (turn % 2) + turn + 1)

        with client_of(server.url, token) as client:
            client.put("/v1/vaults/default")
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(work, range(6)))
            listed = client.get("/v1/vaults/default/objects").json()["objects"]
        server.stop()
    with accounts_of(data) as accounts:
        assert [one.used_bytes for one in accounts.users()] == [sum(one["size"] for one in listed)]

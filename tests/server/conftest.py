"""A server in this process for the tests of a file; each has a user of its own, with a vault `default`."""

import itertools
from collections.abc import Iterator

import httpx
import pytest

from syncagent.server.embedded import EmbeddedServer
from tests.server.running import client_of

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


@pytest.fixture
def user() -> str:
    """The name of the test's user."""
    return f"user-{next(_numbers)}"


@pytest.fixture
def client(server: EmbeddedServer, user: str) -> Iterator[httpx.Client]:
    """The user, who may do everything."""
    with client_of(server.url, server.add_user(user)) as client:
        assert client.put("/v1/vaults/default").status_code == 201
        yield client


@pytest.fixture
def other(server: EmbeddedServer, user: str) -> Iterator[httpx.Client]:
    """Another user, without vaults."""
    with client_of(server.url, server.add_user(f"{user}-other")) as client:
        yield client

"""One warm process for all tests of a session."""

from collections.abc import Iterator

import pytest

from tests.crash.server import CrashServer


@pytest.fixture(scope="session")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashServer]:
    with CrashServer(tmp_path_factory.mktemp("crashes")) as server:
        yield server

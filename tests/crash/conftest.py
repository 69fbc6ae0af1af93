"""One warm process for all tests of a session."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.server import CrashServer
from tests.simulation.template import scratch


@pytest.fixture(scope="session")
def crashes() -> Iterator[CrashServer]:
    # In memory, where that is a folder: what the disk would have lost is known without a disk.
    with tempfile.TemporaryDirectory(dir=scratch()) as folder, CrashServer(Path(folder)) as server:
        yield server

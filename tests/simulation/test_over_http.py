"""Some runs of the machine over HTTP, with the reference server in a process of its own."""

from collections.abc import Iterator

import pytest

from tests.engine.world import World
from tests.server.running import running_server
from tests.simulation.machine import play
from tests.simulation.over_http import Served
from tests.simulation.template import made_alone


@pytest.fixture(scope="module")
def vault() -> Iterator[World]:
    with made_alone() as world:
        yield world


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with running_server(tmp_path_factory.mktemp("server") / "data") as server:
        yield Served(server)


def test_a_run_over_http(vault: World, served: Served) -> None:
    done = play(vault, [2000], has_threads=True, make=served.make).done
    assert done["runs"] == 1
    assert done["steps"] > 10  # how many a seed draws changes with the rules


@pytest.mark.slow
def test_runs_over_http(vault: World, served: Served) -> None:
    assert play(vault, range(2001, 2009), has_threads=True, make=served.make).done["runs"] == 8

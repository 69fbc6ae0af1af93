"""Anything that can happen, in any order: nothing is lost, and all devices end up the same."""

from collections.abc import Iterator

import pytest

from tests.campaign.defects import DEFECTS, ROOT, Defect
from tests.engine.world import World
from tests.simulation.machine import play
from tests.simulation.template import made_alone

FEW, MANY, PART = 12, 300, 48
"""Runs of the quick tests, all of them, and those of one slow test, of which several may run at once."""


@pytest.fixture(scope="module")
def vault() -> Iterator[World]:
    with made_alone() as world:
        yield world


def test_a_few_runs(vault: World) -> None:
    done = play(vault, range(FEW)).done
    assert done["runs"] == FEW
    assert done["steps"] > 30 * FEW


def test_a_seed_gives_the_same_run_to_the_last_await(vault: World) -> None:
    first, again, other = (play(vault, [seed]).log for seed in (FEW, FEW, FEW + 1))
    assert len(first) > 30
    assert first == again
    assert first != other


def test_runs_with_worker_threads(vault: World) -> None:
    play(vault, range(1000, 1003), has_threads=True)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_the_code_still_has_what_a_defect_changes(defect: Defect) -> None:
    assert defect.right in (ROOT / "syncagent" / defect.file).read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(FEW, MANY, PART))
def test_many_runs(vault: World, first: int) -> None:
    assert play(vault, range(first, first + PART)).done["runs"] == PART

"""Anything that can happen, in any order: nothing is lost, and all devices end up the same."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.world import World
from tests.simulation.machine import play
from tests.simulation.template import made_alone

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY = 12, 300
"""Runs of the quick tests, and all of them."""


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


@pytest.mark.slow
def test_many_runs() -> None:
    half = (MANY - FEW) // 2
    command = [sys.executable, "-m", "tests.campaign.machine", "--runs", str(half), "--from"]
    running = [
        subprocess.Popen(
            [*command, str(first)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for first in (FEW, FEW + half)
    ]
    outputs = [process.communicate()[0] for process in running]
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output

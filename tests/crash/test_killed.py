"""Killed at any point: what was acknowledged is there, the work finishes, and nothing is doubled.

A few points here, more with `-m slow`, and all with `python -m tests.campaign.crash_points`.
"""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.scenarios import SCENARIOS
from tests.crash.server import CrashServer

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks and SIGKILL")


WANTED = {
    # Points that a run must pass: that none of them is gone from the record.
    "put-small": ["before commit a/cache.db", "after commit a/cache.db", "ack 0"],
    "put-large": [
        "after write a/packs/",
        "after sync a/packs/",
        "before rename a/packs/",
        "after sync folder a/packs",
        "after commit a/cache.db",
        "ack 0",
    ],
    "put-together": ["after commit a/cache.db", "ack t39"],
    "send": [
        "before put packs/",
        "after link remote/.tmp/",
        "after sync folder remote/packs",
        "after put packs/",
        "after sync folder remote/journal/",
        "after commit a/cache.db",
    ],
    "fetch": ["after get packs/", "after sync folder b/packs", "after commit b/cache.db"],
    "sweep": ["after unlink a/packs/left.tmp", f"before unlink a/packs/{'0' * 64}"],
    "clone": ["after put devices/", "after commit copy/cache.db"],
    "migration": ["statement ALTER", "before commit a/cache.db"],
    "init": ["after sync folder home", "after sync folder mnt", "after rename home/vaults/a.new-"],
    "join": ["after sync folder home", "after rename home/vaults/b.new-", "after sync folder home/vaults"],
    "passphrase": ["after put keys/", "after rename home/vaults/a/keys/", "after delete keys/"],
    "objects": ["after link mnt/remote/.tmp/", "after unlink mnt/remote/keys/"],
    "export": ["after write .syncagent-", "after link .syncagent-", "after rename .syncagent-", "ack 2"],
}


TELLING = {
    # The moment, at its last time in a run, at which a wrong order shows.
    "put-small": "ack",
    "put-large": "after commit",
    "put-together": "ack",
    "send": "before put journal/",
    "fetch": "after commit",
    "sweep": "after unlink a/packs/",
    "clone": "before put journal/",
    "migration": "after commit",
    "init": " mnt/remote/vault",
    "join": "before rename home/vaults/b.new-",
    "passphrase": "after rename home/vaults/a/keys/",
    "objects": "after unlink mnt/remote/keys/",
    "export": "after rename",
}


def last(points: list[str], text: str) -> int:
    """The last point with this text, counted from 1."""
    return max(number for number, point in enumerate(points, 1) if text in point)


def some(points: list[str], count: int, seed: str) -> list[int]:
    """Some points, counted from 1; the same each time for as many points."""
    numbers = range(1, len(points) + 1)
    return sorted(random.Random(seed).sample(numbers, min(count, len(points))))


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_and_nothing_doubled_wherever_it_is_killed(crashes: CrashServer, name: str) -> None:
    points = crashes.record(name)
    assert [text for text in WANTED[name] if not any(point.startswith(text) for point in points)] == []
    assert crashes.kill(name, [last(points, TELLING[name]), *some(points, 1, name)]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_is_lost_and_nothing_doubled_at_more_points(crashes: CrashServer, name: str) -> None:
    assert crashes.kill(name, some(crashes.record(name), 4, f"more of {name}")) == []


@pytest.mark.parametrize("name", ["send", "fetch", "clone"])
def test_a_sync_that_is_killed_again_and_again_gets_there(crashes: CrashServer, name: str) -> None:
    points = crashes.record(name)
    dice = random.Random(name)
    assert crashes.chain(name, [dice.randint(1, len(points)) for _ in range(6)]) == []


def test_a_child_can_be_run_by_hand(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.crash.child", "put-small", str(tmp_path / "place")]
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [*command, "--kill-at", "8"], capture_output=True, text=True, check=False, cwd=root
    )
    assert killed.returncode == -signal.SIGKILL
    *acks, point = killed.stdout.splitlines()
    assert acks == ["ack 0", "ack 1"] and point == "point after commit a/cache.db"

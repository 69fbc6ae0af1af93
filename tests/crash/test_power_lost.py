"""After a power cut, for our own files: what was acknowledged is there, whatever was not yet durable is gone.

See `shadow.py` for what is taken as durable.
"""

import sys

import pytest

from tests.crash.scenarios import SCENARIOS
from tests.crash.server import CrashServer
from tests.crash.test_killed import TELLING, last, some

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")


@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_acknowledged_is_lost_wherever_the_power_is_cut(crashes: CrashServer, name: str) -> None:
    points = crashes.record(name)
    # Once all is acknowledged there is the most to lose.
    found = crashes.cut_power(name, [last(points, TELLING[name]), last(points, "ack")])
    assert found.errors == []
    assert found.images


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_acknowledged_is_lost_at_more_power_cuts(crashes: CrashServer, name: str) -> None:
    assert crashes.cut_power(name, some(crashes.record(name), 2, f"more power {name}")).errors == []

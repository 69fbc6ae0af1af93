"""For whoever writes a remote, or tests against one: the suite that every remote passes, and one that fails.

Importing this does not need pytest; the suite itself does.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncagent.testing.contract import RemoteContract
    from syncagent.testing.faulty import Fault, FaultyRemote, Rule, script, seeded

_HOMES = {
    "Fault": "syncagent.testing.faulty",
    "FaultyRemote": "syncagent.testing.faulty",
    "RemoteContract": "syncagent.testing.contract",
    "Rule": "syncagent.testing.faulty",
    "script": "syncagent.testing.faulty",
    "seeded": "syncagent.testing.faulty",
}

__all__ = ["Fault", "FaultyRemote", "RemoteContract", "Rule", "script", "seeded"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "RemoteContract":
        import pytest

        # The suite is no test file to pytest, which would leave its failing asserts without values.
        pytest.register_assert_rewrite(home)
    return getattr(importlib.import_module(home), name)

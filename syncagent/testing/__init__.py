"""For whoever writes a remote: the suite that every remote of this project passes.

Importing this does not need pytest; the suite itself does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncagent.testing.contract import RemoteContract

__all__ = ["RemoteContract"]


def __getattr__(name: str) -> Any:
    if name != "RemoteContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    # The suite is no test file to pytest, which would leave its failing asserts without values.
    pytest.register_assert_rewrite("syncagent.testing.contract")
    from syncagent.testing.contract import RemoteContract

    return RemoteContract

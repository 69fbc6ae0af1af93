"""A shell without a vault, and one with a vault that is quick to open."""

from functools import partial
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent.remote import directory_url
from tests.cli.shell import PASSPHRASE, Shell


@pytest.fixture
def bare(tmp_path: Path) -> Shell:
    """A device without a vault."""
    return Shell(tmp_path / "home")


@pytest.fixture
def shell(bare: Shell) -> Shell:
    """A device with a vault and an embedded remote, as `init` makes them but for the cost of the key."""
    bare.profile.parent.mkdir(parents=True)
    create = partial(
        syncagent.create_vault,
        bare.profile,
        remote=directory_url(bare.remote),
        passphrase=PASSPHRASE,
        device_name="first",
        kdf=syncagent.FLOOR_KDF,
    )
    anyio.run(create)
    return bare


@pytest.fixture
def other(shell: Shell, tmp_path: Path) -> Shell:
    """A second device of the same vault."""
    second = Shell(tmp_path / "other-home")
    second.profile.parent.mkdir(parents=True)
    join = partial(
        syncagent.join_vault,
        second.profile,
        remote=directory_url(shell.remote),
        passphrase=PASSPHRASE,
        device_name="second",
    )
    anyio.run(join)
    return second

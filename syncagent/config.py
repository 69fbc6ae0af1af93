"""Where a user's vaults lie on this device, and what they may be called.

    <home>/vaults/<name>/    the profile of a vault (`cache/profile.py`)
    <home>/remotes/<name>/   its embedded remote, where no other was given

The home is `SYNCAGENT_HOME`, else the platform's folder for a user's data.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from syncagent.errors import ConfigError, InvalidName
from syncagent.names import is_vault_name

HOME_VARIABLE = "SYNCAGENT_HOME"
DEFAULT_VAULT = "default"

_TODO = f"set {HOME_VARIABLE} to an absolute path"


@dataclass(frozen=True, slots=True)
class Home:
    """The one folder below which everything lies."""

    folder: Path

    def profile(self, vault: str) -> Path:
        """The profile folder of a vault; `InvalidName` for what is no vault's name."""
        return self.folder / "vaults" / check_vault_name(vault)

    def remote(self, vault: str) -> Path:
        """The embedded remote of a vault; `InvalidName` for what is no vault's name."""
        return self.folder / "remotes" / check_vault_name(vault)


def check_vault_name(name: str) -> str:
    """The name itself, or `InvalidName`. It becomes a folder's name, so it can never be a path."""
    if not is_vault_name(name):
        raise InvalidName(
            f"{name[:80]!r} is not a vault name",
            todo="use 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit",
        )
    return name


def find_home(environment: Mapping[str, str]) -> Home:
    """The home that the environment names. Nothing is created.

    Raises:
        ConfigError: it names none. A home guessed from elsewhere would make a second, empty set of
            vaults for a service that was started without its environment.
    """
    wanted = environment.get(HOME_VARIABLE)
    if wanted:
        return Home(Path(wanted).absolute())
    if os.name == "posix" and not environment.get("HOME") and not environment.get("XDG_DATA_HOME"):
        raise ConfigError("neither SYNCAGENT_HOME nor HOME is set", todo=_TODO)
    import platformdirs  # here: `status` with SYNCAGENT_HOME does without

    folder = platformdirs.user_data_path("syncagent", appauthor=False)
    if not folder.is_absolute():
        raise ConfigError(f"the folder for data, {str(folder)!r}, is not an absolute path", todo=_TODO)
    return Home(folder)

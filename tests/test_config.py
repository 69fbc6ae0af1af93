"""Where vaults lie, and what they may be called."""

from pathlib import Path

import platformdirs
import pytest

from syncagent.config import Home, check_vault_name, find_home
from syncagent.errors import ConfigError, InvalidName


def test_one_variable_moves_everything(tmp_path: Path) -> None:
    home = find_home({"SYNCAGENT_HOME": str(tmp_path)})
    assert home.profile("default") == tmp_path / "vaults" / "default"
    assert home.remote("work") == tmp_path / "remotes" / "work"


def test_a_relative_home_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_home({"SYNCAGENT_HOME": "here"}).folder == tmp_path / "here"


def test_without_it_the_platform_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    home = find_home({"HOME": str(tmp_path), "SYNCAGENT_HOME": ""})
    assert home.folder.is_relative_to(tmp_path)
    assert home.folder.name == "syncagent"
    assert not home.folder.exists()


@pytest.mark.parametrize("environment", [{}, {"SYNCAGENT_HOME": "", "HOME": ""}])
def test_no_home_at_all_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="HOME"):
        find_home(environment)


def test_a_home_that_depends_on_the_working_directory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Older releases of platformdirs take a relative XDG_DATA_HOME as it is.
    monkeypatch.setattr(platformdirs, "user_data_path", lambda *_, **__: Path("data/syncagent"))
    with pytest.raises(ConfigError, match="absolute"):
        find_home({"HOME": "/home/me"})


@pytest.mark.parametrize("name", ["a", "default", "work.2024", "a-b_c", "0", "a" * 64])
def test_vault_names(name: str) -> None:
    assert check_vault_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-x", "../x", "a/b", "A", "ä", "a b", "a\n", "a\0", "a" * 65]
)
def test_names_that_could_be_paths_or_look_alike_are_refused(name: str) -> None:
    home = Home(Path("/nowhere"))
    for path_of in (home.profile, home.remote):
        with pytest.raises(InvalidName):
            path_of(name)

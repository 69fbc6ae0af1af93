"""Every command is in the list and says what it does."""

import click
import pytest

from syncagent import __version__
from syncagent.cli.main import COMMANDS, cli
from tests.cli.shell import Shell

LISTED = [
    "init",
    "join",
    "put",
    "get",
    "ls",
    "rm",
    "flags",
    "expire",
    "history",
    "tag",
    "conflicts",
    "resolve",
    "sync",
    "send",
    "fetch",
    "status",
    "explain",
    "retry",
    "pin",
    "evict",
    "config",
    "remote",
    "device",
    "key",
    "serve",
    "demo",
]
GROUPS = {
    "remote": ["show", "set"],
    "device": ["ls", "rename", "remove"],
    "key": ["ls", "passphrase", "recovery"],
    "serve": ["user"],
    "serve user": ["add", "token", "rotate", "ls", "quota", "rm"],
}
RUN_ALONE = ["serve"]
"""Groups that do something without one of their commands."""
LEAVES = [name for name in LISTED if name not in GROUPS or name in RUN_ALONE]
LEAVES += [
    f"{name} {inner}" for name, found in GROUPS.items() for inner in found if f"{name} {inner}" not in GROUPS
]


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def leaf(name: str) -> click.Command:
    """A command, or one of a group's."""
    first, *inner = name.split()
    command = commands()[first]
    for one in inner:
        assert isinstance(command, click.Group)
        command = command.commands[one]
    return command


def test_the_list() -> None:
    assert list(commands()) == LISTED == list(COMMANDS)
    for name, inner in GROUPS.items():
        group = leaf(name)
        assert isinstance(group, click.Group) and sorted(group.commands) == sorted(inner)


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_help_and_the_common_options(name: str, bare: Shell) -> None:
    command = leaf(name)
    assert command.name == name.split()[-1]
    said = bare(*name.split(), "--help").ok().out
    assert said.startswith(f"Usage: syncagent {name} ")
    for option in ("--vault", "--json", "--quiet", "--verbose", "--passphrase-file", "--passphrase-command"):
        assert option in said
    assert f"syncagent {name}" in said.split("\n", 1)[1], "an example"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_list_is_shown_without_a_command_and_with_help(bare: Shell) -> None:
    for arguments in ([], ["--help"]):
        said = bare(*arguments).ok().out
        for name, lazy in COMMANDS.items():
            assert f"  {name} " in said
            assert lazy.help.split()[0] in said
    assert not bare.home.exists()


def test_no_option_takes_a_passphrase() -> None:
    for command in [cli, *map(leaf, LEAVES)]:
        for parameter in command.params:
            assert not {"--passphrase", "--password", "--recovery-code"} & set(parameter.opts)


def test_the_version(bare: Shell) -> None:
    assert bare("--version").ok().out == f"syncagent {__version__}\n"


def test_a_usage_error_points_to_the_help(bare: Shell) -> None:
    assert "`syncagent put --help`" in bare("put").failed(2)
    assert "`syncagent --help`" in bare("--frobnicate").failed(2)


@pytest.mark.parametrize("group", ["key", "device", "remote", "serve user"])
def test_a_group_without_its_command_says_where_the_commands_are(group: str, bare: Shell) -> None:
    said = bare(*group.split()).failed(2)
    assert said == f"syncagent: missing command; see `syncagent {group} --help`"

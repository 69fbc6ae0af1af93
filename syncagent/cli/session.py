"""The options that every command takes, and what they amount to: one run on one vault."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

from syncagent.cli.output import Output
from syncagent.cli.text import from_argument
from syncagent.config import DEFAULT_VAULT, Home, find_home
from syncagent.errors import VaultNotFound

if TYPE_CHECKING:
    from syncagent.cache.profile import Profile
    from syncagent.cli.passphrase import Secret

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Session:
    """Which vault, how it is opened, and where output goes."""

    vault: str
    output: Output
    passphrase_file: str | None = None
    passphrase_command: str | None = None

    @property
    def home(self) -> Home:
        """The folder that everything lies below; `ConfigError` where the environment names none."""
        return find_home(os.environ)

    @property
    def folder(self) -> Path:
        """The vault's profile folder, there or not."""
        return self.home.profile(self.vault)

    def profile(self) -> "Profile":
        """The vault's profile; `VaultNotFound` before anyone is asked for a passphrase."""
        from syncagent.cache.profile import Profile

        profile = Profile(self.folder)
        if not profile.exists():
            name = "" if self.vault == DEFAULT_VAULT else f" {self.vault}"
            raise VaultNotFound(f"there is no vault{name} at {str(self.folder)!r}")
        return profile

    def secret(self) -> "Secret":
        """What opens the vault, from the first source that has it."""
        from syncagent.cli.passphrase import find_secret

        return find_secret(
            os.environ, self.passphrase_file, self.passphrase_command, vault=self.vault, output=self.output
        )


def common_options(function: Callable[P, Any]) -> Callable[P, Any]:
    """Adds the options that every command takes; the group takes them too, so that they may come first."""
    for option in (
        click.option(
            "--passphrase-command",
            metavar="COMMAND",
            help="Run this and take the first line it prints as the passphrase.",
        ),
        click.option(
            "--passphrase-file",
            metavar="FILE",
            help="Take the first line of a file as the passphrase.",
        ),
        click.option("-v", "--verbose", is_flag=True, help="With an error, show where it came from."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors."),
        click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output."),
        click.option("--vault", metavar="NAME", help=f"Which vault; {DEFAULT_VAULT!r} by default."),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True)
class Common:
    """Values of the common options as they were given in one place, before or after the command's name."""

    vault: str | None
    as_json: bool
    quiet: bool
    verbose: bool
    passphrase_file: str | None
    passphrase_command: str | None


def takes_session(function: Callable[Concatenate[Session, P], int | None]) -> Callable[P, int | None]:
    """A command's function gets a `Session` in the place of the common options.

    It returns its exit code; None is 0.
    """

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> int | None:
        context = click.get_current_context()
        session = _session(context, _common(kwargs))
        try:
            return function(session, *args, **kwargs)
        except (KeyboardInterrupt, EOFError):
            # Click would print an empty line first.
            raise click.Abort from None

    return common_options(command)


def note_common(context: click.Context, values: dict[str, Any]) -> None:
    """Keep what was given before the command's name, for the session and for telling errors."""
    common = _common(values)
    context.meta[__name__] = common
    _apply(context.find_object(Output) or Output(), common)


def _common(values: dict[str, Any]) -> Common:
    """Takes the common options out of a command's parameters."""
    return Common(
        vault=values.pop("vault"),
        as_json=values.pop("as_json"),
        quiet=values.pop("quiet"),
        verbose=values.pop("verbose"),
        passphrase_file=values.pop("passphrase_file"),
        passphrase_command=values.pop("passphrase_command"),
    )


def _session(context: click.Context, own: Common) -> Session:
    output = context.find_object(Output) or Output()
    _apply(output, own)
    first: Common | None = context.meta.get(__name__)
    vault = own.vault if own.vault is not None or first is None else first.vault
    return Session(
        vault=from_argument(vault) if vault is not None else DEFAULT_VAULT,
        output=output,
        passphrase_file=own.passphrase_file or (first.passphrase_file if first else None),
        passphrase_command=own.passphrase_command or (first.passphrase_command if first else None),
    )


def _apply(output: Output, common: Common) -> None:
    output.is_json |= common.as_json
    output.is_quiet |= common.quiet
    output.is_verbose |= common.verbose

"""Where the passphrase comes from. Never from an argument: other users see those.

    1 SYNCAGENT_PASSPHRASE   2 --passphrase-file   3 --passphrase-command
    4 the system's keyring, where the package `keyring` is installed
    5 a prompt on the terminal

The first source that is there decides; a wrong passphrase in it is not made up
for by a later one. A text that is a recovery code without a typing error is
taken as one, so that the code works wherever the passphrase does. For the same
reason `init` refuses such a text as a passphrase.
"""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from syncagent.cli.output import Output
from syncagent.cli.text import from_argument
from syncagent.errors import ConfigError, WrongPassphrase

PASSPHRASE_VARIABLE = "SYNCAGENT_PASSPHRASE"  # noqa: S105 - a name
NEW_PASSPHRASE_VARIABLE = "SYNCAGENT_NEW_PASSPHRASE"  # noqa: S105 - a name
RECOVERY_VARIABLE = "SYNCAGENT_RECOVERY_CODE"
KEYRING_SERVICE = "syncagent"

_MAX_LINE = 64 << 10
"""A file named by mistake may have no line ends at all."""
_TODO = f"set {PASSPHRASE_VARIABLE}, or give --passphrase-file or --passphrase-command"
_NEW_TODO = f"set {NEW_PASSPHRASE_VARIABLE}, or give --new-passphrase-file or --new-passphrase-command"


@dataclass(frozen=True, slots=True)
class Secret:
    """What opens a vault: exactly one of the two."""

    passphrase: str | None = field(default=None, repr=False)
    recovery_code: str | None = field(default=None, repr=False)


def find_secret(
    environment: Mapping[str, str],
    passphrase_file: str | None,
    passphrase_command: str | None,
    *,
    vault: str,
    output: Output,
) -> Secret:
    """What opens an existing vault.

    Raises:
        WrongPassphrase: no source has one.
        ConfigError: a source that was named cannot be read.
    """
    text = _from_sources(environment, passphrase_file, passphrase_command, vault)
    if text is None:
        text = _prompt(f"Passphrase of vault {vault}", output, _TODO)
    return _as_secret(text)


def find_new_passphrase(
    environment: Mapping[str, str],
    passphrase_file: str | None,
    passphrase_command: str | None,
    *,
    vault: str,
    output: Output,
) -> str:
    """The passphrase of a vault that is being made; asked for twice. Raises as `find_secret` does."""
    text = _from_sources(environment, passphrase_file, passphrase_command, vault)
    if text is None:
        text = _prompt(f"New passphrase for vault {vault}", output, _TODO, is_new=True)
    return _checked_new(text)


def find_changed_passphrase(
    environment: Mapping[str, str],
    passphrase_file: str | None,
    passphrase_command: str | None,
    *,
    vault: str,
    output: Output,
) -> str:
    """The passphrase that is to replace another one; asked for twice. Raises as `find_secret` does."""
    value = environment.get(NEW_PASSPHRASE_VARIABLE)
    if value:
        text = from_argument(value)
    elif passphrase_file is not None:
        text = _from_file(passphrase_file)
    elif passphrase_command is not None:
        text = _from_command(passphrase_command)
    else:
        text = _prompt(f"New passphrase for vault {vault}", output, _NEW_TODO, is_new=True)
    return _checked_new(text)


def find_recovery_code(environment: Mapping[str, str], *, output: Output) -> Secret:
    """A recovery code where it was asked for by name."""
    code = environment.get(RECOVERY_VARIABLE)
    return Secret(recovery_code=code or _prompt("Recovery code", output, f"set {RECOVERY_VARIABLE}"))


def _checked_new(text: str) -> str:
    if not text:
        raise ConfigError("the new passphrase is empty", todo="choose another passphrase")
    if _as_secret(text).recovery_code is not None:
        raise ConfigError("this passphrase is a recovery code", todo="choose another passphrase")
    return text


def _from_sources(
    environment: Mapping[str, str], passphrase_file: str | None, passphrase_command: str | None, vault: str
) -> str | None:
    value = environment.get(PASSPHRASE_VARIABLE)
    if value:
        return from_argument(value)
    if passphrase_file is not None:
        return _from_file(passphrase_file)
    if passphrase_command is not None:
        return _from_command(passphrase_command)
    return _from_keyring(vault)


def _as_secret(text: str) -> Secret:
    from syncagent.crypto.recovery import is_recovery_code

    return Secret(recovery_code=text) if is_recovery_code(text) else Secret(passphrase=text)


def _from_file(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            line = file.readline(_MAX_LINE)
    except OSError as exc:
        raise ConfigError(f"the passphrase file {name!r} cannot be read: {exc.strerror}") from exc
    return _decoded(line, f"the passphrase file {name!r}")


def _from_command(command: str) -> str:
    import shlex  # here: most runs have another source, and `status` counts milliseconds
    import subprocess

    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise ConfigError(f"the passphrase command cannot be read: {exc}") from exc
    if not words:
        raise ConfigError("the passphrase command is empty")
    try:
        # Its standard input is not ours, which may be the content to put.
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)  # noqa: S603 - the user's own command
    except OSError as exc:
        raise ConfigError(f"the passphrase command {words[0]!r} cannot be run: {exc.strerror}") from exc
    if done.returncode != 0:
        raise WrongPassphrase(
            f"the passphrase command {words[0]!r} failed with exit code {done.returncode}",
            todo="run it by hand to see why",
        )
    return _decoded(done.stdout.partition(b"\n")[0], "the passphrase command's output")


def _decoded(line: bytes, where: str) -> str:
    """The first line without its end; spaces count."""
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        # Not chained: the cause holds the passphrase.
        raise ConfigError(f"{where} is not UTF-8") from None


def _from_keyring(vault: str) -> str | None:
    """What the user has stored with `keyring set syncagent VAULT`, if that package is there."""
    if importlib.util.find_spec("keyring") is None:
        return None
    try:
        stored = importlib.import_module("keyring").get_password(KEYRING_SERVICE, vault)
    except Exception:  # a back end without a session, a locked store: the next source is asked
        return None
    return stored if isinstance(stored, str) and stored else None


def _prompt(text: str, output: Output, todo: str, *, is_new: bool = False) -> str:
    if not _has_terminal():
        raise WrongPassphrase("no passphrase was given and there is no terminal to ask on", todo=todo)
    output.flush()
    try:
        return str(click.prompt(text, hide_input=True, err=True, confirmation_prompt=is_new))
    except click.Abort as exc:
        # Click has one exception for Ctrl-C and for the end of input; only the first is an interruption.
        if isinstance(exc.__context__, EOFError):
            raise WrongPassphrase("no passphrase was given: the input ended", todo=todo) from exc
        raise


def _has_terminal() -> bool:
    """Whether a prompt reaches a person, also where standard input is a pipe."""
    if sys.platform == "win32":
        return sys.stdin is not None and sys.stdin.isatty()
    try:
        with Path("/dev/tty").open("rb"):
            return True
    except OSError:
        return False

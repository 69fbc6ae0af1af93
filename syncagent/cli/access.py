"""What lets a device in at a server, as options. The token comes from a file: others can see arguments."""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import click

from syncagent.cli.output import Output
from syncagent.errors import ConfigError

P = ParamSpec("P")

_MAX_LINE = 4096
"""A token has at most 1,024 characters; a file named by mistake may have no line ends at all."""


def access_options(function: Callable[P, Any]) -> Callable[P, Any]:
    """Adds the options of a command that says where a vault is."""
    for option in (
        click.option(
            "--client-cert",
            metavar="FILE",
            help="PEM file of this device's certificate and key, for a server that asks for one.",
        ),
        click.option(
            "--ca-file",
            metavar="FILE",
            help="PEM file of the certificates to trust instead of the system's. It must stay there.",
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            help="Take the server's token from the first line of a file, or with - of standard input.",
        ),
    ):
        function = option(function)
    return function


def read_token(name: str | None, output: Output) -> str | None:
    """The token in a file, None for no file. Says so where others can read the file.

    Raises:
        ConfigError: the file cannot be read, or holds no token.
    """
    if name is None:
        return None
    line = _from_stdin() if name == "-" else _from_file(name, output)
    try:
        token = line.removesuffix(b"\n").removesuffix(b"\r").decode("ascii")
    except UnicodeDecodeError:
        # Not chained: the cause holds the token.
        raise ConfigError(f"the token file {name!r} holds no token: it is not ASCII") from None
    if not token:
        raise ConfigError(f"the token file {name!r} is empty")
    return token


def _from_stdin() -> bytes:
    if sys.stdin is None:
        raise ConfigError("there is no standard input to take the token from")
    try:
        return sys.stdin.buffer.readline(_MAX_LINE)
    except OSError as exc:
        raise ConfigError(f"the token cannot be read: {exc.strerror}") from exc


def _from_file(name: str, output: Output) -> bytes:
    try:
        with Path(name).open("rb") as file:
            found = os.fstat(file.fileno())
            line = file.readline(_MAX_LINE)
    except OSError as exc:
        raise ConfigError(f"the token file {name!r} cannot be read: {exc.strerror}") from exc
    if os.name == "posix" and stat.S_ISREG(found.st_mode) and found.st_mode & (stat.S_IRGRP | stat.S_IROTH):
        output.note(
            f"other users of this machine can read {name!r}: `chmod 600` makes it yours alone;"
            " once the token is kept in the vault's cache it can be removed"
        )
    return line

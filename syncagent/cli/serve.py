"""`syncagent serve`: the server, and the users that it knows."""

import contextlib
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from syncagent.cli.output import Output
from syncagent.cli.running import run_async
from syncagent.cli.session import Session, takes_session
from syncagent.cli.text import escaped, from_argument, size_text
from syncagent.errors import ConfigError, SyncAgentError
from syncagent.wording import counted

if TYPE_CHECKING:
    from syncagent.server.accounts import Accounts
    from syncagent.server.run import BlobServer

_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?) ?([KMGT]i?)?B?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@click.group(invoke_without_command=True)
@click.option("--data", metavar="DIR", type=click.Path(), help="The folder that holds everything.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8720",
    help="Where to answer; port 0 takes any free one.",
)
@takes_session
def serve(session: Session, data: str | None, listen: str) -> None:
    """Run a server that keeps vaults; it sees sealed bytes only.

    Prints its address when it is ready, and after that a line for each request. Ends on SIGTERM or Ctrl-C,
    when the requests under way have been answered. Speaks plain HTTP: put a proxy with TLS before it.

    \b
        syncagent serve --data /srv/syncagent --listen 127.0.0.1:8720
    """
    context = click.get_current_context()
    if context.invoked_subcommand is not None:
        return
    if data is None:
        raise click.UsageError("missing option '--data'", context)
    host, port = _address(from_argument(listen))
    with _installed():
        from syncagent.server.observe import PatientLog
        from syncagent.server.run import BlobServer

        output = session.output
        log = None
        with contextlib.suppress(OSError, AttributeError):  # there is no such stream
            if not output.is_quiet:
                # Standard output is one document with --json.
                log = PatientLog((sys.stderr if output.is_json else sys.stdout).fileno())
        server = BlobServer(Path(from_argument(data)).absolute(), host=host, port=port, log=log)
    _allow_many_connections()
    run_async(lambda: _run(server, output))


@serve.group(no_args_is_help=False)
def user() -> None:
    """Manage the users of a server, also while it runs."""


_data_option = click.option(
    "--data", metavar="DIR", type=click.Path(), required=True, help="The server's data folder."
)
_append_only_option = click.option(
    "--append-only", is_flag=True, help="The token may add objects, and replace or delete none."
)


@user.command()
@click.argument("name", metavar="NAME")
@_data_option
@click.option("--quota", metavar="SIZE", help="The most that the user may store, as in 10GB or 512MiB.")
@_append_only_option
@takes_session
def add(session: Session, name: str, data: str, quota: str | None, append_only: bool) -> None:
    """Make a user and print the token for its devices. It is shown this once.

    \b
        syncagent serve user add alice --data /srv/syncagent --quota 10GB
    """
    quota_bytes = None if quota is None else _size(quota)
    name = from_argument(name)
    with _accounts(data, create=True) as accounts:
        token = accounts.add_user(name, quota_bytes=quota_bytes, is_append_only=append_only)
    _tell_token(session.output, name, token)


@user.command()
@click.argument("name", metavar="NAME")
@_data_option
@_append_only_option
@takes_session
def token(session: Session, name: str, data: str, append_only: bool) -> None:
    """Print a further token of a user. Those before it stay valid.

    \b
        syncagent serve user token alice --data /srv/syncagent --append-only
    """
    name = from_argument(name)
    with _accounts(data) as accounts:
        _tell_token(session.output, name, accounts.add_token(name, is_append_only=append_only))


@user.command()
@click.argument("name", metavar="NAME")
@_data_option
@_append_only_option
@takes_session
def rotate(session: Session, name: str, data: str, append_only: bool) -> None:
    """Print a new token of a user, and refuse all former ones from now on.

    \b
        syncagent serve user rotate alice --data /srv/syncagent
    """
    name = from_argument(name)
    with _accounts(data) as accounts:
        _tell_token(session.output, name, accounts.rotate(name, is_append_only=append_only))


@user.command()
@_data_option
@takes_session
def ls(session: Session, data: str) -> None:
    """List the users: name, bytes stored and allowed, and tokens.

    \b
        syncagent serve user ls --data /srv/syncagent
    """
    with _accounts(data) as accounts:
        users = accounts.users()
    if session.output.is_json:
        documents = [
            {
                "user": one.name,
                "quota_bytes": one.quota_bytes,
                "used_bytes": one.used_bytes,
                "tokens": one.tokens,
                "append_only_tokens": one.append_only_tokens,
            }
            for one in users
        ]
        session.output.document({"users": documents})
        return
    for one in users:
        used = "-" if one.used_bytes is None else size_text(one.used_bytes)
        quota = "no quota" if one.quota_bytes is None else size_text(one.quota_bytes)
        tokens = counted(one.tokens, "token")
        if one.append_only_tokens:
            tokens += f", {one.append_only_tokens} of them append-only"
        session.output.result(f"{escaped(one.name)}  {used} of {quota}  {tokens}")


@user.command()
@click.argument("name", metavar="NAME")
@click.argument("size", metavar="SIZE")
@_data_option
@takes_session
def quota(session: Session, name: str, size: str, data: str) -> None:
    """Change how much a user may store; `none` for no bound. What is there stays.

    \b
        syncagent serve user quota alice 20GB --data /srv/syncagent
    """
    name = from_argument(name)
    quota_bytes = None if size.lower() == "none" else _size(size)
    with _accounts(data) as accounts:
        accounts.set_quota(name, quota_bytes)
    if session.output.is_json:
        session.output.document({"user": name, "quota_bytes": quota_bytes})
    session.output.line(f"{name} may store {'anything' if quota_bytes is None else size_text(quota_bytes)}")


@user.command()
@click.argument("name", metavar="NAME")
@_data_option
@takes_session
def rm(session: Session, name: str, data: str) -> None:
    """Remove a user and its tokens. Its objects stay in the data folder.

    \b
        syncagent serve user rm alice --data /srv/syncagent
    """
    name = from_argument(name)
    with _accounts(data) as accounts:
        accounts.remove_user(name)
    folder = str(Path(from_argument(data)).absolute() / "vaults" / name)
    if session.output.is_json:
        session.output.document({"user": name, "folder": folder})
    session.output.line(f"removed {name}; its objects, if any, stay in {escaped(folder)}")


async def _run(server: "BlobServer", output: Output) -> None:
    def ready(url: str) -> None:
        if output.is_json:
            output.document({"url": url})
        else:
            output.result(f"listening on {url}")
        output.flush()

    failure: SyncAgentError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_on_signal, server)
        try:
            await server.serve(ready)
        except SyncAgentError as error:  # as itself, and not in the group's exception
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _stop_on_signal(server: "BlobServer") -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            server.stop()


def _allow_many_connections() -> None:
    """Each connection is an open file, and the default bound on those is 1,024 in many places."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _accounts(data: str, *, create: bool = False) -> "Iterator[Accounts]":
    with _installed():
        from syncagent.server.accounts import FILE, Accounts
        from syncagent.server.run import make_data_folder
    folder = Path(from_argument(data)).absolute()
    if create:
        make_data_folder(folder)
    elif not (folder / FILE).exists():
        raise ConfigError(
            f"no server keeps its users in {str(folder)!r}", todo="check --data; `add` begins a new folder"
        )
    with contextlib.closing(Accounts.open(folder)) as accounts:
        yield accounts


@contextlib.contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the server needs {error.name}, which is not installed",
            todo="install it with `pip install 'syncagent[server]'`",
        ) from error


def _tell_token(output: Output, name: str, token: str) -> None:
    if output.is_json:
        output.document({"user": name, "token": token})
    else:
        output.result(token)


def _address(text: str) -> tuple[str, int]:
    match = _LISTEN.fullmatch(text)
    if match is None or int(match.group(3)) > 65535:
        raise click.BadParameter("it is HOST:PORT, as in 127.0.0.1:8720 or [::1]:8720", param_hint="--listen")
    return match.group(1) or match.group(2), int(match.group(3))


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter("a size is a number and a unit, as in 10GB or 512MiB", param_hint="SIZE")
    unit = (match.group(2) or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    return int(float(match.group(1)) * base ** _POWERS[unit.removesuffix("i")])

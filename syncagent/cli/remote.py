"""`syncagent remote`: where the vault is synced to."""

from collections.abc import Iterator

import click

from syncagent.cli import exit as exits
from syncagent.cli.access import access_options, read_token
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.text import escaped, from_argument, without_password
from syncagent.errors import SyncAgentError
from syncagent.reports import RemoteInfo
from syncagent.vault import Vault


@click.group(no_args_is_help=False)
def remote() -> None:
    """Show or change the place that the vault is synced with."""


@remote.command()
@takes_session
def show(session: Session) -> int:
    """Show the remote's address and whether this vault is there. The token is never shown.

    \b
        syncagent remote show
    """
    found, problem = run_on_vault(session, _look)
    if session.output.is_json:
        document: dict[str, object] = {**_document(found), "reachable": problem is None, "error": None}
        if problem is not None:
            document |= exits.document_of(problem)
        session.output.document(document)
    else:
        for line in _lines(found):
            session.output.result(line)
        if problem is None:
            session.output.line("state   this vault is there")
    if problem is None:
        return exits.DONE
    session.output.complain(exits.error_line(problem))
    return exits.code_of(type(problem))


@remote.command("set")
@click.argument("url", metavar="[URL]", required=False)
@access_options
@takes_session
def set_(
    session: Session, url: str | None, token_file: str | None, ca_file: str | None, client_cert: str | None
) -> None:
    """Sync with a copy of the remote at another address from now on, or with a new token.

    The new place must hold this vault already: copy all files of the present one there first. What it lacks
    of this device's work is put there again by the next sync.

    What is not given stays as it is at the same server. At another one nothing of it is used:
    a token goes only to the server it is for.

    \b
        syncagent remote set file:///mnt/disk/vault
        syncagent remote set --token-file new-token
    """
    if url is None and token_file is None and ca_file is None and client_cert is None:
        raise click.UsageError("give a URL, --token-file, --ca-file or --client-cert")
    wanted = None if url is None else from_argument(url)
    token = read_token(token_file, session.output)

    async def move(vault: Vault) -> RemoteInfo:
        await vault.set_remote(wanted, token=token, ca_file=ca_file, client_cert=client_cert)
        return await vault.remote_info()

    found = run_on_vault(session, move)
    if session.output.is_json:
        session.output.document(_document(found))
    for line in _lines(found):
        session.output.line(line)


async def _look(vault: Vault) -> tuple[RemoteInfo, SyncAgentError | None]:
    found = await vault.remote_info()
    try:
        await vault.check_remote()
    except SyncAgentError as exc:
        return found, exc
    return found, None


def _document(found: RemoteInfo) -> dict[str, object]:
    return {
        "remote": without_password(found.url),
        "has_token": found.has_token,
        "ca_file": found.ca_file,
        "client_cert": found.client_cert,
    }


def _lines(found: RemoteInfo) -> Iterator[str]:
    yield f"remote  {escaped(without_password(found.url))}"
    if found.has_token:
        yield "token   kept in the vault's encrypted cache"
    if found.ca_file is not None:
        yield f"trusts  {escaped(found.ca_file)}"
    if found.client_cert is not None:
        yield f"shows   {escaped(found.client_cert)}"

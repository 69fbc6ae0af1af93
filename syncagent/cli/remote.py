"""`syncagent remote`: where the vault is synced to."""

import click

from syncagent.cli import exit as exits
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.text import escaped, from_argument, without_password
from syncagent.errors import SyncAgentError
from syncagent.vault import Vault


@click.group(no_args_is_help=False)
def remote() -> None:
    """Show or change the place that the vault is synced with."""


@remote.command()
@takes_session
def show(session: Session) -> int:
    """Show the remote's address and whether this vault is there.

    \b
        syncagent remote show
    """
    url, problem = run_on_vault(session, _look)
    if session.output.is_json:
        document: dict[str, object] = {"remote": url, "reachable": problem is None, "error": None}
        if problem is not None:
            document |= exits.document_of(problem)
        session.output.document(document)
    else:
        session.output.result(f"remote  {escaped(url)}")
        if problem is None:
            session.output.line("state   this vault is there")
    if problem is None:
        return exits.DONE
    session.output.complain(exits.error_line(problem))
    return exits.code_of(type(problem))


@remote.command("set")
@click.argument("url", metavar="URL")
@takes_session
def set_(session: Session, url: str) -> None:
    """Sync with a copy of the remote at another address from now on.

    The new place must hold this vault already: copy all files of the present one there first. What it lacks
    of this device's work is put there again by the next sync.

    \b
        syncagent remote set file:///mnt/disk/vault
    """
    wanted = from_argument(url)
    run_on_vault(session, lambda vault: vault.set_remote(wanted))
    if session.output.is_json:
        session.output.document({"remote": without_password(wanted)})
    session.output.line(f"remote  {escaped(without_password(wanted))}")


async def _look(vault: Vault) -> tuple[str, SyncAgentError | None]:
    url = without_password(await vault.remote_url())
    try:
        await vault.check_remote()
    except SyncAgentError as exc:
        return url, exc
    return url, None

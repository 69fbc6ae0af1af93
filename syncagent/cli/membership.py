"""`syncagent init` and `syncagent join`: this device gets a vault."""

import os
from pathlib import Path

import click

from syncagent import files
from syncagent.cache.profile import Profile, disk_errors
from syncagent.cli import exit as exits
from syncagent.cli.access import access_options, read_token
from syncagent.cli.output import OutputError
from syncagent.cli.passphrase import find_new_passphrase, find_recovery_code
from syncagent.cli.running import run_async
from syncagent.cli.session import Session, takes_session
from syncagent.cli.status import alarm_document
from syncagent.cli.text import escaped, from_argument
from syncagent.errors import VaultExists
from syncagent.membership import create_vault, join_vault
from syncagent.remote import directory_url
from syncagent.reports import CreatedVault

_device_name = click.option(
    "--device-name", metavar="NAME", help="What your other devices call this one; its host name by default."
)


@click.command()
@click.option(
    "--remote",
    metavar="URL",
    help="Where the vault is kept: https://host/vault or file:///path; by default a folder of this device.",
)
@access_options
@_device_name
@takes_session
def init(
    session: Session,
    remote: str | None,
    token_file: str | None,
    ca_file: str | None,
    client_cert: str | None,
    device_name: str | None,
) -> None:
    """Make a new vault and print its recovery code.

    The recovery code opens the vault when the passphrase is forgotten. It is shown
    once and stored nowhere.

    \b
        syncagent init --remote file:///mnt/disk/vault
        syncagent init --remote https://example.org/notes --token-file token
    """
    # An `init` that was interrupted at its very end has made the vault and not shown the code.
    folder = _free_folder(session, "; `syncagent key recovery` gives this one a new recovery code")
    token = read_token(token_file, session.output)
    passphrase = find_new_passphrase(
        os.environ,
        session.passphrase_file,
        session.passphrase_command,
        vault=session.vault,
        output=session.output,
    )
    url = directory_url(session.home.remote(session.vault)) if remote is None else from_argument(remote)
    _make_home(session)
    created = run_async(
        lambda: create_vault(
            folder,
            remote=url,
            passphrase=passphrase,
            token=token,
            ca_file=ca_file,
            client_cert=client_cert,
            device_name=_name(device_name),
        )
    )
    _show(session, created)


@click.command()
@click.option(
    "--remote",
    metavar="URL",
    required=True,
    help="Where the vault is kept: https://host/vault or file:///path.",
)
@access_options
@_device_name
@click.option("--recovery", is_flag=True, help="Ask for the recovery code, or take SYNCAGENT_RECOVERY_CODE.")
@takes_session
def join(
    session: Session,
    remote: str,
    token_file: str | None,
    ca_file: str | None,
    client_cert: str | None,
    device_name: str | None,
    recovery: bool,
) -> int:
    """Make this device part of a vault that another device has.

    The names of all blobs are known afterwards; `syncagent sync` fetches the content.

    \b
        syncagent join --remote file:///mnt/disk/vault
        syncagent join --remote https://example.org/notes --token-file token
    """
    folder = _free_folder(session)
    token = read_token(token_file, session.output)
    secret = find_recovery_code(os.environ, output=session.output) if recovery else session.secret()
    _make_home(session)
    joined = run_async(
        lambda: join_vault(
            folder,
            remote=from_argument(remote),
            passphrase=secret.passphrase,
            recovery_code=secret.recovery_code,
            token=token,
            ca_file=ca_file,
            client_cert=client_cert,
            device_name=_name(device_name),
        )
    )
    output = session.output
    if output.is_json:
        output.document(
            {
                "vault": session.vault,
                "vault_id": joined.vault_id,
                "device_id": joined.device_id,
                "remote": joined.remote,
                "alarms": [alarm_document(alarm) for alarm in joined.alarms],
            }
        )
    output.line(f"vault          {joined.vault_id}")
    output.line(f"remote         {escaped(joined.remote)}")
    output.line("next           syncagent sync")
    return exits.tell_alarms(joined.alarms, output)


def _show(session: Session, created: CreatedVault) -> None:
    """The ids and the code. The code must reach the user, so stderr stands in for a stdout that fails."""
    output = session.output
    try:
        if output.is_json:
            output.document(
                {
                    "vault": session.vault,
                    "vault_id": created.vault_id,
                    "device_id": created.device_id,
                    "remote": created.remote,
                    "recovery_code": created.recovery_code,
                }
            )
        else:
            output.line(f"vault          {created.vault_id}")
            output.line(f"remote         {escaped(created.remote)}")
            output.result(f"recovery code  {created.recovery_code}")
            output.line(
                "Write the recovery code down and keep it safe: it is not shown again, and without it"
            )
            output.line("a forgotten passphrase means that nobody, not even you, can read the vault.")
        output.flush()
    except OutputError:
        output.complain(f"recovery code  {created.recovery_code}")
        raise
    if output.is_closed:
        output.complain(f"recovery code  {created.recovery_code}")


def _free_folder(session: Session, hint: str = "") -> Path:
    """Asked before the passphrase is; the library asks again."""
    if Profile(session.folder).exists():
        raise VaultExists(
            f"there is a vault at {str(session.folder)!r} already",
            todo=f"use --vault NAME for another one{hint}",
        )
    return session.folder


def _make_home(session: Session) -> None:
    """The folders above a profile, for this user only."""
    with disk_errors():
        files.make_folders(session.home.folder, 0o700)
        files.make_folders(session.folder.parent, 0o700)


def _name(device_name: str | None) -> str | None:
    return None if device_name is None else from_argument(device_name)

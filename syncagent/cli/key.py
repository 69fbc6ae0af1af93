"""`syncagent key`: the passphrase and the recovery code."""

import os

import click

from syncagent.cli.output import OutputError
from syncagent.cli.passphrase import find_changed_passphrase
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session


@click.group(no_args_is_help=False)
def key() -> None:
    """List and replace what opens the vault: its passphrase and its recovery code."""


@key.command()
@takes_session
def ls(session: Session) -> None:
    """List the key slots on this device. Each opens the vault with one secret.

    \b
        syncagent key ls
    """
    found = run_on_vault(session, lambda vault: vault.key_slots())
    if session.output.is_json:
        session.output.document(
            {
                "slots": [
                    {
                        "id": one.id,
                        "kind": one.kind,
                        "kdf": {
                            "name": "argon2id",
                            "memory_kib": one.memory_kib,
                            "iterations": one.iterations,
                            "lanes": one.lanes,
                        },
                        "listed": one.is_listed,
                    }
                    for one in found
                ]
            }
        )
        return
    for one in found:
        state = "" if one.is_listed else ", replaced"
        session.output.result(
            f"{one.id}  {one.kind}  argon2id {one.memory_kib // 1024} MiB, {one.iterations} passes,"
            f" {one.lanes} lanes{state}"
        )


@key.command()
@click.option("--new-passphrase-file", metavar="FILE", help="Take the first line of a file as the new one.")
@click.option(
    "--new-passphrase-command", metavar="COMMAND", help="Run this and take the first line it prints."
)
@takes_session
def passphrase(session: Session, new_passphrase_file: str | None, new_passphrase_command: str | None) -> None:
    """Replace the passphrase, here and for all devices. Needs the remote.

    The new one comes from SYNCAGENT_NEW_PASSPHRASE, the options, or a prompt. Other devices take it over
    with their next sync. It does not change the vault's keys: whoever had the old passphrase and a copy of
    a device's folder, or of the remote, can still open that copy.

    \b
        syncagent key passphrase
    """
    session.profile()  # before anyone is asked for a passphrase
    new = find_changed_passphrase(
        os.environ, new_passphrase_file, new_passphrase_command, vault=session.vault, output=session.output
    )
    run_on_vault(session, lambda vault: vault.change_passphrase(new))
    if session.output.is_json:
        session.output.document({"changed": "passphrase"})
    session.output.line("the new passphrase opens the vault from now on")


@key.command()
@takes_session
def recovery(session: Session) -> None:
    """Make a new recovery code; the old one opens the vault no more. Needs the remote.

    It is shown once. As with the passphrase, the vault's keys stay as they are.

    \b
        syncagent key recovery
    """
    code = run_on_vault(session, lambda vault: vault.new_recovery_code())
    output = session.output
    try:
        if output.is_json:
            output.document({"recovery_code": code})
        else:
            output.result(f"recovery code  {code}")
            output.line("Write it down and keep it safe: it is not shown again.")
        output.flush()
    except OutputError:
        output.complain(f"recovery code  {code}")  # it must reach the user
        raise
    if output.is_closed:
        output.complain(f"recovery code  {code}")

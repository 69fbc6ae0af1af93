"""`syncagent expire`: show and say when a blob is to be gone."""

import datetime

import click

from syncagent.cli import exit as exits
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.target import Target, parse_blob
from syncagent.cli.text import time_text, time_value
from syncagent.cli.when import parse_when
from syncagent.vault import Vault


@click.command()
@click.argument("target", metavar="NS/ID")
@click.option(
    "--at", metavar="WHEN", help="In 30m, 12h, 7d or 2w, or a date and time of ISO 8601 with its zone."
)
@click.option("--never", is_flag=True, help="Keep it for good.")
@click.option("--force", is_flag=True, help="Let the time stand also where it is sooner, or past.")
@takes_session
def expire(session: Session, target: str, at: str | None, never: bool, force: bool) -> int:
    """Show when a blob is to be gone, after saying so if it is said.

    Once said, it is only ever put off, on all devices, unless --force is given: a time that is sooner than
    what stands ends with code 1 and changes nothing.

    \b
        syncagent expire mail/code-1 --at 7d
        syncagent expire mail/code-1 --never
        syncagent expire mail/code-1
    """
    if at is not None and never:
        raise click.UsageError("a blob goes --at a time or --never")
    if force and at is None and not never:
        raise click.UsageError("--force goes with --at or --never")
    where = parse_blob(target)
    now = datetime.datetime.now(datetime.UTC)
    wanted = None if at is None else parse_when(at, now)
    if wanted is not None and wanted <= now and not force:
        raise click.UsageError("the time is past: --force lets the blob go at once")
    if wanted is None and not never:
        stands = run_on_vault(session, lambda vault: _expiry(vault, where))
    else:
        stands = run_on_vault(session, lambda vault: _expire(vault, where, wanted, force))
    _tell(session, where, stands)
    is_refused = wanted is not None and (stands is None or stands - wanted >= datetime.timedelta(seconds=1))
    if is_refused:
        name = f"{where.namespace}/{where.blob_id!r}"
        session.output.complain(
            exits.joined(f"{name} was to be kept longer", "nothing was changed", "--force makes it sooner")
        )
    return exits.FAILED if is_refused else exits.DONE


def _tell(session: Session, where: Target, at: datetime.datetime | None) -> None:
    if session.output.is_json:
        session.output.document(
            {"namespace": where.namespace, "id": where.blob_id, "expires_at": time_value(at)}
        )
    else:
        session.output.result("never" if at is None else time_text(at))


async def _expiry(vault: Vault, where: Target) -> datetime.datetime | None:
    return (await vault.namespace(where.namespace).stat(where.blob_id)).expires_at


async def _expire(
    vault: Vault, where: Target, at: datetime.datetime | None, force: bool
) -> datetime.datetime | None:
    return await vault.namespace(where.namespace).set_expiry(where.blob_id, at, force=force)

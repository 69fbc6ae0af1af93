"""`syncagent flags`: show and change the flags of a blob."""

from collections.abc import Sequence

import click

from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.target import Target, parse_blob
from syncagent.cli.text import escaped, from_argument
from syncagent.vault import Vault


@click.command()
@click.argument("target", metavar="NS/ID")
@click.option("--add", multiple=True, metavar="FLAG", help="Set a flag; repeatable.")
@click.option("--remove", multiple=True, metavar="FLAG", help="Take a flag away; repeatable.")
@click.option(
    "--set", "only", multiple=True, metavar="FLAG", help="Let it have this and no others; repeatable."
)
@click.option("--clear", is_flag=True, help="Take all flags away.")
@takes_session
def flags(
    session: Session, target: str, add: Sequence[str], remove: Sequence[str], only: Sequence[str], clear: bool
) -> None:
    """Show the flags of a blob, one a line, after setting or taking away what is asked for.

    \b
        syncagent flags mail/msg-1
        syncagent flags mail/msg-1 --add seen --remove new
        syncagent flags mail/msg-1 --set archived
    """
    if bool(only) + clear + bool(add or remove) > 1:
        raise click.UsageError("--set and --clear say all of it: nothing else goes with them")
    where = parse_blob(target)
    added, removed = {*map(from_argument, add)}, {*map(from_argument, remove)}
    exactly = {*map(from_argument, only)} if only or clear else None
    found = run_on_vault(session, lambda vault: _flags(vault, where, added, removed, exactly))
    if session.output.is_json:
        session.output.document({"namespace": where.namespace, "id": where.blob_id, "flags": sorted(found)})
        return
    for flag in sorted(found):
        session.output.result(escaped(flag))


async def _flags(
    vault: Vault, where: Target, add: set[str], remove: set[str], exactly: set[str] | None
) -> frozenset[str]:
    namespace = vault.namespace(where.namespace)
    if exactly is not None:
        return await namespace.set_flags(where.blob_id, exactly)
    if not add and not remove:
        return await namespace.get_flags(where.blob_id)
    [result] = await namespace.update_flags([where.blob_id], add=add, remove=remove)
    if result.error is not None:
        raise result.error
    return result.flags

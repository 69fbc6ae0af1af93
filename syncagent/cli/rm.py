"""`syncagent rm`: delete blobs."""

from collections.abc import Sequence

import click

from syncagent.cli import exit as exits
from syncagent.cli.output import Output
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.target import Target, parse_blob
from syncagent.cli.text import escaped
from syncagent.errors import CacheFull, SyncAgentError
from syncagent.vault import Vault


@click.command()
@click.argument("targets", metavar="NS/ID...", nargs=-1, required=True)
@takes_session
def rm(session: Session, targets: Sequence[str]) -> int:
    """Delete blobs here at once, and on the other devices with the next syncs.

    \b
        syncagent rm notes/hello notes/now
    """
    wanted = [parse_blob(target) for target in targets]
    return run_on_vault(session, lambda vault: _delete(vault, wanted, session.output))


async def _delete(vault: Vault, wanted: Sequence[Target], output: Output) -> int:
    deleted: list[dict[str, str]] = []
    failed: list[dict[str, object]] = []
    codes: list[int] = []
    for one in wanted:
        try:
            version = await vault.namespace(one.namespace).delete(one.blob_id)
        except CacheFull:
            raise
        except SyncAgentError as exc:
            codes.append(exits.code_of(type(exc)))
            failed.append({"namespace": one.namespace, "id": one.blob_id, **exits.document_of(exc)})
            output.complain(exits.error_line(exc))
        else:
            deleted.append({"namespace": one.namespace, "id": one.blob_id, "version": str(version)})
            output.line(f"deleted {one.namespace}/{escaped(one.blob_id)}")
    if output.is_json:
        output.document({"deleted": deleted, "failed": failed})
    if deleted and codes:
        codes.append(exits.SOME_FAILED)
    return max(codes, default=exits.DONE)

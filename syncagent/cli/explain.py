"""`syncagent explain` and `retry`: why a blob waits, and making it due now."""

import time
from functools import partial

import click

from syncagent.cli.direct import open_cache
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.target import parse_blob
from syncagent.cli.text import escaped, from_argument, one_line, time_text, time_value
from syncagent.model import SyncStatus
from syncagent.names import check_namespace
from syncagent.reports import Explanation
from syncagent.wording import counted

_SETTLED = (SyncStatus.SYNCED, SyncStatus.REMOTE_ONLY, SyncStatus.LOCAL_ONLY)
"""No sync tries anything for these."""


@click.command()
@click.argument("target", metavar="NS/ID")
@takes_session
def explain(session: Session, target: str) -> None:
    """Show why a blob is not in sync, when it is tried next and what would help. The remote is not asked.

    \b
        syncagent explain notes/hello
    """
    where = parse_blob(target)
    with open_cache(session) as db:
        from syncagent.cache import waiting  # loaded while the key was derived

        found = db.run(
            partial(
                waiting.explain,
                namespace=where.namespace,
                blob_id=where.blob_id,
                now_ms=int(time.time() * 1000),
            )
        )
    if session.output.is_json:
        session.output.document(_document(found))
        return
    for line in _lines(found):
        session.output.result(line)


@click.command()
@click.argument("target", metavar="[NS[/ID]]", required=False)
@takes_session
def retry(session: Session, target: str | None) -> None:
    """Make what waits after a failure due at the next sync: everything, a namespace or one blob.

    \b
        syncagent retry
        syncagent retry photos
        syncagent retry notes/hello
    """
    namespace = blob_id = None
    if target is not None and "/" in target:
        where = parse_blob(target)
        namespace, blob_id = where.namespace, where.blob_id
    elif target is not None:
        namespace = check_namespace(from_argument(target))
    count = run_on_vault(session, lambda vault: vault.retry(namespace, blob_id))
    if session.output.is_json:
        session.output.document({"due": count})
    forgotten = f"{counted(count, 'failure')} forgotten, due at the next sync"
    session.output.line(forgotten if count else "no blob waits after a failure of its own")


def _document(found: Explanation) -> dict[str, object]:
    return {
        "namespace": found.namespace,
        "id": found.id,
        "status": found.status.name.lower(),
        "version": found.version,
        "deleted": found.deleted,
        "retries": found.retries,
        "cause": found.cause,
        "next_attempt": time_value(found.next_attempt),
        "unblock": found.unblock,
    }


def _lines(found: Explanation) -> list[str]:
    state = found.status.name.lower() + (", deleted" if found.deleted else "")
    lines = [f"{found.namespace}/{escaped(found.id)}: {state}"]
    if found.cause:
        lines.append(f"cause      {one_line(found.cause)}")
    if found.retries:
        lines.append(f"failed     {found.retries:,} times for a reason of its own")
    if found.next_attempt is not None:
        lines.append(f"next try   {time_text(found.next_attempt)}")
    elif found.cause and found.status not in _SETTLED:
        lines.append("next try   with the next sync")
    if found.unblock:
        lines.append(f"what helps {found.unblock}")
    return lines

"""`syncagent ls`: namespaces with counts, or the blobs of one."""

import json
import time
from functools import partial
from typing import TYPE_CHECKING

import click

from syncagent.answers import BlobInfo, BlobPage, ListOrder
from syncagent.cli import exit as exits
from syncagent.cli.direct import open_cache
from syncagent.cli.session import Session, takes_session
from syncagent.cli.status import counts_document, counts_text
from syncagent.cli.target import parse_listing
from syncagent.cli.text import escaped, metadata_document, size_text, time_text, time_value
from syncagent.errors import SyncAgentError
from syncagent.model import SyncStatus
from syncagent.wording import counted

if TYPE_CHECKING:
    from syncagent.cache.db import Database
    from syncagent.cache.listing import Order
    from syncagent.cache.matching import BlobFilter

PAGE_BLOBS = 1000


@click.command()
@click.argument("target", metavar="[NS[/PREFIX]]", required=False)
@click.option(
    "--status",
    "status_name",
    type=click.Choice([one.name.lower() for one in SyncStatus], case_sensitive=False),
    help="Only blobs in this state.",
)
@click.option("--flag", metavar="FLAG", help="Only blobs on which this flag is set.")
@click.option(
    "--sort",
    type=click.Choice(["id", "changed", "created", "size"]),
    default="id",
    help="By what; the smallest or oldest first.",
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--count", is_flag=True, help="Only how many there are.")
@click.option("-0", "--null", "is_null", is_flag=True, help="Exact names, each ended by a zero byte.")
@takes_session
def ls(
    session: Session,
    target: str | None,
    status_name: str | None,
    flag: str | None,
    sort: str,
    reverse: bool,
    count: bool,
    is_null: bool,
) -> None:
    """List namespaces with their counts, or the blobs of one: state, size, name.

    Names are escaped: a line is a blob. Use --json or -0 for exact names.

    \b
        syncagent ls
        syncagent ls photos/2024/ --status pending_upload
        syncagent ls mail --flag flagged --sort changed --reverse
        syncagent ls notes -0 | xargs -0 -I{} syncagent get notes/{}
    """
    where = None if target is None else parse_listing(target)
    status = None if status_name is None else SyncStatus[status_name.upper()]
    if is_null and (count or session.output.is_json):
        raise click.UsageError("-0 goes with neither --count nor --json")
    if where is None and (flag is not None or sort != "id" or reverse):
        raise click.UsageError("--flag, --sort and --reverse are for the blobs of one namespace")
    with open_cache(session) as db:
        # Loaded while the key was derived.
        from syncagent.cache.listing import Order
        from syncagent.cache.matching import BlobFilter

        if where is None:
            _namespaces(session, db, status, count, is_null)
            return
        wanted = BlobFilter(where.namespace, where.blob_id, status, flag, int(time.time() * 1000))
        if count:
            _count(session, db, wanted)
        else:
            _blobs(session, db, wanted, Order(ListOrder(sort), reverse), is_null)


def _namespaces(
    session: Session, db: "Database", status: SyncStatus | None, count: bool, is_null: bool
) -> None:
    from syncagent.cache import queries

    output = session.output
    found = db.run(partial(queries.status, last_sync=None, now=0.0)).namespaces
    shown = {name: _matching(db, name, status) for name in found}
    shown = {name: counts for name, counts in shown.items() if sum(counts.values())}
    if count:
        total = sum(sum(counts.values()) for counts in shown.values())
        output.document({"count": total}) if output.is_json else output.result(str(total))
        return
    if output.is_json:
        output.document(
            {
                "namespaces": [
                    {"name": name, "blobs": sum(counts.values()), "counts": counts_document(counts)}
                    for name, counts in shown.items()
                ]
            }
        )
        return
    for name, counts in shown.items():
        if is_null:
            output.raw(name.encode() + b"\0")
        else:
            output.result(f"{name:<20} {counted(sum(counts.values()), 'blob')}: {counts_text(counts)}")


def _matching(db: "Database", name: str, status: SyncStatus | None) -> dict[SyncStatus, int]:
    """Blobs of each status, or of one, that a list of the namespace shows."""
    from syncagent.cache.listing import count_blobs
    from syncagent.cache.matching import BlobFilter

    now_ms = int(time.time() * 1000)
    return {
        key: db.run(partial(count_blobs, wanted=BlobFilter(name, "", key, None, now_ms)))
        for key in SyncStatus
        if status is None or key is status
    }


def _count(session: Session, db: "Database", wanted: "BlobFilter") -> None:
    from syncagent.cache import listing

    number = db.run(partial(listing.count_blobs, wanted=wanted))
    if session.output.is_json:
        session.output.document({"namespace": wanted.namespace, "count": number})
    else:
        session.output.result(str(number))


def _blobs(session: Session, db: "Database", wanted: "BlobFilter", order: "Order", is_null: bool) -> None:
    """Every page. With `--json` it is one document that is written as it is read."""
    output = session.output
    after: str | None = None
    separator = ""
    if output.is_json:
        output.raw(f'{{"namespace": {json.dumps(wanted.namespace)}, "blobs": ['.encode())
    try:
        while not output.is_closed:
            page = _page(db, wanted, order, after, details=output.is_json)
            for blob in page.blobs:
                if output.is_json:
                    output.raw(f"{separator}\n{json.dumps(_document(blob))}".encode())
                    separator = ","
                elif is_null:
                    output.raw(blob.id.encode() + b"\0")
                else:
                    output.result(_line(blob))
            after = page.next
            if after is None:
                break
    except SyncAgentError as exc:
        if output.is_json:  # what was begun is brought to an end that can be parsed
            output.raw(f'], "error": {json.dumps(exits.document_of(exc)["error"])}}}\n'.encode())
            output.is_json = False
        raise
    if output.is_json:
        output.raw(b"]}\n")


def _page(
    db: "Database", wanted: "BlobFilter", order: "Order", after: str | None, *, details: bool
) -> BlobPage:
    from syncagent.cache import listing

    find = partial(
        listing.list_blobs, wanted=wanted, order=order, after=after, limit=PAGE_BLOBS, details=details
    )
    return db.run(find)


def _document(blob: BlobInfo) -> dict[str, object]:
    return {
        "id": blob.id,
        "size": blob.size,
        "status": blob.status.name.lower(),
        "version": blob.version,
        "created_at": time_text(blob.created_at),
        "changed_at": time_text(blob.changed_at),
        "conflict": blob.conflict,
        "expires_at": time_value(blob.expires_at),
        "flags": sorted(blob.flags or ()),
        "metadata": None if blob.metadata is None else metadata_document(blob.metadata),
    }


def _line(blob: BlobInfo) -> str:
    state = blob.status.name.lower() + ("+conflict" if blob.conflict else "")
    return f"{state:<16} {size_text(blob.size):>10}  {escaped(blob.id)}"

"""`syncagent status`: what is known without asking the remote."""

import time
from collections.abc import Mapping
from functools import partial

import click

from syncagent.cli.direct import open_cache
from syncagent.cli.session import Session, takes_session
from syncagent.cli.text import age_text, escaped, time_text, time_value, without_password
from syncagent.model import SyncStatus
from syncagent.reports import Alarm, VaultStatus
from syncagent.wording import counted


@click.command()
@takes_session
def status(session: Session) -> None:
    """Show counts, the last sync and what is in the way. The remote is not asked.

    \b
        syncagent status
        syncagent status --json
    """
    now = time.time()
    with open_cache(session) as db:
        from syncagent.cache import queries  # loaded while the key was derived
        from syncagent.cache.lock import SyncLock

        last_sync = SyncLock(session.profile().lock).last_sync()
        found = db.run(partial(queries.status, last_sync=last_sync, now=now))
    output = session.output
    if output.is_json:
        output.document(_document(session.vault, found))
        return
    for line in _lines(session.vault, found, now):
        output.result(line)


def counts_document(counts: Mapping[SyncStatus, int]) -> dict[str, int]:
    """Counts by the names that `ls --status` takes; every status is there."""
    return {one.name.lower(): counts.get(one, 0) for one in SyncStatus}


def counts_text(counts: Mapping[SyncStatus, int]) -> str:
    """`118 synced, 2 pending_upload`: what there is none of is left out."""
    return ", ".join(f"{counts[one]:,} {one.name.lower()}" for one in SyncStatus if counts.get(one))


def alarm_document(alarm: Alarm) -> dict[str, str]:
    """An alarm for `--json`."""
    return {
        "kind": alarm.kind,
        "subject": alarm.subject,
        "message": alarm.message,
        "safe": alarm.safe,
        "todo": alarm.todo,
    }


def _document(vault: str, found: VaultStatus) -> dict[str, object]:
    return {
        "vault": vault,
        "vault_id": found.vault_id,
        "device_id": found.device_id,
        "device_name": found.device_name,
        "remote": without_password(found.remote),
        "counts": counts_document(found.counts),
        "namespaces": {
            name: {
                "blobs": one.blobs,
                "counts": counts_document(one.counts),
                "pending_changes": one.pending_changes,
            }
            for name, one in found.namespaces.items()
        },
        "pending_changes": found.pending_changes,
        "conflicts": found.conflicts,
        "last_sync": time_value(found.last_sync),
        "next_attempt": time_value(found.next_attempt),
        "state": found.state.name.lower(),
        "reasons": list(found.reasons),
        "todo": found.todo,
        "alarms": [alarm_document(alarm) for alarm in found.alarms],
    }


def _lines(vault: str, found: VaultStatus, now: float) -> list[str]:
    lines = [
        f"vault      {vault} ({found.vault_id})",
        f"device     {escaped(found.device_name)} ({found.device_id})",
        f"remote     {escaped(without_password(found.remote))}",
    ]
    for name, one in found.namespaces.items():
        counts = counts_text(one.counts)
        lines.append(f"{name:<10} {counted(one.blobs, 'blob')}" + (f": {counts}" if counts else ""))
    if found.pending_changes:
        lines.append(f"waiting    {counted(found.pending_changes, 'change')} without content")
    if found.conflicts:
        lines.append(f"conflicts  {found.conflicts:,}")
    if found.last_sync is None:
        lines.append("last sync  never")
    else:
        age = age_text(max(0.0, now - found.last_sync.timestamp()))
        lines.append(f"last sync  {time_text(found.last_sync)} ({age} ago)")
    if found.next_attempt is not None:
        lines.append(f"next try   {time_text(found.next_attempt)}")
    lines += [
        f"alarm      {escaped(f'{alarm.kind}: {alarm.subject}: {alarm.message}')}" for alarm in found.alarms
    ]
    lines += [f"trouble    {escaped(reason)}" for reason in found.reasons]
    if found.todo:
        lines.append(f"what helps {found.todo}")
    return lines

"""What a sync did, as a line for a person and as a document."""

from collections.abc import Iterator

from syncagent.cli.status import alarm_document
from syncagent.cli.text import escaped, size_text
from syncagent.reports import Arrival, BlobArrival, SyncReport
from syncagent.wording import counted


def has_happened(report: SyncReport) -> bool:
    """Whether the sync found anything to do, or to say."""
    counts = report.sent or report.fetched or report.failed or report.conflicts
    return bool(counts or report.alarms or report.arrivals)


def report_line(report: SyncReport) -> str:
    """`sent 3 blobs (1.2 MiB), fetched 0, 0.4 s`; flags and the like are bytes, and no blobs."""
    if not has_happened(report) and not report.sent_bytes:
        return "nothing to do"
    parts = [f"sent {counted(report.sent, 'blob')}", f"fetched {report.fetched:,}"]
    if report.sent_bytes:
        parts[0] += f" ({size_text(report.sent_bytes)})"
    if report.fetched_bytes:
        parts[1] += f" ({size_text(report.fetched_bytes)})"
    parts += [f"failed {report.failed:,}"] * bool(report.failed)
    parts += [counted(report.conflicts, "conflict")] * bool(report.conflicts)
    return ", ".join([*parts, f"{report.duration_s:.1f} s"])


def arrival_lines(report: SyncReport) -> Iterator[str]:
    """`new      notes/hello (12 B)`, a line for each blob that another device has changed."""
    for one in report.arrivals:
        size = "" if one.kind is Arrival.DELETED else f" ({size_text(one.size)})"
        conflict = ", in conflict with this device's version" if one.is_conflict else ""
        yield f"{one.kind.value:<8} {one.namespace}/{escaped(one.id)}{size}{conflict}"
    if report.more_arrivals:
        yield f"and {counted(report.more_arrivals, 'more change')}"


def report_document(report: SyncReport) -> dict[str, object]:
    """The same for `--json`."""
    return {
        "sent": report.sent,
        "fetched": report.fetched,
        "failed": report.failed,
        "sent_bytes": report.sent_bytes,
        "fetched_bytes": report.fetched_bytes,
        "conflicts": report.conflicts,
        "alarms": [alarm_document(alarm) for alarm in report.alarms],
        "failures": [
            {"namespace": one.namespace, "id": one.id, "direction": one.direction, "error": one.error}
            for one in report.failures
        ],
        "duration_s": round(report.duration_s, 3),
        "arrivals": [_arrival_document(one) for one in report.arrivals],
        "more_arrivals": report.more_arrivals,
    }


def _arrival_document(one: BlobArrival) -> dict[str, object]:
    return {
        "namespace": one.namespace,
        "id": one.id,
        "kind": one.kind.value,
        "size": one.size,
        "conflict": one.is_conflict,
    }

"""Which blobs there are: a page at a time, by id, time or size, and how many.

A page is read from where the last one ended (`after`), never counted off from the
start. How the blobs that match are found is decided in `matching.py`.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from syncagent.answers import BlobInfo, BlobPage, ListOrder
from syncagent.asked import checked_limit
from syncagent.cache.blobs import find_blob, find_namespace
from syncagent.cache.db import Database, Row
from syncagent.cache.details import with_details
from syncagent.cache.matching import (
    FEW,
    HAS_FLAG,
    HIDDEN,
    IDS,
    RANGE,
    BlobFilter,
    Query,
    flag_count,
    prefix_range,
    status_count,
)
from syncagent.errors import ConfigError, InvalidName
from syncagent.model import SyncStatus
from syncagent.times import utc

MAX_PAGE = 10_000
_HLC_SHIFT = 16
INFO_COLUMNS = (
    "blob.id, blob.size, blob.status, blob.created_at, blob.changed, blob.conflict,"
    " (SELECT version.id FROM version WHERE version.no = blob.winner_no), blob.expires_at,"
    " (SELECT reads FROM access WHERE access.blob_no = blob.no),"
    " (SELECT read_at FROM access WHERE access.blob_no = blob.no)"
)
"""What `blob_info` takes, of the table `blob`."""

_COLUMNS = {
    ListOrder.ID: "blob.id",
    ListOrder.CHANGED: "blob.changed",
    ListOrder.CREATED: "blob.created_at",
    ListOrder.SIZE: "blob.size",
}


@dataclass(frozen=True, slots=True)
class Order:
    """How a list is sorted; what is equal in it comes in the order in which this device learned of it."""

    by: ListOrder = ListOrder.ID
    descending: bool = False


BY_ID = Order()


class _Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Behind which blob the next page begins; `listing` tells of which listing."""

    listing: bytes
    value: str | int
    no: int


def blob_info(namespace: str, row: Sequence[Any]) -> BlobInfo:
    """A blob from its `INFO_COLUMNS`."""
    blob_id, size, code, created_at, changed, conflict, version, expires_at, reads, read_at = row
    return BlobInfo(
        namespace=namespace,
        id=blob_id,
        size=size,
        status=SyncStatus(code),
        version=version.hex(),
        created_at=utc(created_at),
        changed_at=utc(changed >> _HLC_SHIFT),
        conflict=bool(conflict),
        expires_at=None if expires_at is None else utc(expires_at),
        reads=reads or 0,
        last_read_at=None if read_at is None else utc(read_at),
    )


def find_info(db: Database, namespace: str, blob_id: str, *, now_ms: int) -> BlobInfo | None:
    """One live blob with its flags and metadata; None where there is none."""
    number = find_namespace(db, namespace)
    row = None if number is None else find_blob(db, number, blob_id)
    if row is None or not row.is_live(now_ms):
        return None
    info = db.one(f"SELECT {INFO_COLUMNS} FROM blob WHERE no = ?", (row.no,))  # noqa: S608 - fixed text
    assert info is not None
    return with_details(db, [blob_info(namespace, info)], [row.no])[0]


def list_blobs(
    db: Database,
    wanted: BlobFilter,
    order: Order = BY_ID,
    *,
    after: str | None = None,
    limit: int = 1000,
    details: bool = False,
    few: int = FEW,
) -> BlobPage:
    """Live blobs of a namespace, from where `after` says; with `details`, their flags and metadata too.

    Raises:
        ConfigError: `after` is not the `next` of a page of this very listing, or the limit is out of bounds.
        InvalidName: the prefix or flag cannot be written as UTF-8.
    """
    _check_text(wanted)
    checked_limit(limit, MAX_PAGE, "blobs")
    behind = None if after is None else _decoded(after, wanted, order)
    number = find_namespace(db, wanted.namespace)
    if number is None:
        return BlobPage((), None)
    query = Query(db, wanted, number, few)
    if query.is_none:
        return BlobPage((), None)
    column = _COLUMNS[order.by]
    source = query.source(order.by)
    direction, sign = ("DESC", "<") if order.descending else ("ASC", ">")
    if order.by is ListOrder.ID:
        ordering = f"{query.id_column} {direction}"
        if behind is not None:
            query.add(f"{query.id_column} {sign} ?", behind.value)
    else:
        ordering = f"{column} {direction}, blob.no {direction}"
        if behind is not None:
            query.add(f"({column}, blob.no) {sign} (?, ?)", behind.value, behind.no)
    # First which they are: where blobs are sorted, more is looked at than is given.
    rows = db.all(
        f"SELECT {INFO_COLUMNS}, blob.no FROM (SELECT blob.no AS picked FROM {source}"  # noqa: S608 - fixed text
        f" WHERE {query.conditions} ORDER BY {ordering} LIMIT ?) CROSS JOIN blob ON blob.no = picked",
        (*query.parameters, limit + 1),
    )
    rows.sort(key=lambda row: (_VALUES[order.by](row), row[-1]), reverse=order.descending)
    blobs = tuple(blob_info(wanted.namespace, row[:-1]) for row in rows[:limit])
    if details:
        blobs = with_details(db, blobs, [row[-1] for row in rows[:limit]])
    if len(rows) <= limit:
        return BlobPage(blobs, None)
    last = rows[limit - 1]
    return BlobPage(blobs, _encoded(_Cursor(_listing(wanted, order), _VALUES[order.by](last), last[-1])))


def count_blobs(db: Database, wanted: BlobFilter, *, few: int = FEW) -> int:
    """How many live blobs match. Without a prefix, a flag, a status and all are counted already."""
    _check_text(wanted)
    number = find_namespace(db, wanted.namespace)
    if number is None:
        return 0
    if wanted.status is not None and (wanted.flag is not None or wanted.prefix):
        query = Query(db, wanted, number, few)
        source = query.source(None)
        return int(db.scalar(f"SELECT count(*) FROM {source} WHERE {query.conditions}", query.parameters))  # noqa: S608
    if wanted.prefix:
        count = _prefix_count(db, number, wanted)
    elif wanted.flag is not None:
        count = flag_count(db, number, wanted.flag)
    else:
        count = status_count(db, number, wanted.status)
    return count - _expired_count(db, number, wanted, few)


def _prefix_count(db: Database, number: int, wanted: BlobFilter) -> int:
    """Live blobs whose ids begin so, with a flag if one is given. Indexes are read, and no blob."""
    ids = (number, *prefix_range(wanted.prefix))
    if wanted.flag is not None:
        sql = f"SELECT count(*) FROM blob_flag WHERE namespace_no = ? AND {RANGE} AND flag = ?"  # noqa: S608 - fixed text
        return int(db.scalar(sql, (*ids, wanted.flag)))
    every = f"SELECT count(*) FROM blob {IDS} WHERE namespace_no = ? AND {RANGE}"  # noqa: S608 - fixed text
    hidden = f"SELECT count(*) FROM blob {HIDDEN} AND namespace_no = ? AND {RANGE}"  # noqa: S608 - fixed text
    return int(db.scalar(every, ids)) - int(db.scalar(hidden, ids))


def _expired_count(db: Database, number: int, wanted: BlobFilter, few: int) -> int:
    """Those that the counters and indexes still count and that have expired."""
    expired = (
        "SELECT count(*) FROM blob INDEXED BY blob_expires WHERE namespace_no = ? AND expires_at <= ?"
        " AND NOT deleted AND winner_no IS NOT NULL"
    )
    parameters: list[object] = [number, wanted.now_ms]
    count = int(db.scalar(expired, parameters))
    if not count:
        return 0
    if wanted.prefix:
        expired += f" AND {RANGE}"
        parameters += prefix_range(wanted.prefix)
    if wanted.status is not None:
        expired += " AND status = ?"
        parameters.append(wanted.status)
    if wanted.flag is not None and count <= few:
        expired += f" AND {HAS_FLAG}"
        parameters.append(wanted.flag)
    elif wanted.flag is not None:  # all that have the flag together: many lookups, one by one, take longer
        expired += " AND no IN (SELECT blob_no FROM blob_flag WHERE namespace_no = ? AND flag = ?)"
        parameters += [number, wanted.flag]
    return int(db.scalar(expired, parameters))


_VALUES: dict[ListOrder, Callable[[Row], str | int]] = {
    ListOrder.ID: lambda row: str(row[0]),
    ListOrder.SIZE: lambda row: int(row[1]),
    ListOrder.CREATED: lambda row: int(row[3]),
    ListOrder.CHANGED: lambda row: int(row[4]),
}


def _listing(wanted: BlobFilter, order: Order) -> bytes:
    """Tells a listing from every other, so that no page is asked for behind a blob of another order."""
    status = None if wanted.status is None else int(wanted.status)
    parts = (wanted.namespace, wanted.prefix, status, wanted.flag, order.by.value, order.descending)
    return hashlib.sha256(msgspec.msgpack.encode(parts)).digest()[:8]


def _encoded(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).rstrip(b"=").decode()


def _decoded(after: str, wanted: BlobFilter, order: Order) -> _Cursor:
    try:
        padded = after.encode() + b"=" * (-len(after) % 4)
        cursor = msgspec.msgpack.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=_Cursor)
    except (UnicodeEncodeError, binascii.Error, msgspec.DecodeError):
        cursor = None
    is_id = order.by is ListOrder.ID
    if cursor is None or cursor.listing != _listing(wanted, order) or isinstance(cursor.value, str) != is_id:
        raise ConfigError(
            "`after` is not the `next` of a page of this listing",
            todo="begin without it; what is listed, and in which order, stays the same from page to page",
        )
    return cursor


def _check_text(wanted: BlobFilter) -> None:
    for text in (wanted.prefix, wanted.flag or ""):
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise InvalidName(f"{text[:80]!r} cannot be written as UTF-8") from exc

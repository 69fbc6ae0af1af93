"""Which blobs there are: a page at a time, by id, time or size, and how many.

A page is read from where the last one ended (`after`), never counted off from the
start. Which index it is read by is decided here and named in the statement, for
SQLite has no statistics of the cache:

    no filter or a prefix, by id        the index of ids
    no filter, by changed or created    the index of that order
    a flag, by id                       the table of flags that are set
    a status above 3, by id             the index of these few
    anything that few blobs match       those, sorted
    anything that most blobs match      the index of the order; the others are passed by
    the rest, and every list by size    the whole table, sorted
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from syncagent.answers import BlobInfo, BlobPage, ListOrder
from syncagent.cache.blobs import find_blob, find_namespace
from syncagent.cache.db import Database, Row
from syncagent.errors import ConfigError, InvalidName
from syncagent.model import SyncStatus
from syncagent.times import utc

MAX_PAGE = 10_000
FEW = 1000
"""So many blobs are read and sorted in some 10 ms, wherever they lie."""
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
_INDEXES = {
    ListOrder.ID: "INDEXED BY sqlite_autoindex_blob_1",
    ListOrder.CHANGED: "INDEXED BY blob_changed",
    ListOrder.CREATED: "INDEXED BY blob_created",
}
_QUEUES = {
    SyncStatus.PENDING_UPLOAD: "upload",
    SyncStatus.PENDING_DOWNLOAD: "download",
}
_RARE = SyncStatus.PENDING_DOWNLOAD
"""Blobs of the statuses above it are in an index: those that neither a put nor a fetch passes through."""


@dataclass(frozen=True, slots=True)
class BlobFilter:
    """Which blobs of a namespace are meant: those that match all that is given."""

    namespace: str
    prefix: str = ""
    status: SyncStatus | None = None
    flag: str | None = None
    now_ms: int = 0
    """Unix time in milliseconds: what has expired by then is left out."""


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
    """One live blob; None where there is none."""
    number = find_namespace(db, namespace)
    row = None if number is None else find_blob(db, number, blob_id)
    if row is None or not row.is_live(now_ms):
        return None
    info = db.one(f"SELECT {INFO_COLUMNS} FROM blob WHERE no = ?", (row.no,))  # noqa: S608 - fixed text
    assert info is not None
    return blob_info(namespace, info)


def list_blobs(
    db: Database,
    wanted: BlobFilter,
    order: Order = BY_ID,
    *,
    after: str | None = None,
    limit: int = 1000,
    few: int = FEW,
) -> BlobPage:
    """Live blobs of a namespace, from where `after` says.

    Raises:
        ConfigError: `after` is not the `next` of a page of this very listing, or the limit is out of bounds.
        InvalidName: the prefix or flag cannot be written as UTF-8.
    """
    _check_text(wanted)
    if not 1 <= limit <= MAX_PAGE:
        raise ConfigError(f"a page has 1 to {MAX_PAGE} blobs, not {limit}")
    behind = None if after is None else _decoded(after, wanted, order)
    number = find_namespace(db, wanted.namespace)
    if number is None:
        return BlobPage((), None)
    query = _Query(db, wanted, number, few)
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
    rows = db.all(
        f"SELECT {INFO_COLUMNS}, blob.no FROM {source} WHERE {query.conditions}"  # noqa: S608 - fixed text
        f" ORDER BY {ordering} LIMIT ?",
        (*query.parameters, limit + 1),
    )
    blobs = tuple(blob_info(wanted.namespace, row[:-1]) for row in rows[:limit])
    if len(rows) <= limit:
        return BlobPage(blobs, None)
    last = rows[limit - 1]
    return BlobPage(blobs, _encoded(_Cursor(_listing(wanted, order), _VALUES[order.by](last), last[-1])))


def count_blobs(db: Database, wanted: BlobFilter, *, few: int = FEW) -> int:
    """How many live blobs match. A flag alone, a status alone and no filter at all are counted already."""
    _check_text(wanted)
    number = find_namespace(db, wanted.namespace)
    if number is None:
        return 0
    if wanted.flag is None and not wanted.prefix:
        return _status_count(db, number, wanted.status) - _expired_count(db, number, wanted)
    if wanted.status is None and not wanted.prefix:
        return _flag_count(db, number, wanted.flag or "") - _expired_count(db, number, wanted)
    query = _Query(db, wanted, number, few)
    source = query.source(ListOrder.ID)
    return int(db.scalar(f"SELECT count(*) FROM {source} WHERE {query.conditions}", query.parameters) or 0)  # noqa: S608


class _Query:
    """The conditions of a filter, and the way to the blobs that meet them."""

    def __init__(self, db: Database, wanted: BlobFilter, number: int, few: int) -> None:
        self._db = db
        self._few = few
        self._wanted = wanted
        self._number = number
        self._conditions: list[str] = []
        self.parameters: list[object] = []
        self.id_column = "blob.id"

    @property
    def conditions(self) -> str:
        return " AND ".join(self._conditions)

    def add(self, condition: str, *parameters: object) -> None:
        self._conditions.append(condition)
        self.parameters += parameters

    def source(self, order: ListOrder) -> str:
        """What stands behind FROM; the filter's conditions are added.

        Where a table stands before `blob`, CROSS JOIN keeps it there.
        """
        wanted = self._wanted
        if wanted.flag is not None and order is ListOrder.ID:
            # Its ids are those of the blobs: the order and the prefix are looked for in the table of flags.
            self.id_column = "blob_flag.id"
            self.add("blob_flag.namespace_no = ? AND flag = ?", self._number, wanted.flag)
            return self._with_filter("blob_flag CROSS JOIN blob ON blob.no = blob_flag.blob_no")
        way, few = self._way(order)
        return self._with_filter(f"{few} CROSS JOIN blob ON blob.no = few.blob_no" if few else f"blob {way}")

    def _way(self, order: ListOrder) -> tuple[str, str]:
        """An index, or the table; and what names the few blobs to look at, where that is better."""
        db, wanted, number = self._db, self._wanted, self._number
        all_ = _status_count(db, number, None)
        most = all_
        if wanted.flag is not None:
            count = _flag_count(db, number, wanted.flag)
            if count <= self._few:
                self.add("few.namespace_no = ? AND few.flag = ?", number, wanted.flag)
                return "", "blob_flag AS few"
            most = min(most, count)
        if wanted.status is not None:
            count = _status_count(db, number, wanted.status)
            if wanted.status > _RARE and (order is ListOrder.ID or count <= self._few):
                self.add(f"blob.status > {int(_RARE)}")
                return "INDEXED BY blob_status", ""
            queue = _QUEUES.get(wanted.status)
            if queue and self._is_few(f"SELECT 1 FROM {queue}"):  # noqa: S608 - fixed names
                return "", (
                    f"(SELECT DISTINCT blob_no FROM {queue}"  # noqa: S608 - fixed names
                    " CROSS JOIN version ON version.no = version_no) AS few"
                )
            most = min(most, count)
        if wanted.prefix and order is not ListOrder.ID:
            if self._is_few(
                "SELECT 1 FROM blob WHERE namespace_no = ? AND id >= ? AND id < CAST(? AS TEXT)",
                number,
                *_prefix_range(wanted.prefix),
            ):
                return _INDEXES[ListOrder.ID], ""
            most = 0  # nobody knows how many
        return _INDEXES.get(order, "NOT INDEXED") if most * 2 >= all_ else "NOT INDEXED", ""

    def _with_filter(self, source: str) -> str:
        wanted = self._wanted
        self.add("blob.namespace_no = ? AND NOT blob.deleted AND winner_no IS NOT NULL", self._number)
        self.add("(blob.expires_at IS NULL OR blob.expires_at > ?)", wanted.now_ms)
        if wanted.prefix:
            column = self.id_column
            self.add(f"{column} >= ? AND {column} < CAST(? AS TEXT)", *_prefix_range(wanted.prefix))
        if wanted.status is not None:
            self.add("blob.status = ?", int(wanted.status))
        if wanted.flag is not None and self.id_column == "blob.id":
            self.add(
                "EXISTS (SELECT 1 FROM blob_flag WHERE namespace_no = ? AND flag = ? AND id = blob.id)",
                self._number,
                wanted.flag,
            )
        return source

    def _is_few(self, rows: str, *parameters: object) -> bool:
        few = self._few
        count = self._db.scalar(f"SELECT count(*) FROM ({rows} LIMIT {few + 1})", parameters)  # noqa: S608 - fixed text
        return int(count) <= few


def _prefix_range(prefix: str) -> tuple[str, bytes]:
    # A range rather than LIKE: it uses the index and needs no escaping. Text compares by its bytes, and no
    # UTF-8 has a byte 0xff.
    return prefix, prefix.encode() + b"\xff"


def _status_count(db: Database, number: int, status: SyncStatus | None) -> int:
    """Live blobs of a namespace, or those of one status: a few counters."""
    return int(
        db.scalar(
            "SELECT sum(blobs) FROM status_count WHERE namespace_no = ? AND deleted = 0"
            " AND (? IS NULL OR status = ?)",
            (number, status, status),
        )
        or 0
    )


def _expired_count(db: Database, number: int, wanted: BlobFilter) -> int:
    """Those that the counters still count and that have expired: read one by one, for most blobs never do."""
    return int(
        db.scalar(
            "SELECT count(*) FROM blob INDEXED BY blob_expires WHERE namespace_no = ? AND expires_at <= ?"
            " AND NOT deleted AND winner_no IS NOT NULL AND (? IS NULL OR status = ?)"
            " AND (? IS NULL OR EXISTS (SELECT 1 FROM blob_flag"
            "   WHERE namespace_no = blob.namespace_no AND flag = ? AND id = blob.id))",
            (number, wanted.now_ms, *[wanted.status] * 2, *[wanted.flag] * 2),
        )
    )


def _flag_count(db: Database, number: int, flag: str) -> int:
    return int(
        db.scalar("SELECT blobs FROM flag_count WHERE namespace_no = ? AND flag = ?", (number, flag)) or 0
    )


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

"""The way to the blobs that a filter matches: which index is read, or which few are looked at.

It is decided here and named in the statement, for SQLite has no statistics of the cache:

    no filter or a prefix, by id        the index of ids
    no filter, by changed or created    the index of that order
    a flag, by id                       the table of flags that are set
    a status above 3, by id             the index of these few
    what most blobs match               the index of the order; the others are passed by
    what is named by a small table      those: read by number, which takes 2 µs each, and sorted
    the rest                            all of the namespace, sorted
"""

from dataclasses import dataclass

from syncagent.answers import ListOrder
from syncagent.cache.db import Database
from syncagent.model import SyncStatus

FEW = 1000
"""So many blobs are read and sorted in a few ms, wherever they lie."""
IDS = "INDEXED BY sqlite_autoindex_blob_1"
"""Every id of one namespace, in order; of deleted blobs too."""
_INDEXES = {
    ListOrder.ID: IDS,
    ListOrder.CHANGED: "INDEXED BY blob_changed",
    ListOrder.CREATED: "INDEXED BY blob_created",
}
_ALL = "INDEXED BY blob_changed"
"""Every live blob of one namespace, nearly in the order in which they lie."""
RANGE = "id >= ? AND id < CAST(? AS TEXT)"
"""With `prefix_range`: ids that begin so."""
HIDDEN = "INDEXED BY blob_hidden WHERE (deleted OR winner_no IS NULL)"
"""Of the table `blob`: what is deleted, or known by facts alone."""
HAS_FLAG = (
    "EXISTS (SELECT 1 FROM blob_flag WHERE namespace_no = blob.namespace_no AND flag = ? AND id = blob.id)"
)
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
class _Numbers:
    """A subquery that names every blob that matches, and others; `most` of them."""

    most: int
    sql: str
    parameters: tuple[object, ...]
    has_flag: bool = False
    """Whether all it names have the flag that is asked for."""


class Query:
    """The conditions of a filter, and the way to the blobs that meet them."""

    def __init__(self, db: Database, wanted: BlobFilter, number: int, few: int) -> None:
        self._db = db
        self._few = few
        self._wanted = wanted
        self._number = number
        self._all = status_count(db, number, None)
        self._conditions: list[str] = []
        self.parameters: list[object] = []
        self.id_column = "blob.id"

    @property
    def conditions(self) -> str:
        """What stands behind WHERE, with `parameters` for its marks."""
        return " AND ".join(self._conditions)

    def add(self, condition: str, *parameters: object) -> None:
        """One more condition, once `source` was asked."""
        self._conditions.append(condition)
        self.parameters += parameters

    @property
    def is_none(self) -> bool:
        """Whether a counter says that nothing matches."""
        wanted = self._wanted
        return (wanted.flag is not None and not flag_count(self._db, self._number, wanted.flag)) or (
            wanted.status is not None and not status_count(self._db, self._number, wanted.status)
        )

    def source(self, order: ListOrder | None) -> str:
        """What stands behind FROM, for an order or for none; the filter's conditions are added."""
        numbers = self._numbers(order)
        if numbers is not None:
            # NOT INDEXED: by their numbers, which SQLite sorts first, so that neighbours are read together.
            self.add(f"blob.no IN ({numbers.sql})", *numbers.parameters)
            self._add_filter(has_flag=numbers.has_flag or self._wanted.flag is None)
            return "blob NOT INDEXED"
        wanted = self._wanted
        if wanted.flag is not None and order is ListOrder.ID:
            # Its ids are those of the blobs: the order and the prefix are looked for in the table of flags.
            self.id_column = "blob_flag.id"
            self.add("blob_flag.namespace_no = ? AND flag = ?", self._number, wanted.flag)
            self._add_filter(has_flag=True)
            return "blob_flag CROSS JOIN blob ON blob.no = blob_flag.blob_no"  # CROSS: in this order
        if order is ListOrder.ID and not _is_indexed(wanted.status) and self._is_most(order):
            self._add_by_ids()
            return f"blob {IDS}"
        self._add_filter(has_flag=wanted.flag is None)
        if order is ListOrder.ID and _is_indexed(wanted.status):
            self.add(f"blob.status > {int(_RARE)}")
            return "blob INDEXED BY blob_status"
        return f"blob {_INDEXES[order] if order in _INDEXES and self._is_most(order) else _ALL}"

    def _numbers(self, order: ListOrder | None) -> _Numbers | None:
        """What names the blobs to look at, where that is better than to read them in order."""
        found = [numbers for numbers in (self._flagged(), self._of_status()) if numbers is not None]
        fewest = min(found, key=lambda numbers: numbers.most, default=None)
        if order is ListOrder.ID:
            if fewest is not None and fewest.most <= self._few and fewest.most < self._passed_by_id():
                return fewest
            is_in_order = self._wanted.flag is not None or _is_indexed(self._wanted.status)
            return None if is_in_order or self._is_most(order) else self._named()
        if fewest is not None and (order not in _INDEXES or self._wanted.prefix or not self._is_most(order)):
            return fewest
        return self._named() if fewest is None else None

    def _flagged(self) -> _Numbers | None:
        flag = self._wanted.flag
        if flag is None:
            return None
        sql = "SELECT blob_no FROM blob_flag WHERE namespace_no = ? AND flag = ?"
        return self._ranged(flag_count(self._db, self._number, flag), sql, flag, has_flag=True)

    def _of_status(self) -> _Numbers | None:
        status = self._wanted.status
        if _is_indexed(status):
            sql = (
                "SELECT no FROM blob INDEXED BY blob_status"  # noqa: S608 - fixed text
                f" WHERE namespace_no = ? AND status = ? AND status > {int(_RARE)} AND NOT deleted"
            )
            return self._ranged(status_count(self._db, self._number, status), sql, int(status or 0))
        queue = _QUEUES.get(status) if status is not None else None
        waiting = f"FROM {queue} WHERE version_no IS NOT NULL"
        count = None if queue is None else self._bounded(f"SELECT 1 {waiting}", self._few)
        if count is None:
            return None
        numbers = f"SELECT blob_no FROM (SELECT version_no {waiting}) CROSS JOIN version ON no = version_no"  # noqa: S608 - fixed names
        return _Numbers(count, numbers, ())

    def _named(self) -> _Numbers | None:
        """By the prefix, unless so many begin with it that reading all is faster."""
        if not self._wanted.prefix:
            return None
        sql = f"SELECT no FROM blob {_INDEXES[ListOrder.ID]} WHERE namespace_no = ? AND {RANGE}"  # noqa: S608 - fixed text
        parameters = (self._number, *prefix_range(self._wanted.prefix))
        count = self._bounded(sql, max(self._few, self._all // 8), *parameters)
        return None if count is None else _Numbers(count, sql, parameters)

    def _ranged(self, most: int, sql: str, value: object, *, has_flag: bool = False) -> _Numbers:
        prefix = self._wanted.prefix
        if not prefix:
            return _Numbers(most, sql, (self._number, value), has_flag)
        parameters = (self._number, value, *prefix_range(prefix))
        return _Numbers(most, f"{sql} AND {RANGE}", parameters, has_flag)

    def _is_most(self, order: ListOrder | None) -> bool:
        """Whether half of all blobs and more match, so that few are passed by where all come in order."""
        wanted = self._wanted
        if wanted.prefix and order is not ListOrder.ID:
            return False  # nobody knows how many
        most = self._all
        if wanted.flag is not None:
            most = min(most, flag_count(self._db, self._number, wanted.flag))
        if wanted.status is not None:
            most = min(most, status_count(self._db, self._number, wanted.status))
        return most * 2 >= self._all

    def _passed_by_id(self) -> int:
        """Among how many the blobs that match are looked for by id."""
        if self._wanted.flag is not None:
            return flag_count(self._db, self._number, self._wanted.flag)
        if _is_indexed(self._wanted.status):
            return status_count(self._db, self._number, self._wanted.status)
        return self._all + 1

    def _add_filter(self, *, has_flag: bool) -> None:
        wanted = self._wanted
        self.add("blob.namespace_no = ? AND NOT blob.deleted AND winner_no IS NOT NULL", self._number)
        self.add("(blob.expires_at IS NULL OR blob.expires_at > ?)", wanted.now_ms)
        if wanted.prefix:
            column = self.id_column
            self.add(f"{column} >= ? AND {column} < CAST(? AS TEXT)", *prefix_range(wanted.prefix))
        if wanted.status is not None:
            self.add("blob.status = ?", int(wanted.status))
        if not has_flag:
            self.add(HAS_FLAG, wanted.flag)

    def _add_by_ids(self) -> None:
        """As `_add_filter` without a flag, but what is hidden is passed by without reading its row.

        That takes a tenth, and a million blobs that begin alike may have been deleted. What a row must be
        read for stands in a subquery: SQLite would else read it first.
        """
        wanted = self._wanted
        self.add("blob.namespace_no = ?", self._number)
        if wanted.prefix:
            self.add("blob.id >= ? AND blob.id < CAST(? AS TEXT)", *prefix_range(wanted.prefix))
        self.add(
            f"NOT EXISTS (SELECT 1 FROM blob AS hidden {HIDDEN}"  # noqa: S608 - fixed text
            " AND hidden.namespace_no = blob.namespace_no AND hidden.id = blob.id)"
        )
        self.add(
            "(SELECT (live.expires_at IS NULL OR live.expires_at > ?) AND (? IS NULL OR live.status = ?)"
            " FROM blob AS live WHERE live.no = blob.no)",
            wanted.now_ms,
            *[wanted.status] * 2,
        )

    def _bounded(self, rows: str, most: int, *parameters: object) -> int | None:
        """How many rows there are; None for more than `most`."""
        count = int(
            self._db.scalar(f"SELECT count(*) FROM ({rows} LIMIT {most + 1})", parameters)  # noqa: S608 - fixed text
        )
        return count if count <= most else None


def _is_indexed(status: SyncStatus | None) -> bool:
    return status is not None and status > _RARE


def prefix_range(prefix: str) -> tuple[str, bytes]:
    """The parameters of `RANGE`."""
    # A range rather than LIKE: it uses the index and needs no escaping. Text compares by its bytes, and no
    # UTF-8 has a byte 0xff.
    return prefix, prefix.encode() + b"\xff"


def status_count(db: Database, number: int, status: SyncStatus | None) -> int:
    """Live blobs of a namespace, or those of one status: a few counters."""
    return int(
        db.scalar(
            "SELECT sum(blobs) FROM status_count WHERE namespace_no = ? AND deleted = 0"
            " AND (? IS NULL OR status = ?)",
            (number, status, status),
        )
        or 0
    )


def flag_count(db: Database, number: int, flag: str) -> int:
    """Live blobs of a namespace with a flag: a counter."""
    return int(
        db.scalar("SELECT blobs FROM flag_count WHERE namespace_no = ? AND flag = ?", (number, flag)) or 0
    )

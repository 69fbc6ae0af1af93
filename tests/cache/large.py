"""A cache of ten thousand blobs, and how its statements are answered."""

from collections.abc import Sequence
from typing import Any

from syncagent.cache.db import Database, Row

ROWS = 10_000


SUBQUERY = "SCAN (subquery"
"""What it reads has a line of its own."""


class Recording(Database):
    """Remembers the statements it is asked."""

    asked: list[tuple[str, Sequence[Any]]]

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        self.asked.append((sql, parameters))
        return super().all(sql, parameters)

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        self.asked.append((sql, parameters))
        return super().one(sql, parameters)

    def plans(self) -> list[str]:
        asked, self.asked = self.asked, []
        return [
            row[3] for sql, p in asked for row in super(Recording, self).all(f"EXPLAIN QUERY PLAN {sql}", p)
        ]


def fill(db: Database, rows: int) -> None:
    """As many blobs of one chunk each that wait to be sent, as set-based statements."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
    for sql in (
        "INSERT INTO namespace (no, name) VALUES (1, 'notes')",
        "INSERT INTO device (no, id) VALUES (1, x'64')",
        numbers
        + "INSERT INTO blob (no, namespace_no, id, winner_no, size) SELECT i, 1, 'blob-' || i, i, 10 FROM n",
        numbers + "INSERT INTO packed SELECT i, randomblob(200) FROM n",
        numbers + "INSERT INTO version SELECT i, randomblob(16), i, 1, 0, i, 0, 10, i, x'00', 2 FROM n",
        numbers + "INSERT INTO chunk SELECT i, randomblob(32), 10, x'00', i FROM n",
        numbers + "INSERT INTO payload SELECT i, randomblob(10) FROM n",
        numbers + "INSERT INTO version_chunk SELECT i, 0, i FROM n",
        numbers + "INSERT INTO upload (version_no, priority) SELECT i, 1 + i % 4 FROM n",
        numbers + "INSERT INTO download (version_no, priority) SELECT i, 1 + i % 4 FROM n",
        "INSERT INTO pack VALUES (1, x'01', x'02', 1, 1, x'00', 1, 0, 0, 0, 1)",
        numbers + "INSERT INTO pack_chunk SELECT 1, i, i, i, 1, 10, 0, 0 FROM n WHERE i % 10 = 0",
    ):
        db.execute(sql)


def check(db: Recording, *, allowed: Sequence[str] = ()) -> list[str]:
    """The plans of what was asked: no table is read from end to end, and nothing is sorted."""
    plans = db.plans()
    assert plans
    bad = [
        line
        for line in plans
        if (
            line.startswith("SCAN")
            and "USING" not in line
            and not line.startswith(("SCAN CONSTANT", SUBQUERY))
        )
        or "TEMP B-TREE" in line
        or "AUTOMATIC" in line
    ]
    assert [line for line in bad if line not in allowed] == []
    return plans

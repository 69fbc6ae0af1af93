"""What has changed since a token, for an application that keeps an index of its own.

A first page has no token: then every live blob comes once, by number, and what changes meanwhile after
that, from the log (`news.py`). A token is a position in the log, and while the first blobs are listed the
number of the last one too:

    1.<row of the log>.<its mark>.<newest row when the page was made>.<its mark>.<last blob listed; 0: all>

All in hex. A page tells how blobs look now, which may be of later than the row that it has come to: so
both rows must still be those. Any other text, a row that has been dropped, and a row of another mark (of
another cache, or of this one before an older copy of it was restored) are `TokenExpired`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from syncagent.answers import BlobChange, BlobInfo, ChangePage
from syncagent.asked import checked_limit
from syncagent.cache import listing, news
from syncagent.cache.chunks import SQL_VARIABLES, batched
from syncagent.cache.db import Database
from syncagent.cache.details import with_details
from syncagent.cache.news import Position
from syncagent.errors import TokenExpired

_TOKEN = re.compile(r"1" + r"\.([0-9a-f]{1,15})\.([0-9a-f]{1,8})" * 2 + r"\.([0-9a-f]{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Token:
    position: Position
    newest: Position
    listed_to: int

    def __str__(self) -> str:
        rows = ".".join(f"{row.no:x}.{row.mark:x}" for row in (self.position, self.newest))
        return f"1.{rows}.{self.listed_to:x}"


def list_changes(db: Database, since: str | None, limit: int, *, details: bool = False) -> ChangePage:
    """One page of changes; see `Vault.changes`.

    Raises:
        TokenExpired: the token is of another cache, or too old.
    """
    checked_limit(limit, listing.MAX_PAGE, "changes")
    found = _find(db, since, limit)
    return ChangePage(_changes(db, found.numbers, details), str(found.token), found.more)


@dataclass(frozen=True, slots=True)
class _Found:
    """The blobs of a page by number, its token, and whether more have changed."""

    numbers: Sequence[int]
    token: _Token
    more: bool


def _find(db: Database, since: str | None, limit: int) -> _Found:
    newest = news.last(db)
    if since is None:
        return _first_blobs(db, _Token(newest, newest, 0), limit)
    token = _parsed(since)
    if not (news.is_known(db, token.position) and news.is_known(db, token.newest)):
        raise TokenExpired("this cache cannot tell any more what has changed since")
    token = replace(token, newest=newest)
    if token.listed_to:
        return _first_blobs(db, token, limit)
    return _later_changes(db, token, limit)


def _parsed(since: str) -> _Token:
    found = _TOKEN.fullmatch(since)
    if found is None:
        raise TokenExpired("this is no token of a list of changes")
    no, mark, newest, newest_mark, listed_to = (int(part, 16) for part in found.groups())
    return _Token(Position(no, mark), Position(newest, newest_mark), listed_to)


def _first_blobs(db: Database, token: _Token, limit: int) -> _Found:
    rows = db.all(
        "SELECT no FROM blob WHERE no > ? AND winner_no IS NOT NULL AND NOT deleted ORDER BY no LIMIT ?",
        (token.listed_to, limit + 1),
    )
    numbers = [row[0] for row in rows[:limit]]
    has_more = len(rows) > limit
    token = replace(token, listed_to=numbers[-1] if has_more else 0)
    has_more = has_more or token.newest != token.position
    return _Found(numbers, token, has_more)


def _later_changes(db: Database, token: _Token, limit: int) -> _Found:
    rows = db.all(
        "SELECT no, mark, blob_no FROM news WHERE no > ? ORDER BY no LIMIT ?",
        (token.position.no, limit + 1),
    )
    page = rows[:limit]
    if page:
        token = replace(token, position=Position(*page[-1][:2]))
    # Each once, where it has changed last.
    numbers = list(dict.fromkeys(row[2] for row in reversed(page)))[::-1]
    return _Found(numbers, token, len(rows) > limit)


def _changes(db: Database, numbers: Sequence[int], details: bool) -> tuple[BlobChange, ...]:
    """How these blobs look now, in the order given; without internal ones."""
    found: dict[int, BlobChange] = {}
    for part in batched(numbers, SQL_VARIABLES):
        marks = ",".join("?" * len(part))
        rows = db.all(
            f"SELECT no, (SELECT name FROM namespace WHERE namespace.no = namespace_no), deleted,"  # noqa: S608 - marks
            f" {listing.INFO_COLUMNS} FROM blob WHERE no IN ({marks}) AND winner_no IS NOT NULL",
            part,
        )
        live: dict[int, BlobInfo] = {}
        for number, name, is_deleted, *info in rows:
            if name.startswith("."):
                continue  # internal
            blob = listing.blob_info(name, info)
            found[number] = BlobChange(name, blob.id, None if is_deleted else blob)
            if not is_deleted:
                live[number] = blob
        if details:
            for number, blob in zip(live, with_details(db, [*live.values()], [*live]), strict=True):
                found[number] = BlobChange(blob.namespace, blob.id, blob)
    return tuple(found[number] for number in numbers if number in found)

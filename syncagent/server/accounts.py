"""Users and tokens, in an SQLite file in the data folder. The only file of the server that knows SQLite.

A token is `sat_<id>_<secret>`: the id finds the row, the secret is 256 random bits of
which only the SHA-256 is stored. Nothing slower is needed for what nobody can guess.
The command changes users while the server runs: each request reads its token's row.
"""

import contextlib
import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from syncagent.errors import ConfigError, TooNew, Unreachable, VaultInUse

FILE = "accounts.db"
_LOCK = "lock.db"

_USER = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TOKEN = re.compile(r"sat_([0-9a-f]{16})_([0-9A-Za-z_-]{43})")
_NOBODY = bytes(32)
_VERSION = 1
_SCHEMA = """
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    quota_bytes INTEGER,
    created REAL NOT NULL
) STRICT;
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    secret_sha256 BLOB NOT NULL,
    is_append_only INTEGER NOT NULL,
    created REAL NOT NULL
) STRICT;
CREATE INDEX tokens_of_user ON tokens (user);
CREATE TABLE usage (
    user TEXT PRIMARY KEY,
    used_bytes INTEGER NOT NULL
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Grant:
    """Whose token a request shows, and what that may do. `quota_bytes` None: as much as there is."""

    user: str
    token_id: str
    is_append_only: bool
    quota_bytes: int | None


@dataclass(frozen=True, slots=True)
class User:
    """One line of the list of users. `used_bytes` is what the server last noted, None where it never did."""

    name: str
    quota_bytes: int | None
    used_bytes: int | None
    tokens: int
    append_only_tokens: int


class Accounts:
    """The file, open. Calls block; they take some microseconds."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, data: Path) -> "Accounts":
        """The accounts in a data folder; made when there are none.

        Raises:
            ConfigError: the file cannot be used.
            TooNew: a newer syncagent has made it.
        """
        path = data / FILE
        try:
            # Used from the event loop and from worker threads, one at a time each: SQLite has its own lock.
            connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            path.chmod(0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={_VERSION}")
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"the accounts in {str(path)!r} cannot be opened: {error}") from error
        if version > _VERSION:
            connection.close()
            raise TooNew(f"the accounts in {str(path)!r} were made by a newer syncagent")
        return cls(connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def authenticate(self, token: str) -> Grant | None:
        """Whose token this is; None where it is nobody's (any more). `Unreachable` where nobody can tell."""
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        token_id, secret = match.groups()
        try:
            row = self._connection.execute(
                "SELECT tokens.secret_sha256, tokens.is_append_only, users.name, users.quota_bytes"
                " FROM tokens JOIN users ON users.name = tokens.user WHERE tokens.id = ?",
                (token_id,),
            ).fetchone()
        except sqlite3.Error as error:
            raise Unreachable(f"the accounts cannot be read: {error}") from error
        expected = row[0] if row else _NOBODY
        if not hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), expected) or row is None:
            return None
        return Grant(row[2], token_id, bool(row[1]), row[3])

    def users(self) -> list[User]:
        """All users by name."""
        rows = self._connection.execute(
            "SELECT users.name, quota_bytes, used_bytes, count(tokens.id), coalesce(sum(is_append_only), 0)"
            " FROM users LEFT JOIN tokens ON tokens.user = users.name"
            " LEFT JOIN usage ON usage.user = users.name"
            " GROUP BY users.name ORDER BY users.name"
        )
        return [User(*row) for row in rows]

    def add_user(self, name: str, *, quota_bytes: int | None = None, is_append_only: bool = False) -> str:
        """A new user; returns its token, which is shown nowhere again. `ConfigError` if the name is taken."""
        check_user_name(name)
        with self._transaction():
            try:
                self._connection.execute(
                    "INSERT INTO users VALUES (?, ?, ?)", (name, quota_bytes, time.time())
                )
            except sqlite3.IntegrityError as error:
                raise ConfigError(
                    f"there is a user {name} already",
                    todo="`syncagent serve user token` gives a further token, `rotate` a new one",
                ) from error
            return self._new_token(name, is_append_only)

    def add_token(self, name: str, *, is_append_only: bool = False) -> str:
        """A further token of a user, for instance for a device that may not delete."""
        with self._transaction():
            self._check_known(name)
            return self._new_token(name, is_append_only)

    def rotate(self, name: str, *, is_append_only: bool = False) -> str:
        """A token in the place of all that the user had. Those are refused from now on."""
        with self._transaction():
            self._check_known(name)
            self._connection.execute("DELETE FROM tokens WHERE user = ?", (name,))
            return self._new_token(name, is_append_only)

    def remove_user(self, name: str) -> None:
        """The user and all its tokens go; its objects stay where they are."""
        with self._transaction():
            self._check_known(name)
            self._connection.execute("DELETE FROM users WHERE name = ?", (name,))

    def set_quota(self, name: str, quota_bytes: int | None) -> None:
        """How much the user may store from now on. What is there stays, even if it is more."""
        with self._transaction():
            self._check_known(name)
            self._connection.execute("UPDATE users SET quota_bytes = ? WHERE name = ?", (quota_bytes, name))

    def note_usage(self, used: Mapping[str, int]) -> None:
        """Keep what users' objects take, for the list of users."""
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO usage VALUES (?, ?)"
                " ON CONFLICT (user) DO UPDATE SET used_bytes = excluded.used_bytes",
                list(used.items()),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block, or nothing if it raises."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise ConfigError(f"the accounts cannot be changed: {error}") from error

    def _check_known(self, name: str) -> None:
        check_user_name(name)
        if self._connection.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone() is None:
            raise ConfigError(f"there is no user {name}", todo="`syncagent serve user ls` lists them")

    def _new_token(self, name: str, is_append_only: bool) -> str:
        token_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        self._connection.execute(
            "INSERT INTO tokens VALUES (?, ?, ?, ?, ?)",
            (token_id, name, hashlib.sha256(secret.encode()).digest(), is_append_only, time.time()),
        )
        return f"sat_{token_id}_{secret}"


@contextlib.contextmanager
def only_server(data: Path) -> Iterator[None]:
    """The lock of a data folder. It dies with the process that holds it.

    Raises:
        VaultInUse: another server runs on this folder.
        ConfigError: the folder cannot be used.
    """
    with contextlib.ExitStack() as stack:
        try:
            connection = sqlite3.connect(data / _LOCK, timeout=0, isolation_level=None)
            stack.enter_context(contextlib.closing(connection))
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise VaultInUse(
                    f"another server runs on the data folder {str(data)!r}",
                    safe="it goes on undisturbed",
                ) from error
            raise ConfigError(f"the data folder {str(data)!r} cannot be locked: {error}") from error
        yield


def check_user_name(name: str) -> str:
    """The name itself, or `ConfigError`. It becomes a folder's name, so it can never be a path."""
    if not _USER.fullmatch(name):
        raise ConfigError(
            f"{name[:80]!r} is not a user name",
            todo="use 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit",
        )
    return name

"""The one connection to the SQLCipher file, and what its errors mean.

`Database` is synchronous and used by one thread at a time; `commit.py` puts it
behind an event loop, the `status` command uses it directly. No other file
imports sqlcipher3.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlcipher3 import dbapi2 as sqlcipher

from syncagent import files
from syncagent.errors import CacheDamaged, CacheFull, ConfigError, TooNew, VaultInUse
from syncagent.model import Codec, SyncStatus

T = TypeVar("T")
Row = tuple[Any, ...]

BUSY_TIMEOUT_S = 30.0
"""How long another process may hold the write lock: the longest transaction we make takes well under 1 s."""

_NOMEM, _BUSY, _LOCKED = 7, 5, 6
_READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _NOTADB = 8, 10, 11, 13, 14, 26
_IOERR_SHMSIZE = 4874  # the shared-memory file could not grow: in practice, a full disk
_LEAST_ROOM = 64 << 10
"""Below this an I/O error on opening is a full disk: the shared-memory file alone takes 32 KiB."""
_DAMAGE = {_NOMEM, _READONLY, _IOERR, _CORRUPT, _NOTADB}


def _as_it_is(value: T) -> T:
    return value


# For each parameter that is no int, float or str sqlcipher3 looks for a way to adapt it, and takes 1 to 3 us
# until it has found none: as long as SQLite takes for the row. Told at once, it is a tenth of that.
sqlcipher.register_adapter(bytes, _as_it_is)
sqlcipher.register_adapter(type(None), _as_it_is)
sqlcipher.register_adapter(bool, int)
sqlcipher.register_adapter(SyncStatus, int)
sqlcipher.register_adapter(Codec, int)


class DamagedConnection(Exception):
    """SQLCipher met a damaged page, after which the whole connection is unusable."""


class Database:
    """A SQLCipher connection that can be closed and opened again.

    Args:
        path: the database file.
        key: 32 bytes. Handed over as raw hex, so SQLCipher derives nothing; a
            malformed key would silently be taken for a passphrase, hence the check.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("a cache key has 32 bytes")
        self.path = path
        self._key = key
        self._connection: Any = None
        self._spare: Database | None = None
        self._is_closed = False
        self.is_suspect = False

    def __repr__(self) -> str:
        return f"<Database {self.path.name}>"

    def open(self) -> None:
        """Connect and prove the key by a first read.

        Raises:
            CacheDamaged: the file is not a database of this key.
            ConfigError: it may not be opened, or its disk may only be read.
        """
        self._is_closed = False
        try:
            self._connect()
            self.scalar("SELECT count(*) FROM sqlite_master")
        except DamagedConnection as exc:
            self.close()
            if _has_no_room(
                self.path
            ):  # SQLite cannot make its shared-memory file, and says only "I/O error"
                raise CacheFull("the disk of the local cache is full") from exc
            raise CacheDamaged(
                f"{self.path.name} cannot be read: {exc}",
                safe="the file was left as it is; what was synced is at the remote",
                todo="join the vault into a new folder, or restore the file from a backup",
            ) from exc
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close for good; the last connection folds the write-ahead log into the file."""
        self._is_closed = True
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # A connection that met damage may not even close cleanly.
            with contextlib.suppress(sqlcipher.Error):
                connection.close()

    def reopen(self) -> None:
        """Give up a connection that met damage and take a fresh one, unless the database is closed."""
        self._disconnect()
        if not self._is_closed:
            self._connect()

    @property
    def _live(self) -> Any:
        if self._is_closed:
            raise ConfigError("this vault is closed: use it inside `async with open_vault(…)`")
        if self._connection is None:  # an earlier reopen failed; the next caller tries again
            self._connect()
        return self._connection

    def run(self, operation: "Callable[[Database], T]") -> T:
        """Run an operation, once more on a fresh connection if it meets damage.

        Raises:
            CacheDamaged: it met damage twice.
        """
        try:
            return operation(self)
        except DamagedConnection:
            self.reopen()
        self.is_suspect = True
        try:
            return operation(self)
        except DamagedConnection as exc:
            self.reopen()
            raise damaged_row(exc) from exc
        finally:
            self.is_suspect = False
            self._drop_spare()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; the row id of the last insert."""
        try:
            return int(self._live.execute(sql, parameters).lastrowid or 0)
        except (sqlcipher.Error, MemoryError) as exc:
            raise _translated(exc) from exc

    def commit(self) -> None:
        """End the transaction: durable on return."""
        with files.step(files.Act.COMMIT, self.path):
            self.execute("COMMIT")

    def changed(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; the number of rows it changed."""
        try:
            return int(self._live.execute(sql, parameters).rowcount)
        except (sqlcipher.Error, MemoryError) as exc:
            raise _translated(exc) from exc

    def many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each row of parameters."""
        try:
            self._live.executemany(sql, rows)
        except (sqlcipher.Error, MemoryError) as exc:
            raise _translated(exc) from exc

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Every row of the answer."""
        try:
            rows: list[Row] = self._live.execute(sql, parameters).fetchall()
        except (sqlcipher.Error, MemoryError) as exc:
            raise _translated(exc) from exc
        return rows

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row, or None."""
        try:
            row: Row | None = self._live.execute(sql, parameters).fetchone()
        except (sqlcipher.Error, MemoryError) as exc:
            raise _translated(exc) from exc
        return row

    def scalar(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        row = self.one(sql, parameters)
        return row[0] if row else None

    def large_value(self, sql: str, parameters: Sequence[Any] = ()) -> bytes | None:
        """The one value of a row that may span many pages, or None.

        None also for a value on a damaged page, while an operation runs again after
        damage (`is_suspect`): such values are then read over a connection of their own,
        so that meeting the damage does not cost the operation's. The first run, which
        nearly always is the only one, does without that.
        """
        if not self.is_suspect:
            value: bytes | None = self.scalar(sql, parameters)
            return value
        if self._spare is None:
            self._spare = Database(self.path, self._key)
        try:
            row = self._spare.one(sql, parameters)
        except DamagedConnection:
            self._drop_spare()
            return None
        # What this operation itself has written is not seen over there.
        return bytes(row[0]) if row is not None else self.scalar(sql, parameters)

    def _drop_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.close()

    def _connect(self) -> None:
        try:
            connection = sqlcipher.connect(
                f"{self.path.absolute().as_uri()}?mode=rw",  # a file that has gone is not made anew, empty
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            self._connection = connection
            connection.execute("PRAGMA cipher_log_level = NONE")
            connection.execute(f"PRAGMA key = \"x'{self._key.hex()}'\"")
            connection.execute("PRAGMA cipher_page_size = 4096")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(
                "PRAGMA fullfsync = ON"
            )  # macOS: through the drive's cache; elsewhere no effect
            connection.execute("PRAGMA temp_store = MEMORY")  # nothing unencrypted in temporary files
            connection.execute("PRAGMA cache_size = -16384")
        except (sqlcipher.Error, MemoryError) as exc:
            self._disconnect()  # half set up: the next caller must not take it for a connection
            raise _translated(exc) from exc


def _has_no_room(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _LEAST_ROOM
    except OSError:
        return False


def damaged_row(cause: BaseException) -> CacheDamaged:
    """What a caller is told whose statement met damage on a fresh connection too."""
    return CacheDamaged(f"a page of the cache does not verify ({cause})")


def check_schema(found: int, known: int) -> None:
    """`TooNew` for a cache that a newer version has migrated."""
    if found > known:
        raise TooNew(
            f"this cache has schema {found}, this version knows up to {known}",
            safe="the cache was not touched",
        )


def _translated(exc: BaseException) -> Exception:
    if isinstance(exc, MemoryError):  # SQLCipher answers some damaged pages with NOMEM
        return DamagedConnection("out of memory")
    extended = getattr(exc, "sqlite_errorcode", None) or 0
    code = extended & 0xFF
    if code == _FULL or extended == _IOERR_SHMSIZE:
        return CacheFull("the disk of the local cache is full")
    if code in _DAMAGE:
        return DamagedConnection(str(exc))
    if code in (_BUSY, _LOCKED):
        return VaultInUse(
            "another process keeps the cache locked",
            safe="everything stored before is intact; this was not stored",
        )
    if code == _CANTOPEN:  # no damage, and no blob's own failure
        return ConfigError(
            "the cache file cannot be opened",
            safe="it was not touched",
            todo="check the folder's permissions, and whether its disk is read-only",
        )
    if "file is not a database" in str(exc):
        return DamagedConnection(str(exc))
    # What names no damage is a mistake of ours: let it be seen as it is.
    return exc if isinstance(exc, Exception) else RuntimeError(str(exc))

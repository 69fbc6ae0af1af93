"""One process syncs a vault at a time: an operating system lock that dies with its holder.

The file's mtime is the time of the last finished sync, so that a sync with
nothing to do does not write to the database.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from syncagent.cache.profile import disk_errors
from syncagent.errors import VaultInUse

_PID_BYTES = 32

if (
    sys.platform == "win32"
):  # Windows: a mandatory lock on one byte far beyond the text, so that the pid stays readable
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class SyncLock:
    """The lock of one vault."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for one round. Leaving normally sets the file's time to now.

        Raises:
            VaultInUse: another process, or another sync of this one, holds it.
        """
        with disk_errors():
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                _lock(descriptor)
            except OSError as exc:
                pid = _read_pid(descriptor)
                raise VaultInUse(f"another sync of this vault is running (process {pid})", pid=pid) from exc
            before = os.fstat(descriptor)
            mtime_ns = before.st_mtime_ns if before.st_size else 0
            with disk_errors():
                os.lseek(descriptor, 0, os.SEEK_SET)
                os.write(descriptor, f"{os.getpid()}\n".ljust(_PID_BYTES).encode())
                # A round that fails, or is killed, is not a last sync: the file keeps the time it had.
                os.utime(self._path, ns=(mtime_ns, mtime_ns))
            yield
            os.utime(self._path)
        finally:
            os.close(descriptor)

    def last_sync(self) -> float | None:
        """Unix time of the last finished sync, or None."""
        try:
            mtime = self._path.stat().st_mtime
        except OSError:
            return None
        return mtime or None


def _read_pid(descriptor: int) -> int:
    with contextlib.suppress(OSError, ValueError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        return int(os.read(descriptor, _PID_BYTES).decode("ascii", "replace").strip())
    return 0

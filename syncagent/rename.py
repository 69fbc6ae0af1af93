"""A rename that refuses an existing target, which Python offers on Windows only.

Used where a file system has no hard links (FAT, exFAT, many network and phone
mounts). Checking for the target first and renaming then is not the same: two
devices could both pass the check, and the second would replace what the first
was told is stored.
"""

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1  # linux/fs.h
_RENAME_EXCL = 4  # sys/stdio.h of macOS


def rename_without_replacing(source: Path, target: Path) -> None:
    """Rename in one atomic step; the target must be absent.

    Raises:
        FileExistsError: the target is there; neither was touched.
        OSError: ENOSYS, EINVAL or ENOTSUP where system or file system cannot do this; else what went wrong.
    """
    if sys.platform == "win32":
        # MoveFileEx without MOVEFILE_REPLACE_EXISTING: refuses an existing target by itself.
        os.rename(source, target)  # noqa: PTH104 - Path.rename promises less
    elif sys.platform == "darwin":
        _call("renamex_np", os.fsencode(source), os.fsencode(target), ctypes.c_uint(_RENAME_EXCL))
    else:
        here = ctypes.c_int(_AT_FDCWD)
        flags = ctypes.c_uint(_RENAME_NOREPLACE)
        _call("renameat2", here, os.fsencode(source), here, os.fsencode(target), flags)


def _call(function: str, *arguments: bytes | ctypes.c_int | ctypes.c_uint) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, function):  # glibc before 2.28, some other C libraries
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

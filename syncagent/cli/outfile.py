"""An output file that has its name only when it is complete, and replaces nothing unasked."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from syncagent import files
from syncagent.cli.output import OutputError, OutputFull


@dataclass(frozen=True, slots=True)
class OutFile:
    """Where content is to go, and whether what is there may be replaced."""

    path: Path
    may_replace: bool = False

    def check(self) -> None:
        """`OutputError` for what can be seen before any work; `written` decides."""
        with self._os_errors():
            self._target()

    @contextlib.contextmanager
    def written(self) -> Iterator[BinaryIO]:
        """The file to write to. Leaving normally makes it durable under its name; otherwise nothing is left.

        Raises:
            OutputError: something is in the way, or the disk does not take it.
        """
        with self._os_errors():
            target = self._target()
            temporary = target.with_name(f".syncagent-{secrets.token_hex(8)}.part")
            try:
                with files.new_file(temporary) as file:
                    yield file
                if self.may_replace:
                    files.rename(temporary, target)
                else:
                    files.publish(temporary, target)
                files.sync_folder(target.parent)
            finally:
                files.unlink(temporary, missing_ok=True)

    def _target(self) -> Path:
        """The file behind the name. Devices and pipes are refused: a rename would replace them."""
        path = Path(os.path.realpath(self.path)) if self.may_replace else self.path
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return path
        if not self.may_replace:
            raise self._exists()
        if not stat.S_ISREG(mode):
            raise OutputError(
                f"{str(self.path)!r} is not a regular file", todo="pipe the output of -o - instead"
            )
        return path

    def _exists(self) -> OutputError:
        return OutputError(
            f"{str(self.path)!r} is there already",
            safe="it was not touched",
            todo="use --force to replace it",
        )

    @contextlib.contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError as exc:
            raise self._exists() from exc
        except OSError as exc:
            kind = OutputFull if exc.errno in (errno.ENOSPC, errno.EDQUOT) else OutputError
            raise kind(f"{str(self.path)!r} cannot be written: {exc.strerror}") from exc

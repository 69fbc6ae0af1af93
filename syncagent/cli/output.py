"""What a run of the command says: results on stdout, notes on stderr.

A reader that leaves (`syncagent ls | head`) is no error: what is written after
that goes nowhere, and the command ends with the code it would have had.
"""

import contextlib
import json
import sys
from dataclasses import dataclass
from typing import Any, TextIO

from syncagent.cli.text import one_line
from syncagent.errors import SyncAgentError


class OutputError(SyncAgentError):
    """Output cannot go where it was to go: a file is in the way, a disk is full. The vault is untouched."""

    default_safe = "the vault is untouched"


class OutputFull(OutputError):
    """The disk that a file is written to is full."""

    default_todo = "free some disk space and try again"


@dataclass(slots=True)
class Output:
    """One run's way of talking. `is_closed` says that nobody reads stdout any more."""

    is_json: bool = False
    is_quiet: bool = False
    is_verbose: bool = False
    is_closed: bool = False

    def line(self, text: str) -> None:
        """A line for a person: not with `--json`, not with `-q`."""
        if not self.is_json and not self.is_quiet:
            self.result(text)

    def result(self, text: str) -> None:
        """A line that was asked for, whatever the options. What the locale cannot show is escaped."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self.raw(f"{text}\n".encode(encoding, "backslashreplace"))

    def document(self, value: Any) -> None:
        """A JSON document on a line. ASCII only: exact in every locale, and harmless in a terminal."""
        self.raw(f"{json.dumps(value)}\n".encode())

    def raw(self, data: bytes) -> None:
        """Bytes as they are; also for stdout that is no terminal."""
        if self.is_closed:
            return
        if sys.stdout is None:  # started with stdout closed
            self.is_closed = True
            return
        rest = memoryview(data)
        try:
            while rest:  # with PYTHONUNBUFFERED a write may take a part
                rest = rest[sys.stdout.buffer.write(rest) :]
        except OSError as exc:
            self._failed(exc)

    def flush(self) -> None:
        """Hand over what is buffered."""
        if self.is_closed or sys.stdout is None:
            return
        try:
            sys.stdout.buffer.flush()
        except OSError as exc:
            self._failed(exc)

    def flush_quietly(self) -> None:
        """The same after an error: a second one would only hide it."""
        with contextlib.suppress(OutputError):
            self.flush()

    def note(self, text: str) -> None:
        """A line on stderr that is no error: not with `-q`."""
        if not self.is_quiet:
            self.complain(text)

    def complain(self, text: str) -> None:
        """A line on stderr, whatever the options."""
        stream: TextIO | None = sys.stderr
        if stream is None:
            return
        encoding = stream.encoding or "utf-8"
        try:
            stream.write(
                f"syncagent: {one_line(text)}\n".encode(encoding, "backslashreplace").decode(encoding)
            )
            stream.flush()
        except OSError:  # nobody to tell
            return

    def _failed(self, exc: OSError) -> None:
        self.is_closed = True
        _forget_stdout()
        if not isinstance(exc, BrokenPipeError):
            raise OutputError(f"standard output cannot be written: {exc.strerror}") from exc


def _forget_stdout() -> None:
    """Keep the interpreter from writing what is still buffered when it exits."""
    import os

    try:
        descriptor = sys.stdout.fileno()
    except OSError:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)

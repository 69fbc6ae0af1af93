"""Running the command in a test: in this process, or as a process of its own."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syncagent.cli.main import run

PASSPHRASE = "correct horse"


@dataclass(frozen=True, slots=True)
class Done:
    """How a run ended."""

    code: int
    stdout: bytes
    err: str

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)

    def ok(self) -> "Done":
        assert (self.code, self.err) == (0, ""), self
        return self

    def failed(self, code: int) -> str:
        """The one line that it said; it ended with `code`."""
        assert self.code == code, self
        assert self.err.startswith("syncagent: ") and self.err.endswith("\n"), self
        line = self.err[:-1]
        assert line.isprintable(), self
        return line


class Stdout(io.BytesIO):
    """What a run writes, readable after it has closed the text layer over it."""

    def close(self) -> None:
        return


class Shell:
    """One user at one device: everything lies below `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home

    @property
    def environment(self) -> dict[str, str]:
        return {"SYNCAGENT_HOME": str(self.home), "SYNCAGENT_PASSPHRASE": PASSPHRASE}

    @property
    def profile(self) -> Path:
        return self.home / "vaults" / "default"

    @property
    def remote(self) -> Path:
        return self.home / "remotes" / "default"

    def __call__(
        self, *arguments: str, stdin: bytes | None = b"", environment: Mapping[str, str] | None = None
    ) -> Done:
        """Run the command in this process."""
        out, err = Stdout(), io.StringIO()
        wanted = {**self.environment, **(environment or {})}
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("SYNCAGENT_")]:
                patch.delenv(name)
            for name, value in wanted.items():
                patch.setenv(name, value)
            source = None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin))
            patch.setattr(sys, "stdin", source)
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8"))
            patch.setattr(sys, "stderr", err)
            code = run(arguments)
        return Done(code, out.getvalue(), err.getvalue())

    def process(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        without: Sequence[str] = (),
        **options: Any,
    ) -> "subprocess.Popen[bytes]":
        """Start the command as a process without a terminal. Its pipes are the caller's to choose."""
        variables = {**os.environ, **self.environment, **(environment or {})}
        for name in (*without, "PYTHONUNBUFFERED"):
            variables.pop(name, None)
        return subprocess.Popen(
            [sys.executable, "-m", "syncagent.cli", *arguments],
            env=variables,
            start_new_session=True,
            **options,
        )

    def run_process(self, *arguments: str, stdin: bytes = b"", **options: Any) -> Done:
        """Run the command as a process and wait for it."""
        process = self.process(
            *arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        out, err = process.communicate(stdin, timeout=60)
        return Done(process.returncode, out, err.decode())

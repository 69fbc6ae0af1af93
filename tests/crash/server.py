"""The warm process of `child.py`, as tests and the campaign talk to it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class PowerCuts:
    """How many different states of the disk were looked at, and what was wrong with them."""

    images: int
    errors: list[str]


class CrashServer:
    """Asks for runs that are killed, and for what is found wrong afterwards.

    Args:
        folder: where it works; it is left as it is when the server ends.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.crash.child", "--serve", str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def record(self, scenario: str) -> list[str]:
        """The points of a run, in words and in order."""
        return [str(point) for point in self._ask(do="record", scenario=scenario)["points"]]

    def kill(self, scenario: str, at: Sequence[int]) -> list[str]:
        """Kill a run at each of these points, counted from 1; what is found wrong."""
        return self._errors(do="kill", scenario=scenario, at=list(at))

    def chain(self, scenario: str, at: Sequence[int]) -> list[str]:
        """Kill runs one after the other in one folder, and look once at the end."""
        return self._errors(do="chain", scenario=scenario, at=list(at))

    def cut_power(
        self, scenario: str, at: Sequence[int] = (), *, seed: int = 1, part: int = 0, parts: int = 1
    ) -> PowerCuts:
        """Look at what power cuts at these points of one run leave, or at all points.

        Args:
            scenario: its name.
            at: points, counted from 1.
            seed: decides what becomes of that which is not durable, besides the strictest.
            part: which images are looked at: this one and each that follows by `parts`.
            parts: into how many parts they are divided.
        """
        answer = self._ask(do="power", scenario=scenario, at=list(at), seed=seed, part=part, parts=parts)
        return PowerCuts(int(answer["images"]), list(answer["errors"]))

    def _errors(self, **request: object) -> list[str]:
        return [str(error) for error in self._ask(**request)["errors"]]

    def _ask(self, **request: object) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, "the server has ended"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

"""What is told of a run's points: to end the process at one of them, or to write them down.

A point is just before and just after each step of `syncagent.files` (commits too),
each call of the remote, and each acknowledgement. Threads pass points one at a time.
"""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from syncagent import files
from syncagent.remote.base import Remote
from tests.engine.world import Call, LedRemote

Hook = Callable[[files.Step | None, str], None]
"""Gets the step of a point, if it is one of files, and the point in words."""


@dataclass
class Points:
    """Counts the points that a run passes.

    Args:
        root: paths are told relative to it.
        at: the process ends itself at this point, counted from 1; 0 for never.
        hook: called at every point, by one thread at a time.
    """

    root: Path
    at: int = 0
    hook: Hook | None = None
    passed: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """Count from here on."""
        files.observe(self._step)

    def stop(self) -> None:
        """Do not count any more."""
        files.observe(None)

    def remote(self, inner: Remote) -> LedRemote:
        """A remote whose calls are points."""
        led = LedRemote(inner)
        led.before = self._before
        led.after = self._after
        return led

    def acknowledge(self, text: str) -> None:
        """Say on stdout what the program under test has been told to be done."""
        print(f"ack {text}", flush=True)
        self._pass(None, f"ack {text}")

    def say(self, text: str) -> None:
        """A point of the run's own."""
        self._pass(None, text)

    async def _before(self, call: Call) -> None:
        self._pass(None, f"before {call.method} {call.name}")

    async def _after(self, call: Call) -> None:
        self._pass(None, f"after {call.method} {call.name}")

    def _step(self, step: files.Step) -> None:
        where = [os.path.relpath(path, self.root) for path in (step.path, step.target) if path]
        self._pass(step, f"{'after' if step.is_done else 'before'} {step.act.value} {' '.join(where)}")

    def _pass(self, step: files.Step | None, text: str) -> None:
        with self._lock:
            self.passed.append(text)
            if len(self.passed) == self.at:
                print(f"point {text}", flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            if self.hook is not None:
                self.hook(step, text)

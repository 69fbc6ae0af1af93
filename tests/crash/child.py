"""The processes of the crash tests: one that is warm and forks, and its children, which die.

    python -m tests.crash.child SCENARIO FOLDER [--kill-at N] [--record]
    python -m tests.crash.child --serve FOLDER

The first runs one scenario below a folder, says on stdout what it acknowledges, and
ends itself by SIGKILL at its N-th point; `--record` prints all points at the end.
The second reads one request a line, as JSON, and answers each with a line.
It has everything imported and has started no thread, no event loop and no
database, so that a fork of it is as good as a new process and a hundred times cheaper.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import msgspec

from syncagent.files import Step
from tests.crash.place import Place
from tests.crash.points import Points
from tests.crash.scenarios import SCENARIOS
from tests.crash.shadow import Shadow
from tests.crash.work import Scenario

LIMIT_S = 120
"""A child that takes longer hangs."""


@dataclass(frozen=True)
class Ended:
    """What a child wrote, and how it ended: 0, or the signal or failure."""

    lines: list[str]
    status: int

    def values(self, word: str) -> list[str]:
        """The rest of the lines that begin with a word."""
        return [line.partition(" ")[2] for line in self.lines if line.partition(" ")[0] == word]


def in_child(work: Callable[[], None]) -> Ended:
    """Run in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(LIMIT_S)
            os.close(reading)
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        text = pipe.read()
    return Ended(text.splitlines(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def run(scenario: Scenario, place: Place, points: Points) -> None:
    """Run the work of a scenario from its first point to its last."""
    points.start()
    anyio.run(scenario.run, place, points)
    points.stop()


class Request(msgspec.Struct, frozen=True):
    """What is asked for: see `server.py`."""

    do: Literal["record", "kill", "chain", "power"]
    scenario: str
    at: list[int] = []
    seed: int = 1
    part: int = 0
    parts: int = 1


class Server:
    """Answers requests about scenarios, below one folder.

    Templates are made once. Each point is a copy of the template, a child that dies
    in it, and another child that looks at what is left.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def answer(self, request: Request) -> dict[str, object]:
        """The answer to one request: what it finds wrong is in `errors`."""
        name, at = request.scenario, request.at
        match request.do:
            case "record":
                return {"points": self._record(name)}
            case "kill":
                return {"errors": [error for point in at for error in self._kill(name, point)]}
            case "chain":
                return {"errors": self._chain(name, at)}
            case "power":
                return self._power(request)

    def _template(self, name: str) -> Path:
        folder = self._folder / f"template-{name}"
        if not folder.exists():
            made = folder.with_suffix(".new")
            ended = in_child(lambda: anyio.run(SCENARIOS[name].prepare, Place(made)))
            assert ended.status == 0, "\n".join(ended.lines)
            made.rename(folder)
        return folder

    @contextmanager
    def _copied(self, name: str) -> Iterator[Place]:
        folder = self._folder / f"run-{os.getpid()}-{os.urandom(4).hex()}"
        shutil.copytree(self._template(name), folder)
        try:
            yield Place(folder)
        finally:
            shutil.rmtree(folder)

    def _record(self, name: str) -> list[str]:
        def work(place: Place) -> None:
            points = Points(place.folder)
            run(SCENARIOS[name], place, points)
            for text in points.passed:
                print(f"passed {text}")

        with self._copied(name) as place:
            ended = in_child(partial(work, place))
            assert ended.status == 0, "\n".join(ended.lines)
            return ended.values("passed")

    def _kill(self, name: str, at: int) -> list[str]:
        with self._copied(name) as place:
            ended = in_child(lambda: run(SCENARIOS[name], place, Points(place.folder, at)))
            if ended.status not in (0, -signal.SIGKILL):
                return [f"{name}, to be killed at {at}: it failed by itself\n" + "\n".join(ended.lines)]
            where = f"{name}, killed at point {at} ({' '.join(ended.values('point'))})"
            return self._look(name, place, ended.values("ack"), where)

    def _chain(self, name: str, at: Sequence[int]) -> list[str]:
        """Kill again and again in one and the same folder."""
        with self._copied(name) as place:
            for point in at:
                ended = in_child(lambda: run(SCENARIOS[name], place, Points(place.folder, point)))  # noqa: B023
                if ended.status not in (0, -signal.SIGKILL):
                    return [f"{name}, to be killed again at {point}: it failed\n" + "\n".join(ended.lines)]
            look = Place(place.folder, kills=len(at))
            return self._look(name, look, [], f"{name}, killed one after the other at {at}")

    def _look(self, name: str, place: Place, acks: Sequence[str], where: str) -> list[str]:
        ended = in_child(lambda: anyio.run(SCENARIOS[name].check, place, acks))
        if ended.status == 0:
            return []
        return [f"{where}, {len(acks)} acknowledged, ended with {ended.status}\n" + "\n".join(ended.lines)]

    def _power(self, request: Request) -> dict[str, object]:
        """One run that keeps what a power cut leaves at some points, or all, and a look at a part of it."""
        name, at, seed = request.scenario, request.at, request.seed
        images = self._folder / f"images-{os.getpid()}-{os.urandom(4).hex()}"
        images.mkdir()
        try:
            with self._copied(name) as place:
                ended = in_child(lambda: _record_images(SCENARIOS[name], place, images, at, seed))
            if ended.status != 0:
                return {"images": 0, "errors": [f"{name} failed by itself\n" + "\n".join(ended.lines)]}
            found = [json.loads(text) for text in ended.values("image")]
            chosen = found[request.part :: request.parts]
            errors = [
                error
                for image in chosen
                for error in self._look(
                    name,
                    Place(images / image["folder"], is_after_power_cut=True),
                    image["acks"],
                    f"{name}, power lost {image['at']}, {image['fate']}",
                )
            ]
            return {"images": len(chosen), "errors": errors}
        finally:
            shutil.rmtree(images)


def _record_images(scenario: Scenario, place: Place, images: Path, at: Sequence[int], seed: int) -> None:
    shadow = Shadow(place.folder, images / "stash")
    seen: set[object] = set()
    acks: list[str] = []

    def hook(step: Step | None, text: str) -> None:
        number = len(points.passed)
        if step is not None:
            shadow.step(step)
        if text.startswith("ack "):
            acks.append(text.removeprefix("ack "))
        if at and number not in at:
            return
        for fate in ("strict", "dice 1", "dice 2"):
            dice = None if fate == "strict" else random.Random(f"{seed} {fate} {number}")
            target = images / f"image-{len(seen)}"
            shape = (shadow.image(target, dice), len(acks))
            if shape in seen:
                shutil.rmtree(target)
                continue
            seen.add(shape)
            print("image " + json.dumps({"folder": target.name, "acks": acks, "at": text, "fate": fate}))

    points = Points(place.folder, hook=hook)
    run(scenario, place, points)


def main() -> None:
    """See the docstring of the file."""
    parser = argparse.ArgumentParser(description="Run a scenario of the crash tests, or serve them.")
    parser.add_argument("scenario", nargs="?", choices=SCENARIOS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--serve", action="store_true")
    arguments = parser.parse_args()
    if arguments.serve:
        server = Server(arguments.folder)
        for line in sys.stdin:
            request = msgspec.json.decode(line, type=Request)
            print(json.dumps(server.answer(request)), flush=True)
        return
    scenario = SCENARIOS[arguments.scenario]
    place = Place(arguments.folder)
    if not place.folder.exists():
        anyio.run(scenario.prepare, place)
    points = Points(place.folder, arguments.kill_at)
    run(scenario, place, points)
    if arguments.record:
        print("\n".join(points.passed))


if __name__ == "__main__":
    main()

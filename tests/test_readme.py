"""What the README shows is run: its transcripts line by line, its example as it stands."""

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from syncagent.server.embedded import EmbeddedServer
from tests.server.running import accounts_of

README = Path(__file__).parent.parent / "README.md"
PASSPHRASE = "correct horse battery"
USUAL = "127.0.0.1:8720"
"""Where the server of the transcript answers; in a test, anywhere."""
_COMMAND = f"{shlex.quote(sys.executable)} -m syncagent.cli"


def _between(start: str, stop: str, language: str) -> str:
    text = README.read_text(encoding="utf-8")
    found = re.search(
        f"<!-- {re.escape(start)}.*?-->\n```{language}\n(.*?)```\n<!-- /{stop} -->", text, re.DOTALL
    )
    assert found is not None, start
    return found.group(1)


def _steps(transcript: str) -> list[tuple[str, str]]:
    """(command, what it is said to print): an ellipsis stands for anything on a line."""
    steps: list[tuple[str, str]] = []
    for line in transcript.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], ""))
        else:
            steps[-1] = (steps[-1][0], steps[-1][1] + line + "\n")
    return steps


def matches(said: str, printed: str) -> bool:
    """Whether a text is what was said to be printed."""
    pattern = "".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", said))
    return re.fullmatch(pattern, printed) is not None


@contextlib.contextmanager
def _in_background(command: str, said: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """A command that ends with `&`, as a process of its own; the address that it answers at."""
    arguments = [*shlex.split(_COMMAND), *shlex.split(command)[1:-1], "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.rpartition("/")[2].strip()
        assert line.replace(address, USUAL) == said
        yield address
    finally:
        process.kill()
        process.communicate()


def _run(
    steps: list[tuple[str, str]], folder: Path, environment: dict[str, str], stack: contextlib.ExitStack
) -> str:
    everything = ""
    address = USUAL
    for command, said in steps:
        command = command.replace(USUAL, address)
        if command.endswith(" &"):
            address = stack.enter_context(_in_background(command, said, folder, environment))
            continue
        if command.startswith("export "):
            name, value = command.removeprefix("export ").split("=")
            environment[name] = value
            continue
        done = subprocess.run(
            re.sub(r"\bsyncagent\b(?=\s)", lambda _: _COMMAND, command),
            shell=True,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        if said:
            assert matches(said, done.stdout), (command, done.stdout)
        everything += done.stdout
    return everything


def run(name: str, folder: Path, environment: dict[str, str], stack: contextlib.ExitStack) -> str:
    """What the commands of a transcript print; those in the background end with the stack."""
    return _run(_steps(_between(name, "transcript", "console")), folder, environment, stack)


@pytest.mark.skipif(sys.platform == "win32", reason="the transcript is of a POSIX shell")
def test_the_transcripts_are_what_the_commands_print(tmp_path: Path) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SYNCAGENT_HOME": "first",
        "SYNCAGENT_PASSPHRASE": PASSPHRASE,
        "PYTHONPATH": str(README.parent),
    }
    with contextlib.ExitStack() as stack:
        printed = run("transcript: tests", tmp_path, environment, stack)
        (remote,) = re.findall(r"file://\S+", printed)
        environment["REMOTE"] = remote
        run("transcript: second device", tmp_path, environment, stack)
        run("transcript: server", tmp_path, environment, stack)
    assert (tmp_path / "copy.txt").read_text() == "hello world\n"


def test_the_example_of_the_library_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {}
    exec(_between("example: tests", "example", "python"), scope)
    main = scope["main"]
    assert callable(main)
    anyio.run(main, str(tmp_path / "home"), f"file://{tmp_path}/remote")
    printed = capsys.readouterr().out
    assert "write this down: " in printed
    assert "b'second draft' Ideas 2" in printed
    assert "1 sent, 0 fetched" in printed
    exec(_between("background: tests", "background", "python"), scope)
    main = scope["main"]
    assert callable(main)
    anyio.run(main, str(tmp_path / "home"))
    why, state = capsys.readouterr().out.splitlines()
    # The loop may have sent it already, or not yet.
    assert why.startswith(
        ("PENDING_UPLOAD no sync has come to it yet", "SYNCED ", "PENDING_UPLOAD its batch")
    )
    assert state == "True 3"


def test_the_example_of_a_server_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {}
    exec(_between("token: tests", "token", "python"), scope)
    main = scope["main"]
    assert callable(main)
    with EmbeddedServer(tmp_path / "server") as server:
        token = server.add_user("me")
        with accounts_of(tmp_path / "server") as accounts:
            new_token = accounts.add_token("me")
        anyio.run(main, str(tmp_path / "home"), server.url, token, new_token)
        assert capsys.readouterr().out == f"{server.url}/default True\n"


def test_the_commands_to_try_and_to_develop_are_the_ones_that_are_checked() -> None:
    checks = (README.parent / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"^    (python3 -m venv .*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == 2
    assert all(f"\n{command}\n" in checks for command in commands)

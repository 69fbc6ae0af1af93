"""What the documents and the packaging say of the server is so."""

import ast
import re
from pathlib import Path

import click
import pytest

from syncagent.cli.serve import serve
from syncagent.remote.base import max_object_size
from syncagent.remote.http.answers import MAX_VAULTS
from syncagent.server.limits import Limits
from tests.server.running import RECORD, batch_name, pack_name

ROOT = Path(__file__).parent.parent.parent
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")


def kinds_in_code() -> set[str]:
    """The `type` of every problem that the server can answer with."""
    found = {"malformed-request", "malformed-name"}
    for path in (ROOT / "syncagent" / "server").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                position = {"Problem": 1, "busy": 0}.get(node.func.id)
                if position is not None and isinstance(node.args[position], ast.Constant):
                    found.add(str(node.args[position].value))  # type: ignore[attr-defined]
    return found


def test_every_kind_of_problem_is_in_the_protocol() -> None:
    table = PROTOCOL.partition("| status | `type` | means |")[2].partition("\n\n")[0]
    cells = [line.split("|")[2] for line in table.splitlines() if line.startswith("|")]
    told = {kind for cell in cells for kind in re.findall(r"`([a-z-]+)`", cell)}
    assert told == kinds_in_code() and len(told) > 25


def test_the_limits_are_those_of_the_code() -> None:
    assert (max_object_size(pack_name(b"")), max_object_size("snapshots/")) == (16 << 20, 16 << 20)
    assert max_object_size(batch_name(1)) == (8 << 20) + (4 << 10)
    assert max_object_size(RECORD) == max_object_size("vault") == 4 << 10
    limits = Limits()
    assert (
        f"URL and headers | {limits.header_bytes >> 10} KiB, sent within {limits.header_s:g} s" in OPERATING
    )
    assert f"on average {limits.slowest_bytes_s >> 10} KiB/s, no pause of {limits.idle_s:g} s" in OPERATING
    assert f"{limits.requests_s:g} requests/s, {limits.burst:,} at once after a rest" in OPERATING
    assert f"{limits.transfers_per_token} transfers and {limits.waiting_per_token:,} long polls" in OPERATING
    assert f"{limits.transfers} transfers (503), {limits.connections:,} connections" in OPERATING
    assert f"A user has at most {limits.vaults:,} vaults" in OPERATING
    assert limits.vaults <= MAX_VAULTS  # a client reads no longer list
    assert f"under way get {limits.drain_s:g} seconds" in OPERATING.replace("\n", " ")
    assert f"{limits.longest_wait_s:g} in the reference server" in PROTOCOL.replace("\n", " ")


@pytest.mark.parametrize("name", ["add", "ls", "token", "rotate", "quota", "rm"])
def test_every_command_is_told(name: str) -> None:
    group = serve.commands["user"]
    assert isinstance(group, click.Group) and name in group.commands
    assert f"syncagent serve user {name} " in OPERATING


def test_the_packaging_waits_longer_than_the_server_drains() -> None:
    unit = (ROOT / "packaging" / "syncagent-server.service").read_text(encoding="utf-8")
    compose = (ROOT / "packaging" / "compose.yaml").read_text(encoding="utf-8")
    for text, pattern in ((unit, r"TimeoutStopSec=(\d+)s"), (compose, r"stop_grace_period: (\d+)s")):
        match = re.search(pattern, text)
        assert match is not None and int(match.group(1)) > Limits().drain_s

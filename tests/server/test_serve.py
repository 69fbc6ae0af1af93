"""The command `syncagent serve`: a server as a process, and its users."""

import json
from pathlib import Path

import httpx
import pytest

from tests.cli.shell import Shell
from tests.server.running import RECORD, add_user, client_of, object_path, running_server


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "home")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def added(shell: Shell, data: Path, *arguments: str) -> str:
    """A new user's token, of the command."""
    document = shell("serve", "user", "add", *arguments, "--data", str(data), "--json").ok().document
    assert document == {"user": arguments[0], "token": document["token"]}
    token: str = document["token"]
    return token


def test_a_server_from_start_to_end(tmp_path: Path, data: Path) -> None:
    shell = Shell(tmp_path / "home")
    token = added(shell, data, "alice")
    with running_server(data) as server, client_of(server.url, token) as alice:
        assert alice.put("/v1/vaults/default").status_code == 201
        assert alice.put(object_path(RECORD), content=b"x").status_code == 201
        said = shell("serve", "--data", str(data), "--listen", "127.0.0.1:0").failed(1)
        assert "another server runs on the data folder" in said
        taken = server.url.removeprefix("http://")
        said = shell("serve", "--data", str(tmp_path / "other"), "--listen", taken).failed(2)
        assert "cannot listen" in said
        assert server.stop() == 0
    with running_server(data) as server, client_of(server.url, token) as alice:
        assert alice.get(object_path(RECORD)).content == b"x"
        port = int(server.url.rpartition(":")[2])
        server.kill()
    with running_server(data, port=port) as server, client_of(server.url, token) as alice:
        assert alice.get(object_path(RECORD)).content == b"x"


def test_it_says_where_it_listens_and_logs_what_it_answers(shell: Shell, data: Path) -> None:
    token = add_user(data)
    process = shell.process("serve", "--data", str(data), "--listen", "127.0.0.1:0", stdout=-1, stderr=-1)
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    assert line.startswith("listening on http://127.0.0.1:")
    with client_of(line.split()[-1], token) as alice:
        alice.get("/v1/vaults/default/changes?cursor=secret-in-query")
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert token.encode() not in out and b"secret" not in out
    logged = json.loads(out)
    assert (logged["user"], logged["status"], logged["call"]) == ("alice", 404, "changes")
    assert logged["problem"] == "no-such-vault"


def test_users_change_while_the_server_runs(shell: Shell, data: Path) -> None:
    on = ("--data", str(data))
    with running_server(data) as server:
        first = added(shell, data, "alice", "--quota", "1GB")

        def status(token: str) -> int:
            with client_of(server.url, token) as client:
                return client.put("/v1/vaults/default").status_code

        assert status(first) == 201
        second = shell("serve", "user", "token", "alice", *on, "--append-only").ok().out.strip()
        assert (status(first), status(second)) == (200, 200)
        third = shell("serve", "user", "rotate", "alice", *on).ok().out.strip()
        assert (status(first), status(second), status(third)) == (401, 401, 200)
        shell("serve", "user", "rm", "alice", *on).ok()
        assert status(third) == 401
        with pytest.raises(httpx.HTTPStatusError), client_of(server.url, third) as client:
            client.get("/v1/vaults").raise_for_status()


def test_the_list_of_users(shell: Shell, data: Path) -> None:
    on = ("--data", str(data))
    token = added(shell, data, "alice", "--quota", "1.5MB")
    added(shell, data, "bob", "--append-only")
    with running_server(data) as server, client_of(server.url, token) as alice:
        alice.put("/v1/vaults/default")
        alice.put(object_path(RECORD), content=bytes(1000))
        server.stop()
    assert shell("serve", "user", "ls", *on).ok().out.splitlines() == [
        "alice  1000 B of 1.4 MiB  1 token",
        "bob  - of no quota  1 token, 1 of them append-only",
    ]
    shell("serve", "user", "quota", "alice", "none", *on).ok()
    shell("serve", "user", "quota", "bob", "2KiB", *on).ok()
    users = shell("serve", "user", "ls", *on, "--json").ok().document["users"]
    assert [(one["user"], one["quota_bytes"], one["used_bytes"]) for one in users] == [
        ("alice", None, 1000),
        ("bob", 2048, None),
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "Alice"), "'Alice' is not a user name"),
        (("add", "../alice"), "is not a user name"),
        (("add", "bob", "--quota", "10 apples"), "a size is a number and a unit"),
        (("add", "bob", "--quota", "-1GB"), "a size is a number and a unit"),
        (("add", "alice"), "there is a user alice already"),
        (("rotate", "bob"), "there is no user bob"),
        (("token", "bob"), "there is no user bob"),
        (("rm", "bob"), "there is no user bob"),
        (("quota", "bob", "1GB"), "there is no user bob"),
    ],
)
def test_what_cannot_be_done_with_users(
    shell: Shell, data: Path, arguments: tuple[str, ...], said: str
) -> None:
    added(shell, data, "alice")
    assert said in shell("serve", "user", *arguments, "--data", str(data)).failed(2)
    assert shell("serve", "user", "ls", "--data", str(data)).ok().out.count("\n") == 1


@pytest.mark.parametrize("listen", ["8720", "127.0.0.1", "127.0.0.1:99999", "::1:80", "http://x:1", ""])
def test_addresses_that_cannot_be(shell: Shell, data: Path, listen: str) -> None:
    assert "HOST:PORT" in shell("serve", "--data", str(data), "--listen", listen).failed(2)
    assert not data.exists()


def test_a_server_needs_a_folder(shell: Shell, tmp_path: Path) -> None:
    assert "missing option '--data'" in shell("serve").failed(2)
    file = tmp_path / "file"
    file.touch()
    assert "cannot be used" in shell("serve", "--data", str(file)).failed(2)
    assert "cannot be used" in shell("serve", "user", "add", "alice", "--data", str(file)).failed(2)


def test_a_mistaken_folder_is_not_made(shell: Shell, data: Path) -> None:
    for arguments in (["ls"], ["rm", "alice"], ["rotate", "alice"], ["quota", "alice", "1GB"]):
        assert "no server keeps its users in" in shell(
            "serve", "user", *arguments, "--data", str(data)
        ).failed(2)
    assert not data.exists()

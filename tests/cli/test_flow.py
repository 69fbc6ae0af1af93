"""A first use, command by command, on two devices."""

import json
import os
from pathlib import Path

import pytest

from tests.cli.shell import Shell


@pytest.fixture
def elsewhere(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "elsewhere")


def test_a_first_use(bare: Shell, elsewhere: Shell, tmp_path: Path) -> None:
    """The commands, in the order of a first use (row A13)."""
    url = (tmp_path / "remote").as_uri()
    files = tmp_path / "files"
    (files / "deep").mkdir(parents=True)
    (files / "a.txt").write_bytes(b"a")
    (files / "deep" / "b.txt").write_bytes(b"")
    big = os.urandom(3_000_000)
    (files / "deep" / "big").write_bytes(big)
    hello = tmp_path / "hello"
    hello.write_bytes(b"hello\n")

    said = bare("init", "--remote", url, "--device-name", "first").ok().out
    assert url in said
    assert "recovery code  " in said
    assert "Write the recovery code down" in said

    assert "notes/hello (6 B)" in bare("put", "notes/hello", str(hello)).ok().out
    bare("put", "notes/from-stdin", "-", stdin=b"piped").ok()
    assert bare("put", "files/", str(files), "--recursive").ok().out == "put 3 blobs (2.9 MiB) into files\n"

    listing = bare("ls", "notes").ok().out.splitlines()
    assert [line.split()[-1] for line in listing] == ["from-stdin", "hello"]
    document = bare("ls", "files", "--json").ok().document
    assert [(blob["id"], blob["size"], blob["status"]) for blob in document["blobs"]] == [
        ("a.txt", 1, "pending_upload"),
        ("deep/b.txt", 0, "pending_upload"),
        ("deep/big", 3_000_000, "pending_upload"),
    ]
    assert len(bare("ls", "notes", "--status", "pending_upload").ok().out.splitlines()) == 2
    assert bare("ls", "notes", "--status", "synced").ok().out == ""
    assert bare("ls", "--count").ok().out == "5\n"
    assert bare("ls", "files/deep/", "--count").ok().out == "2\n"
    assert [line.split()[:3] for line in bare("ls").ok().out.splitlines()] == [
        ["files", "3", "blobs:"],
        ["notes", "2", "blobs:"],
    ]

    assert bare("sync").ok().out.startswith("sent 5 blobs (")
    assert bare("sync").ok().out == "nothing to do\n"
    assert bare("send", "notes").ok().out == "nothing to do\n"
    assert bare("fetch").ok().out == "nothing to do\n"
    assert "notes      2 blobs: 2 synced" in bare("status").ok().out
    assert bare("status", "--json").ok().document["counts"]["synced"] == 5

    elsewhere("join", "--remote", url, "--device-name", "second").ok()
    assert "pending_download" in elsewhere("ls", "notes").ok().out
    elsewhere("sync").ok()
    assert elsewhere("get", "notes/hello").ok().stdout == b"hello\n"
    assert elsewhere("get", "files/deep/b.txt").ok().stdout == b""
    target = tmp_path / "target"
    elsewhere("get", "files/deep/big", "-o", str(target)).ok()
    assert target.read_bytes() == big

    assert elsewhere("rm", "notes/hello").ok().out == "deleted notes/hello\n"
    elsewhere("sync").ok()
    bare("sync").ok()
    for device in (bare, elsewhere):
        assert device("ls", "notes", "-0").ok().stdout == b"from-stdin\0"


def test_the_recovery_code_opens_and_joins(bare: Shell, elsewhere: Shell) -> None:
    created = bare("init", "--json").ok().document
    assert set(created) == {"vault", "vault_id", "device_id", "remote", "recovery_code"}
    code = created["recovery_code"]
    forgotten = {"SYNCAGENT_PASSPHRASE": ""}
    joined = elsewhere(
        "join",
        "--remote",
        created["remote"],
        "--recovery",
        "--json",
        environment={**forgotten, "SYNCAGENT_RECOVERY_CODE": code.lower()},
    )
    assert joined.ok().document["vault_id"] == created["vault_id"]
    # Where a passphrase is asked for, the code does as well.
    for command in ("status", "sync", "ls"):
        elsewhere(command, environment={"SYNCAGENT_PASSPHRASE": code}).ok()


def test_a_recovery_code_is_no_passphrase_for_a_new_vault(bare: Shell) -> None:
    from syncagent.crypto.recovery import new_recovery_code

    done = bare("init", environment={"SYNCAGENT_PASSPHRASE": new_recovery_code()})
    assert "recovery code" in done.failed(2)
    assert not bare.home.exists()


def test_the_recovery_code_is_shown_also_when_nobody_reads_stdout(bare: Shell) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = bare.process("init", "--json", stdout=write_end, stderr=-1)
    os.close(write_end)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    code = err.decode().removeprefix("syncagent: recovery code").strip()
    bare("status", environment={"SYNCAGENT_PASSPHRASE": code}).ok()


def test_quiet_says_results_only(shell: Shell) -> None:
    assert shell("put", "n/a", "-", "-q", stdin=b"x").ok().out == ""
    assert shell("-q", "sync").ok().out == ""
    assert shell("get", "n/a", "-q").ok().stdout == b"x"
    assert shell("ls", "n", "--count", "-q").ok().out == "1\n"


def test_quiet_init_still_shows_the_code(bare: Shell) -> None:
    lines = bare("-q", "init").ok().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("recovery code  ")


def test_folders_are_for_this_user_only(bare: Shell) -> None:
    bare("init").ok()
    for folder in (bare.home, bare.profile.parent, bare.profile):
        assert folder.stat().st_mode & 0o077 == 0


def test_vaults_by_name_are_apart(shell: Shell) -> None:
    shell("put", "n/a", "-", stdin=b"x").ok()
    shell("--vault", "work", "init").ok()
    assert shell("ls", "--count", "--vault", "work").ok().out == "0\n"
    assert shell("ls", "--count", "--vault", "default").ok().out == "1\n"
    # After the command's name wins over before it.
    assert shell("--vault", "work", "ls", "--count", "--vault", "default").ok().out == "1\n"


def test_json_documents_of_every_command(shell: Shell, tmp_path: Path) -> None:
    put = shell("put", "n/a", "-", "--json", "--meta", "title=x=y", stdin=b"x").ok().document
    assert put["namespace"] == "n" and put["id"] == "a" and put["size"] == 1 and len(put["version"]) == 32
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_bytes(b"f")
    tree = shell("put", "n/", str(tmp_path / "tree"), "-r", "--json").ok().document
    assert tree == {"namespace": "n", "stored": 1, "stored_bytes": 1, "skipped": 0, "failed": 0}
    assert shell("ls", "--json").ok().document["namespaces"][0]["blobs"] == 2
    assert shell("ls", "--json", "--count").ok().document == {"count": 2}
    assert shell("ls", "n", "--json", "--count").ok().document == {"namespace": "n", "count": 2}
    sync = shell("sync", "--json").ok().document
    assert sync["sent"] == 2 and sync["alarms"] == [] and sync["failures"] == []
    got = shell("get", "n/a", "-o", str(tmp_path / "out"), "--json").ok().document
    assert got["version"] == put["version"] and got["metadata"] == {"title": "x=y"}
    removed = shell("rm", "n/a", "n/zzz", "--json")
    assert removed.code == 3
    assert [one["id"] for one in removed.document["deleted"]] == ["a"]
    assert removed.document["failed"][0]["error"]["kind"] == "BlobNotFound"
    status = shell("status", "--json").ok().document
    assert status["namespaces"]["n"]["blobs"] == 1 and status["pending_changes"] == 1
    json.dumps(status)

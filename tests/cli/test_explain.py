"""`explain` and `retry` at the command line."""

import shutil

import pytest

from tests.cli.shell import Shell


def test_a_blob_that_is_in_sync_and_one_that_waits(shell: Shell) -> None:
    shell("put", "notes/x", "-", stdin=b"one").ok()
    assert shell("explain", "notes/x").ok().out.splitlines() == [
        "notes/x: pending_upload",
        "cause      no sync has come to it yet",
        "next try   with the next sync",
        "what helps run `syncagent sync`",
    ]
    shell("sync").ok()
    assert shell("explain", "notes/x").ok().out == "notes/x: synced\n"
    document = shell("explain", "notes/x", "--json").ok().document
    assert document == {
        "namespace": "notes",
        "id": "x",
        "status": "synced",
        "version": document["version"],
        "deleted": False,
        "retries": 0,
        "cause": "",
        "next_attempt": None,
        "unblock": "",
    }


def test_an_unreachable_remote_is_the_cause_and_the_state(shell: Shell) -> None:
    shell("put", "notes/x", "-", stdin=b"one").ok()
    shutil.move(shell.remote, shell.remote.with_name("away"))
    assert shell("sync").code == 4
    found = shell("explain", "notes/x", "--json").ok().document
    assert found["status"] == "pending_upload" and found["retries"] == 0
    assert found["cause"].startswith("the last sync failed: Unreachable: ")
    status = shell("status", "--json").ok().document
    assert (status["state"], status["todo"]) == ("backing_off", "mount or restore the folder")
    assert "what helps mount or restore the folder" in shell("status").ok().out
    shutil.move(shell.remote.with_name("away"), shell.remote)
    assert shell("retry").ok().out == "no blob waits after a failure of its own\n"
    shell("sync").ok()
    assert shell("status", "--json").ok().document["state"] == "ready"


def test_retry_makes_a_given_up_blob_due(shell: Shell, other: Shell) -> None:
    shell("put", "notes/x", "-", stdin=b"one").ok()
    shell("sync").ok()
    [pack] = (shell.remote / "packs").rglob("*")
    good = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(good[:-20] + bytes(20))
    assert other("sync").code == 6
    found = other("explain", "notes/x").ok().out
    assert "failed_download" in found and "Tampered" in found and "`syncagent retry`" in found
    pack.write_bytes(good)
    assert other("retry", "notes/x", "--json").ok().document == {"due": 1}
    other("sync").ok()
    assert other("get", "notes/x").ok().stdout == b"one"


def test_names_are_escaped(shell: Shell) -> None:
    shell("put", "notes/a\nb\x1b[31m", "-", stdin=b"one").ok()
    assert (
        shell("explain", "notes/a\nb\x1b[31m").ok().out.startswith("notes/a\\nb\\x1b[31m: pending_upload\n")
    )


@pytest.mark.parametrize("command", ["explain", "retry"])
def test_a_name_outside_the_grammar_is_a_usage_error(command: str, shell: Shell) -> None:
    shell(command, "No/x").failed(2)
    shell(command, "notes/").failed(2)


def test_a_blob_that_never_was_is_said_to_be_unknown(shell: Shell) -> None:
    assert "notes/'x' is not on this device" in shell("explain", "notes/x").failed(1)
    assert shell("retry", "notes/x").ok().out.startswith("no blob waits")


def test_what_no_sync_will_try_is_not_said_to_be_tried(shell: Shell) -> None:
    shell("put", "n/a", "-", "--local-only", stdin=b"x").ok()
    said = shell("explain", "n/a").ok().out
    assert "it is kept on this device only" in said and "next try" not in said


def test_retry_with_nothing_to_retry_says_so(shell: Shell) -> None:
    assert (
        shell("retry").ok().out
        == shell("retry", "n/none").ok().out
        == "no blob waits after a failure of its own\n"
    )

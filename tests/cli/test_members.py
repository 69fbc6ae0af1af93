"""`remote`, `device` and `key`: where the vault is, who its devices are, what opens it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from syncagent.cli.text import without_password
from syncagent.remote import directory_url
from tests.cli.shell import PASSPHRASE, Shell

NEW = "a new passphrase"


def with_passphrase(shell: Shell, passphrase: str) -> Callable[..., "object"]:
    return lambda *arguments: shell(*arguments, environment={"SYNCAGENT_PASSPHRASE": passphrase})


# remote ------------------------------------------------------------------------------------------


def test_show_says_where_it_is_and_whether_it_is_there(shell: Shell) -> None:
    url = directory_url(shell.remote)
    assert shell("remote", "show").ok().out == f"remote  {url}\nstate   this vault is there\n"
    assert shell("remote", "show", "--json").ok().document == {
        "remote": url,
        "has_token": False,
        "ca_file": None,
        "client_cert": None,
        "reachable": True,
        "error": None,
    }
    shutil.move(shell.remote, shell.remote.with_name("away"))
    done = shell("remote", "show")
    assert done.code == 4 and done.out == f"remote  {url}\n" and "mount or restore" in done.err
    assert shell("remote", "show", "--json").document["error"]["kind"] == "Unreachable"


def test_set_takes_a_complete_copy_and_the_next_sync_has_nothing_to_do(shell: Shell, tmp_path: Path) -> None:
    shell("put", "notes/x", "-", "--sync", stdin=b"one").ok()
    copy = tmp_path / "copy"
    shutil.copytree(shell.remote, copy)
    shell("remote", "set", directory_url(copy)).ok()
    shutil.rmtree(shell.remote)
    assert shell("sync").ok().out == "nothing to do\n"
    assert directory_url(copy) in shell("status").ok().out


def test_set_to_an_older_copy_heals_it_and_says_so_once(shell: Shell, other: Shell, tmp_path: Path) -> None:
    shell("put", "notes/old", "-", "--sync", stdin=b"old").ok()
    copy = tmp_path / "copy"
    shutil.copytree(shell.remote, copy)
    shell("put", "notes/new", "-", "--sync", stdin=b"new").ok()
    shell("remote", "set", directory_url(copy)).ok()
    done = shell("sync")
    assert done.code == 6 and done.err.startswith(
        "syncagent: RemoteRolledBack: remote: the remote went back: "
    )
    assert "everything this device holds is kept" in done.err
    shell("sync").ok()
    other("remote", "set", directory_url(copy)).ok()
    other("sync").ok()
    assert other("get", "notes/new").ok().stdout == b"new"


def test_set_refuses_what_does_not_hold_this_vault_and_changes_nothing(shell: Shell, tmp_path: Path) -> None:
    before = shell("remote", "show").ok().out
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no vault at that remote" in shell("remote", "set", directory_url(empty)).failed(2)
    shell("remote", "set", directory_url(tmp_path / "nowhere")).failed(4)
    shell("remote", "set", "gopher://x").failed(2)
    foreign = Shell(tmp_path / "foreign")
    foreign("init").ok()
    shell("remote", "set", directory_url(foreign.remote)).failed(6)
    assert shell("remote", "show").ok().out == before
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@host:1/x", "https://host:1/x"),
        ("https://token@host/x", "https://host/x"),
        ("file:///a/b@c", "file:///a/b@c"),
        ("https://host/x?y=a@b", "https://host/x?y=a@b"),
        ("http://[bad@", "http://[bad@"),
    ],
)
def test_a_password_in_an_address_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


# device ------------------------------------------------------------------------------------------


def test_ls_rename_and_remove_reach_the_other_device(shell: Shell, other: Shell) -> None:
    other("sync").ok()
    shell("sync").ok()
    first, second = shell("device", "ls", "--json").ok().document["devices"]
    assert (first["name"], first["this"], second["name"], second["this"]) == ("first", True, "second", False)
    assert shell("device", "rename", "second", "old laptop").ok().out.endswith("is called old laptop\n")
    shell("device", "rename", first["id"][:6], "main").ok()
    assert shell("status", "--json").ok().document["device_name"] == "main"
    shell("sync").ok()
    other("sync").ok()
    names = {one["name"] for one in other("device", "ls", "--json").ok().document["devices"]}
    assert names == {"main", "old laptop"}
    assert "keeps what it has" in shell("device", "remove", "old laptop").ok().out
    shell("sync").ok()
    listing = shell("device", "ls").ok().out.splitlines()
    assert "main" in listing[0] and "this device" in listing[0] and "removed" in listing[1]
    # What a removed device has put, and still puts, is read as before.
    other("put", "notes/late", "-", "--sync", stdin=b"late").ok()
    shell("sync").ok()
    assert shell("get", "notes/late").ok().stdout == b"late"


def test_what_cannot_be_renamed_or_removed(shell: Shell, other: Shell) -> None:
    other("sync").ok()
    shell("sync").ok()
    assert "cannot remove itself" in shell("device", "remove", "first").failed(2)
    assert "has no device 'third'" in shell("device", "rename", "third", "x").failed(2)
    shell("device", "rename", "first", "").failed(2)
    shell("device", "rename", "first", "x" * 257).failed(2)
    shell("device", "rename", "first", "second").ok()
    assert "2 devices are called 'second'" in shell("device", "rename", "second", "x").failed(2)


def test_a_device_name_is_escaped(shell: Shell) -> None:
    shell("device", "rename", "first", "a\x1b[31m\nb\u202e").ok()
    for command in (["device", "ls"], ["status"]):
        said = shell(*command).ok().out
        assert "\x1b" not in said and "\u202e" not in said and "a\\x1b[31m\\nb\\u202e" in said


# key ---------------------------------------------------------------------------------------------


def change(shell: Shell, new: str = NEW, old: str = PASSPHRASE) -> None:
    shell(
        "key",
        "passphrase",
        environment={"SYNCAGENT_PASSPHRASE": old, "SYNCAGENT_NEW_PASSPHRASE": new},
    ).ok()


def slots_at(folder: Path) -> set[str]:
    return {path.name for path in (folder / "keys").iterdir()}


def test_a_new_passphrase_replaces_the_old_one_everywhere(shell: Shell, other: Shell, tmp_path: Path) -> None:
    shell("put", "notes/x", "-", "--sync", stdin=b"one").ok()
    before = slots_at(shell.remote)
    change(shell)
    shell("status").failed(5)
    new_here = with_passphrase(shell, NEW)
    assert new_here("get", "notes/x").stdout == b"one"  # type: ignore[attr-defined]  # a Done
    after = slots_at(shell.remote)
    assert len(before) == len(after) == 2 and len(before & after) == 1
    assert slots_at(shell.profile) == after
    # The other device: the old one until it syncs, the new one afterwards, offline too.
    other("sync").ok()
    assert "another device may have replaced it" in other("status").failed(5)
    shutil.move(shell.remote, tmp_path / "away")
    assert with_passphrase(other, NEW)("get", "notes/x").stdout == b"one"  # type: ignore[attr-defined]  # a Done
    shutil.move(tmp_path / "away", shell.remote)
    third = Shell(tmp_path / "third")
    third("join", "--remote", directory_url(shell.remote)).failed(5)
    joined = with_passphrase(third, NEW)("join", "--remote", directory_url(shell.remote))
    assert joined.code == 0  # type: ignore[attr-defined]  # a Done


def test_a_new_recovery_code_replaces_the_old_one(bare: Shell, tmp_path: Path) -> None:
    old = bare("init", "--json").ok().document["recovery_code"]
    new = bare("key", "recovery", "--json").ok().document["recovery_code"]
    assert old != new
    kinds = {slot["kind"] for slot in bare("key", "ls", "--json").ok().document["slots"]}
    assert kinds == {"passphrase", "recovery"}
    assert all(slot["listed"] for slot in bare("key", "ls", "--json").ok().document["slots"])
    bare("status", environment={"SYNCAGENT_PASSPHRASE": new}).ok()
    bare("status", environment={"SYNCAGENT_PASSPHRASE": old}).failed(5)
    bare("status").ok()
    assert "argon2id 64 MiB, 3 passes, 4 lanes" in bare("key", "ls").ok().out
    third = Shell(tmp_path / "third")
    third(
        "join",
        "--remote",
        directory_url(bare.remote),
        "--recovery",
        environment={"SYNCAGENT_RECOVERY_CODE": new},
    ).ok()


def test_sources_of_the_new_passphrase(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "new"
    path.write_text("from a file\nsecond line\n")
    shell("key", "passphrase", "--new-passphrase-file", str(path)).ok()
    shell("status", environment={"SYNCAGENT_PASSPHRASE": "from a file"}).ok()
    shell(
        "key",
        "passphrase",
        "--new-passphrase-command",
        "echo from a command",
        environment={"SYNCAGENT_PASSPHRASE": "from a file"},
    ).ok()
    shell("status", environment={"SYNCAGENT_PASSPHRASE": "from a command"}).ok()


def test_a_new_passphrase_that_cannot_be_is_refused_and_the_old_one_stays(
    shell: Shell, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert "is empty" in shell("key", "passphrase", "--new-passphrase-file", str(empty)).failed(2)
    code = Shell(tmp_path / "elsewhere")("init", "--json").ok().document["recovery_code"]
    shell("key", "passphrase", environment={"SYNCAGENT_NEW_PASSPHRASE": code}).failed(2)
    shutil.move(shell.remote, tmp_path / "away")
    shell("key", "passphrase", environment={"SYNCAGENT_NEW_PASSPHRASE": NEW}).failed(4)
    shell("key", "recovery").failed(4)
    shutil.move(tmp_path / "away", shell.remote)
    shell("status").ok()
    assert shell("sync").ok().out == "nothing to do\n"
    assert len(slots_at(shell.remote)) == len(slots_at(shell.profile)) == 2


# put --sync --------------------------------------------------------------------------------------


def test_put_with_sync_sends_it_and_a_remote_that_is_away_keeps_it(shell: Shell, other: Shell) -> None:
    done = shell("put", "notes/x", "-", "--sync", stdin=b"one").ok()
    assert done.out.splitlines()[0].startswith("put notes/x (3 B)") and "sent 1 blob" in done.out
    other("sync").ok()
    assert other("get", "notes/x").ok().stdout == b"one"
    shutil.move(shell.remote, shell.remote.with_name("away"))
    done = shell("put", "notes/y", "-", "--sync", "--json", stdin=b"two")
    assert done.code == 4 and done.document["id"] == "y" and "kept and stays pending" in done.err
    shutil.move(shell.remote.with_name("away"), shell.remote)
    assert shell("get", "notes/y").ok().stdout == b"two"
    shell("sync").ok()


def test_put_takes_the_options_for_one_blob(shell: Shell, tmp_path: Path) -> None:
    first = shell("put", "notes/x", "-", "--json", stdin=b"one").ok().document["version"]
    shell("put", "notes/x", "-", "--if-version", first[:8], stdin=b"two").ok()
    assert "has moved on to version" in shell(
        "put", "notes/x", "-", "--if-version", first, stdin=b"3"
    ).failed(1)
    shell("put", "notes/y", "-", "--expected-size", "2", stdin=b"three").failed(1)
    shell("put", "notes/y", "-", "--expected-sha256", "00" * 32, stdin=b"three").failed(1)
    shell("put", "notes/y", "-", "--expected-sha256", "x", stdin=b"three").failed(2)
    shell("put", "notes/y", "-", "--priority", "5", stdin=b"three").failed(2)
    shell("put", "notes/mine", "-", "--local-only", "--priority", "1", "--sync", stdin=b"mine").ok()
    assert "local_only" in shell("ls", "notes").ok().out
    shell("put", "notes/mine", "-", "--shared", "--sync", stdin=b"mine").ok()
    assert "local_only" not in shell("ls", "notes").ok().out
    (tmp_path / "tree").mkdir()
    shell("put", "notes/", str(tmp_path / "tree"), "-r", "--local-only").failed(2)

"""Whatever is wrong with what is asked for: the right exit code, one line on stderr, nothing lost.

What is wrong with the places where things lie is in `test_bad_places.py`.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent.model import SyncStatus
from tests.cli.shell import PASSPHRASE, Shell

KEPT = {"kept": b"kept before", "synced": b"sent before"}


@dataclass(frozen=True, slots=True)
class Bad:
    """One thing that goes wrong."""

    code: int
    arguments: tuple[str, ...]
    stdin: bytes | None = b""
    passphrase: str | None = None
    prepare: Callable[[Shell], object] = lambda shell: None
    repair: Callable[[Shell], object] = lambda shell: None


def _aside(shell: Shell) -> Path:
    return shell.remote.with_name("aside")


def _remove_remote(shell: Shell) -> None:
    shell.remote.rename(_aside(shell))


def _empty_remote(shell: Shell) -> None:
    _remove_remote(shell)
    shell.remote.mkdir()


def _other_remote(shell: Shell) -> None:
    _remove_remote(shell)
    shell("init", "--vault", "c").ok()
    shutil.copytree(shell.remote.with_name("c"), shell.remote)


def _restore_remote(shell: Shell) -> None:
    shutil.rmtree(shell.remote, ignore_errors=True)
    _aside(shell).rename(shell.remote)


def _existing_file(shell: Shell) -> None:
    (shell.home / "there").write_bytes(b"mine")


CASES = {
    "wrong passphrase": Bad(5, ("status",), passphrase="wrong"),
    "wrong passphrase to put": Bad(5, ("put", "n/a", "-"), passphrase="wrong"),
    "recovery code of another vault": Bad(
        5, ("status",), passphrase="0000-0000-0000-0000-0000-0000-0000-0000-D3K7"
    ),
    "second init": Bad(1, ("init",)),
    "join of a joined home": Bad(1, ("join", "--remote", "file:///nowhere")),
    "init onto a remote that is in use": Bad(1, ("init", "--vault", "b", "--remote", "{remote}")),
    "join without a remote": Bad(2, ("join", "--vault", "b")),
    "join, remote folder missing": Bad(4, ("join", "--vault", "b", "--remote", "file:///nowhere/at/all")),
    "join, not a vault": Bad(2, ("join", "--vault", "b", "--remote", "{home}")),
    "join, wrong passphrase": Bad(5, ("join", "--vault", "b", "--remote", "{remote}"), passphrase="wrong"),
    "remote of no known kind": Bad(2, ("init", "--vault", "b", "--remote", "gopher://x")),
    "sync, remote folder missing": Bad(4, ("sync",), prepare=_remove_remote, repair=_restore_remote),
    "send, remote folder missing": Bad(4, ("send", "n"), prepare=_remove_remote, repair=_restore_remote),
    "sync, remote emptied": Bad(6, ("sync",), prepare=_empty_remote, repair=_restore_remote),
    "sync, another vault's remote": Bad(6, ("sync",), prepare=_other_remote, repair=_restore_remote),
    "no vault of this name": Bad(2, ("status", "--vault", "none")),
    "vault name that is a path": Bad(2, ("status", "--vault", "../default")),
    "vault name, empty": Bad(2, ("status", "--vault", "")),
    "no such command": Bad(2, ("frobnicate",)),
    "no such option": Bad(2, ("status", "--frobnicate")),
    "an argument too many": Bad(2, ("sync", "now")),
    "put without FILE": Bad(2, ("put", "n/a")),
    "put without anything": Bad(2, ("put",)),
    "put of a missing file": Bad(1, ("put", "n/a", "{home}/missing")),
    "put of a folder": Bad(2, ("put", "n/a", "{home}")),
    "put of a device": Bad(1, ("put", "n/a", "/dev/null")),
    "put with other bytes": Bad(1, ("put", "n/kept", "-"), stdin=b"other"),
    "put with other metadata": Bad(1, ("put", "n/kept", "-", "--meta", "a=b"), stdin=KEPT["kept"]),
    "put with metadata of no form": Bad(2, ("put", "n/a", "-", "--meta", "title")),
    "put without an id": Bad(2, ("put", "n/", "-")),
    "put without a slash": Bad(2, ("put", "n", "-")),
    "put with stdin closed": Bad(2, ("put", "n/a", "-"), stdin=None),
    "namespace in capitals": Bad(2, ("put", "Notes/a", "-")),
    "namespace that is a path": Bad(2, ("put", "../a", "-")),
    "namespace that is internal": Bad(2, ("put", ".settings/a", "-")),
    "id of 1,025 bytes": Bad(2, ("put", "n/" + "x" * 1025, "-")),
    "id of 1,025 bytes in fewer characters": Bad(2, ("put", "n/" + "é" * 512 + "x", "-")),
    "id with a lone surrogate": Bad(2, ("put", "n/\udcff", "-")),
    "tree without a slash": Bad(2, ("put", "n", "{home}", "-r")),
    "tree of a missing folder": Bad(2, ("put", "n/", "{home}/missing", "-r")),
    "tree of a file": Bad(2, ("put", "n/", "{profile}/cache.db", "-r")),
    "get of an unknown blob": Bad(1, ("get", "n/unknown")),
    "get of an unknown namespace": Bad(1, ("get", "unknown/a")),
    "get onto an existing file": Bad(1, ("get", "n/kept", "-o", "{home}/there"), prepare=_existing_file),
    "get onto a folder": Bad(1, ("get", "n/kept", "-o", "{home}", "--force")),
    "get onto a device": Bad(1, ("get", "n/kept", "-o", "/dev/null", "--force")),
    "get into a missing folder": Bad(1, ("get", "n/kept", "-o", "{home}/none/file")),
    "get --json to stdout": Bad(2, ("get", "n/kept", "--json")),
    "rm of an unknown blob": Bad(1, ("rm", "n/unknown")),
    "rm of nothing": Bad(2, ("rm",)),
    "ls of a bad namespace": Bad(2, ("ls", "N")),
    "ls of a status that is none": Bad(2, ("ls", "n", "--status", "lost")),
    "ls -0 --json": Bad(2, ("ls", "n", "-0", "--json")),
    "send of a bad namespace": Bad(2, ("send", "N")),
    "passphrase file missing": Bad(2, ("status", "--passphrase-file", "{home}/none"), passphrase=""),
    "passphrase command missing": Bad(
        2, ("status", "--passphrase-command", "no-such-command"), passphrase=""
    ),
    "passphrase command fails": Bad(5, ("status", "--passphrase-command", "false"), passphrase=""),
    "passphrase command unparsable": Bad(2, ("status", "--passphrase-command", "'"), passphrase=""),
    "demo of a missing folder": Bad(2, ("demo", "--from", "{home}/none")),
}


def _filled(arguments: tuple[str, ...], shell: Shell) -> list[str]:
    words = {"{home}": str(shell.home), "{profile}": str(shell.profile), "{remote}": shell.remote.as_uri()}
    filled = []
    for argument in arguments:
        for word, value in words.items():
            argument = argument.replace(word, value)
        filled.append(argument)
    return filled


async def _make(shell: Shell) -> None:
    await syncagent.create_vault(
        shell.profile, remote=shell.remote.as_uri(), passphrase=PASSPHRASE, kdf=syncagent.FLOOR_KDF
    )
    async with syncagent.open_vault(shell.profile, passphrase=PASSPHRASE) as vault:
        await vault.namespace("n").put("synced", KEPT["synced"])
        await vault.sync()
        await vault.namespace("n").put("kept", KEPT["kept"])


async def _check_nothing_lost(shell: Shell) -> None:
    async with syncagent.open_vault(shell.profile, passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("n")
        states = {blob.id: blob.status for blob in (await notes.list()).blobs}
        assert states == {"synced": SyncStatus.SYNCED, "kept": SyncStatus.PENDING_UPLOAD}
        for blob_id, content in KEPT.items():
            assert (await notes.get(blob_id)).data == content


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all cases: what one of them broke, the next would see."""
    folder = tmp_path_factory.mktemp("bad-input") / "home"
    shell = Shell(folder)
    shell.profile.parent.mkdir(parents=True)
    anyio.run(_make, shell)
    return folder


@pytest.fixture
def shared(home: Path) -> Shell:
    return Shell(home)


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, shared: Shell) -> None:
    case, shell = CASES[name], shared
    case.prepare(shell)
    before = {path for path in shell.home.rglob("*") if "default" not in path.parts}
    environment = {} if case.passphrase is None else {"SYNCAGENT_PASSPHRASE": case.passphrase}

    done = shell(*_filled(case.arguments, shell), stdin=case.stdin, environment=environment)

    done.failed(case.code)
    if "--json" in case.arguments:
        assert done.document["error"]["message"]
    else:
        assert done.stdout == b""
    assert {path for path in shell.home.rglob("*") if "default" not in path.parts} == before
    case.repair(shell)
    anyio.run(_check_nothing_lost, shell)


@pytest.mark.parametrize(
    "name", ["wrong passphrase", "put without FILE", "rm of nothing", "init onto a remote that is in use"]
)
def test_errors_as_json(name: str, shared: Shell) -> None:
    case, shell = CASES[name], shared
    environment = {} if case.passphrase is None else {"SYNCAGENT_PASSPHRASE": case.passphrase}
    done = shell("--json", *_filled(case.arguments, shell), environment=environment)
    done.failed(case.code)
    assert set(done.document["error"]) == {"kind", "message", "safe", "todo"}


def test_without_a_vault_nobody_is_asked_for_a_passphrase(bare: Shell) -> None:
    for command in ("status", "ls", "sync", "send", "fetch"):
        line = bare(command, environment={"SYNCAGENT_PASSPHRASE": ""}).failed(2)
        assert "syncagent init" in line
    assert not bare.home.exists()


def test_no_terminal_and_no_passphrase(shell: Shell) -> None:
    done = shell.run_process("status", environment={"SYNCAGENT_PASSPHRASE": ""})
    assert "SYNCAGENT_PASSPHRASE" in done.failed(5)


def test_no_home(bare: Shell) -> None:
    done = bare.run_process("status", without=("SYNCAGENT_HOME", "HOME", "XDG_DATA_HOME"))
    assert "HOME" in done.failed(2)


def test_a_home_that_cannot_be_made(bare: Shell) -> None:
    bare.home.write_bytes(b"a file")
    bare("init").failed(2)
    assert bare.home.read_bytes() == b"a file"


def test_stdin_closed(shell: Shell) -> None:
    process = shell.process("put", "n/a", "-", stderr=-1, preexec_fn=lambda: os.close(0))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.count(b"\n") == 1


def test_a_reader_that_leaves_is_no_error(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    for number in range(300):
        (tmp_path / "tree" / ("x" * 200 + str(number))).touch()
    shell("put", "n/", str(tmp_path / "tree"), "-r").ok()
    shell("put", "n/big", "-", stdin=os.urandom(2_000_000)).ok()
    for command in (["ls", "n"], ["ls", "n", "--json"], ["get", "n/big"], ["status"]):
        read_end, write_end = os.pipe()
        os.close(read_end)
        process = shell.process(*command, stdout=write_end, stderr=-1)
        os.close(write_end)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b""), command


def test_stdout_closed_or_full(shell: Shell) -> None:
    process = shell.process("ls", stderr=-1, preexec_fn=lambda: os.close(1))
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    with Path("/dev/full").open("wb") as full:
        process = shell.process("status", stdout=full, stderr=-1)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count(b"\n") == 1


def test_a_bug_is_told_in_one_line_without_its_text(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the plaintext of a blob")

    monkeypatch.setattr("syncagent.cache.queries.status", broken)
    line = shell("status").failed(1)
    assert "a bug: RuntimeError at" in line
    assert "plaintext" not in line
    told = shell("status", "-v")
    assert "in broken" in told.err
    assert "the plaintext of a blob" not in told.err.replace('RuntimeError("the plaintext of a blob")', "")

"""Whatever is wrong with what is asked for: the right exit code, one line on stderr, nothing lost.

What is wrong with the places where things lie is in `test_bad_places.py`.
"""

import os
import re
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
    says: str
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


OPENS = r"the passphrase does not open this vault, or its key slot was altered; nothing was changed; .+"
GONE = r"the remote's folder .+ is not there; everything put on this device is kept and stays pending; .+"
NAMESPACE = r"is not a namespace name; nothing was changed; use 1 to 64 of a-z .+"

CASES = {
    "wrong passphrase": Bad(5, OPENS, ("status",), passphrase="wrong"),
    "wrong passphrase to put": Bad(5, OPENS, ("put", "n/a", "-"), passphrase="wrong"),
    "recovery code of another vault": Bad(
        5, OPENS, ("status",), passphrase="0000-0000-0000-0000-0000-0000-0000-0000-D3K7"
    ),
    "second init": Bad(
        1,
        r"there is a vault at '.+' already; the existing vault is untouched; .+; `syncagent key recovery` .+",
        ("init",),
    ),
    "join of a joined home": Bad(
        1,
        r"there is a vault at '.+' already; the existing vault is untouched; use --vault NAME .+",
        ("join", "--remote", "file:///nowhere"),
    ),
    "init onto a remote that is in use": Bad(
        1,
        r"the remote already holds a vault; the existing vault is untouched; run `syncagent join` .+",
        ("init", "--vault", "b", "--remote", "{remote}"),
    ),
    "join without a remote": Bad(
        2, r"missing option '--remote'; see `syncagent join --help`", ("join", "--vault", "b")
    ),
    "join, remote folder missing": Bad(
        4,
        r"the remote's folder .+ is not there; nothing was changed; mount or restore the folder",
        ("join", "--vault", "b", "--remote", "file:///nowhere/at/all"),
    ),
    "join, not a vault": Bad(
        2,
        r"there is no vault at the remote; nothing was changed; check the remote's address",
        ("join", "--vault", "b", "--remote", "{nothing}"),
    ),
    "join, wrong passphrase": Bad(
        5, OPENS, ("join", "--vault", "b", "--remote", "{remote}"), passphrase="wrong"
    ),
    "remote of no known kind": Bad(
        2,
        r"the remote's address is not a URL that this version knows; nothing was changed; use a folder, .+",
        ("init", "--vault", "b", "--remote", "gopher://x"),
    ),
    "sync, remote folder missing": Bad(4, GONE, ("sync",), prepare=_remove_remote, repair=_restore_remote),
    "send, remote folder missing": Bad(
        4, GONE, ("send", "n"), prepare=_remove_remote, repair=_restore_remote
    ),
    "sync, remote emptied": Bad(
        6,
        r"the remote no longer has this vault; everything this device holds is kept; check whether .+",
        ("sync",),
        prepare=_empty_remote,
        repair=_restore_remote,
    ),
    "sync, another vault's remote": Bad(
        6,
        r"the remote holds vault .+, this device belongs to .+; nothing was sent or applied; .+",
        ("sync",),
        prepare=_other_remote,
        repair=_restore_remote,
    ),
    "no vault of this name": Bad(
        2,
        r"there is no vault none at '.+'; nothing was changed; run `syncagent init` .+",
        ("status", "--vault", "none"),
    ),
    "vault name that is a path": Bad(
        2, r"'\.\./default' is not a vault name; nothing was changed; .+", ("status", "--vault", "../default")
    ),
    "vault name, empty": Bad(
        2, r"'' is not a vault name; nothing was changed; .+", ("status", "--vault", "")
    ),
    "no such command": Bad(2, r"no such command 'frobnicate'; see `syncagent --help`", ("frobnicate",)),
    "no such option": Bad(
        2, r"no such option '?--frobnicate'?; see `syncagent status --help`", ("status", "--frobnicate")
    ),
    "an argument too many": Bad(
        2, r"got unexpected extra argument \(now\); see `syncagent sync --help`", ("sync", "now")
    ),
    "put without FILE": Bad(
        2, r"missing argument FILE; write - for standard input; see `syncagent put --help`", ("put", "n/a")
    ),
    "put without anything": Bad(2, r"missing argument 'NS/ID'; see `syncagent put --help`", ("put",)),
    "put of a missing file": Bad(
        1,
        r"'.+/missing' cannot be read: No such file or directory; nothing was stored .+",
        ("put", "n/a", "{home}/missing"),
    ),
    "put of a folder": Bad(
        2, r"'.+' is a folder: add --recursive; see `syncagent put --help`", ("put", "n/a", "{home}")
    ),
    "put of a device": Bad(
        1,
        r"'/dev/null' is not a regular file; nothing was stored and the file is untouched; .+",
        ("put", "n/a", "/dev/null"),
    ),
    "put with other bytes": Bad(
        1,
        r"n/'kept' holds other content; the stored blob is untouched; use --replace .+",
        ("put", "n/kept", "-"),
        stdin=b"other",
    ),
    "put with other metadata": Bad(
        1,
        r"n/'kept' holds other content; the stored blob is untouched; use --replace .+",
        ("put", "n/kept", "-", "--meta", "a=b"),
        stdin=KEPT["kept"],
    ),
    "put with metadata of no form": Bad(
        2,
        r"--meta 'title' is not KEY=VALUE; see `syncagent put --help`",
        ("put", "n/a", "-", "--meta", "title"),
    ),
    "put with more metadata than a blob may have": Bad(
        1,
        r"metadata has \d+ bytes, 16384 are allowed; .+; nothing was changed",
        ("put", "n/a", "-", "--meta", "a=" + "b" * 17_000),
    ),
    "put without an id": Bad(2, r"'' is not a blob id: it is empty; nothing was changed", ("put", "n/", "-")),
    "put without a slash": Bad(
        2, r"'n' names no blob: write NAMESPACE/ID, as in notes/hello; .+", ("put", "n", "-")
    ),
    "put with stdin closed": Bad(
        2,
        r"standard input is closed; nothing was changed; pipe the content in, or name a file",
        ("put", "n/a", "-"),
        stdin=None,
    ),
    "namespace in capitals": Bad(2, r"'Notes' " + NAMESPACE, ("put", "Notes/a", "-")),
    "namespace that is a path": Bad(2, r"'\.\.' " + NAMESPACE, ("put", "../a", "-")),
    "namespace that is internal": Bad(2, r"'\.settings' " + NAMESPACE, ("put", ".settings/a", "-")),
    "id of 1,025 bytes": Bad(
        2,
        r"'x+' is not a blob id: it has 1025 bytes, 1024 are allowed; nothing was changed",
        ("put", "n/" + "x" * 1025, "-"),
    ),
    "id of 1,025 bytes in fewer characters": Bad(
        2,
        r"'é+' is not a blob id: it has 1025 bytes, 1024 are allowed; nothing was changed",
        ("put", "n/" + "é" * 512 + "x", "-"),
    ),
    "id with a lone surrogate": Bad(
        2,
        r"'\\udcff' is not a blob id: it cannot be written as UTF-8; nothing was changed",
        ("put", "n/\udcff", "-"),
    ),
    "tree without a slash": Bad(
        2, r"with --recursive the target ends in a slash, as in notes/; .+", ("put", "n", "{home}", "-r")
    ),
    "tree of a missing folder": Bad(
        2, r"'.+/missing' is not a folder; see `syncagent put --help`", ("put", "n/", "{home}/missing", "-r")
    ),
    "tree of a file": Bad(
        2,
        r"'.+/cache\.db' is not a folder; see `syncagent put --help`",
        ("put", "n/", "{profile}/cache.db", "-r"),
    ),
    "get of an unknown blob": Bad(
        1,
        r"n/'unknown' is not on this device; nothing was changed; `syncagent sync` fetches .+",
        ("get", "n/unknown"),
    ),
    "get of an unknown namespace": Bad(
        1,
        r"unknown/'a' is not on this device; nothing was changed; `syncagent sync` fetches .+",
        ("get", "unknown/a"),
    ),
    "get onto an existing file": Bad(
        1,
        r"'.+/there' is there already; it was not touched; use --force to replace it",
        ("get", "n/kept", "-o", "{home}/there"),
        prepare=_existing_file,
    ),
    "get onto a folder": Bad(
        1,
        r"'.+' is not a regular file; the vault is untouched; pipe the output of -o - instead",
        ("get", "n/kept", "-o", "{home}", "--force"),
    ),
    "get onto a device": Bad(
        1,
        r"'/dev/null' is not a regular file; the vault is untouched; pipe the output of -o - instead",
        ("get", "n/kept", "-o", "/dev/null", "--force"),
    ),
    "get into a missing folder": Bad(
        1,
        r"'.+/none/file' cannot be written: No such file or directory; the vault is untouched",
        ("get", "n/kept", "-o", "{home}/none/file"),
    ),
    "get --json to stdout": Bad(
        2,
        r"--json needs -o FILE: standard output cannot hold both; see `syncagent get --help`",
        ("get", "n/kept", "--json"),
    ),
    "rm of an unknown blob": Bad(
        1,
        r"n/'unknown' is not on this device; nothing was changed; `syncagent sync` fetches .+",
        ("rm", "n/unknown"),
    ),
    "rm of nothing": Bad(2, r"missing argument 'NS/ID\.\.\.'; see `syncagent rm --help`", ("rm",)),
    "ls of a bad namespace": Bad(2, r"'N' " + NAMESPACE, ("ls", "N")),
    "ls of a status that is none": Bad(
        2, r"invalid value for '--status': 'lost' is not one of 'synced', .+", ("ls", "n", "--status", "lost")
    ),
    "ls -0 --json": Bad(
        2, r"-0 goes with neither --count nor --json; see `syncagent ls --help`", ("ls", "n", "-0", "--json")
    ),
    "send of a bad namespace": Bad(2, r"'N' " + NAMESPACE, ("send", "N")),
    "passphrase file missing": Bad(
        2,
        r"the passphrase file '.+/none' cannot be read: No such file or directory; nothing was changed",
        ("status", "--passphrase-file", "{home}/none"),
        passphrase="",
    ),
    "passphrase command missing": Bad(
        2,
        r"the passphrase command 'no-such-command' cannot be run: .+; nothing was changed",
        ("status", "--passphrase-command", "no-such-command"),
        passphrase="",
    ),
    "passphrase command fails": Bad(
        5,
        r"the passphrase command 'false' failed with exit code 1; nothing was changed; run it by hand .+",
        ("status", "--passphrase-command", "false"),
        passphrase="",
    ),
    "passphrase command unparsable": Bad(
        2,
        r"the passphrase command cannot be read: No closing quotation; nothing was changed",
        ("status", "--passphrase-command", "'"),
        passphrase="",
    ),
    "demo of a missing folder": Bad(
        2, r"'.+/none' is not a folder; see `syncagent demo --help`", ("demo", "--from", "{home}/none")
    ),
}


def _filled(arguments: tuple[str, ...], shell: Shell) -> list[str]:
    words = {"{home}": str(shell.home), "{profile}": str(shell.profile), "{remote}": shell.remote.as_uri()}
    words["{nothing}"] = shell.home.as_uri()
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

    line = done.failed(case.code).removeprefix("syncagent: ")
    assert re.fullmatch(case.says, line), line
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

"""Odd blob ids go in and come out exactly, and never become a path or a terminal's command."""

from pathlib import Path

import pytest

from tests.cli.shell import Shell

ODD = {
    "newline": "a\nb",
    "emoji": "🚀 start",
    "leading dash": "-rf",
    "option": "--force",
    "path-like": "../x",
    "absolute": "/etc/passwd",
    "spaces": " a  b ",
    "escape": "\x1b]0;title\x07",
    "bidi": "gpj.\u202eexe",
    "backslash": "a\\nb",
    "slashes": "a//b/./c/",
    "1,024 bytes": "x" * 1024,
    "1,024 bytes in fewer characters": "é" * 512,
}


@pytest.mark.parametrize("blob_id", ODD.values(), ids=ODD)
def test_odd_ids(blob_id: str, shell: Shell, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if "default" not in path.parts}
    shell("put", f"n/{blob_id}", "-", stdin=b"content").ok()
    shown = shell("ls", "n").ok().out
    assert shown.count("\n") == 1
    assert shell("ls", "n", "-0").ok().stdout == blob_id.encode() + b"\0"
    assert shell("ls", "n", "--json").ok().document["blobs"][0]["id"] == blob_id
    assert shell("get", f"n/{blob_id}").ok().stdout == b"content"
    assert shell("rm", f"n/{blob_id}").ok().out.count("\n") == 1
    assert {path for path in tmp_path.rglob("*") if "default" not in path.parts} == before


def test_nothing_that_a_terminal_obeys_is_shown(shell: Shell) -> None:
    for blob_id in ODD.values():
        shell("put", f"n/{blob_id}", "-", stdin=b"").ok()
    for shown in (shell("ls", "n").out, shell("ls", "n", "--json").out):
        assert all(line.isprintable() for line in shown.splitlines())
    assert "🚀" in shell("ls", "n").out
    assert len(shell("ls", "n").out.splitlines()) == len(ODD)


def test_an_id_in_another_normal_form_is_the_same_id(shell: Shell) -> None:
    shell("put", "n/cafe\u0301", "-", stdin=b"x").ok()
    assert shell("get", "n/café").ok().stdout == b"x"
    assert shell("get", "n/cafe\u0301").ok().stdout == b"x"
    assert shell("ls", "n/cafe\u0301", "--count").ok().out == "1\n"


def test_an_empty_blob(shell: Shell) -> None:
    shell("put", "n/empty", "-", stdin=b"").ok()
    assert shell("get", "n/empty").ok().stdout == b""


PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_a_locale_that_is_not_utf_8(shell: Shell) -> None:
    shell.run_process("put", "n/é🚀", "-", stdin=b"x", environment=PLAIN).ok()
    assert shell("get", "n/é🚀").ok().stdout == b"x"
    listed = shell.run_process("ls", "n", environment=PLAIN).ok()
    assert listed.out.split()[-1] == "\\xe9\\U0001f680"
    document = shell.run_process("ls", "n", "--json", environment=PLAIN).ok().document
    assert document["blobs"][0]["id"] == "é🚀"
    missing = shell.run_process("rm", "n/日本", environment=PLAIN)
    missing.failed(1)
    wrong = shell.run_process("ls", environment={**PLAIN, "SYNCAGENT_PASSPHRASE": "fälsch"})
    wrong.failed(5)

"""The table of what older systems offer: tests show each row that works, and what it names is there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import syncagent
from syncagent.cli.main import cli
from syncagent.namespace import Namespace
from syncagent.vault import Vault

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "comparison.md"
ROWS = [
    f"{part}{number}"
    for part, count in (("A", 16), ("B", 6), ("C", 9), ("D", 9), ("E", 7))
    for number in range(1, count + 1)
]
NAMED = re.compile(r"\(rows? ([A-E]\d+(?:, [A-E]\d+)*)\)")
ANY_NUMBER = re.compile(r"\b[A-E]\d{1,2}\b")


def cells() -> dict[str, list[str]]:
    """The cells of each row by its number."""
    found = re.findall(r"^\| ([A-E]\d+) \| (.+) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [number for number, _ in found] == ROWS
    return {number: rest.split(" | ") for number, rest in found}


def docstrings() -> Iterator[tuple[str, str]]:
    """(where, text) of each docstring in the tests."""
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = getattr(node, "name", "")
                yield f"{path.relative_to(TESTS)}::{name}", ast.get_docstring(node) or ""


def is_there(row: list[str]) -> bool:
    return not row[1].startswith("Not yet.")


def test_every_row_says_whether_it_works_and_how() -> None:
    for number, row in cells().items():
        assert len(row) == 3, number
        assert re.match(r"(Yes|In part|Not yet)\.( |$)", row[1]), number
        assert row[2] != "—" or not is_there(row), number


def test_every_row_that_works_is_shown_by_a_test_and_no_test_names_another() -> None:
    shown: set[str] = set()
    stray: list[str] = []
    for where, text in docstrings():
        named = {number for match in NAMED.findall(text) for number in match.split(", ")}
        shown |= named
        if named and "::test_" not in where:
            stray.append(f"{where}: a row is named by the test that shows it")
        if set(ANY_NUMBER.findall(text)) - named:
            stray.append(f"{where}: write (row A5) or (rows A5, C6)")
    assert stray == []
    assert sorted(shown) == sorted(number for number, row in cells().items() if is_there(row))


@pytest.mark.parametrize("number", ROWS)
def test_what_a_row_names_is_there(number: str) -> None:
    *_, how = cells()[number]
    for span in re.findall(r"`([^`]+)`", how):
        if span.startswith("syncagent "):
            _check_command(span)
        elif match := re.match(r"(notes|vault)\.(\w+)", span):
            owner = Namespace if match[1] == "notes" else Vault
            assert match[2] in dir(owner), span
        elif match := re.match(r"\w+(?=\()", span):
            assert match[0] in syncagent.__all__, span


def _check_command(span: str) -> None:
    """The command is there, and so are its options."""
    command: click.Command = cli
    words = span.split()[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, span
        command = found
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= known, span

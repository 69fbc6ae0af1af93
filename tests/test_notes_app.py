"""docs/examples/notes_app.py, driven by its keys in a terminal that is not there."""

import importlib.util
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import syncagent

pytest.importorskip("textual")
from textual.pilot import Pilot
from textual.widgets import Label, ListView, TextArea

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "notes_app.py"
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # Textual's own


def load() -> Any:
    spec = importlib.util.spec_from_file_location("notes_app", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notes_app"] = module
    spec.loader.exec_module(module)
    return module


notes_app = load()


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Pilot[None]]:
    app = notes_app.NotesApp(lambda: syncagent.open_vault(home, passphrase="x"))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app._vault is not None)
        yield pilot


async def until(pilot: Pilot[None], is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not is_so():
            await pilot.pause(0.01)


def text(pilot: Pilot[None], name: str = "#text") -> TextArea:
    return pilot.app.query_one(name, TextArea)


def titles(pilot: Pilot[None]) -> list[str]:
    view = pilot.app.query_one("#list", ListView)
    return [str(item.query_one(Label).content)[2:] for item in view.children]


@pytest.fixture
async def homes(tmp_path: Path) -> list[Path]:
    remote = f"file://{tmp_path}/remote"
    await syncagent.create_vault(tmp_path / "a", remote=remote, passphrase="x", kdf=syncagent.FLOOR_KDF)
    await syncagent.join_vault(tmp_path / "b", remote=remote, passphrase="x")
    return [tmp_path / "a", tmp_path / "b"]


async def test_a_note_is_written_listed_edited_and_deleted(homes: list[Path]) -> None:
    async with running(homes[0]) as pilot:
        await pilot.press("ctrl+n", *"milk", "ctrl+s")
        await until(pilot, lambda: titles(pilot) == ["milk"])
        await pilot.press(*"shake", "ctrl+s")
        await until(pilot, lambda: titles(pilot) == ["milkshake"])
        await pilot.press("f8")
        await until(pilot, lambda: titles(pilot) == [])
    async with running(homes[0]) as pilot:
        assert titles(pilot) == []


async def test_offline_everything_is_kept(homes: list[Path]) -> None:
    shutil.move(homes[0].parent / "remote", homes[0].parent / "unplugged")
    async with running(homes[0]) as pilot:
        await pilot.press("ctrl+n", *"train", "ctrl+s")
        await until(pilot, lambda: titles(pilot) == ["train"])
        await pilot.press("ctrl+r")
        state = pilot.app.query_one("#state", Label)
        await until(pilot, lambda: "all is kept" in str(state.content))
    shutil.move(homes[0].parent / "unplugged", homes[0].parent / "remote")
    async with syncagent.open_vault(homes[0], passphrase="x") as vault:
        assert (await vault.sync()).sent == 1


async def test_a_conflict_is_shown_side_by_side_and_ended_by_saving(homes: list[Path]) -> None:
    for home, content in zip(homes, (b"bread", b"butter"), strict=True):
        async with syncagent.open_vault(home, passphrase="x") as vault:
            await vault.namespace("notes").put("list", content)
            await vault.sync()
    async with running(homes[0]) as pilot:
        await pilot.press("ctrl+r")
        view = pilot.app.query_one("#list", ListView)
        await until(pilot, lambda: bool(view.children) and view.children[0].blob.conflict)  # type: ignore[attr-defined]
        assert not text(pilot, "#theirs").display
        view.focus()
        view.index = 0
        await pilot.press("enter")
        await until(pilot, lambda: text(pilot, "#theirs").display)
        assert {text(pilot).text, text(pilot, "#theirs").text} == {"bread", "butter"}
        text(pilot).text = "bread and butter"
        await pilot.press("ctrl+s", "ctrl+r")
        await until(pilot, lambda: titles(pilot) == ["bread and butter"])
        assert not text(pilot, "#theirs").display
    async with syncagent.open_vault(homes[1], passphrase="x") as vault:
        await vault.sync()
        notes = vault.namespace("notes")
        assert (await notes.get("list")).data == b"bread and butter"
        assert await notes.conflicts() == []

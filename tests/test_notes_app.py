"""docs/examples/notes_app.py, driven by its keys in a terminal that is not there."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

import syncagent

pytest.importorskip("textual")
from textual.pilot import Pilot
from textual.widgets import Label, OptionList, TextArea

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
async def running(home: Path, width: int = 100) -> AsyncIterator[Pilot[None]]:
    app = notes_app.NotesApp(lambda: syncagent.open_vault(home, passphrase="x"))
    async with app.run_test(size=(width, 30)) as pilot:
        await until(pilot, lambda: app._vault is not None)
        yield pilot


async def until(pilot: Pilot[None], is_so: Callable[[], bool]) -> None:
    with anyio.fail_after(90):  # of a machine with much else to do
        while not is_so():
            await pilot.pause(0.01)


def text(pilot: Pilot[None], name: str = "#text") -> TextArea:
    return pilot.app.query_one(name, TextArea)


def titles(pilot: Pilot[None]) -> list[str]:
    view = pilot.app.query_one("#list", OptionList)
    return [str(option.prompt)[2:] for option in view.options]


def state(pilot: Pilot[None]) -> str:
    return str(pilot.app.query_one("#state", Label).content)


async def put(home: Path, data: bytes, note: str = "list") -> None:
    async with syncagent.open_vault(home, passphrase="x") as vault:
        await vault.namespace("notes").put(note, data, replace=True)
        await vault.sync()


async def stored(home: Path) -> list[bytes]:
    async with syncagent.open_vault(home, passphrase="x") as vault:
        notes = vault.namespace("notes")
        page = await notes.list(order_by="created")
        return [got.data for got in await notes.get_many([blob.id for blob in page.blobs])]


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
        await pilot.press("f8", "s", "f8")
        assert "once more" in state(pilot), "who writes in between does not mean it"
        await pilot.press("f8")
        await until(pilot, lambda: titles(pilot) == [])
    async with running(homes[0]) as pilot:
        await until(pilot, lambda: "(0)" in str(pilot.app.query_one("#list").border_title))
        assert titles(pilot) == []


async def test_what_is_written_is_saved_when_it_is_left(homes: list[Path]) -> None:
    async with running(homes[0]) as pilot:
        await pilot.press("ctrl+n", *"one", "ctrl+n", "ctrl+n", *"two", "escape", "down")
        await until(pilot, lambda: text(pilot).text == "one" and len(titles(pilot)) == 2)
        await pilot.press("enter", *" more", "ctrl+q")
    assert await stored(homes[0]) == [b"one more", b"two"], "and an empty one is none"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
async def test_what_is_written_is_saved_when_it_is_told_to_end(homes: list[Path]) -> None:
    async with running(homes[0]) as pilot:
        await pilot.press("ctrl+n", *"one")
        os.kill(os.getpid(), signal.SIGTERM)
        await until(pilot, lambda: not pilot.app.is_running)
    assert await stored(homes[0]) == [b"one"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX terminals")
async def test_what_is_written_is_saved_when_the_terminal_is_closed(homes: list[Path]) -> None:
    environment = {**os.environ, "SYNCAGENT_PASSPHRASE": "x", "TERM": "xterm-256color"}
    terminal, inside = pytest.importorskip("pty").openpty()
    process = subprocess.Popen(
        [sys.executable, EXAMPLE, homes[0]],
        env=environment,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    said = b""
    try:
        with anyio.fail_after(30):
            while b"%" not in said:  # what is typed before it is open goes nowhere
                os.write(terminal, b"\x0e%" if b"in step with" in said else b"\x0c")
                with anyio.move_on_after(0.5):
                    while b"%" not in said:
                        await anyio.wait_readable(terminal)
                        said += os.read(terminal, 65536)
            os.close(terminal)
            process.send_signal(signal.SIGHUP)
            await anyio.to_thread.run_sync(process.wait, 20)
    finally:
        process.kill()
        process.wait()
    assert {*b"".join(await stored(homes[0]))} == {*b"%"}


async def test_offline_everything_is_kept(homes: list[Path]) -> None:
    shutil.move(homes[0].parent / "remote", homes[0].parent / "unplugged")
    async with running(homes[0]) as pilot:
        await pilot.press("ctrl+n", *"train", "ctrl+s")
        await until(pilot, lambda: titles(pilot) == ["train"])
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "everything is kept" in state(pilot))
    shutil.move(homes[0].parent / "unplugged", homes[0].parent / "remote")
    async with syncagent.open_vault(homes[0], passphrase="x") as vault:
        assert (await vault.sync()).sent == 1


@asynccontextmanager
async def in_conflict(homes: list[Path], width: int = 120) -> AsyncIterator[Pilot[None]]:
    """The first device, which shows a note that both have written."""
    for home, content in zip(homes, (b"bread", b"butter"), strict=True):
        await put(home, content)
    async with running(homes[0], width) as pilot:
        await until(pilot, lambda: titles(pilot) == ["bread"])
        assert not text(pilot, "#theirs").display
        await pilot.press("ctrl+r")
        await until(pilot, lambda: text(pilot, "#theirs").display)
        assert {text(pilot).text, text(pilot, "#theirs").text} == {"bread", "butter"}
        yield pilot


async def test_a_conflict_is_shown_side_by_side_and_ended_by_saving(homes: list[Path]) -> None:
    async with in_conflict(homes) as pilot:
        text(pilot).text = "bread and butter"
        await pilot.press("ctrl+s", "ctrl+r")
        await until(pilot, lambda: titles(pilot) == ["bread and butter"])
        assert not text(pilot, "#theirs").display
    async with syncagent.open_vault(homes[1], passphrase="x") as vault:
        await vault.sync()
        notes = vault.namespace("notes")
        assert (await notes.get("list")).data == b"bread and butter"
        assert await notes.conflicts() == []


async def test_the_other_version_may_stand_and_eighty_columns_are_enough(homes: list[Path]) -> None:
    async with in_conflict(homes, 80) as pilot:
        other = text(pilot, "#theirs").text
        assert not pilot.app.query_one("#list").display
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.query_one("#list").display)
        await pilot.press("enter", "ctrl+t", "ctrl+s")
        await until(pilot, lambda: titles(pilot) == [other])
    assert await stored(homes[0]) == [other.encode()]


async def test_who_leaves_a_conflict_half_written_decides_nothing_and_loses_nothing(
    homes: list[Path],
) -> None:
    async with in_conflict(homes) as pilot:
        text(pilot).text = "half"
        await pilot.press("ctrl+n", "ctrl+q")
    async with syncagent.open_vault(homes[0], passphrase="x") as vault:
        assert len(await vault.namespace("notes").conflicts()) == 1
    assert b"half" in await stored(homes[0])


async def test_what_another_device_has_put_meanwhile_is_not_replaced_unseen(homes: list[Path]) -> None:
    await put(homes[0], b"bread")
    async with syncagent.open_vault(homes[1], passphrase="x") as vault:
        await vault.sync()
    async with running(homes[0]) as pilot:
        await until(pilot, lambda: text(pilot).text == "bread")
        await pilot.press("enter", *" and jam")
        await put(homes[1], b"bread and butter")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "you will see both" in state(pilot))
        assert text(pilot).text == "bread and jam"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: text(pilot, "#theirs").text == "bread and butter")
        assert text(pilot).text == "bread and jam"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: titles(pilot) == ["bread and jam"])
        assert not text(pilot, "#theirs").display


async def test_a_note_that_another_device_has_deleted_can_be_saved_again(homes: list[Path]) -> None:
    await put(homes[0], b"bread")
    async with running(homes[0]) as pilot:
        await until(pilot, lambda: text(pilot).text == "bread")
        await pilot.press("enter", *" and jam")
        async with syncagent.open_vault(homes[0], passphrase="x") as vault:
            await vault.namespace("notes").delete("list")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "deleted" in state(pilot))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: titles(pilot) == ["bread and jam"])


@pytest.mark.parametrize("data", [b"one\r\ntwo\nthree\r\n", b"\xff\x00no text", b"tab\tand \x1b[2J\x9b"])
async def test_looking_at_a_note_does_not_change_it(homes: list[Path], data: bytes) -> None:
    await put(homes[0], data)
    async with running(homes[0]) as pilot:
        await until(pilot, lambda: len(titles(pilot)) == 1)
        assert not {"\x00", "\x1b", "\x9b"} & set(text(pilot).text + titles(pilot)[0]), "a terminal obeys"
        if b"\n" not in data:
            await pilot.press("enter", *"typing", "ctrl+s")
        await pilot.press("ctrl+n", "ctrl+q")
    assert await stored(homes[0]) == [data]


async def test_a_vault_that_does_not_open_ends_it_with_a_line(homes: list[Path]) -> None:
    app = notes_app.NotesApp(lambda: syncagent.open_vault(homes[0], passphrase="wrong"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.return_code is not None)
    assert app.return_code == 1


async def test_many_notes_are_listed(homes: list[Path]) -> None:
    async with syncagent.open_vault(homes[0], passphrase="x") as vault:
        await vault.namespace("notes").put_many([(f"{number:04}", b"%d" % number) for number in range(1500)])
    async with running(homes[0]) as pilot:
        await until(pilot, lambda: len(titles(pilot)) == 1500)
        assert len(set(titles(pilot))) == 1500

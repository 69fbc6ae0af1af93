"""A small notes application in a terminal: a list, an editor, and both versions when two devices disagree.

    pip install 'syncagent[examples]'
    syncagent init                       # once; on the other devices: syncagent join --remote URL
    SYNCAGENT_PASSPHRASE=… python docs/examples/notes_app.py ~/.local/share/syncagent/vaults/default

Everything works offline: a note is durable when it is saved, and the vault syncs by itself. A note is saved
when it is left and every 20 seconds; one that another device has changed meanwhile is shown beside it, and
nothing is replaced that was not on the screen.

One worker holds the vault open and listens to its events. Those of blobs only say that the list is to be
read anew; reading it is cheap, for what a version is called is kept.
"""

import asyncio
import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult, ScreenStackError
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.widgets import Footer, Label, OptionList, TextArea
from textual.widgets.option_list import Option

import syncagent
from syncagent import BlobNotFound, BlobNotHere, SyncAgentError, SyncStatus, VaultInUse, VersionConflict

OpenVault = Callable[[], syncagent.Vault]

READ_EACH_S = 0.25
SAVE_EACH_S = 20.0
AT_ONCE = 200
PICTURES = {code: 0x2400 + code for code in range(32) if code not in b"\t\n\r"}
PICTURES |= dict.fromkeys(range(0x7F, 0xA0), 0xFFFD)
ELSEWHERE = {SyncStatus.REMOTE_ONLY, SyncStatus.PENDING_DOWNLOAD, SyncStatus.FAILED_DOWNLOAD}
"""Notes whose content is not here: the list must not fetch what the user has not asked for."""


@dataclass(slots=True)
class Shown:
    """The note in the editor. `text` is what is stored of it, `version` is None until anything is.

    With a `conflict`, saving ends it. `others` is the text on the right, if there is one. What is not `plain`
    cannot be shown as it is, and so is not edited.
    """

    id: str
    version: str | None = None
    text: str = ""
    conflict: syncagent.Conflict | None = None
    others: str | None = None
    is_plain: bool = True


class NotesApp(App[None]):
    """The application.

    Args:
        open_vault: gives the vault; entered and left by the application.
    """

    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual declares it
    CSS = """
    #list { width: 34; height: 100%; max-height: 100%; border: round $primary; }
    #list { text-wrap: nowrap; text-overflow: ellipsis; }
    TextArea { width: 1fr; border: round $primary; }
    OptionList:focus, TextArea:focus { border: round $accent; }
    #theirs { display: none; }
    .beside #theirs { display: block; border: round $warning; }
    .beside.-narrow #list { display: none; }
    #state { width: 1fr; height: 1; padding: 0 1; color: $text-muted; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar = [
        ("ctrl+n", "new", "New"),
        ("ctrl+s", "save", "Save"),
        ("ctrl+t", "take", "Take right"),
        ("f8", "delete", "Delete"),
        ("ctrl+r", "sync", "Sync"),
        ("escape", "list", "List"),
        ("ctrl+q", "quit", "Quit"),
    ]

    def __init__(self, open_vault: OpenVault) -> None:
        super().__init__()
        self._open_vault = open_vault
        self._vault: syncagent.Vault | None = None
        self._shown = Shown(uuid.uuid4().hex)
        self._blobs: dict[str, syncagent.BlobInfo] = {}
        self._titles: dict[str, str] = {}
        self._is_stale = False
        self._to_delete = ""

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield OptionList(id="list", markup=False)
            yield TextArea(id="text", placeholder="Nothing here yet. Write, and press Ctrl+S.")
            yield TextArea(id="theirs", read_only=True)
        yield Label("opening …", id="state", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self._list.border_title = "Notes"
        self.set_focus(self._list)
        self.run_worker(self._live())
        self.set_interval(READ_EACH_S, self._read_meanwhile)
        self.set_interval(SAVE_EACH_S, self._save_meanwhile)

    async def _live(self) -> None:
        """Hold the vault open, and hear what happens: entered and left by one task."""
        try:
            async with self._open_vault() as vault:
                self._vault, self._is_stale = vault, True
                self._save_at_end()
                self._say("")
                self.refresh_bindings()
                async for event in vault.events():
                    self._hear(event)
        except SyncAgentError as error:
            self.exit(return_code=1, message=_told(error))

    def _save_at_end(self) -> None:
        """Whoever ends it by a signal, or closes the terminal's window, loses nothing either."""
        if sys.platform == "win32":
            return
        on_signal = asyncio.get_running_loop().add_signal_handler
        on_signal(signal.SIGTERM, lambda: self.run_worker(self.action_quit()))
        on_signal(signal.SIGHUP, lambda: self.run_worker(self._hang_up()))

    async def _hang_up(self) -> None:
        await self._leave()
        os._exit(0)  # there is no terminal to be tidied up, and Textual would wait for it

    def _hear(self, event: syncagent.Event) -> None:
        match event:
            case syncagent.SyncStarted() | syncagent.StateChanged() | syncagent.Progress(total=0):
                pass
            case syncagent.Progress():
                self._say(f"{event.phase} {event.done:,} of {event.total:,}")
            case syncagent.SyncWaiting():
                self._say("another program syncs this vault")
            case syncagent.SyncFinished(error=error) if error is not None:
                self._say(f"not synced, everything is kept: {error}")
            case syncagent.SyncFinished(report=report) if report is not None:
                self._say("in step with the other devices")
            case syncagent.AttentionNeeded(message=message, todo=todo):
                self.notify(f"{message}; {todo}", severity="warning", markup=False)
            case _:  # of a blob, or missed
                self._is_stale = True

    # The list ----------------------------------------------------------------------------------------

    async def _read_meanwhile(self) -> None:
        with contextlib.suppress(NoMatches, ScreenStackError):  # the application is ending
            try:
                await self._read_list()
            except SyncAgentError as error:
                self._say(_told(error))

    async def _read_list(self) -> None:
        """Show the notes as they are now, if anything has changed."""
        if self._vault is None or not self._is_stale:
            return
        self._is_stale = False
        blobs: list[syncagent.BlobInfo] = []
        after = None
        while True:
            page = await self._notes.list(order_by="changed", descending=True, after=after)
            blobs += page.blobs
            after = page.next
            if after is None:
                break
        await self._read_titles(
            [one for one in blobs if one.version not in self._titles and one.status not in ELSEWHERE]
        )
        self._blobs = {blob.id: blob for blob in blobs}
        self._list.border_title = f"Notes ({len(blobs):,})"
        self._list.clear_options()
        self._list.add_options(Option(self._line(blob), id=blob.id) for blob in blobs)
        await self._follow()

    async def _read_titles(self, blobs: list[syncagent.BlobInfo]) -> None:
        """A note is called by its first line; no version ever changes."""
        for start in range(0, len(blobs), AT_ONCE):
            for got in await self._notes.get_many([blob.id for blob in blobs[start : start + AT_ONCE]]):
                if got.blob is not None:
                    lines = _text(got.blob.data).strip().splitlines()
                    self._titles[str(got.blob.version)] = lines[0] if lines else "(empty)"

    def _line(self, blob: syncagent.BlobInfo) -> Text:
        title = self._titles.get(blob.version, "(not on this device yet)")
        if blob.conflict:
            return Text(f"! {title}", style="bold")
        return Text(f"{' ' if blob.status is SyncStatus.SYNCED else '↑'} {title}")

    async def _follow(self) -> None:
        """The note that is shown may have changed, or be gone; what is being written stays."""
        now = self._blobs.get(self._shown.id)
        if now is not None:
            self._list.highlighted = self._list.get_option_index(now.id)
            shows_conflict = self._shown.conflict is not None
            is_other = now.version != self._shown.version or now.conflict != shows_conflict
            if is_other and not self._is_dirty:
                await self._show(now.id)
            elif is_other and self._shown.others is None:
                self._say("another device has changed this note: you will see both when you save")
        elif self._is_dirty or (self._shown.version is None and self._text.has_focus):
            pass  # a new note
        elif self._blobs:
            self._list.highlighted = 0
            await self._show(next(iter(self._blobs)))
        else:
            self._put_into_editor(Shown(uuid.uuid4().hex))
            self.set_focus(self._text)

    async def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show the note under the cursor, once the one before it is saved."""
        wanted = event.option_id
        if wanted is None or wanted == self._shown.id or wanted not in self._blobs:
            return
        with contextlib.suppress(NoMatches, ScreenStackError):  # the application is ending
            if await self._leave():
                await self._show(wanted)

    def on_option_list_option_selected(self) -> None:
        """Write."""
        self._put_beside()
        self.set_focus(self._text)

    def on_text_area_changed(self) -> None:
        """Who writes does not mean to delete."""
        self._to_delete = ""

    async def _show(self, blob_id: str) -> None:
        """Bring a note into the editor; in conflict, the version that stands and the others beside it."""
        try:
            blob = await self._notes.get(blob_id)
            shown = Shown(blob_id, str(blob.version), _text(blob.data), is_plain=_is_plain(blob.data))
            if self._blobs[blob_id].conflict:
                found = [one for one in await self._notes.conflicts() if one.id == blob_id]
                shown.conflict = found[0] if found else None
            if shown.conflict is not None:
                first, *others = shown.conflict.versions
                parts = [(await self._notes.get(blob_id, version=one)).data for one in others]
                shown.others = "\n———\n".join(map(_text, parts))
                shown.is_plain = shown.is_plain and all(map(_is_plain, parts))
                self._text.border_title = f"stands: {_whose(first)}"
                self._theirs.border_title = ", ".join(map(_whose, others))
                self._say("two devices have changed this note: make the left one right, and save")
        except BlobNotHere as error:
            self._say(_told(error))
            return
        except BlobNotFound:  # deleted this moment
            self._is_stale = True
            return
        self._put_into_editor(shown)

    def _put_into_editor(self, shown: Shown) -> None:
        self._shown, self._to_delete = shown, ""
        if self._text.text != shown.text:
            self._text.load_text(shown.text)
            self._text.move_cursor(self._text.document.end)
            shown.text = self._text.text  # with the ends of lines that an editor gives it
        self._text.read_only = not shown.is_plain
        self._put_beside()

    def _put_beside(self) -> None:
        self._theirs.load_text(self._shown.others or "")
        if self._shown.others is None:
            self._text.border_title = None
        self.screen.set_class(self._shown.others is not None, "beside")
        self.refresh_bindings()

    # Saving ------------------------------------------------------------------------------------------

    @property
    def _is_dirty(self) -> bool:
        is_new = self._shown.version is None
        return self._text.text != self._shown.text and not (is_new and not self._text.text.strip())

    async def _save(self) -> bool:
        """Durable on return. False if another device was there first, or there is no room."""
        shown, text = self._shown, self._text.text
        try:
            if shown.conflict is not None and not self._is_dirty:
                stands = shown.conflict.versions[0]
                version = await self._notes.resolve(shown.id, version=stands, seen=shown.conflict)
            elif shown.conflict is not None:
                version = await self._notes.resolve(shown.id, text.encode(), seen=shown.conflict)
            else:
                version = await self._notes.put(shown.id, text.encode(), if_version=shown.version)
        except VersionConflict:
            await self._meet()
            return False
        except SyncAgentError as error:  # what was written stays in the editor
            self.notify(_told(error), severity="error", markup=False)
            return False
        self._shown = Shown(shown.id, str(version), text, is_plain=shown.is_plain)
        self._is_stale = True
        self._put_beside()
        self._say("saved")
        return True

    async def _meet(self) -> None:
        """Show what another device has made of the note beside what was written here."""
        try:
            blob = await self._notes.get(self._shown.id)
        except BlobNotFound:
            self._shown = Shown(self._shown.id)
            self._say("another device has deleted this note: save again to keep it")
            return
        self._shown = Shown(self._shown.id, str(blob.version), _text(blob.data), others=_text(blob.data))
        self._text.border_title, self._theirs.border_title = "yours, not saved", "from another device"
        self._put_beside()
        self._say("another device has changed this note: make the left one right, and save")

    async def _save_meanwhile(self) -> None:
        if self._vault is not None and self._is_dirty and self._shown.others is None:
            await self._save()

    async def _leave(self) -> bool:
        """Let nothing be lost that was written; False if it cannot be stored."""
        if not self._is_dirty:
            return True
        if self._shown.others is None and await self._save():
            return True
        if self._shown.others is None and self._shown.version is not None:
            return False  # there is no room
        try:  # it is not for this program to decide which one stands
            await self._notes.put(uuid.uuid4().hex, self._text.text.encode())
        except SyncAgentError as error:
            self.notify(_told(error), severity="error", markup=False)
            return False
        self._is_stale = True
        self.notify("what you wrote is kept as a note of its own")
        return True

    # Keys --------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What can be done now: nothing before the vault is open."""
        if action == "take":
            return self._shown.others is not None and self._shown.is_plain
        return self._vault is not None or action not in {"new", "save", "delete", "sync"} or None

    async def action_new(self) -> None:
        """An empty note; it comes into being when it is saved."""
        if await self._leave():
            self._put_into_editor(Shown(uuid.uuid4().hex))
            self._list.highlighted = None
            self.set_focus(self._text)

    async def action_save(self) -> None:
        """A conflict is over with it."""
        if self._is_dirty or self._shown.others is not None:
            await self._save()

    def action_take(self) -> None:
        """Let the right one be the left one; saved is it later."""
        self._text.load_text(self._theirs.text)

    async def action_delete(self) -> None:
        """Delete the note that is shown, when asked twice; its versions stay in the history."""
        if self._shown.version is None:
            await self.action_new()
        elif self._to_delete != self._shown.id:
            self._to_delete = self._shown.id
            self._say("press F8 once more to delete this note on all devices")
        else:
            with contextlib.suppress(BlobNotFound):
                await self._notes.delete(self._shown.id)
            self._put_into_editor(Shown(uuid.uuid4().hex))
            self.set_focus(self._list)
            self._is_stale = True
            self._say("deleted")

    def action_sync(self) -> None:
        """Sync now; offline nothing is lost."""
        self.run_worker(self._sync())

    def action_list(self) -> None:
        """From the editor to the list, also where there is no room for it beside two editors."""
        if self.screen.has_class("-narrow"):
            self.screen.remove_class("beside")
        self.set_focus(self._list)

    async def action_quit(self) -> None:
        """Leave, when all is stored."""
        if self._vault is None or await self._leave():
            self.exit()

    async def _sync(self) -> None:
        assert self._vault is not None
        try:
            await self._vault.sync()
        except VaultInUse:
            self._say("syncing already")
        except SyncAgentError:
            pass  # an event has told

    # -------------------------------------------------------------------------------------------------

    @property
    def _notes(self) -> syncagent.Namespace:
        assert self._vault is not None
        return self._vault.namespace("notes")

    @property
    def _list(self) -> OptionList:
        return self.query_one("#list", OptionList)

    @property
    def _text(self) -> TextArea:
        return self.query_one("#text", TextArea)

    @property
    def _theirs(self) -> TextArea:
        return self.query_one("#theirs", TextArea)

    def _say(self, text: str) -> None:
        self.query_one("#state", Label).update(text)


def _text(data: bytes) -> str:
    """What a terminal can show: it obeys control characters, and a note may come from anywhere."""
    return data.decode(errors="replace").translate(PICTURES)


def _is_plain(data: bytes) -> bool:
    return _text(data).encode() == data


def _whose(version: syncagent.VersionInfo) -> str:
    return f"{version.device}, {version.changed_at.astimezone():%d %b %H:%M}"


def _told(error: SyncAgentError) -> str:
    return "; ".join(part for part in (str(error), error.safe, error.todo) if part)


def main() -> None:
    """Run it on a vault that `syncagent init` or `syncagent join` has made."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    home, passphrase = sys.argv[1], os.environ.get("SYNCAGENT_PASSPHRASE", "")
    app = NotesApp(lambda: syncagent.open_vault(home, passphrase=passphrase, background=True))
    app.run()
    sys.exit(app.return_code)


if __name__ == "__main__":
    main()

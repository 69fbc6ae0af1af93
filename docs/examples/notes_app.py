"""A small notes application in a terminal: a list, an editor, and both versions when two devices disagree.

    pip install 'syncagent[examples]'
    SYNCAGENT_PASSPHRASE=… python docs/examples/notes_app.py ~/.local/share/my-vault

Everything works offline: a note is durable when it is saved, and the vault syncs by itself. One worker of
the application holds the vault open and listens to its events; the list is read anew when one says so.
"""

import os
import sys
import uuid
from collections.abc import Callable
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer, Header, Label, ListItem, ListView, TextArea

import syncagent

OpenVault = Callable[[], syncagent.Vault]


class Note(ListItem):
    """A note in the list: its first line, and a mark if two devices disagree."""

    def __init__(self, blob: syncagent.BlobInfo, title: str) -> None:
        mark = "! " if blob.conflict else "· " if blob.status is not syncagent.SyncStatus.SYNCED else "  "
        super().__init__(Label(mark + title, markup=False))
        self.blob = blob


class NotesApp(App[None]):
    """The application.

    Args:
        open_vault: gives the vault; entered and left by the application.
    """

    TITLE = "Notes"
    CSS = """
    #list { width: 32; border-right: solid $primary; }
    #theirs { display: none; border-left: solid $warning; }
    .conflict #theirs { display: block; }
    #state { height: 1; padding: 0 1; color: $text-muted; }
    """
    BINDINGS: ClassVar = [
        ("ctrl+n", "new", "New"),
        ("ctrl+s", "save", "Save"),
        ("f8", "delete", "Delete"),
        ("ctrl+r", "sync", "Sync"),
        ("ctrl+q", "quit", "Quit"),
    ]

    def __init__(self, open_vault: OpenVault) -> None:
        super().__init__()
        self._open_vault = open_vault
        self._vault: syncagent.Vault | None = None
        self._shown: str | None = None
        self._loaded = ""
        self._version: str | None = None
        self._conflict: syncagent.Conflict | None = None

    def compose(self) -> ComposeResult:
        yield Header()
        with Horizontal():
            yield ListView(id="list")
            with Vertical():
                with Horizontal(id="editors"):
                    yield TextArea(id="text")
                    yield TextArea(id="theirs", read_only=True)
                yield Label("", id="state", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.run_worker(self._live(), exclusive=True)

    async def _live(self) -> None:
        """Hold the vault open: entered and left by one task."""
        async with self._open_vault() as vault:
            self._vault = vault
            events = vault.events()
            await self._refresh_list()
            async for event in events:
                match event:
                    case syncagent.SyncStarted():
                        self._say("syncing …")
                    case syncagent.SyncFinished(error=None):
                        self._say("in step")
                    case syncagent.SyncFinished(error=error):
                        self._say(f"not synced, all is kept: {error}")
                    case syncagent.AttentionNeeded(message=message, todo=todo):
                        self.notify(f"{message}; {todo}", severity="warning", markup=False)
                    case syncagent.Progress():
                        self._say(f"{event.phase} {event.done} of {event.total}")
                    case _:  # of a blob, or missed
                        await self._refresh_list()

    async def _refresh_list(self) -> None:
        notes = self._notes()
        page = await notes.list(order_by="changed", descending=True)
        items = []
        for blob in page.blobs:
            stat = await notes.get_many([blob.id])
            text = stat[0].blob.data.decode(errors="replace") if stat[0].blob else "(not here yet)"
            items.append(Note(blob, next(iter(text.splitlines()), "") or "(empty)"))
        view = self.query_one("#list", ListView)
        await view.clear()
        await view.extend(items)
        ids = [blob.id for blob in page.blobs]
        if self._shown in ids:
            view.index = ids.index(self._shown)
            blob = page.blobs[ids.index(self._shown)]
            is_other = blob.version != self._version or blob.conflict is not (self._conflict is not None)
            if (
                is_other and self.query_one("#text", TextArea).text == self._loaded
            ):  # else the user is writing
                await self._show(blob)

    async def on_list_view_selected(self, event: ListView.Selected) -> None:
        """Show the note that was chosen."""
        if isinstance(event.item, Note):
            await self._show(event.item.blob)
            self.query_one("#text", TextArea).focus()

    async def _show(self, blob: syncagent.BlobInfo) -> None:
        notes = self._notes()
        self._shown, self._conflict, self._version = blob.id, None, blob.version
        ours = theirs = ""
        if blob.conflict:
            found = {conflict.id: conflict for conflict in await notes.conflicts()}
            self._conflict = found.get(blob.id)
        if self._conflict is not None:
            texts = [
                (await notes.get(blob.id, version=version)).data.decode(errors="replace")
                for version in self._conflict.versions
            ]
            ours, theirs = texts[0], "\n— or —\n".join(texts[1:])
            self._say("two devices have changed this: make the left one right, and save")
        else:
            ours = (await notes.get(blob.id)).data.decode(errors="replace")
        self._loaded = ours
        self.query_one("#text", TextArea).text = ours
        self.query_one("#theirs", TextArea).text = theirs
        self.set_class(self._conflict is not None, "conflict")

    def action_new(self) -> None:
        """An empty note; it comes into being when it is saved."""
        self._shown, self._conflict, self._loaded, self._version = uuid.uuid4().hex, None, "", None
        self.set_class(False, "conflict")
        text = self.query_one("#text", TextArea)
        text.text = ""
        text.focus()

    async def action_save(self) -> None:
        """Durable on return; a conflict is over with it."""
        if self._shown is None:
            self.action_new()
        text = self.query_one("#text", TextArea).text
        notes = self._notes()
        assert self._shown is not None
        try:
            if self._conflict is not None:
                version = await notes.resolve(self._shown, text.encode(), seen=self._conflict)
            else:
                version = await notes.put(self._shown, text.encode(), if_version=self._version)
        except syncagent.SyncAgentError as error:  # what was written stays in the editor
            self.notify(f"{error}; {error.todo}", severity="error", markup=False)
            return
        self._loaded, self._conflict, self._version = text, None, str(version)
        self.set_class(False, "conflict")
        self._say("saved")

    async def action_delete(self) -> None:
        """Delete the note that is shown; its versions stay in the history."""
        if self._shown is not None and await self._notes().exists(self._shown):
            await self._notes().delete(self._shown)
        self.action_new()

    async def action_sync(self) -> None:
        """Sync now; offline nothing is lost."""
        assert self._vault is not None
        try:
            await self._vault.sync()
        except syncagent.SyncAgentError as error:
            self._say(f"not synced, all is kept: {error}")

    def _notes(self) -> syncagent.Namespace:
        assert self._vault is not None
        return self._vault.namespace("notes")

    def _say(self, text: str) -> None:
        self.query_one("#state", Label).update(text)


def main() -> None:
    """Run it on a vault that `syncagent init` or `syncagent join` has made."""
    home, passphrase = sys.argv[1], os.environ["SYNCAGENT_PASSPHRASE"]
    NotesApp(lambda: syncagent.open_vault(home, passphrase=passphrase, background=True)).run()


if __name__ == "__main__":
    main()

"""Where the demo's two devices meet: a server of its own on this machine, or a folder."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread

from syncagent.errors import ConfigError
from syncagent.remote import directory_url

SERVER, FOLDER = "server", "file"
USER = "demo"


@dataclass(frozen=True, slots=True)
class MeetingPlace:
    """A remote, and the folder in which all that reaches it is kept. A folder cannot be stopped."""

    url: str
    folder: Path
    token: str | None = field(default=None, repr=False)
    stopping: Callable[[], None] | None = None
    starting: Callable[[], None] | None = None

    async def stop(self) -> None:
        """Let the server end, as if its machine went away."""
        if self.stopping is not None:
            await anyio.to_thread.run_sync(self.stopping)

    async def start(self) -> None:
        """Let it answer again at the same address."""
        if self.starting is not None:
            await anyio.to_thread.run_sync(self.starting)

    def objects(self) -> int:
        """How many objects are there."""
        vaults = self.folder if self.token is None else self.folder / "vaults"
        return sum(path.is_file() for path in vaults.rglob("*"))


@contextlib.contextmanager
def meeting_place(kind: str | None, folder: Path) -> Iterator[MeetingPlace]:
    """A place below a folder; of no kind in particular a server where one is installed.

    Raises:
        ConfigError: a server was asked for and is not installed.
    """
    if kind != FOLDER:
        try:
            from syncagent.server.embedded import EmbeddedServer
        except ModuleNotFoundError as error:
            if kind == SERVER:
                raise ConfigError(
                    f"the server needs {error.name}, which is not installed",
                    todo="install it with `pip install 'syncagent[server]'`",
                ) from error
        else:
            data = folder / "server"
            with EmbeddedServer(data) as server:
                token = server.add_user(USER)
                yield MeetingPlace(f"{server.url}/default", data, token, server.stop, server.start)
            return
    yield MeetingPlace(directory_url(folder / "remote"), folder / "remote")

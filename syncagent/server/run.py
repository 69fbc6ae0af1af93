"""A server's life: one process on one data folder, from the first connection to the last answer."""

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import uvicorn

from syncagent import files
from syncagent.errors import ConfigError
from syncagent.server.accounts import Accounts, only_server
from syncagent.server.app import Service, create_app
from syncagent.server.limits import Limits, Turnstile
from syncagent.server.observe import LineWriter, Observer
from syncagent.server.protocol import protocol_with
from syncagent.server.usage import Usage
from syncagent.server.vaults import FOLDER, Vaults
from syncagent.server.watch import Watch

_BACKLOG = 1024


class BlobServer:
    """Serves a data folder.

    Args:
        data: the folder; made when it is missing.
        host: a numeric address or a name of this machine.
        port: 0 for any that is free.
        limits: what clients may ask for.
        log: takes a line for each request; None for no log.
    """

    def __init__(
        self,
        data: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        log: LineWriter | None = None,
    ) -> None:
        self._data = data
        self._host = host
        self._port = port
        self._limits = limits or Limits()
        self._log = log
        self._server: _Uvicorn | None = None
        self._is_stopping = False

    async def serve(self, ready: Callable[[str], None]) -> None:
        """Answer until `stop`, then let what is under way end. Needs asyncio below anyio.

        Args:
            ready: is called with the server's URL once it answers.

        Raises:
            ConfigError: the folder or the address cannot be used.
            VaultInUse: another server runs on this folder.
        """
        make_data_folder(self._data)
        with contextlib.ExitStack() as stack:
            stack.enter_context(only_server(self._data))
            accounts = stack.enter_context(contextlib.closing(Accounts.open(self._data)))
            notes = stack.enter_context(contextlib.closing(Accounts.open(self._data)))
            listening = stack.enter_context(_listening(self._host, self._port))
            await self._serve(accounts, notes, listening, ready)

    def stop(self) -> None:
        """Let the server end. May be called from any thread, and again."""
        self._is_stopping = True
        if self._server is not None:
            self._server.should_exit = True

    async def _serve(
        self, accounts: Accounts, notes: Accounts, listening: socket.socket, ready: Callable[[str], None]
    ) -> None:
        limits, watch, observer = self._limits, Watch(), Observer(self._log)
        vaults = Vaults(self._data)
        usage, turnstile = Usage(vaults.count), Turnstile(limits)
        observer.add_gauge("syncagent_waiting", "Long polls under way", lambda: turnstile.waiting)
        app = create_app(Service(accounts, vaults, usage, watch, turnstile, limits, observer))
        config = uvicorn.Config(
            app,
            http=protocol_with(limits),
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=round(limits.keep_alive_s),
        )
        self._server = _Uvicorn(config, watch, limits.drain_s, lambda: ready(_url(listening)))
        self._server.should_exit = self._is_stopping
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(usage.keep_noted, notes.note_usage)
            await self._server.serve(sockets=[listening])
            tasks.cancel_scope.cancel()


class _Uvicorn(uvicorn.Server):
    """uvicorn, with signals left to whoever runs it, and nobody left waiting when it stops."""

    def __init__(
        self, config: uvicorn.Config, watch: Watch, drain_s: float, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._watch = watch
        self._drain_s = drain_s
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._watch.stop()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cut_off_later)
            await super().shutdown(sockets)
            tasks.cancel_scope.cancel()

    async def _cut_off_later(self) -> None:
        # Clients that seem to leave end requests in good order; uvicorn would cancel them with a traceback.
        await anyio.sleep(self._drain_s)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_data_folder(data: Path) -> None:
    """Make the data folder, for its owner's eyes only; one that is there is taken as it is."""
    try:
        files.make_folders(data, 0o700)
        files.make_folders(data / FOLDER, 0o700)
    except OSError as error:
        raise ConfigError(f"the data folder {str(data)!r} cannot be used: {error.strerror}") from error


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    with contextlib.ExitStack() as stack:
        try:
            # asyncio turns Nagle's algorithm off only where the protocol is TCP by name: else each answer
            # in two parts waits 40 ms for the client to acknowledge the first.
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
            if sys.platform != "win32":  # there it would let two servers have one port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            raise ConfigError(f"the server cannot listen on {host!r} port {port}: {error}") from error
        yield listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

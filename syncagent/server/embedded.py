"""A server in a thread of this process, for demonstrations and tests. It can be stopped and started again."""

import contextlib
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from syncagent.server.accounts import Accounts
from syncagent.server.limits import Limits
from syncagent.server.observe import LineWriter
from syncagent.server.run import BlobServer, make_data_folder


class EmbeddedServer:
    """A server on a loopback port, used with `with`. All calls block: give them to a thread in async code.

    Args:
        data: the data folder; made when it is missing.
        limits: what clients may ask for.
        log: takes a line for each request.
    """

    def __init__(self, data: Path, *, limits: Limits | None = None, log: LineWriter | None = None) -> None:
        self._data = data
        self._limits = limits
        self._log = log
        self._port = 0
        self._server: BlobServer | None = None
        self._ended: Future[None] | None = None
        self._stack = contextlib.ExitStack()
        self._portal: BlockingPortal | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._portal = self._stack.enter_context(start_blocking_portal("asyncio"))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._stack.close()

    def start(self) -> None:
        """Answer requests, at the same port as before."""
        assert self._portal is not None, "a server is used with `with`"
        self._server = BlobServer(self._data, port=self._port, limits=self._limits, log=self._log)
        ready: Future[str] = Future()
        self._ended = self._portal.start_task_soon(self._server.serve, ready.set_result)
        self._ended.add_done_callback(lambda ended: _fail(ready, ended))
        self.url = ready.result()
        self._port = int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """Let requests under way end; from then on connections are refused."""
        if self._server is None or self._ended is None:
            return
        self._server.stop()
        self._ended.result()
        self._server = self._ended = None

    def add_user(self, name: str, *, quota_bytes: int | None = None, is_append_only: bool = False) -> str:
        """A new user's token."""
        make_data_folder(self._data)
        with contextlib.closing(Accounts.open(self._data)) as accounts:
            return accounts.add_user(name, quota_bytes=quota_bytes, is_append_only=is_append_only)


def _fail(ready: "Future[str]", ended: "Future[None]") -> None:
    if not ready.done():
        ready.set_exception(ended.exception() or RuntimeError("the server stopped before it answered"))

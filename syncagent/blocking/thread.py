"""The one thread in which the vaults of synchronous callers live: an event loop that outlasts them all.

It is started by the first call and waits, without waking up, while nothing is asked of it. Any thread
may call. It does not keep a program from ending; vaults that are open then are closed at the exit.
"""

import atexit
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from syncagent.blocking.callbacks import what_was_raised
from syncagent.errors import ConfigError

T = TypeVar("T")

_NAME = "syncagent"
END_S = 10.0
"""How long the end of a program waits for its vaults to close."""
CANCEL_S = 2.0
"""How long a call that was interrupted waits for its work to stop: a worker thread may be in the middle."""


class LoopThread:
    """An event loop in a thread of its own; see `loop_thread`."""

    def __init__(self, backend: str) -> None:
        self._pid = os.getpid()
        self._manager = start_blocking_portal(backend, name=_NAME)
        self._portal: BlockingPortal = self._manager.__enter__()
        self._ident = self._portal.call(threading.get_ident)
        self._has_ended = False
        self._closers: dict[object, Callable[[], Awaitable[None]]] = {}
        atexit.register(self._end)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """What some asynchronous work gives. `KeyboardInterrupt` in the caller cancels the work."""
        self.check()
        future: Future[T] = Future()
        is_over = threading.Event()
        try:
            self._portal.start_task_soon(self._do, work, future, is_over)
            return future.result()
        except BaseException:
            if future.cancel():  # not the work's own error: what it holds is free for the next call
                is_over.wait(CANCEL_S)
            raise

    def start(self, work: Callable[[], Awaitable[T]]) -> "Future[T]":
        """Begin some work in the loop. Cancelling the future cancels the work."""
        self.check()
        future: Future[T] = Future()
        self._portal.start_task_soon(self._do, work, future, threading.Event())
        return future

    def check(self) -> None:
        """Raise `ConfigError` where the loop cannot be waited for."""
        if os.getpid() != self._pid:
            raise ConfigError(
                "this process was forked from the one that opened the vault",
                safe="the vault is as the other process leaves it",
                todo="open it again in this process: several may have it open",
            )
        if threading.get_ident() == self._ident:
            raise ConfigError(
                "a callback that runs in the vault's own thread must not wait for the vault",
                todo="hand the call to another thread, or use `listen`",
            )
        if self._has_ended:
            raise ConfigError("the program is ending, and its vaults are closed")

    def at_end(self, key: object, close: Callable[[], Awaitable[None]] | None) -> None:
        """In the loop: what closes a vault should the program end without; None when it is closed."""
        if close is None:
            self._closers.pop(key, None)
        else:
            self._closers[key] = close

    async def _do(
        self, work: Callable[[], Awaitable[T]], future: "Future[T]", is_over: threading.Event
    ) -> None:
        """Do the work, and carry its end to who waits for it, whatever it is: nothing may reach the loop.

        The portal's own future would do but for two things: an interrupt while the loop takes the work
        leaves nobody who holds it, and `SystemExit` would end the loop, with all vaults in it.
        """
        try:
            with anyio.CancelScope() as scope:
                future.add_done_callback(partial(self._cancel_with, scope))
                try:
                    result = await work()
                except anyio.get_cancelled_exc_class():
                    future.cancel()
                    raise
                except BaseException as exc:
                    if future.set_running_or_notify_cancel():
                        future.set_exception(what_was_raised(exc))
                else:
                    if future.set_running_or_notify_cancel():
                        future.set_result(result)
        finally:
            is_over.set()

    def _cancel_with(self, scope: anyio.CancelScope, future: "Future[T]") -> None:
        if not future.cancelled():
            return
        if threading.get_ident() == self._ident:
            scope.cancel()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._portal.start_task_soon(scope.cancel)

    def _end(self) -> None:
        if os.getpid() == self._pid:
            with contextlib.suppress(Exception):  # nobody is left to be told
                self.start(self._close_all).result(END_S)
            self._has_ended = True

    async def _close_all(self) -> None:
        for close in list(self._closers.values()):
            await close()


_threads: dict[str, LoopThread] = {}
_lock = threading.Lock()


def loop_thread(backend: str) -> LoopThread:
    """The loop of this process for an anyio backend, started on first use."""
    with _lock:
        found = _threads.get(backend)
        if found is None:
            found = _threads[backend] = LoopThread(backend)
        return found


def _forget() -> None:
    """In a forked child: the loops' threads are not here, and the lock may have been held."""
    global _lock
    _lock = threading.Lock()
    _threads.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_forget)

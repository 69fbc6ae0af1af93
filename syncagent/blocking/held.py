"""One time that a vault is open: entered and left by one task of the loop, as a background sync asks for."""

from concurrent.futures import Future, wait

import anyio

from syncagent import vault
from syncagent.blocking.calls import Calls
from syncagent.errors import ConfigError


class Held:
    """Opens a vault and keeps it open until it is asked to leave; for any number of threads."""

    def __init__(self, calls: Calls, inner: vault.Vault) -> None:
        self._calls = calls
        self._thread = calls.loop
        self._inner = inner
        self._entered: Future[None] = Future()
        self._over: Future[None] = Future()
        self._leave: anyio.Event | None = None
        self._has_left: anyio.Event | None = None
        self.is_leaving = False
        """Whether it closes, or is about to."""

    @property
    def is_over(self) -> bool:
        """Whether the vault is closed again, or could not be opened."""
        return self._over.done()

    def enter(self) -> None:
        """Open it; raises as entering the vault does. After an interrupt it closes by itself."""
        try:
            self._thread.start(self._run)
            self._entered.result()
        except BaseException:
            # Not cancelled: the interrupt may have come before the task was known here, and its key is
            # derived in a thread that cannot be stopped anyway.
            self._ask()
            raise

    def leave(self) -> None:
        """Close it, and wait for that; raises what has gone wrong while it was open."""
        self._ask()
        self._over.result()

    def wait(self) -> None:
        """Wait until it is over, however it ended."""
        wait([self._over])

    def _ask(self) -> None:
        self.is_leaving = True
        if not self._over.done():
            self._thread.start(self._note_asked)

    async def _note_asked(self) -> None:
        if self._leave is not None:
            self._leave.set()
        elif not self._over.done():  # it has not begun, and will not
            self._over.set_result(None)

    async def _run(self) -> None:
        if self._over.done():
            self._entered.set_exception(ConfigError("this vault was closed before it was open"))
            return
        self._leave, self._has_left = anyio.Event(), anyio.Event()
        error: BaseException | None = None
        try:
            async with self._inner:
                self._thread.at_end(self, self._end)
                self._entered.set_result(None)
                try:
                    await self._leave.wait()
                finally:  # also where the background sync has broken
                    self._calls.end()
        except anyio.get_cancelled_exc_class():
            error = ConfigError("the program is ending, and its vaults are closed")
            raise
        except BaseException as exc:
            error = exc
        finally:
            self._thread.at_end(self, None)
            self._has_left.set()
            self._calls.forget()
            self._settle(error)

    def _settle(self, error: BaseException | None) -> None:
        if self._entered.done():
            if error is None:
                self._over.set_result(None)
            else:
                self._over.set_exception(error)
        else:
            self._over.set_result(None)
            self._entered.set_exception(error or ConfigError("this vault was closed before it was open"))

    async def _end(self) -> None:
        assert self._leave is not None and self._has_left is not None
        self.is_leaving = True
        self._leave.set()
        await self._has_left.wait()

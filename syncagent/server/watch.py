"""Who waits for a change of a vault. Waiting costs memory and nothing else: an event wakes all at once.

A cursor is the start of this server process, as a random number, and a count. So a
cursor from before a restart is unknown, and unknown ones are answered at once:
its holder looks once too often and never once too seldom.
"""

import secrets

import anyio


class Changes:
    """What has been stored in one vault since the server started, as a number."""

    def __init__(self, epoch: str) -> None:
        self._epoch = epoch
        self._count = 0
        self._event = anyio.Event()

    @property
    def cursor(self) -> str:
        """The present one."""
        return f"{self._epoch}-{self._count}"

    def tell(self) -> None:
        """An object was stored: the cursor moves and everybody wakes."""
        self._count += 1
        self.wake()

    def wake(self) -> None:
        """Let everybody look, changed or not."""
        event, self._event = self._event, anyio.Event()
        event.set()

    async def wait(self, cursor: str | None, timeout_s: float) -> str:
        """The present cursor, as soon as it is not the given one, or after the time."""
        if cursor == self.cursor:
            with anyio.move_on_after(timeout_s):
                await self._event.wait()
        return self.cursor


class Watch:
    """The changes of all vaults. A stop lets nobody wait any longer."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(8)
        self._vaults: dict[str, Changes] = {}
        self._is_stopping = False

    def changes(self, vault: str) -> Changes:
        """Those of a vault that exists; the key names it and its user."""
        return self._vaults.setdefault(vault, Changes(self._epoch))

    async def wait(self, vault: str, cursor: str | None, timeout_s: float) -> str:
        """See `Changes.wait`."""
        return await self.changes(vault).wait(cursor, 0 if self._is_stopping else timeout_s)

    def stop(self) -> None:
        """Answer all who wait, and from now on whoever comes, at once."""
        self._is_stopping = True
        for changes in self._vaults.values():
            changes.wake()

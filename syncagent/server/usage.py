"""How much room each user's objects take, to the byte, and whether there is more.

The number lives in memory, where uploads under way reserve their room before a byte
is read. It begins as what lies in the folders, counted before the first write
after a start: what a crash has left, or somebody has changed by hand, needs no repair.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect

from syncagent.errors import ObjectExists, SyncAgentError
from syncagent.server.problem import Problem

_log = logging.getLogger(__name__)
_NOTHING_STORED = (Problem, ObjectExists, ClientDisconnect, OSError)
"""After these it is known that nothing was stored; after others the objects are counted again.

An `OSError` is one of the temporary file: those of objects come translated.
"""


@dataclass(slots=True)
class _Room:
    used: int = 0
    reserved: int = 0
    writes: int = 0
    is_counted: bool = False
    counting: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(slots=True)
class Change:
    """What a write amounts to; the block that `Usage.writing` guards fills it in."""

    grown_bytes: int = 0


class Usage:
    """The room of all users.

    Args:
        count: looks up what a user's objects take, at a time when nothing of the user is being written.
    """

    def __init__(self, count: Callable[[str], Awaitable[int]]) -> None:
        self._count = count
        self._rooms: dict[str, _Room] = {}
        self._unnoted: set[str] = set()
        self._changed = anyio.Event()

    @contextlib.asynccontextmanager
    async def writing(
        self, user: str, size: int, *, quota_bytes: int | None, vault: str
    ) -> AsyncIterator[Change]:
        """Around a write that may store `size` bytes more; `Problem` when there is no room for them."""
        room = self._rooms.setdefault(user, _Room())
        async with room.counting:
            # With writes under way the count would hold some of them or not; they go on with the old number.
            if not room.is_counted and room.writes == 0:
                room.used = await self._count(user)
                room.is_counted = True
            room.writes += 1
        change = Change()
        try:
            if quota_bytes is not None and size > 0 and room.used + room.reserved + size > quota_bytes:
                raise _over_quota(user, vault, size, quota_bytes, room)
            room.reserved += size
            try:
                yield change
            finally:
                room.reserved -= size
        except _NOTHING_STORED:
            raise
        except BaseException:
            room.is_counted = False
            raise
        finally:
            room.writes -= 1
            room.used += change.grown_bytes
            self._unnoted.add(user)
            self._changed.set()

    async def keep_noted(self, note: Callable[[Mapping[str, int]], None]) -> None:
        """Hand over what has changed, whenever it has, until cancelled; then once more.

        Args:
            note: called on a worker thread. Where it fails the numbers are handed over with the next ones:
                they are for looking at.
        """
        try:
            while True:
                await self._changed.wait()
                self._changed = anyio.Event()
                await anyio.to_thread.run_sync(self._hand_over, note)
        finally:
            self._hand_over(note)

    def _hand_over(self, note: Callable[[Mapping[str, int]], None]) -> None:
        changed, self._unnoted = self._unnoted, set()
        try:
            note({user: self._rooms[user].used for user in changed})
        except SyncAgentError as error:
            _log.error("usage cannot be noted: %s", error)
            self._unnoted |= changed


def _over_quota(user: str, vault: str, size: int, quota_bytes: int, room: _Room) -> Problem:
    used = room.used + room.reserved
    return Problem(
        507,
        "quota-exceeded",
        f"the vault {vault} cannot take {size:,} bytes more: {user} uses {used:,} of {quota_bytes:,} bytes",
        members={
            "vault": vault,
            "quota_bytes": quota_bytes,
            "used_bytes": used,
            "needed_bytes": size,
        },
    )

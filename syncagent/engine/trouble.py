"""Whose failure it is: that of one object, or of the remote as a whole.

Both look alike at first: a call that times out or is cut off. One object that
keeps failing while the remote otherwise answers must not end every sync; a
remote that is down must not be counted against the blobs that met it.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from syncagent import names
from syncagent.errors import ObjectError, RateLimited, TransientRemoteError, Withheld
from syncagent.remote.base import Remote

T = TypeVar("T")

STRIKES = 3
"""Failed attempts after which an object is set aside, if the remote answers otherwise."""
MOST_ASIDE = 8
"""Objects set aside in a row, with no success between them, after which it is the remote after all."""


class FailsAlone(Exception):
    """An object that failed again and again while the remote answered; `cause` is its last error."""

    def __init__(self, cause: TransientRemoteError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Trouble:
    """What one half of a sync has seen of a remote's failures.

    Args:
        remote: asked for the vault's own object to see whether it answers at all.

    `has_given_up` tells that it was the number of objects set aside that made it the remote's failure.
    """

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._aside: list[TransientRemoteError] = []
        self.has_given_up = False

    async def attempt(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call for one object, again if it fails for a moment.

        Raises:
            TransientRemoteError: the remote as a whole fails.
            FailsAlone: only this object does, as far as can be told now; `check` tells in the end.
        """
        strikes = 0
        while True:
            try:
                result = await call()
            except (RateLimited, Withheld):
                raise
            except TransientRemoteError as exc:
                if exc.retry_after_s is not None:
                    raise
                strikes += exc.attempts
                with contextlib.suppress(ObjectError):  # any answer will do
                    await self._remote.head(names.VAULT)
                if strikes < STRIKES:
                    continue
                self._aside.append(exc)
                if len(self._aside) >= MOST_ASIDE:
                    self.has_given_up = True
                    raise
                raise FailsAlone(exc) from exc
            self._aside.clear()  # so what was set aside before this has failed for itself
            return result

    def check(self) -> None:
        """At the end: several objects that failed with no success since are the remote's failure.

        Raises:
            TransientRemoteError: the first of theirs.
        """
        if len(self._aside) > 1:
            raise self._aside[0]

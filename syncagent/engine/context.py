"""What every part of the engine works with: the open vault, and the clock and dice it is given."""

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from syncagent.cache.commit import Cache
from syncagent.cache.profile import Profile
from syncagent.crypto.keys import VaultKeys
from syncagent.model import VaultId


@dataclass(frozen=True, slots=True)
class Context:
    """An open vault as the engine sees it. This device's id is not here: it may change (`identity.py`).

    `now` gives Unix seconds and `random` a float in [0, 1); tests hand in their own.
    `workers` bounds the threads that seal and open.
    """

    cache: Cache
    keys: VaultKeys
    profile: Profile
    vault: VaultId
    now: Callable[[], float]
    random: Callable[[], float]
    workers: anyio.CapacityLimiter

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self.now() * 1000)

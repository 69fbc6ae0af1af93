"""What every part of the engine works with: the open vault, and the clock and dice it is given."""

from collections.abc import Callable
from dataclasses import dataclass, field

import anyio

from syncagent.cache.commit import Cache
from syncagent.cache.profile import Profile
from syncagent.crypto.keys import VaultKeys
from syncagent.engine.reads import ReadLog
from syncagent.model import VaultId

PACKS_UNDER_WAY = 4
"""Packs of large content sealed and written at once: enough to fill four cores, 32 MiB of memory."""


@dataclass(frozen=True, slots=True)
class Context:
    """An open vault as the engine sees it. This device's id is not here: it may change (`identity.py`).

    `now` gives Unix seconds and `random` a float in [0, 1); tests hand in their own.
    `workers` bounds the threads that seal and open, `packs` the packs of large content that are in memory on
    their way to a file, each with a thread of its own.
    """

    cache: Cache
    keys: VaultKeys
    profile: Profile
    vault: VaultId
    now: Callable[[], float]
    random: Callable[[], float]
    workers: anyio.CapacityLimiter
    packs: anyio.CapacityLimiter
    reads: ReadLog = field(default_factory=ReadLog)

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self.now() * 1000)

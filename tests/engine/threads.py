"""Worker threads under a test's control: how many there are, what they left, and an end at the n-th."""

from dataclasses import replace
from pathlib import Path
from types import TracebackType

import anyio

from syncagent.engine.context import Context
from syncagent.namespace import Namespace
from syncagent.vault import Vault
from tests.engine.world import World


def with_threads(
    vault: Vault, workers: anyio.CapacityLimiter, packs: anyio.CapacityLimiter | None = None
) -> Namespace:
    """`notes` of a vault with worker threads of one's own, whatever the number of cores."""
    ctx, engine = vault.parts()
    return Namespace("notes", replace(ctx, workers=workers, packs=packs or anyio.CapacityLimiter(4)), engine)


def context(notes: Namespace) -> Context:
    return notes._inside.ctx


def open_packs(world: World, device: str = "a") -> list[str]:
    """Files of a device's folder of packs that this process has open."""
    folder = str(world.folder / device / "packs")
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:  # the one that lists them
            continue
    return [link for link in links if link.startswith(folder)]


def is_idle(notes: Namespace) -> bool:
    ctx = context(notes)
    return ctx.workers.borrowed_tokens == ctx.packs.borrowed_tokens == 0


class CuttingLimiter(anyio.CapacityLimiter):
    """Lends worker threads, and ends a scope as the n-th is to begin its work, or is done with it."""

    def __new__(cls, *args: object, **kwargs: object) -> "CuttingLimiter":
        return object.__new__(cls)

    def __init__(self, at: int, *, is_after: bool) -> None:
        self._limiter = anyio.CapacityLimiter(8)
        self._at = at
        self._is_after = is_after
        self._begun = 0
        self._ended = 0
        self.scope = anyio.CancelScope()

    @property
    def has_cut(self) -> bool:
        return (self._ended if self._is_after else self._begun) >= self._at

    @property
    def borrowed_tokens(self) -> int:
        return self._limiter.borrowed_tokens

    async def __aenter__(self) -> None:
        await self.acquire_on_behalf_of(anyio.get_current_task().id)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release_on_behalf_of(anyio.get_current_task().id)

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        self._begun += 1
        if not self._is_after and self._begun == self._at:
            self.scope.cancel()
        await self._limiter.acquire_on_behalf_of(borrower)

    def release_on_behalf_of(self, borrower: object) -> None:
        self._limiter.release_on_behalf_of(borrower)
        self._ended += 1
        if self._is_after and self._ended == self._at:
            self.scope.cancel()

"""Content leaves this device once the remote has shown that it holds it: asking for it, and dropping it."""

from collections.abc import Sequence
from functools import partial

from syncagent import names
from syncagent.cache import holding, sweep
from syncagent.cache.chunks import batched
from syncagent.cache.there import PackThere
from syncagent.engine.context import Context
from syncagent.engine.tasks import run_together
from syncagent.errors import ObjectNotFound
from syncagent.remote.base import Remote

_HEADS_AT_ONCE = 4


class Shown:
    """Packs that the remote is asked for, each once. `packs` are those it has now, with their size."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._asked: set[int] = set()
        self.packs: set[int] = set()

    async def look(self, packs: Sequence[PackThere]) -> None:
        """Ask for those that were not asked for yet.

        Raises:
            RemoteError: the remote cannot be asked.
        """
        new = [pack for pack in packs if pack.no not in self._asked]
        for some in batched(new, _HEADS_AT_ONCE):
            await run_together(partial(self._look, pack) for pack in some)

    async def _look(self, pack: PackThere) -> None:
        try:
            found = await self._remote.head(names.pack_object(pack.id))
        except ObjectNotFound:
            pass  # what is in it alone stays here
        else:
            if found.size == pack.size:
                self.packs.add(pack.no)
        self._asked.add(pack.no)


async def drop_content(ctx: Context, blob: int, proven: set[int]) -> None:
    """Drop what was given up of a blob, in slices; stopped in between, the next call drops the rest."""
    after: int | None = 0
    while after is not None:
        dropped = await ctx.cache.write(
            partial(holding.drop_some, blob=blob, proven=proven, after=after), background=True
        )
        if dropped.files:
            await ctx.cache.write(
                partial(sweep.remove_unknown, folder=ctx.profile.packs, ids=dropped.files), background=True
            )
        after = dropped.next

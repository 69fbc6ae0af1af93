"""Whether the remote still holds the packs on which content rests that is to be published.

A put of bytes that a journal has named a pack for sends nothing. But the remote may have lost that pack, and
whoever sent it may have given its content up. So what is published as being at the remote rests on packs that
were seen there lately: put by us, named by a batch written lately, or looked for now. What is not found is
sent once more.
"""

from collections.abc import Iterable, Sequence
from functools import partial

from syncagent import names
from syncagent.cache import meta, outbox, there
from syncagent.cache.chunks import batched
from syncagent.cache.there import PackThere
from syncagent.engine.apply import alarm
from syncagent.engine.context import Context
from syncagent.engine.report import Tally
from syncagent.engine.tasks import run_together
from syncagent.engine.trouble import FailsAlone, Trouble
from syncagent.errors import ObjectError, ObjectNotFound, RemoteRolledBack, Tampered, Withheld
from syncagent.remote.base import Remote
from syncagent.reports import Alarm

SEEN_MS = 24 * 3600 * 1000
"""A pack is looked for once a day at most, however much is put that rests on it."""
_DOUBT_AGAIN_MS = 3600 * 1000
"""While a remote withholds something, a sync with nothing to do writes no oftener than this."""
_DOUBTS = frozenset(kind.__name__ for kind in (RemoteRolledBack, Withheld))
_HEADS_AT_ONCE = 4


async def seen_since_ms(ctx: Context) -> int:
    """Since when a pack must have been seen to count as being at the remote."""
    now_ms = ctx.now_ms()
    doubted_ms = await ctx.cache.read(partial(meta.find_int, key=meta.DOUBTED_AT)) or 0
    return max(now_ms - SEEN_MS, min(doubted_ms, now_ms))


async def note_doubt(ctx: Context, found: Iterable[Alarm]) -> None:
    """A remote that lost something of a journal may have lost packs: what was seen before is in doubt."""
    if not any(one.kind in _DOUBTS for one in found):
        return
    doubted_ms = await ctx.cache.read(partial(meta.find_int, key=meta.DOUBTED_AT)) or 0
    if not 0 <= ctx.now_ms() - doubted_ms < _DOUBT_AGAIN_MS:
        await ctx.cache.write(partial(meta.put, key=meta.DOUBTED_AT, value=ctx.now_ms()))


class Lookout:
    """Looks for packs at the remote, each once in a send."""

    def __init__(self, ctx: Context, remote: Remote, tally: Tally) -> None:
        self._ctx = ctx
        self._remote = remote
        self._tally = tally
        self._asked: set[int] = set()
        self.altered: set[int] = set()
        """Packs that are at the remote and not what was put: a file of theirs cannot take their place."""

    async def find(self, chunks: Sequence[int]) -> set[int]:
        """Those of these chunks that a pack holds which the remote has now, and had not been seen lately.

        Raises:
            RemoteError: the remote as a whole does not answer.
        """
        if not chunks:
            return set()
        packs = await self._ctx.cache.read(partial(there.packs_with, chunks=chunks), background=True)
        packs = [pack for pack in packs if pack.no not in self._asked]
        self._asked.update(pack.no for pack in packs)
        seen: list[int] = []
        for some in batched(packs, _HEADS_AT_ONCE):
            await run_together(partial(self._look, pack, seen) for pack in some)
        if not seen:
            return set()
        now_ms = self._ctx.now_ms()
        await self._ctx.cache.write(partial(there.note_seen, packs=seen, now_ms=now_ms), background=True)
        return await self._ctx.cache.read(partial(there.those_in, chunks=chunks, packs=seen), background=True)

    async def _look(self, pack: PackThere, seen: list[int]) -> None:
        name = names.pack_object(pack.id)
        try:
            # Each by itself: what is not answered for is sent, however many they are.
            found = await Trouble(self._remote).attempt(lambda: self._remote.head(name))
        except ObjectNotFound:
            if pack.is_named:
                error = Withheld(f"pack {pack.id.hex()} is named by a journal and not there")
                await self._miss(pack, error)
            else:  # collected, or lost, before a batch could name it
                await self._ctx.cache.write(partial(outbox.forget_put, pack=pack.no), background=True)
        except (ObjectError, FailsAlone):
            return  # nothing is said of it, so what rests on it is sent
        else:
            if found.size == pack.size:
                seen.append(pack.no)
                return
            text = f"pack {pack.id.hex()} has {found.size} bytes at the remote instead of {pack.size}"
            self.altered.add(pack.no)
            await self._miss(pack, Tampered(text))

    async def _miss(self, pack: PackThere, error: Withheld | Tampered) -> None:
        self._tally.alarms.append(alarm(error, names.pack_object(pack.id)))
        is_altered = isinstance(error, Tampered)
        await self._ctx.cache.write(
            partial(there.note_missed, pack=pack.no, is_altered=is_altered), background=True
        )

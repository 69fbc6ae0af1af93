"""Once a day, after a sync: files that interruptions have left are removed. See `cache/sweep.py`."""

from functools import partial

import anyio.to_thread

from syncagent.cache import meta, news
from syncagent.cache.db import Database
from syncagent.cache.sweep import (
    GRACE_S,
    find_leftovers,
    forget_unused,
    remove_temporary,
    remove_unknown,
    unknown_packs,
)
from syncagent.engine.context import Context


async def sweep_leftovers(ctx: Context) -> bool:
    """Remove what is left over, and old news, if a day has gone since the last time; whether one has."""
    swept_at = await ctx.cache.read(partial(meta.find_int, key=meta.SWEPT_AT))
    if swept_at is not None and 0 <= ctx.now_ms() - swept_at < GRACE_S * 1000:
        return False
    await ctx.cache.write(partial(_begin, now_ms=ctx.now_ms()), background=True)
    found = await anyio.to_thread.run_sync(find_leftovers, ctx.profile.packs, limiter=ctx.workers)
    await anyio.to_thread.run_sync(remove_temporary, found.temporary, limiter=ctx.workers)
    unknown = await ctx.cache.read(partial(unknown_packs, ids=found.packs), background=True)
    if unknown:
        await ctx.cache.write(partial(remove_unknown, folder=ctx.profile.packs, ids=unknown), background=True)
    while await ctx.cache.read(news.is_long, background=True):
        await ctx.cache.write(news.trim, background=True)
    return True


def _begin(db: Database, now_ms: int) -> None:
    forget_unused(db)
    meta.put(db, meta.SWEPT_AT, now_ms)

"""Once a day, after a sync: content of blobs that expired a week ago leaves this device, as if evicted.

The blob itself, and what the remote holds of it, stay: a blob that is put off is there again. What this
device alone has is never given up, however long ago its time came.
"""

import contextlib
from functools import partial

from syncagent.cache import expired, holding
from syncagent.cache.downloads import EXPIRED_MS
from syncagent.engine.context import Context
from syncagent.engine.evicting import Shown, drop_content
from syncagent.errors import RemoteError
from syncagent.remote.base import Remote


async def give_up_expired(ctx: Context, remote: Remote) -> None:
    """Give up what has expired. A remote that goes away meanwhile is asked again the next day."""
    before_ms = ctx.now_ms() - EXPIRED_MS
    shown = Shown(remote)
    with contextlib.suppress(RemoteError):  # the sync itself is done
        for namespace in await ctx.cache.read(expired.namespaces):
            after: expired.Place | None = expired.START
            while after is not None:
                find = partial(expired.page, namespace=namespace, before_ms=before_ms, after=after)
                page = await ctx.cache.read(find, background=True)
                for blob in page.blobs:
                    await _give_up(ctx, blob, shown, before_ms)
                after = page.next


async def _give_up(ctx: Context, blob: int, shown: Shown, before_ms: int) -> None:
    await shown.look(await ctx.cache.read(partial(holding.packs_to_prove, blob=blob), background=True))
    give_up = partial(expired.give_up, blob=blob, before_ms=before_ms, proven=shown.packs)
    if await ctx.cache.write(give_up, background=True):
        await drop_content(ctx, blob, shown.packs)

"""Reading large content on this device: several worker threads at once, verified chunk by chunk."""

from collections.abc import Callable, Sequence
from functools import partial

import anyio.to_thread

from syncagent.cache.chunks import ChunkPlaces, ChunkSource, batched
from syncagent.engine.context import Context
from syncagent.engine.read import content_places
from syncagent.engine.tasks import run_together
from syncagent.errors import CacheDamaged
from syncagent.model import CHUNK_SIZE, Version

CHUNKS_AT_ONCE = 8
"""Chunks read in one go: enough for every core to have some, little enough to hold in memory."""
_CHUNKS_A_THREAD = 2


async def read_chunks(
    ctx: Context, version: Version, first: int, stop: int, take: Callable[[int, bytes], None]
) -> None:
    """Give chunks `first` to `stop` of a version to `take`, with their numbers, in any order.

    `take` is called in worker threads. On return, also by an error or a cancellation, it is called no more.

    Raises:
        CacheDamaged: a chunk does not verify; some may have been taken.
    """
    for start in range(first, stop, CHUNKS_AT_ONCE):
        numbers = range(start, min(start + CHUNKS_AT_ONCE, stop))
        places = await ctx.cache.read(
            partial(content_places, version=version, first=numbers.start, stop=numbers.stop)
        )
        jobs = []
        for part in batched(numbers, _CHUNKS_A_THREAD):
            found = [places[number - start] for number in part]
            read = partial(_read, ChunkSource(ctx.keys, ctx.profile.packs), version.size, part, found, take)
            jobs.append(partial(anyio.to_thread.run_sync, read, limiter=ctx.workers))
        await run_together(jobs)


def _read(
    source: ChunkSource,
    size: int,
    numbers: Sequence[int],
    places: Sequence[ChunkPlaces],
    take: Callable[[int, bytes], None],
) -> None:
    for number, place in zip(numbers, places, strict=True):
        content = source.read(place)
        if len(content) != min(CHUNK_SIZE, size - number * CHUNK_SIZE):
            raise CacheDamaged("a chunk of the content has another length than the version says")
        take(number, content)

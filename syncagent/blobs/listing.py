"""Listing and counting a namespace's blobs; answered without the remote."""

from functools import partial

from syncagent.blobs.inside import Inside
from syncagent.cache import queries
from syncagent.model import BlobPage, SyncStatus


async def count(inside: Inside, *, prefix: str, status: SyncStatus | None) -> int:
    """How many live blobs match; see `Namespace.count`."""
    return await inside.ctx.cache.read(
        partial(queries.count_blobs, namespace=inside.name, prefix=prefix, status=status)
    )


async def list_page(
    inside: Inside, *, prefix: str, status: SyncStatus | None, after: str | None, limit: int
) -> BlobPage:
    """One page of live blobs; see `Namespace.list`."""
    return await inside.ctx.cache.read(
        partial(
            queries.list_blobs,
            namespace=inside.name,
            prefix=prefix,
            status=status,
            after=after,
            limit=limit,
        )
    )

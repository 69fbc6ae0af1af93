"""Listing and counting a namespace's blobs; answered without the remote."""

from functools import partial

from syncagent import names
from syncagent.answers import BlobInfo, BlobPage, ListOrder
from syncagent.asked import checked_bool
from syncagent.blobs.inside import Inside
from syncagent.cache import listing
from syncagent.cache.listing import Order
from syncagent.cache.matching import BlobFilter
from syncagent.errors import BlobNotFound, ConfigError
from syncagent.model import SyncStatus


async def count(inside: Inside, wanted: BlobFilter) -> int:
    """How many live blobs match; see `Namespace.count`."""
    return await inside.ctx.cache.read(partial(listing.count_blobs, wanted=wanted))


async def list_page(
    inside: Inside, wanted: BlobFilter, order: Order, *, after: str | None, limit: int, details: bool
) -> BlobPage:
    """One page of live blobs; see `Namespace.list`."""
    await inside.ctx.reads.flush(inside.ctx.cache)
    return await inside.ctx.cache.read(
        partial(listing.list_blobs, wanted=wanted, order=order, after=after, limit=limit, details=details)
    )


def matching(inside: Inside, prefix: str, status: SyncStatus | None, flag: str | None) -> BlobFilter:
    """Which blobs are meant: none that has expired by now."""
    return BlobFilter(inside.name, prefix, status, flag, inside.ctx.now_ms())


def checked_order(order_by: str, *, descending: bool) -> Order:
    """An order by its name, or `ConfigError`."""
    try:
        return Order(ListOrder(order_by), checked_bool(descending, "descending"))
    except ValueError as exc:
        known = ", ".join(order.value for order in ListOrder)
        raise ConfigError(f"a list is ordered by one of {known}, not by {order_by!r}") from exc


async def stat(inside: Inside, blob_id: str) -> BlobInfo:
    """One blob with its flags and metadata; see `Namespace.stat`."""
    blob_id = names.check_blob_id(blob_id)
    await inside.ctx.reads.flush(inside.ctx.cache)
    find = partial(listing.find_info, namespace=inside.name, blob_id=blob_id, now_ms=inside.ctx.now_ms())
    found = await inside.ctx.cache.read(find)
    if found is None:
        raise BlobNotFound(f"{inside.name}/{blob_id!r} is not on this device")
    return found

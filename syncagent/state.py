"""What a vault tells of itself without the remote: its status, why a blob waits, what has changed."""

from functools import partial

from syncagent import names
from syncagent.answers import ChangePage
from syncagent.cache import changes as feed
from syncagent.cache import queries, waiting
from syncagent.cache.lock import SyncLock
from syncagent.engine.context import Context
from syncagent.errors import CacheDamaged, ConfigError, TokenExpired
from syncagent.reports import Explanation, VaultStatus


async def status(ctx: Context) -> VaultStatus:
    """Counts and reasons; see `Vault.status`."""
    last_sync = SyncLock(ctx.profile.lock).last_sync()
    return await ctx.cache.read(partial(queries.status, last_sync=last_sync, now=ctx.now()))


async def explain(ctx: Context, namespace: str, blob_id: str) -> Explanation:
    """Why a blob is not in sync; see `Vault.explain`."""
    namespace, blob_id = names.check_namespace(namespace), names.check_blob_id(blob_id)
    operation = partial(waiting.explain, namespace=namespace, blob_id=blob_id, now_ms=ctx.now_ms())
    return await ctx.cache.read(operation)


async def changes(ctx: Context, since: str | None, limit: int, *, details: bool) -> ChangePage:
    """What has changed; see `Vault.changes`."""
    try:
        return await ctx.cache.read(partial(feed.list_changes, since=since, limit=limit, details=details))
    except CacheDamaged as exc:
        if since is None:
            raise
        # The log may be what is damaged. It can be done without: the blobs themselves are listed anew.
        raise TokenExpired("what has changed since cannot be read") from exc


async def retry(ctx: Context, namespace: str | None, blob_id: str | None) -> int:
    """Make what waits after a failure due; see `Vault.retry`."""
    if namespace is not None:
        namespace = names.check_namespace(namespace)
    elif blob_id is not None:
        raise ConfigError("a blob is named by its namespace and its id")
    if blob_id is not None:
        blob_id = names.check_blob_id(blob_id)
    return await ctx.cache.write(partial(waiting.retry, namespace=namespace, blob_id=blob_id))

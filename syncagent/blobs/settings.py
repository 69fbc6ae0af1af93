"""A namespace's settings: reading them, and changing them for all devices or for this one."""

from functools import partial

from syncagent.blobs.inside import Inside
from syncagent.cache import blobs, settings
from syncagent.cache.chunks import ChunkSource
from syncagent.cache.db import Database
from syncagent.crypto.keys import VaultKeys
from syncagent.engine.local import Put, record_put
from syncagent.engine.settings import SettingsChange, settle_policies
from syncagent.engine.storing import small_content
from syncagent.model import Metadata, NamespaceSettings
from syncagent.names import SETTINGS

_NO_DIGEST = b""
"""Settings are metadata: the blob has no content, and no content has no digest."""


async def read_or_change(inside: Inside, change: SettingsChange) -> NamespaceSettings:
    """The settings as they stand after a change, or without one; see `Namespace.settings`."""
    ctx = inside.ctx
    if not change.synced and change.local_only is None:
        return await ctx.cache.read(partial(settings.load, name=inside.name))
    operation = partial(
        _record,
        namespace=inside.name,
        change=change,
        now_ms=ctx.now_ms(),
        keys=ctx.keys,
        source=inside.source(),
    )
    standing = await ctx.cache.write(operation)
    inside.engine.note_change()
    await settle_policies(ctx)
    return standing


def _record(
    db: Database,
    namespace: str,
    change: SettingsChange,
    *,
    now_ms: int,
    keys: VaultKeys,
    source: ChunkSource,
) -> NamespaceSettings:
    if change.local_only is not None:
        number = blobs.namespace_no(db, namespace)
        settings.set_local_only(db, number, local_only=change.local_only)
    if change.synced:
        # What stands and is not changed is kept, also what only a newer version understands.
        put = Put(SETTINGS, namespace, {**_standing(db, namespace), **change.synced}, replace=True)
        record_put(
            db,
            put,
            lambda scope: small_content(keys, scope, b"", _NO_DIGEST),
            now_ms=now_ms,
            keys=keys,
            source=source,
        )
    return settings.load(db, namespace)


def _standing(db: Database, namespace: str) -> Metadata:
    number = blobs.find_namespace(db, SETTINGS)
    row = None if number is None else blobs.find_blob(db, number, namespace)
    if row is None or row.winner_no is None or row.is_deleted:
        return {}
    return blobs.load_version(db, row.winner_no).metadata

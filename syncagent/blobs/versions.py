"""Versions of a namespace's blobs: history, conflicts and their end, other metadata."""

from collections.abc import Mapping
from functools import partial

from syncagent import names
from syncagent.answers import Conflict, VersionInfo
from syncagent.asked import checked_limit
from syncagent.blobs.inside import Inside
from syncagent.blobs.writing import checked_put, put_one
from syncagent.cache.db import Database
from syncagent.engine import history
from syncagent.engine.expected import NOTHING_EXPECTED
from syncagent.engine.history import Name
from syncagent.engine.local import Resolution
from syncagent.engine.revising import Revision, record_revision
from syncagent.engine.sources import Source
from syncagent.engine.tagging import check_tag, record_tag
from syncagent.errors import ConfigError
from syncagent.journal.checks import check_metadata
from syncagent.model import MetadataValue, Version

_CONFLICTS_A_READ = 50
MAX_HISTORY = 1000


async def list_versions(inside: Inside, blob_id: str, before: str | None, limit: int) -> list[VersionInfo]:
    """Versions, newest first; see `Namespace.history`."""
    name = Name(inside.name, names.check_blob_id(blob_id))
    checked_limit(limit, MAX_HISTORY, "versions")

    def find(db: Database) -> list[VersionInfo]:
        last = None if before is None else history.version_no(db, name, before)
        return history.list_versions(db, name, before=last, limit=limit)

    return await inside.ctx.cache.read(find)


async def list_conflicts(inside: Inside) -> list[Conflict]:
    """Every blob in conflict; see `Namespace.conflicts`."""
    found: list[Conflict] = []
    while True:
        part = await inside.ctx.cache.read(
            partial(
                history.list_conflicts,
                namespace=inside.name,
                after=found[-1].id if found else "",
                limit=_CONFLICTS_A_READ,
                now_ms=inside.ctx.now_ms(),
            )
        )
        found += part
        if len(part) < _CONFLICTS_A_READ:
            return found


async def set_metadata(
    inside: Inside,
    blob_id: str,
    metadata: Mapping[str, MetadataValue],
    if_version: Version | VersionInfo | str | None,
) -> Version:
    """Other metadata, the same content; see `Namespace.set_metadata`."""
    wanted = Revision(
        Name(inside.name, names.check_blob_id(blob_id)),
        metadata=check_metadata(metadata),
        if_version=None if if_version is None else str(if_version),
    )
    return await _revise(inside, wanted)


async def resolve(
    inside: Inside,
    blob_id: str,
    data: Source | None,
    *,
    version: Version | VersionInfo | str | None,
    metadata: Mapping[str, MetadataValue] | None,
    seen: Conflict | None,
) -> Version:
    """End a conflict; see `Namespace.resolve`."""
    if (data is None) is (version is None):
        raise ConfigError("a conflict is resolved by content, or by one of its versions")
    resolution = Resolution(
        None if seen is None else frozenset(one.id for one in seen.versions), keeps_metadata=metadata is None
    )
    if data is not None:
        wanted = checked_put(
            inside.name, names.check_blob_id(blob_id), metadata=metadata, replace=True, resolution=resolution
        )
        return await put_one(inside, wanted, data, NOTHING_EXPECTED)
    revision = Revision(
        Name(inside.name, names.check_blob_id(blob_id)),
        metadata=None if metadata is None else check_metadata(metadata),
        content_of=str(version),
        resolution=resolution,
    )
    return await _revise(inside, revision)


async def tag(inside: Inside, blob_id: str, version: str, name: str, *, is_on: bool) -> None:
    """Put a tag on a version, or take it off; see `Namespace.tag`."""
    change = partial(
        record_tag,
        name=Name(inside.name, names.check_blob_id(blob_id)),
        version=version,
        tag=check_tag(name) if is_on else names.plain(name),
        is_on=is_on,
        now_ms=inside.ctx.now_ms(),
    )
    await inside.ctx.cache.write(change)
    inside.engine.note_change()


async def _revise(inside: Inside, wanted: Revision) -> Version:
    now_ms = inside.ctx.now_ms()
    version = await inside.ctx.cache.write(partial(record_revision, wanted=wanted, now_ms=now_ms))
    inside.engine.note_change()
    return version

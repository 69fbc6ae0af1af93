"""Reading a namespace's blobs: from this device, fetched where it is not here, healed where it is damaged."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from syncagent import names
from syncagent.answers import Blob, GetResult
from syncagent.asked import checked_bool
from syncagent.blobs.inside import Inside
from syncagent.cache import downloads
from syncagent.cache.chunks import batched
from syncagent.cache.db import Database
from syncagent.engine import read
from syncagent.engine.fetch import Part
from syncagent.engine.history import Name
from syncagent.engine.many import find_some
from syncagent.engine.read import Found, Wanted
from syncagent.errors import (
    BlobNotHere,
    CacheDamaged,
    OpenError,
    RemoteError,
    RemoteRolledBack,
    SyncAgentError,
    WrongVault,
)
from syncagent.model import SMALL_BLOB, Version
from syncagent.reader import BlobReader
from syncagent.times import utc

_GET_AT_ONCE = 64


class OpenBlob:
    """The async context manager that `Namespace.open` returns."""

    def __init__(self, inside: Inside, blob_id: str, version: str | None, *, keep: bool) -> None:
        self._inside = inside
        self._blob_id = blob_id
        self._version = version
        self._keep = checked_bool(keep, "keep")
        self._reader: BlobReader | None = None

    async def __aenter__(self) -> BlobReader:
        found = await _find(self._inside, self._blob_id, self._version)
        if not found.is_here and found.version.size <= SMALL_BLOB:
            found = await _brought(self._inside, self._blob_id, found, keep=self._keep)
        await _note_read(self._inside, self._blob_id, is_kept=self._keep)
        self._reader = _reader(self._inside, self._blob_id, found, keep=self._keep)
        return self._reader

    async def __aexit__(self, *exc: object) -> None:
        if self._reader is not None:
            await self._reader.__aexit__(None, None, None)


async def get_one(inside: Inside, blob_id: str, version: str | None = None, *, keep: bool = True) -> Blob:
    """One blob with its content; see `Namespace.get`."""
    checked_bool(keep, "keep")
    found = await _find(inside, blob_id, version)
    if not found.is_here and (keep or found.version.size <= SMALL_BLOB):
        found = await _brought(inside, blob_id, found, keep=keep)
    data = found.data
    if data is None:
        data = await _reader(inside, blob_id, found, keep=keep).read_range(0, found.version.size)
    await _note_read(inside, blob_id, is_kept=keep)
    return _blob(blob_id, found.version, data)


async def get_many(inside: Inside, blob_ids: Sequence[str]) -> list[GetResult]:
    """Many blobs; see `Namespace.get_many`."""
    blob_ids = names.check_several(blob_ids)
    results: list[GetResult] = []
    for part in batched(blob_ids, _GET_AT_ONCE):
        find = partial(
            find_some,
            namespace=inside.name,
            ids=part,
            source=inside.source(),
            now_ms=inside.ctx.now_ms(),
        )
        several = await inside.ctx.cache.read(find)
        for blob_id, one in zip(part, several, strict=True):
            if isinstance(one, Found) and one.data is not None:
                await _note_read(inside, blob_id, is_kept=True)
                results.append(GetResult(blob_id, _blob(blob_id, one.version, one.data)))
                continue
            try:
                results.append(GetResult(blob_id, await get_one(inside, blob_id)))
            except SyncAgentError as exc:
                results.append(GetResult(blob_id, error=exc))
    return results


async def _note_read(inside: Inside, blob_id: str, *, is_kept: bool) -> None:
    """Count a read that was answered."""
    ctx = inside.ctx
    if ctx.reads.note(inside.name, blob_id, ctx.now_ms(), is_kept=is_kept):
        await ctx.reads.flush(ctx.cache)


async def exists(inside: Inside, blob_id: str) -> bool:
    """Whether there is a live blob; see `Namespace.exists`."""
    wanted = Wanted(Name(inside.name, names.check_blob_id(blob_id)), inside.ctx.now_ms())
    return await inside.ctx.cache.read(partial(_exists, wanted=wanted))


async def _find(inside: Inside, blob_id: str, version: str | None) -> Found:
    """The version that is wanted, with its content if that is here; healed if it is damaged."""
    wanted = Wanted(Name(inside.name, names.check_blob_id(blob_id)), inside.ctx.now_ms(), version)
    cache = inside.ctx.cache
    find = partial(read.find, wanted=wanted, source=inside.source())
    try:
        found = await cache.read(find)
    except CacheDamaged as damage:
        await _heal(inside, await cache.read(partial(read.wanted_no, wanted=wanted)), damage)
        found = await cache.read(find)
    return found


async def _brought(inside: Inside, blob_id: str, found: Found, *, keep: bool) -> Found:
    """A version whose content was not here, with all of it fetched: kept, or as small content in memory."""
    if not keep:
        parts = await _fetch_part(inside, blob_id, found.version_no, keep, range(len(found.version.content)))
        if len(parts) == len(found.version.content):
            return replace(found, data=b"".join(parts[number] for number in range(len(parts))))
    else:
        await _fetch(inside, blob_id, found.version_no)
    find = partial(read.find_content, number=found.version_no, source=inside.source())
    return await inside.ctx.cache.read(find)


def _reader(inside: Inside, blob_id: str, found: Found, *, keep: bool) -> BlobReader:
    heal = partial(_heal, inside, found.version_no)
    fetch = None if found.is_here else partial(_fetch_part, inside, blob_id, found.version_no, keep)
    return BlobReader(inside.ctx, found.version, heal, found.data, fetch)


async def _heal(inside: Inside, version_no: int, damage: CacheDamaged) -> None:
    """Content that does not verify is fetched again where the remote has it; else the damage stands."""
    try:
        can_fetch = await inside.ctx.cache.write(
            partial(read.mark_lost, version_no=version_no, source=inside.source())
        )
        causes = await inside.engine.fetch_now([version_no]) if can_fetch else {}
    except SyncAgentError as exc:
        raise damage from exc
    if not can_fetch or causes:
        raise damage


async def _fetch_part(
    inside: Inside, blob_id: str, version_no: int, keep: bool, numbers: range
) -> Mapping[int, bytes]:
    """Bring those of these chunks that are not here; those that are not kept, by their positions."""
    part = Part(version_no, numbers, keep)
    await _fetch(inside, blob_id, version_no, part)
    if not part.taken:
        return {}
    chunks = await inside.ctx.cache.read(
        partial(downloads.chunks_of_part, version=version_no, first=numbers.start, stop=numbers.stop)
    )
    return {n: part.taken[chunk] for n, chunk in zip(numbers, chunks, strict=True) if chunk in part.taken}


async def _fetch(inside: Inside, blob_id: str, version_no: int, part: Part | None = None) -> None:
    cause: SyncAgentError | None
    try:
        cause = (await inside.engine.fetch_now([version_no], part=part)).get(version_no)
    except (RemoteError, RemoteRolledBack, WrongVault) as exc:
        cause = exc
    if isinstance(cause, OpenError):
        raise cause
    if cause is not None:
        available = await inside.ctx.cache.read(
            partial(read.newest_here, namespace=inside.name, blob_id=blob_id)
        )
        raise BlobNotHere(
            f"the content of {inside.name}/{blob_id!r} is not on this device: {cause}", available=available
        ) from cause


def _exists(db: Database, *, wanted: Wanted) -> bool:
    return read.winner_no(db, wanted) is not None


def _blob(blob_id: str, version: Version, data: bytes) -> Blob:
    return Blob(blob_id, data, version.metadata, version, version.size, utc(version.created_at))

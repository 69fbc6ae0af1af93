"""A namespace of an open vault: put, get, open, delete, list."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from functools import partial

from syncagent import names
from syncagent.cache import queries
from syncagent.cache.chunks import ChunkSource, batched
from syncagent.cache.db import Database
from syncagent.crypto.chunk import content_digest, digest_of
from syncagent.engine import local, read
from syncagent.engine.content import prepared
from syncagent.engine.context import Context
from syncagent.engine.engine import Engine
from syncagent.engine.expected import Expected, check_content, check_expected
from syncagent.engine.local import Put, check_priority
from syncagent.engine.many import SLICE_BLOBS, SmallPut, find_some, put_some
from syncagent.engine.read import Found
from syncagent.engine.sources import Source, check_source
from syncagent.errors import (
    BlobNotHere,
    CacheDamaged,
    CacheFull,
    OpenError,
    RemoteError,
    RemoteRolledBack,
    SyncAgentError,
    WrongVault,
)
from syncagent.journal.checks import check_metadata
from syncagent.model import (
    DEFAULT_PRIORITY,
    SMALL_BLOB,
    Blob,
    BlobPage,
    GetResult,
    Metadata,
    MetadataValue,
    PutResult,
    SyncStatus,
    Version,
)
from syncagent.reader import BlobReader
from syncagent.times import utc

_GET_AT_ONCE = 64


class Namespace:
    """A named group of blobs. Made by `Vault.namespace`; costs nothing to make."""

    def __init__(self, name: str, ctx: Context, engine: Engine) -> None:
        self.name = name
        self._ctx = ctx
        self._engine = engine

    async def put(
        self,
        blob_id: str | None,
        data: Source,
        *,
        metadata: Mapping[str, MetadataValue] | None = None,
        replace: bool = False,
        if_version: Version | str | None = None,
        expected_sha256: bytes | str | None = None,
        expected_size: int | None = None,
        priority: int = DEFAULT_PRIORITY,
        local_only: bool | None = None,
    ) -> Version:
        """Store a blob; durable in the cache on return, and sent by the next sync.

        The same bytes and metadata under an existing id are no new version: the
        existing one is returned. A path is copied in; the file is not watched.

        Args:
            blob_id: 1 to 1024 bytes of UTF-8 in NFC, without NUL. None for one made of the content: the
                hex digest of it, the same for the same content.
            data: bytes, the path of a regular file, or an async iterable of bytes.
            metadata: text keys to text, 64-bit int, finite float, bool or bytes; at most 16 KiB packed.
            replace: store a new version where the id holds other bytes or metadata.
            if_version: replace, but only this version: the blob's present one, by its id or at least 8
                digits of it.
            expected_sha256: of the whole content, 32 bytes or hex.
            expected_size: of the content, in bytes.
            priority: 1 to 4; what is sent first has the smallest.
            local_only: True keeps the blob on this device for ever, False shares it; None leaves it as it
                is, and shares a new one. What was sent already stays sent.

        Raises:
            InvalidName, LimitExceeded, ConfigError: the id, size, metadata or an option cannot be used.
            BlobExists: the id holds something else and `replace` is not set.
            VersionConflict: the present version is another than `if_version`.
            ContentMismatch: the content is not what was expected.
            SourceChanged: the file cannot be read or changed while it was read.
            CacheFull: the disk is full. In every case nothing was stored.
        """
        if blob_id is not None:
            names.check_blob_id(blob_id)
        check_source(data)
        wanted = Put(
            self.name,
            blob_id or "",
            check_metadata(metadata or {}),
            replace,
            priority=check_priority(priority),
            if_version=None if if_version is None else str(if_version),
            local_only=local_only,
        )
        expected = check_expected(expected_sha256, expected_size)
        if isinstance(data, bytes) and len(data) <= SMALL_BLOB:
            version = await self._put_small(wanted, data, expected)
        else:
            version = await self._put_any(wanted, data, expected)
        self._engine.note_change()
        return version

    async def _put_small(self, wanted: Put, data: bytes, expected: Expected) -> Version:
        check_content(expected, data)
        if not wanted.blob_id:
            wanted = replaced(wanted, blob_id=content_digest((digest_of(data),) if data else ()).hex())
        result = await self._ctx.cache.write_each(put_some, SmallPut(self._ctx, wanted, data))
        if result.version is None:
            raise result.error or AssertionError
        return result.version

    async def _put_any(self, wanted: Put, data: Source, expected: Expected) -> Version:
        ctx = self._ctx
        find_scope = partial(local.scope_of, keys=ctx.keys, put=wanted)
        async with prepared(ctx, data, find_scope, expected) as content:
            if not wanted.blob_id:
                wanted = replaced(wanted, blob_id=content.content_digest.hex())
            return await ctx.cache.write(
                partial(
                    local.record_put,
                    put=wanted,
                    content_in=content.for_scope,
                    now_ms=ctx.now_ms(),
                    keys=ctx.keys,
                    source=ChunkSource(ctx.keys, ctx.profile.packs),
                )
            )

    async def put_many(
        self,
        blobs: Iterable[tuple[str, Source] | tuple[str, Source, Mapping[str, MetadataValue]]],
        *,
        replace: bool = False,
    ) -> list[PutResult]:
        """Store many blobs, each as `put` does; what failed says why, the others are stored.

        Much faster than as many calls of `put` one after another. Each blob is all or
        nothing; the whole is not (that is what a transaction is for).

        Args:
            blobs: (blob id, data) or (blob id, data, metadata).
            replace: as for `put`.

        Returns:
            One result a blob, in the order given.
        """
        requests = [_Request(item[0], item[1], item[2] if len(item) > 2 else {}) for item in blobs]
        for request in requests:
            check_source(request.data)
        results: list[PutResult] = []
        for part in batched(requests, SLICE_BLOBS):
            results += await self._put_part(part, replace)
        self._engine.note_change()
        return results

    async def _put_part(self, requests: Sequence["_Request"], replace: bool) -> list[PutResult]:
        results: dict[int, PutResult] = {}
        small: dict[int, SmallPut] = {}
        for index, request in enumerate(requests):
            if isinstance(request.data, bytes) and len(request.data) <= SMALL_BLOB:
                try:
                    names.check_blob_id(request.blob_id)
                    put = Put(self.name, request.blob_id, check_metadata(request.metadata), replace)
                except SyncAgentError as exc:
                    results[index] = PutResult(request.blob_id, error=exc)
                else:
                    small[index] = SmallPut(self._ctx, put, request.data)
        while small:
            try:
                stored = await self._ctx.cache.write(partial(put_some, items=list(small.values())))
            except (CacheFull, CacheDamaged):
                break  # one of them fails them all: each is put alone below
            for index, result in zip(list(small), stored, strict=False):
                results[index] = result
                del small[index]
        for index, request in enumerate(requests):
            if index not in results:
                try:
                    version = await self.put(
                        request.blob_id, request.data, metadata=request.metadata, replace=replace
                    )
                    results[index] = PutResult(request.blob_id, version)
                except SyncAgentError as exc:
                    results[index] = PutResult(request.blob_id, error=exc)
        return [results[index] for index in range(len(requests))]

    async def get(self, blob_id: str) -> Blob:
        """A blob with its content in memory: local if it is here, else fetched and kept.

        Raises:
            BlobNotFound: no live blob has this id on this device.
            BlobNotHere: the content is not here and cannot be fetched now; `available` is what is.
            CacheDamaged: the local copy does not verify and no other could be had.
            Tampered, Truncated: the remote's copy does not verify and no other could be had.
        """
        found = await self._found(blob_id)
        data = found.data
        if data is None:
            data = await self._reader(found).read_range(0, found.version.size)
        return _blob(blob_id, found.version, data)

    async def get_many(self, blob_ids: Sequence[str]) -> list[GetResult]:
        """Many blobs, each as `get` gives it, in the order asked for; what failed says why."""
        results: list[GetResult] = []
        source = ChunkSource(self._ctx.keys, self._ctx.profile.packs)
        for part in batched(blob_ids, _GET_AT_ONCE):
            found = await self._ctx.cache.read(
                partial(find_some, namespace=self.name, ids=part, source=source)
            )
            for blob_id, one in zip(part, found, strict=True):
                if isinstance(one, Found) and one.data is not None:
                    results.append(GetResult(blob_id, _blob(blob_id, one.version, one.data)))
                    continue
                try:
                    results.append(GetResult(blob_id, await self.get(blob_id)))
                except SyncAgentError as exc:
                    results.append(GetResult(blob_id, error=exc))
        return results

    def open(self, blob_id: str) -> "OpenBlob":
        """Streams a blob: `async with notes.open(id) as reader`, see `BlobReader`; raises as `get` does."""
        return OpenBlob(self, blob_id)

    async def delete(self, blob_id: str) -> Version:
        """Delete a blob here at once, and everywhere by the next syncs; the tombstone.

        Raises:
            BlobNotFound: no live blob has this id on this device.
        """
        names.check_blob_id(blob_id)
        operation = partial(
            local.record_delete,
            namespace=self.name,
            blob_id=blob_id,
            now_ms=self._ctx.now_ms(),
            keys=self._ctx.keys,
        )
        version = await self._ctx.cache.write(operation)
        self._engine.note_change()
        return version

    async def exists(self, blob_id: str) -> bool:
        """Whether a live blob has this id on this device, with or without its content."""
        names.check_blob_id(blob_id)
        return await self._ctx.cache.read(partial(_exists, namespace=self.name, blob_id=blob_id))

    async def count(self, *, prefix: str = "", status: SyncStatus | None = None) -> int:
        """How many live blobs there are, or how many match."""
        return await self._ctx.cache.read(
            partial(queries.count_blobs, namespace=self.name, prefix=prefix, status=status)
        )

    async def list(
        self,
        *,
        prefix: str = "",
        status: SyncStatus | None = None,
        after: str | None = None,
        limit: int = 1000,
    ) -> BlobPage:
        """Live blobs by id, a page at a time; answered without the remote.

        Args:
            prefix: only ids that begin with it.
            status: only blobs that show this status.
            after: `next` of the page before.
            limit: most blobs a page, 1 to 10,000.
        """
        return await self._ctx.cache.read(
            partial(
                queries.list_blobs,
                namespace=self.name,
                prefix=prefix,
                status=status,
                after=after,
                limit=limit,
            )
        )

    async def _found(self, blob_id: str) -> Found:
        """The winning version with its content on this device, fetched if need be."""
        names.check_blob_id(blob_id)
        source = ChunkSource(self._ctx.keys, self._ctx.profile.packs)
        find = partial(read.find, namespace=self.name, blob_id=blob_id, source=source)
        try:
            found = await self._ctx.cache.read(find)
        except CacheDamaged as damage:
            version_no = await self._ctx.cache.read(
                partial(read.winner_no, namespace=self.name, blob_id=blob_id)
            )
            await self._heal(version_no, source, damage)
            found = await self._ctx.cache.read(find)
        if not found.is_here:
            await self._fetch(blob_id, found.version_no)
            found = await self._ctx.cache.read(find)
        return found

    def _reader(self, found: Found) -> BlobReader:
        source = ChunkSource(self._ctx.keys, self._ctx.profile.packs)
        return BlobReader(self._ctx, found.version, partial(self._heal, found.version_no, source), found.data)

    async def _heal(self, version_no: int | None, source: ChunkSource, damage: CacheDamaged) -> None:
        """Content that does not verify is fetched again where the remote has it; else the damage stands."""
        if version_no is None:
            raise damage
        try:
            can_fetch = await self._ctx.cache.write(
                partial(read.mark_lost, version_no=version_no, source=source)
            )
            causes = await self._engine.fetch_now([version_no]) if can_fetch else {}
        except SyncAgentError as exc:
            raise damage from exc
        if not can_fetch or causes:
            raise damage

    async def _fetch(self, blob_id: str, version_no: int) -> None:
        cause: SyncAgentError | None
        try:
            cause = (await self._engine.fetch_now([version_no])).get(version_no)
        except (RemoteError, RemoteRolledBack, WrongVault) as exc:
            cause = exc
        if isinstance(cause, OpenError):
            raise cause
        if cause is not None:
            available = await self._ctx.cache.read(
                partial(read.newest_here, namespace=self.name, blob_id=blob_id)
            )
            raise BlobNotHere(
                f"the content of {self.name}/{blob_id!r} is not on this device: {cause}", available=available
            ) from cause


class OpenBlob:
    """The async context manager that `Namespace.open` returns."""

    def __init__(self, namespace: Namespace, blob_id: str) -> None:
        self._namespace = namespace
        self._blob_id = blob_id

    async def __aenter__(self) -> BlobReader:
        return self._namespace._reader(await self._namespace._found(self._blob_id))

    async def __aexit__(self, *exc: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class _Request:
    blob_id: str
    data: Source = field(repr=False)
    metadata: Metadata


def _exists(db: Database, *, namespace: str, blob_id: str) -> bool:
    return read.winner_no(db, namespace, blob_id) is not None


def _blob(blob_id: str, version: Version, data: bytes) -> Blob:
    return Blob(blob_id, data, version.metadata, version, version.size, utc(version.created_at))

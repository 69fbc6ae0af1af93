"""Several changes as one: `async with vault.transaction() as tx`."""

import contextlib
import datetime
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

from syncagent import names
from syncagent.answers import VersionInfo
from syncagent.blobs.writing import checked_put
from syncagent.cache.chunks import ChunkSource
from syncagent.engine import local
from syncagent.engine.content import prepared, ways
from syncagent.engine.context import Context
from syncagent.engine.engine import Engine
from syncagent.engine.expected import Expected, check_expected
from syncagent.engine.grouped import DeleteStep, MarkStep, PutStep, Step, record_group
from syncagent.engine.local import Put
from syncagent.engine.marks import FlagsStep
from syncagent.engine.sources import Source, check_source
from syncagent.engine.storing import ContentDropped
from syncagent.errors import ConfigError
from syncagent.journal.checks import check_flags
from syncagent.model import DEFAULT_PRIORITY, MetadataValue, Version


class Transaction:
    """Collects puts, deletes and changes of flags; they happen when its block ends, all of them or none.

    All or none holds here, after a crash too, and on every other device: they go out in one batch, as
    soon as the content of all of them is at the remote. Leaving the block by an exception discards them.
    Steps are done in their order, so a later one sees an earlier one of the same blob.

    Raises (when the block ends):
        BlobExists, BlobNotFound, VersionConflict, ContentMismatch, SourceChanged: of any step; nothing of
            the transaction was stored.
        LimitExceeded: it is too large to be one, about 8 MiB of names, metadata and lists of chunks.
        CacheFull: the disk is full; nothing of it was stored.
    """

    def __init__(self, ctx: Context, engine: Engine) -> None:
        self._ctx = ctx
        self._engine = engine
        self._steps: list[_Put | DeleteStep | MarkStep] = []
        self._is_open = self._was_used = False
        self.versions: tuple[Version, ...] = ()
        """After the block: what each put and delete has made, in their order."""

    async def __aenter__(self) -> Self:
        if self._was_used:
            raise ConfigError("a transaction is used once: ask the vault for another one")
        self._is_open = self._was_used = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        if exc is None and self._steps:
            await self._commit()

    def namespace(self, name: str) -> "TransactionNamespace":
        """A namespace whose changes are part of the transaction. Raises `InvalidName`."""
        return TransactionNamespace(names.check_namespace(name), self)

    def add(self, step: "_Put | DeleteStep | MarkStep") -> None:
        """For the package's own use."""
        if not self._is_open:
            raise ConfigError("this transaction is over: use it inside its `async with` block")
        self._steps.append(step)

    async def _commit(self) -> None:
        *before, last = ways(step.data for step in self._steps if isinstance(step, _Put))
        for relies in before:
            with contextlib.suppress(ContentDropped):
                return await self._commit_sealed(relies=relies)
        return await self._commit_sealed(relies=last)

    async def _commit_sealed(self, *, relies: bool) -> None:
        ctx = self._ctx
        async with AsyncExitStack() as stack:
            steps: list[Step] = []
            for step in self._steps:
                if isinstance(step, DeleteStep | MarkStep):
                    steps.append(step)
                    continue
                find_scope = partial(local.scope_of, keys=ctx.keys, put=step.put)
                content = await stack.enter_async_context(
                    prepared(ctx, step.data, find_scope, step.expected, relies=relies)
                )
                steps.append(PutStep(step.put, content.for_scope))
            operation = partial(
                record_group,
                steps=steps,
                now_ms=ctx.now_ms(),
                keys=ctx.keys,
                source=ChunkSource(ctx.keys, ctx.profile.packs),
            )
            self.versions = tuple(await ctx.cache.write(operation))
        self._engine.note_change()


class TransactionNamespace:
    """A namespace inside a transaction. Nothing happens before the transaction's block ends."""

    def __init__(self, name: str, transaction: Transaction) -> None:
        self.name = name
        self._transaction = transaction

    def put(
        self,
        blob_id: str,
        data: Source,
        *,
        metadata: Mapping[str, MetadataValue] | None = None,
        replace: bool = False,
        if_version: Version | VersionInfo | str | None = None,
        expected_sha256: bytes | str | None = None,
        expected_size: int | None = None,
        priority: int = DEFAULT_PRIORITY,
        local_only: bool | None = None,
        expires_at: datetime.datetime | None = None,
    ) -> None:
        """Store a blob, as `Namespace.put` does. A path or stream is read when the block ends.

        Raises:
            InvalidName, LimitExceeded, ConfigError: the id, metadata or an option cannot be used.
        """
        check_source(data)
        put = checked_put(
            self.name,
            names.check_blob_id(blob_id),
            metadata=metadata,
            replace=replace,
            if_version=if_version,
            priority=priority,
            local_only=local_only,
            expires_at=expires_at,
        )
        self._transaction.add(_Put(put, data, check_expected(expected_sha256, expected_size)))

    def delete(self, blob_id: str) -> None:
        """Delete a blob, as `Namespace.delete` does."""
        self._transaction.add(DeleteStep(self.name, names.check_blob_id(blob_id)))

    def add_flags(self, blob_id: str, flags: Iterable[str]) -> None:
        """Set flags, as `Namespace.add_flags` does."""
        self._mark(blob_id, FlagsStep(add=check_flags(flags)))

    def remove_flags(self, blob_id: str, flags: Iterable[str]) -> None:
        """Take flags away, as `Namespace.remove_flags` does."""
        self._mark(blob_id, FlagsStep(remove=check_flags(flags)))

    def set_flags(self, blob_id: str, flags: Iterable[str]) -> None:
        """Let a blob have these flags and no others, as `Namespace.set_flags` does."""
        self._mark(blob_id, FlagsStep(only=check_flags(flags)))

    def _mark(self, blob_id: str, flags: FlagsStep) -> None:
        self._transaction.add(MarkStep(self.name, names.check_blob_id(blob_id), flags))


@dataclass(frozen=True, slots=True)
class _Put:
    put: Put
    data: Source = field(repr=False)
    expected: Expected

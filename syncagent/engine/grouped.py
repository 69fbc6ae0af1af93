"""Several changes as one: all of them in one transaction here, and in one batch for the others."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from syncagent.cache import blobs, sendable
from syncagent.cache.chunks import ChunkSource
from syncagent.cache.db import Database
from syncagent.crypto.keys import VaultKeys
from syncagent.engine import local, marks
from syncagent.engine.local import Put
from syncagent.engine.marks import FlagsStep
from syncagent.engine.storing import NewContent
from syncagent.journal.batch import check_transaction, encode_change
from syncagent.journal.changes import VersionChange
from syncagent.model import GroupId, Scope, Version


@dataclass(frozen=True, slots=True)
class PutStep:
    """A blob to store, with its content ready."""

    put: Put
    content_in: Callable[[Scope | None], NewContent]


@dataclass(frozen=True, slots=True)
class DeleteStep:
    """A blob to delete."""

    namespace: str
    blob_id: str


@dataclass(frozen=True, slots=True)
class MarkStep:
    """Flags of a blob to change."""

    namespace: str
    blob_id: str
    flags: FlagsStep


Step = PutStep | DeleteStep | MarkStep


def record_group(
    db: Database, *, steps: Sequence[Step], now_ms: int, keys: VaultKeys, source: ChunkSource
) -> list[Version]:
    """Do all steps in their order; the version of each put and delete.

    Raises:
        BlobExists, BlobNotFound, VersionConflict: of any step.
        LimitExceeded: the changes do not fit in one batch, or a blob would have too many flags.
    """
    group = GroupId(os.urandom(16))
    done = [_do(db, step, group, now_ms, keys, source) for step in steps]
    rows = sendable.group_rows(db, group)
    check_transaction(
        len(row.change)
        if row.change is not None
        else len(encode_change(VersionChange(blobs.load_version(db, row.version_no or 0))))
        for row in rows
    )
    return [version for version in done if version is not None]


def _do(
    db: Database, step: Step, group: GroupId, now_ms: int, keys: VaultKeys, source: ChunkSource
) -> Version | None:
    if isinstance(step, MarkStep):
        blob = marks.find_live(db, step.namespace, step.blob_id, now_ms)
        marks.change_flags(db, blob, step.flags, group=group)
        return None
    if isinstance(step, PutStep):
        return local.record_put(
            db, step.put, step.content_in, now_ms=now_ms, keys=keys, source=source, group=group
        )
    return local.record_delete(db, step.namespace, step.blob_id, now_ms=now_ms, keys=keys, group=group)

"""A device of a vault that publishes whatever a test tells it: authentic, sealed and chained, but wrong."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from syncagent import names
from syncagent.crypto.chunk import content_digest
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.sealed import seal_object
from syncagent.journal.batch import encode_batch
from syncagent.journal.chain import chain_next, chain_start
from syncagent.journal.changes import Batch, Change, Head
from syncagent.model import DeviceId, PackRecord, VaultId, Version
from syncagent.remote.base import Remote


class FaultyDevice:
    """Has the keys. Its id may be one that sorts first, or last."""

    def __init__(self, remote: Remote, vault: VaultId, keys: VaultKeys, id: bytes | None = None) -> None:
        self.id = DeviceId(os.urandom(16) if id is None else id)
        self._remote = remote
        self._keys = keys
        self._seq = 0
        self._chain = chain_start(vault, self.id)

    def scope(self, namespace: str) -> bytes:
        return self._keys.namespace_scope(namespace)

    def chunk_id(self, namespace: str, content: bytes) -> bytes:
        return self._keys.chunk_id(self.scope(namespace), hashlib.sha256(content).digest())

    def version(self, blob_id: str, **fields: Any) -> Version:
        """An empty blob in `notes`, but for what is told."""
        plain = Version(
            id=os.urandom(16),
            hlc=1 << 40,
            namespace="notes",
            blob_id=blob_id,
            parents=(),
            deleted=False,
            size=0,
            created_at=0,
            metadata={},
            scope=self.scope("notes"),
            content=(),
            content_digest=content_digest(()),
        )
        return msgspec.structs.replace(plain, **fields)

    async def publish(
        self,
        *changes: Change,
        packs: Sequence[PackRecord] = (),
        heads: Mapping[DeviceId, Head] | None = None,
    ) -> str:
        """Put a batch; its name."""
        self._seq += 1
        name = names.batch_object(self.id, self._seq)
        batch = Batch(1 << 40, self._chain, dict(heads or {}), tuple(packs), changes)
        sealed = seal_object(self._keys, name, encode_batch(batch))
        self._chain = chain_next(self._chain, hashlib.sha256(sealed).digest())
        if self._seq == 1:
            device = names.device_object(self.id)
            record = seal_object(self._keys, device, msgspec.msgpack.encode([1, 0]))
            await self._remote.put(device, record)
        await self._remote.put(name, sealed)
        return name

"""An application on a device that keeps an index of its own by `vault.changes`, beside everything else."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from syncagent.answers import BlobChange, BlobInfo
from syncagent.errors import BlobNotFound, TokenExpired
from syncagent.vault import Vault
from tests.simulation.model import Name


@dataclass
class Index:
    """What the application knows of each blob, and how far it has read. It outlives processes.

    A restored profile has an index that is ahead of it, and a copied one has an index that is not its own.
    """

    blobs: dict[Name, BlobInfo] = field(default_factory=dict)
    flags: dict[Name, frozenset[str]] = field(default_factory=dict)
    token: str | None = None

    def copy(self) -> "Index":
        """As a copied profile has it."""
        return Index(dict(self.blobs), dict(self.flags), self.token)

    async def follow(self, vault: Vault) -> None:
        """Read what has changed since last time; then the index shows what lists show."""
        while True:
            await self._read(vault)
            listed = await _listed(vault)
            if not await self._read(vault):  # nothing came between
                break
        wrong = {name for name in {*self.blobs, *listed} if self.blobs.get(name) != listed.get(name)}
        assert not wrong, [(name, self.blobs.get(name), listed.get(name)) for name in wrong]
        for name in listed:
            flags = await vault.namespace(name.namespace).get_flags(name.id)
            assert self.flags[name] == flags, "flags have changed, and nobody says so"

    async def _read(self, vault: Vault) -> int:
        """Pages until there are no more; how many changes they had."""
        count = 0
        while True:
            try:
                page = await vault.changes(self.token, limit=3)
            except TokenExpired:
                self.blobs.clear()
                self.flags.clear()
                self.token = None
                continue
            flags = await _flags_of(vault, page.changes)
            # From here on nothing can come between: what a page says and its token are stored as one.
            for change in page.changes:
                name = Name(change.namespace, change.id)
                self.blobs.pop(name, None)
                if change.blob is not None:
                    self.blobs[name] = _unread(change.blob)
            self.flags |= flags
            count += len(page.changes)
            self.token = page.token
            if not page.more:
                return count


async def _flags_of(vault: Vault, changes: Sequence[BlobChange]) -> dict[Name, frozenset[str]]:
    """As they are now: a blob that is deleted meanwhile has none."""
    found: dict[Name, frozenset[str]] = {}
    for change in changes:
        with suppress(BlobNotFound):
            found[Name(change.namespace, change.id)] = await vault.namespace(change.namespace).get_flags(
                change.id
            )
    return found


async def _listed(vault: Vault) -> dict[Name, BlobInfo]:
    found: dict[Name, BlobInfo] = {}
    for namespace in await vault.namespaces():
        after = None
        while True:
            page = await vault.namespace(namespace.name).list(after=after, limit=2)
            found |= {Name(namespace.name, blob.id): _unread(blob) for blob in page.blobs}
            after = page.next
            if after is None:
                break
    return found


def _unread(blob: BlobInfo) -> BlobInfo:
    """Without what is no change: how often it was read."""
    return replace(blob, reads=0, last_read_at=None)

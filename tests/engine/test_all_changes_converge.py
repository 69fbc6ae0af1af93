"""Devices that make every kind of change and exchange it in any order end with the same of everything.

What it comes to is worked out once more from the journals at the remote, by the pure merge.
"""

import contextlib
import datetime
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable

import pytest

from syncagent.cache.downloads import EXPIRED_MS
from syncagent.errors import BlobNotFound, ConfigError, VersionConflict
from syncagent.journal import merge
from syncagent.journal.changes import Change, ExpiresChange, FlagsChange, VersionChange
from syncagent.journal.merge import Expiry, Node
from syncagent.model import DeviceId, Hlc, SyncStatus
from syncagent.vault import Vault
from tests.engine.world import World, batches, rows

pytestmark = pytest.mark.anyio

IDS = ["a", "b", "c"]
FLAGS = ["seen", "kept", "draft"]
STEPS = 120
DAY_S = 24 * 3600.0
LONG_AFTER_S = EXPIRED_MS / 1000 + DAY_S


class User:
    """One who does this and that on a device."""

    def __init__(self, vault: Vault, dice: random.Random, world: World) -> None:
        self.vault = vault
        self.dice = dice
        self.world = world
        self.notes = vault.namespace("notes")
        self.deeds: list[Callable[[str], Awaitable[object]]] = [
            self.put,
            self.put,
            self.put_to_expire,
            self.notes.delete,
            self.put_here,
            self.keep_here,
            self.share,
            self.set_metadata,
            self.add_flags,
            self.change_flags,
            self.flag_many,
            self.set_expiry,
            self.resolve,
            self.resolve,
            self.tag,
            self.transact,
            self.read_old,
            self.sync,
            self.sync,
            self.hear,
        ]

    async def act(self) -> None:
        """Do one thing; what cannot be done, for something is gone or has moved on, is not."""
        deed, blob_id = self.dice.choice(self.deeds), self.dice.choice(IDS)
        with contextlib.suppress(BlobNotFound, VersionConflict, ConfigError):
            await deed(blob_id)

    def some_flags(self) -> list[str]:
        return self.dice.sample(FLAGS, self.dice.randint(1, 2))

    def some_time(self) -> datetime.datetime:
        seconds = self.world.clock() + self.dice.choice([5, 50, 5000])
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC)

    async def put(self, blob_id: str) -> None:
        await self.notes.put(blob_id, self.dice.randbytes(self.dice.choice([0, 3, 3000])), replace=True)

    async def put_to_expire(self, blob_id: str) -> None:
        await self.notes.put(blob_id, self.dice.randbytes(4), replace=True, expires_at=self.some_time())

    async def put_here(self, blob_id: str) -> None:
        """Other content, that stays on this device."""
        await self.notes.put(blob_id, self.dice.randbytes(7), replace=True, local_only=True)

    async def keep_here(self, blob_id: str) -> None:
        """What may wait to be sent is to stay on this device."""
        blob = await self.notes.get(blob_id)
        await self.notes.put(blob_id, blob.data, metadata=blob.metadata, local_only=True)

    async def share(self, blob_id: str) -> None:
        blob = await self.notes.get(blob_id)
        await self.notes.put(blob_id, blob.data, metadata=blob.metadata, local_only=False)

    async def ids_here(self) -> set[str]:
        """Blobs of which a version stays on this device."""
        sql = "SELECT blob.id FROM version JOIN blob ON blob.no = blob_no WHERE version.status = ?"
        return {str(blob_id) for (blob_id,) in await rows(self.vault, sql, SyncStatus.LOCAL_ONLY.value)}

    async def share_all(self) -> None:
        """Let nothing stay on this device: as it is where it is shown, else by something that replaces it."""
        for blob_id in await self.ids_here():
            for one in await self.notes.history(blob_id):
                if one.is_head:
                    await self.notes.untag(blob_id, one, "good")
            if await self.notes.exists(blob_id):
                await self.share(blob_id)
            if blob_id in await self.ids_here():
                await self.notes.put(blob_id, b"shared", replace=True, local_only=False)

    async def set_metadata(self, blob_id: str) -> None:
        await self.notes.set_metadata(blob_id, {"n": self.dice.randint(0, 3)})

    async def add_flags(self, blob_id: str) -> None:
        await self.notes.add_flags(blob_id, self.some_flags())

    async def change_flags(self, blob_id: str) -> None:
        change = self.dice.choice([self.notes.remove_flags, self.notes.set_flags])
        await change(blob_id, self.some_flags())

    async def flag_many(self, blob_id: str) -> None:
        await self.notes.update_flags(IDS, add=self.some_flags(), remove=self.some_flags())

    async def set_expiry(self, blob_id: str) -> None:
        at = self.dice.choice([None, self.some_time(), self.some_time()])
        await self.notes.set_expiry(blob_id, at, force=self.dice.random() < 0.3)

    async def resolve(self, blob_id: str) -> None:
        for conflict in await self.notes.conflicts():
            seen = self.dice.choice([None, conflict])
            if self.dice.random() < 0.5:
                await self.notes.resolve(conflict.id, self.dice.randbytes(5), seen=seen)
            else:
                chosen = self.dice.choice(conflict.versions)
                await self.notes.resolve(conflict.id, version=chosen, seen=seen)

    async def tag(self, blob_id: str) -> None:
        version = self.dice.choice(await self.notes.history(blob_id))
        await self.dice.choice([self.notes.tag, self.notes.tag, self.notes.untag])(blob_id, version, "good")

    async def transact(self, blob_id: str) -> None:
        async with self.vault.transaction() as tx:
            tx.namespace("notes").put(blob_id, self.dice.randbytes(6), replace=True)
            tx.namespace("notes").set_flags(blob_id, self.some_flags())
            tx.namespace("notes").delete(self.dice.choice(IDS))

    async def read_old(self, blob_id: str) -> None:
        version = self.dice.choice(await self.notes.history(blob_id))
        blob = await self.notes.get(blob_id, version=version)
        assert blob.size == version.size == len(blob.data) and blob.metadata == version.metadata

    async def sync(self, blob_id: str) -> None:
        await self.vault.sync()

    async def hear(self, blob_id: str) -> None:
        """Read what others have published, and no content of it."""
        await self.vault.parts()[1].read_journals()


async def shown(vault: Vault) -> dict[str, object]:
    """All that a device shows of its blobs."""
    notes = vault.namespace("notes")
    found: dict[str, object] = {
        "list": {
            (one.id, one.version, one.size, one.conflict, one.expires_at, one.status)
            for one in (await notes.list()).blobs
        },
        "conflicts": [(one.id, [each.id for each in one.versions]) for one in await notes.conflicts()],
        "dates": set(await rows(vault, "SELECT id, expires_at FROM blob WHERE expires_at IS NOT NULL")),
    }
    for blob_id in IDS:
        with contextlib.suppress(BlobNotFound):
            found[f"flags of {blob_id}"] = await notes.get_flags(blob_id)
        with contextlib.suppress(BlobNotFound):
            found[f"history of {blob_id}"] = [
                (one.id, one.device, one.is_current, one.is_head, one.deleted, one.tags, one.metadata)
                for one in await notes.history(blob_id)
            ]
        if await notes.exists(blob_id):
            blob = await notes.get(blob_id)
            found[f"content of {blob_id}"] = blob.data, blob.version.id
    return found


async def check_by_journals(world: World, vaults: list[Vault]) -> None:
    """What the journals at the remote come to is what a device shows."""
    nodes: dict[str, list[Node]] = defaultdict(list)
    flags: dict[str, list[FlagsChange]] = defaultdict(list)
    dates: dict[str, list[Expiry]] = defaultdict(list)
    for vault in vaults:
        device = DeviceId(bytes.fromhex(vault.device_id))
        for seq, batch in (await batches(world, vault)).items():
            for change in batch.changes:
                _note(change, device, seq, nodes, flags, dates)
    notes = vaults[0].namespace("notes")
    disputed = {one.id for one in await notes.conflicts()}
    listed = {one.id for one in (await notes.list()).blobs}
    for blob_id, known in nodes.items():
        facts = merge.facts_of(
            known,
            flag_tags=[pair for change in flags[blob_id] for pair in change.add],
            removed_tags=[tag for change in flags[blob_id] for tag in change.remove],
            expires=dates[blob_id],
        )
        heads = merge.heads(facts)
        history = await notes.history(blob_id)
        assert {one.id for one in history if one.is_head} == {head.id.hex() for head in heads}
        assert {one.id for one in history if one.is_current} == {heads[0].id.hex()}
        at = merge.expires_at(facts)
        is_live = not heads[0].deleted and (at is None or at > world.clock() * 1000)
        assert await notes.exists(blob_id) is (blob_id in listed) is is_live
        assert (blob_id in disputed) is (is_live and merge.is_conflict(heads))
        if is_live:
            assert await notes.get_flags(blob_id) == merge.flags(facts)


def _note(
    change: Change,
    device: DeviceId,
    seq: int,
    nodes: dict[str, list[Node]],
    flags: dict[str, list[FlagsChange]],
    dates: dict[str, list[Expiry]],
) -> None:
    match change:
        case VersionChange(version):
            nodes[version.blob_id].append(merge.node_of(version, device, seq))
        case FlagsChange():
            flags[change.blob_id].append(change)
        case ExpiresChange():
            dates[change.blob_id].append(Expiry(change.at, change.forced, Hlc(change.hlc)))


@pytest.mark.parametrize("seed", range(6))
async def test_all_devices_end_with_the_same_of_everything(world: World, seed: int) -> None:
    """Deletions, flags and lifetimes too, and what was given up comes back (rows A6, A7, C1)."""
    dice = random.Random(seed)
    async with world.open("a") as a, world.open("b") as b, world.open("c") as c:
        vaults = [a, b, c]
        users = [User(vault, dice, world) for vault in vaults]
        for _ in range(STEPS):
            world.clock.now += dice.choice([0, 0.001, 1, 10, -5])
            if dice.random() < 0.04:
                world.clock.now += LONG_AFTER_S  # the content of what has expired is given up
            await dice.choice(users).act()
        for vault in dice.sample(vaults, 3) * 3:
            await vault.sync()
        for user in users:
            await user.share_all()
        for vault in dice.sample(vaults, 3) * 3:
            await vault.sync()
        world.clock.now += DAY_S
        for vault in vaults:
            await vault.sync()
        first, *others = [await shown(vault) for vault in vaults]
        for other in others:
            assert other == first
        await check_by_journals(world, vaults)
        for vault in vaults:
            assert await rows(vault, "SELECT count(*) FROM upload") == [(0,)]
            assert await rows(vault, "SELECT count(*) FROM download") == [(0,)]
        before = world.names()
        for vault in vaults:
            await vault.sync()
        assert world.names() == before

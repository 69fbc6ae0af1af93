"""Small blobs stored together are what they would be if each had been stored alone."""

import random
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from syncagent.answers import PutResult
from syncagent.cache import meta
from syncagent.cache.chunks import ChunkSource
from syncagent.cache.commit import Cache
from syncagent.cache.db import Database, Row
from syncagent.cache.profile import Profile
from syncagent.cache.schema import migrate
from syncagent.crypto.chunk import digest_of
from syncagent.crypto.keys import RootSecret, VaultKeys
from syncagent.engine import local, many, storing
from syncagent.engine.context import Context
from syncagent.engine.local import Put
from syncagent.engine.many import SLICE_BLOBS, SmallPut, put_some
from syncagent.errors import BlobExists, SyncAgentError, VersionConflict
from syncagent.model import VaultId
from tests.engine.world import World

pytestmark = pytest.mark.anyio

NOW_S = 1_750_000_000.0

Ask = tuple[Put, bytes]


class Desk:
    """A cache, and puts into it without an event loop."""

    def __init__(self, folder: Path) -> None:
        (folder / "packs").mkdir(parents=True)
        profile = Profile(folder)
        profile.database.touch()
        self.db = Database(profile.database, b"k" * 32)
        self.db.open()
        migrate(self.db)
        meta.put(self.db, meta.DEVICE_ID, b"d" * 16)
        self.ctx = Context(
            cache=Cache(self.db),
            keys=VaultKeys(RootSecret(b"r" * 32)),
            profile=profile,
            vault=VaultId(b"v" * 16),
            now=lambda: NOW_S,
            random=random.Random(1).random,
            workers=anyio.CapacityLimiter(1),
            packs=anyio.CapacityLimiter(1),
        )

    def put_together(self, asked: Sequence[Ask]) -> list[PutResult]:
        """All of them by `put_some`, as often as it takes."""
        results: list[PutResult] = []
        while len(results) < len(asked):
            rest = [SmallPut(self.ctx, put, data) for put, data in asked[len(results) :]]
            self.db.execute("BEGIN IMMEDIATE")
            results += put_some(self.db, rest)
            self.db.execute("COMMIT")
        return results

    def put_alone(self, put: Put, data: bytes) -> PutResult:
        """One the general way."""
        keys = self.ctx.keys
        try:
            version = local.record_put(
                self.db,
                put,
                lambda scope: storing.small_content(keys, scope, data, digest_of(data)),
                now_ms=self.ctx.now_ms(),
                keys=keys,
                source=ChunkSource(keys, self.ctx.profile.packs),
            )
        except SyncAgentError as exc:
            return PutResult(put.blob_id, error=exc)
        return PutResult(put.blob_id, version)

    def rows(self) -> dict[str, list[Row]]:
        """Everything in the cache that does not hang on random ids."""
        return {
            "blobs": self.db.all(
                "SELECT name, blob.id, blob.deleted, blob.size, blob.created_at, changed, conflict,"
                " blob.status, version.seq, version.device_no, version.hlc, version.size, version.status"
                " FROM blob JOIN namespace ON namespace.no = namespace_no"
                " JOIN version ON version.no = winner_no ORDER BY name, blob.id"
            ),
            "content": self.db.all(
                "SELECT name, blob.id, chunk.id, position FROM version_chunk"
                " JOIN version ON version.no = version_no JOIN blob ON blob.no = blob_no"
                " JOIN namespace ON namespace.no = namespace_no JOIN chunk ON chunk.no = chunk_no"
                " ORDER BY name, version.hlc"
            ),
            "chunks": self.db.all(
                "SELECT id, raw_length, scope, bytes FROM chunk LEFT JOIN payload ON payload.no = payload_no"
                " ORDER BY id"
            ),
            "uploads": self.db.all(
                "SELECT blob.id, version.hlc, priority, group_id, retries, batch_seq FROM upload"
                " JOIN version ON version.no = version_no JOIN blob ON blob.no = blob_no ORDER BY version.hlc"
            ),
            "counts": self.db.all(
                "SELECT name, deleted, status, blobs FROM status_count"
                " JOIN namespace ON namespace.no = namespace_no WHERE blobs > 0 ORDER BY 1, 2, 3"
            ),
            "parents": self.db.all(
                "SELECT hlc, position FROM parent JOIN version ON no = version_no ORDER BY hlc, position"
            ),
            "meta": self.db.all("SELECT key, value FROM meta ORDER BY key"),
        }


@pytest.fixture
def desks(tmp_path: Path) -> tuple[Desk, Desk]:
    return Desk(tmp_path / "one"), Desk(tmp_path / "other")


def ask(blob_id: str, data: bytes, *, namespace: str = "notes", replace: bool = False) -> Ask:
    return Put(namespace, blob_id, {}, replace), data


def drawn(dice: random.Random, count: int, local_only: Sequence[bool | None]) -> list[Ask]:
    """Puts with names and content that often come again."""
    return [
        (
            Put(
                dice.choice(["mail", "notes"]),
                f"n{dice.randrange(count)}",
                dice.choice([{}, {"title": "x"}]),
                replace=dice.random() < 0.5,
                priority=dice.randint(1, 4),
                if_version=None if dice.random() < 0.9 else "00" * 8,
                local_only=dice.choice(local_only),
            ),
            b"content %d" % dice.randrange(count) * dice.randrange(3),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("local_only", [(None, False), (None, None, False, True)])
def test_together_is_as_alone(desks: tuple[Desk, Desk], seed: int, local_only: Sequence[bool | None]) -> None:
    together, alone = desks
    for count in (1, 40, 300):
        asked = drawn(random.Random(seed * 1000 + count), count, local_only)
        results = together.put_together(asked)
        expected = [alone.put_alone(put, data) for put, data in asked]
        assert [(result.id, type(result.error)) for result in results] == [
            (result.id, type(result.error)) for result in expected
        ]
        rows, wanted = together.rows(), alone.rows()
        assert {name: len(part) for name, part in rows.items()} == {
            name: len(part) for name, part in wanted.items()
        }
        for name in rows:
            if True not in local_only or name not in ("content", "chunks"):
                assert rows[name] == wanted[name]  # of what stays here, the chunk ids are drawn


def test_a_slice_ends_where_its_bytes_do(desks: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    desk, _ = desks
    monkeypatch.setattr(many, "SLICE_BYTES", 1000)
    asked = [SmallPut(desk.ctx, *ask(f"n{number}", b"%03d" % number * 100)) for number in range(10)]
    assert len(put_some(desk.db, asked)) == 3
    assert len(put_some(desk.db, [SmallPut(desk.ctx, *ask("large", b"x" * 5000)), *asked[3:]])) == 1
    assert (
        len(put_some(desk.db, [SmallPut(desk.ctx, *ask(f"e{i}", b"")) for i in range(1000)])) == SLICE_BLOBS
    )


def test_what_goes_one_by_one_ends_with_its_time(
    desks: tuple[Desk, Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, _ = desks
    asked = [ask(f"n{number}", b"%d" % number) for number in range(20)]
    desk.put_together(asked)
    monkeypatch.setattr(many, "SLICE_S", -1.0)
    again = [SmallPut(desk.ctx, put, data) for put, data in asked]
    assert len(put_some(desk.db, again)) == 1


async def test_callers_at_once_each_get_their_own(world: World) -> None:
    async with world.open("a") as vault:
        notes, mail = vault.namespace("notes"), vault.namespace("mail")
        first = await notes.put("taken", b"one")
        outcomes: dict[str, object] = {}

        async def put(key: str, data: bytes, **options: object) -> None:
            namespace = mail if key.startswith("m") else notes
            try:
                outcomes[key] = (await namespace.put(key[1:], data, **options)).blob_id  # type: ignore[arg-type]  # any option
            except SyncAgentError as exc:
                outcomes[key] = type(exc)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(put, f"n{number}", b"%d" % number)
                group.start_soon(put, f"m{number}", b"%d" % number)
            group.start_soon(put, "ntaken", b"two")
            async with anyio.create_task_group() as inner:
                inner.start_soon(notes.put, "same", b"the same")
                inner.start_soon(notes.put, "same", b"the same")
        with pytest.raises(VersionConflict):
            await notes.put("taken", b"three", if_version="00" * 8)
        assert outcomes.pop("ntaken") is BlobExists
        assert outcomes == {f"{letter}{number}": str(number) for letter in "nm" for number in range(30)}
        assert (await notes.get("taken")).version == first
        got = await mail.get_many([str(number) for number in range(30)])
        assert [result.data for result in got] == [b"%d" % number for number in range(30)]
        assert await notes.count() == 32

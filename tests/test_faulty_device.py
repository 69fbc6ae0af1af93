"""Another device of the vault that writes nonsense: authentic, but wrong. It harms nobody else's blobs."""

import hashlib
import os
from pathlib import Path

import pytest

import syncagent
from syncagent import names
from syncagent.cache import meta
from syncagent.crypto.keys import RootSecret, VaultKeys
from syncagent.journal.changes import VersionChange
from syncagent.model import Codec, DeviceId, PackedChunk, PackRecord, Parent
from syncagent.remote import open_remote
from tests.faulty import FaultyDevice

PASSPHRASE = "a passphrase of the tests"
pytestmark = pytest.mark.anyio


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    await syncagent.create_vault(
        tmp_path / "a", remote=f"file://{tmp_path}/remote", passphrase=PASSPHRASE, kdf=syncagent.FLOOR_KDF
    )
    return tmp_path / "a"


@pytest.fixture
async def faulty(home: Path) -> FaultyDevice:
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        ctx, _ = vault.parts()
        root = await ctx.cache.read(lambda db: meta.get_bytes(db, meta.ROOT))
    remote = await open_remote(f"file://{home.parent}/remote")
    return FaultyDevice(remote, ctx.vault, VaultKeys(RootSecret(root)))


async def _letter_arrives(home: Path) -> None:
    """Whatever was published: our own letter goes out, can be read, and everything is settled."""
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("notes")
        await notes.put("letter", b"the only letter")
        await vault.sync()
        assert (await notes.get("letter")).data == b"the only letter"
        page = await notes.list(prefix="letter")
        assert [blob.status for blob in page.blobs] == [syncagent.SyncStatus.SYNCED]


async def test_versions_that_name_each_other_in_a_circle_stay_visible(
    home: Path, faulty: FaultyDevice
) -> None:
    one, two = os.urandom(16), os.urandom(16)
    await faulty.publish(
        VersionChange(faulty.version("x", id=one, parents=(Parent(two, faulty.id, 0),))),
        VersionChange(faulty.version("x", id=two, parents=(Parent(one, faulty.id, 0),))),
    )
    await _letter_arrives(home)
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        assert await vault.namespace("notes").exists("x")


async def test_a_time_beyond_every_calendar_hides_no_other_blob(home: Path, faulty: FaultyDevice) -> None:
    await faulty.publish(VersionChange(faulty.version("x", created_at=(1 << 62) - 1)))
    await _letter_arrives(home)
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("notes")
        assert [blob.id for blob in (await notes.list()).blobs] == ["letter", "x"]
        assert [result.data for result in await notes.get_many(["letter", "x"])] == [b"the only letter", b""]


async def test_a_wrong_scope_for_a_chunk_does_not_spoil_a_put_of_it(home: Path, faulty: FaultyDevice) -> None:
    content = b"the only letter"
    await faulty.publish(
        VersionChange(
            faulty.version(
                "x",
                size=3,
                scope=b"z" * 16,
                content=(faulty.chunk_id("notes", content),),
                content_digest=bytes(32),
            )
        )
    )
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        await vault.sync()
    await _letter_arrives(home)


async def test_a_version_supersedes_only_versions_of_its_own_blob(home: Path, faulty: FaultyDevice) -> None:
    one = os.urandom(16)
    await faulty.publish(VersionChange(faulty.version("y", parents=(Parent(one, faulty.id, 0),))))
    await faulty.publish(VersionChange(faulty.version("x", id=one)))
    await _letter_arrives(home)
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        page = await vault.namespace("notes").list()
        assert [blob.id for blob in page.blobs] == ["letter", "x", "y"]


async def test_a_pack_of_an_unknown_kind_stops_only_what_is_in_it(home: Path, faulty: FaultyDevice) -> None:
    content = b"somebody else's"
    data = b"SAP9" + bytes(36) + os.urandom(64)
    pack = PackRecord(
        hashlib.sha256(data).digest(),
        len(data),
        1,
        bytes(32),
        (PackedChunk(faulty.chunk_id("notes", content), 31, 15, Codec.STORED),),
    )
    remote = await open_remote(f"file://{home.parent}/remote")
    await remote.put(names.pack_object(pack.id), data)
    await remote.aclose()
    held = faulty.version("x", size=15, content=(pack.chunks[0].id,), content_digest=bytes(32))
    await faulty.publish(VersionChange(held), packs=[pack])
    await _letter_arrives(home)


async def test_a_name_listed_in_our_own_journal_is_no_copy_of_this_device(home: Path) -> None:
    """Whoever holds the remote can write any bytes under any name; nobody need give up a profile for it."""
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        device = DeviceId(bytes.fromhex(vault.device_id))
    remote = await open_remote(f"file://{home.parent}/remote")
    await remote.put(names.batch_object(device, 9), b"not a batch")
    await remote.aclose()
    await _letter_arrives(home)
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        report = await vault.sync()
    assert [alarm.kind for alarm in report.alarms] == ["Tampered"]


async def test_a_reader_that_is_open_reads_on_when_the_blob_is_replaced_and_sent(home: Path) -> None:
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("notes")
        await notes.put("letter", b"first")
        async with notes.open("letter") as reader:
            await notes.put("letter", b"second", replace=True)
            await vault.sync()
            assert [chunk async for chunk in reader] == [b"first"]


async def test_damage_to_one_chunk_leaves_blobs_that_share_its_pack_file_readable(home: Path) -> None:
    content = os.urandom(4 << 20)
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        files = vault.namespace("files")
        await files.put("whole", content)
        await files.put("part", content[1 << 20 : 3 << 20])
        await vault.sync()
    (path,) = (home / "packs").iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    gone = home.parent / "remote"
    gone.rename(home.parent / "elsewhere")
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        files = vault.namespace("files")
        with pytest.raises(syncagent.CacheDamaged):
            await files.get("whole")
        assert (await files.get("part")).data == content[1 << 20 : 3 << 20]
    (home.parent / "elsewhere").rename(gone)
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        files = vault.namespace("files")
        assert (await files.get("whole")).data == content
        assert (await files.get("part")).data == content[1 << 20 : 3 << 20]


async def test_content_shows_in_no_repr(home: Path) -> None:
    async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("notes")
        await notes.put("letter", b"plain words", metadata={"title": "private"})
        blob = await notes.get("letter")
        shown = repr(blob) + repr(await notes.get_many(["letter"]))
    assert "plain words" not in shown

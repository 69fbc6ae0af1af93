"""Why a blob waits, until when and what would help, in every status; and making it due again."""

import datetime

import pytest

from syncagent import names
from syncagent.engine.backoff import GIVEN_UP_S
from syncagent.errors import BlobNotFound, ConfigError, ObjectRefused, QuotaExceeded, Unreachable
from syncagent.model import MAX_RETRIES, SyncStatus
from syncagent.reports import Explanation, SyncState
from syncagent.vault import Vault
from tests.engine.test_expiry import at
from tests.engine.world import NOON, Fails, World, change, rows

pytestmark = pytest.mark.anyio

LARGE = bytes(range(256)) * (2 << 10)


async def why(vault: Vault, blob_id: str) -> Explanation:
    return await vault.explain("notes", blob_id)


def seconds_from_noon(moment: datetime.datetime | None) -> float | None:
    return None if moment is None else round(moment.timestamp() - NOON)


async def test_nothing_is_in_the_way_of_a_blob_that_is_in_sync(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    async with world.open("a") as vault:
        found = await why(vault, "x")
        assert (found.status, found.cause, found.unblock) == (SyncStatus.SYNCED, "", "")
        assert found.next_attempt is None and found.retries == 0 and not found.deleted
        [blob] = (await vault.namespace("notes").list()).blobs
        assert found.version == blob.version


async def test_a_blob_that_has_expired_says_so(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one", expires_at=at(60))
        world.clock.now += 60
        assert (await why(vault, "x")).cause == "no sync has come to it yet"
        await vault.sync()
        found = await why(vault, "x")
        assert found.cause == f"it expired at {at(60).isoformat(sep=' ')}" and "expire" in found.unblock
        await vault.namespace("notes").set_expiry("x", None)
        assert (await why(vault, "x")).cause == ""


async def test_a_new_blob_waits_for_a_sync(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        found = await why(vault, "x")
        assert found.status is SyncStatus.PENDING_UPLOAD
        assert found.cause == "no sync has come to it yet"
        assert "syncagent sync" in found.unblock and found.next_attempt is None


async def test_a_remote_that_is_down_is_the_cause_for_all(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(Unreachable("no connection"), "get", names.VAULT)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("x", b"one")
        with pytest.raises(Unreachable):
            await vault.sync()
        found = await why(vault, "x")
        assert found.cause == "the last sync failed: Unreachable: no connection"
        assert found.retries == 0 and found.unblock == "run `syncagent sync` again later"
        assert found.next_attempt is not None and found.next_attempt.timestamp() == NOON + 0.5


async def test_a_refused_blob_says_what_refused_it_and_when_it_is_tried_next(world: World) -> None:
    """The reason and the next attempt, blob by blob (row A2)."""
    remote = world.remote()
    remote.before = Fails(ObjectRefused("too large"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        await vault.namespace("notes").put("x", b"one")
        await vault.sync()
        found = await why(vault, "x")
        assert (found.status, found.retries) == (SyncStatus.PENDING_UPLOAD, 1)
        assert found.cause == "ObjectRefused: too large"
        assert seconds_from_noon(found.next_attempt) == 22
        assert found.unblock


async def test_a_blob_that_was_given_up_is_tried_daily_and_retry_makes_it_due(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(ObjectRefused("no"), "put", names.PACKS)
    async with world.open("a", remote) as vault:
        notes = vault.namespace("notes")
        await notes.put("x", b"one")
        for _ in range(MAX_RETRIES + 1):
            world.clock.now += 3600
            await vault.sync()
        found = await why(vault, "x")
        assert (found.status, found.retries) == (SyncStatus.FAILED_UPLOAD, MAX_RETRIES + 1)
        assert found.next_attempt is not None
        assert found.next_attempt.timestamp() == world.clock.now + GIVEN_UP_S
        assert "syncagent retry" in found.unblock
        remote.before = Fails(ObjectRefused("no"), "put", times=0)
        assert (await vault.sync()).sent == 0  # not due
        assert await vault.retry() == 1
        found = await why(vault, "x")
        assert (found.status, found.retries) == (SyncStatus.PENDING_UPLOAD, 0)
        assert found.next_attempt is None and found.cause == "ObjectRefused: no"
        assert (await vault.sync()).sent == 1
        assert (await why(vault, "x")).status is SyncStatus.SYNCED


async def test_a_download_that_does_not_verify_says_so_and_is_fetched_after_retry(world: World) -> None:
    await world.put_and_sync("a", x=b"one", y=LARGE)
    [*packs] = world.names(names.PACKS)
    before = {name: await world.flip(name) for name in packs}
    async with world.open("b") as vault:
        await vault.sync()
        found = await why(vault, "x")
        assert found.status is SyncStatus.FAILED_DOWNLOAD
        assert found.cause.startswith("Tampered: ")
        assert "syncagent retry" in found.unblock
        for name, data in before.items():
            await world.replace(name, data)
        assert (await vault.sync()).fetched == 0
        assert await vault.retry("notes", "x") == 1
        assert (await vault.sync()).fetched == 1
        assert await vault.retry("mail") == 0
        assert await vault.retry("notes") == 1
        assert (await vault.sync()).fetched == 1


async def test_a_content_that_is_not_here_waits_for_a_sync_or_for_the_remote(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    remote = world.remote()
    remote.before = Fails(Unreachable("no"), "get", names.PACKS)
    async with world.open("b", remote) as vault:
        await vault.sync()
        found = await why(vault, "x")
        assert found.status is SyncStatus.PENDING_DOWNLOAD
        assert found.retries == 1 and found.cause == "Unreachable: no"


async def test_a_deleted_blob_is_explained_until_its_deletion_is_sent(world: World) -> None:
    await world.put_and_sync("a", x=b"one")
    async with world.open("a") as vault:
        await vault.namespace("notes").delete("x")
        found = await why(vault, "x")
        assert (found.status, found.deleted) == (SyncStatus.PENDING_UPLOAD, True)
        await vault.sync()
        assert (await why(vault, "x")).status is SyncStatus.SYNCED


@pytest.mark.parametrize(
    ("status", "part"),
    [(SyncStatus.LOCAL_ONLY, "this device only"), (SyncStatus.REMOTE_ONLY, "not wanted")],
)
async def test_a_blob_that_is_where_it_should_be_says_why(
    world: World, status: SyncStatus, part: str
) -> None:
    await world.put_and_sync("a", x=b"one")
    async with world.open("a") as vault:
        await change(vault, "UPDATE version SET status = ? WHERE status IS NOT NULL", int(status))
        found = await why(vault, "x")
        assert found.status is status and part in found.cause and found.unblock


async def test_a_blob_whose_transaction_waits_names_the_other_ones_failure(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"one")
        await vault.namespace("notes").put("y", b"two")
        await change(vault, "UPDATE upload SET group_id = ?", bytes(16))
        await change(
            vault,
            "UPDATE upload SET last_error = 'ObjectRefused: no', next_attempt_at = ? WHERE no ="
            " (SELECT max(no) FROM upload)",
            int((NOON + 60) * 1000),
        )
        found = await why(vault, "x")
        assert found.cause == "another blob of its transaction cannot be sent: ObjectRefused: no"
        assert seconds_from_noon(found.next_attempt) == 60
        assert (await why(vault, "y")).cause == "ObjectRefused: no"


async def test_what_is_not_known_or_no_name_is_refused(world: World) -> None:
    async with world.open("a") as vault:
        with pytest.raises(BlobNotFound):
            await why(vault, "x")
        with pytest.raises(BlobNotFound):
            await vault.explain("never", "x")
        with pytest.raises(ConfigError):
            await vault.retry(None, "x")
        assert await vault.retry() == 0


# The vault as a whole ----------------------------------------------------------------------------


async def test_the_state_of_the_vault_says_whether_the_user_must_act(world: World) -> None:
    remote = world.remote()
    async with world.open("a", remote) as vault:
        status = await vault.status()
        assert (status.state, status.todo) == (SyncState.READY, "")
        remote.before = Fails(Unreachable("no"), "get", names.VAULT)
        with pytest.raises(Unreachable):
            await vault.sync()
        assert (await vault.status()).state is SyncState.BACKING_OFF
        remote.before = Fails(QuotaExceeded("full"), "put")
        await vault.namespace("notes").put("x", b"one")
        with pytest.raises(QuotaExceeded):
            await vault.sync()
        status = await vault.status()
        assert (status.state, status.todo) == (
            SyncState.STOPPED,
            "make room at the remote, then sync again",
        )
        assert status.reasons[0] == "QuotaExceeded: full"
        assert await rows(vault, "SELECT retries, last_error FROM upload") == [(0, None)]
        remote.before = Fails(QuotaExceeded("full"), "put", times=0)
        await vault.sync()
        status = await vault.status()
        assert (status.state, status.todo, status.reasons) == (SyncState.READY, "", ())


async def test_retry_forgets_how_long_the_sync_backs_off(world: World) -> None:
    remote = world.remote()
    remote.before = Fails(Unreachable("no"), "get", names.VAULT)
    async with world.open("a", remote) as vault:
        for _ in range(5):
            with pytest.raises(Unreachable):
                await vault.sync()
        assert (await vault.status()).next_attempt is not None
        await vault.retry()
        status = await vault.status()
        assert status.next_attempt is None and status.reasons == ("Unreachable: no",)
        remote.before = Fails(Unreachable("no"), "put", times=0)
        await vault.sync()
        assert (await vault.status()).reasons == ()

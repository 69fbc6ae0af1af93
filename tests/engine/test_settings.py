"""Settings of a namespace reach every device and are followed there; what is not understood is kept."""

from functools import partial

import pytest

from syncagent import Dedup, FetchPolicy, NamespaceSettings, PrefetchResult, SyncStatus
from syncagent.cache import settings as rows_of_settings
from syncagent.cache.chunks import ChunkSource
from syncagent.crypto.keys import VAULT_SCOPE
from syncagent.engine.local import Put, record_put
from syncagent.engine.settings import parsed
from syncagent.engine.storing import small_content
from syncagent.errors import ConfigError
from syncagent.journal.changes import Change, FlagsChange, VersionChange
from syncagent.model import MetadataValue
from syncagent.vault import Vault

from .world import World, batches, rows, statuses

pytestmark = pytest.mark.anyio

BIG = bytes(range(256)) * 2000


async def settings(world: World, name: str) -> NamespaceSettings:
    async with world.open(name) as vault:
        return await vault.namespace("notes").settings()


async def test_they_are_the_defaults_until_somebody_sets_them_and_then_the_same_everywhere(
    world: World,
) -> None:
    assert await settings(world, "a") == NamespaceSettings()
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        assert await notes.settings(fetch="on-demand") == NamespaceSettings(FetchPolicy.ON_DEMAND)
        assert (await vault.status()).pending_changes == 1, "it waits to be sent like any change"
        assert await notes.settings(history=5) == NamespaceSettings(FetchPolicy.ON_DEMAND, history=5)
        await vault.sync()
        assert (await vault.status()).pending_changes == 0
        assert (await vault.namespace("other").settings()) == NamespaceSettings()
    report = await world.sync("b")
    assert report.arrivals == () and report.conflicts == 0
    assert await settings(world, "b") == NamespaceSettings(FetchPolicy.ON_DEMAND, history=5)
    async with world.open("b") as vault:
        assert await vault.namespaces() == ()
        await vault.namespace("notes").settings(fetch="eager", history=0)
        await vault.sync()
    await world.sync("a")
    assert await settings(world, "a") == NamespaceSettings()


@pytest.mark.parametrize(
    "change", [{"fetch": "sometimes"}, {"dedup": ""}, {"history": -1}, {"history": True}, {"history": 10**9}]
)
async def test_what_cannot_be_set_changes_nothing(world: World, change: dict[str, object]) -> None:
    async with world.open("a") as vault:
        with pytest.raises(ConfigError):
            await vault.namespace("notes").settings(local_only=True, **change)  # type: ignore[arg-type]  # wrong on purpose
        assert await vault.namespace("notes").settings() == NamespaceSettings()


async def test_of_two_changes_at_once_the_later_one_stands_everywhere_and_is_no_conflict(
    world: World,
) -> None:
    for name, change in (("a", "on-demand"), ("b", "pinned")):
        world.clock.now += 1
        async with world.open(name) as vault:
            await vault.namespace("notes").settings(fetch=change)
    for name in ("a", "b", "a", "c"):
        assert (await world.sync(name)).conflicts == 0
    for name in "abc":
        assert (await settings(world, name)).fetch is FetchPolicy.PINNED
        async with world.open(name) as vault:
            assert (await vault.status()).conflicts == 0


async def test_what_a_newer_version_has_set_is_kept_and_counts_as_not_set(world: World) -> None:
    async with world.open("a") as vault:
        await write_settings(vault, "notes", {"fetch": "psychic", "colour": "red", "history": "many"})
        await write_settings(vault, "A name of another grammar", {"fetch": "on-demand"})
        await vault.sync()
    await world.sync("b")
    assert await settings(world, "b") == NamespaceSettings()
    async with world.open("b") as vault:
        await vault.namespace("notes").settings(dedup="vault")
        kept = await rows(vault, "SELECT winner_no FROM blob WHERE id = 'notes'")
        assert len(kept) == 1
        await vault.sync()
    async with world.open("a") as vault:
        await vault.sync()
        assert await standing(vault, "notes") == {
            "fetch": "psychic",
            "colour": "red",
            "history": "many",
            "dedup": "vault",
        }
        assert await rows(vault, "SELECT name FROM namespace WHERE name LIKE 'A%'") == []


async def write_settings(vault: Vault, namespace: str, metadata: dict[str, str]) -> None:
    """As another version may."""
    ctx, _ = vault.parts()
    await ctx.cache.write(
        partial(
            record_put,
            put=Put(".settings", namespace, metadata, replace=True),
            content_in=lambda scope: small_content(ctx.keys, scope, b"", b""),
            now_ms=ctx.now_ms(),
            keys=ctx.keys,
            source=ChunkSource(ctx.keys, ctx.profile.packs),
        )
    )


async def standing(vault: Vault, namespace: str) -> dict[str, object]:
    from syncagent.cache import blobs

    [(number,)] = await rows(vault, "SELECT winner_no FROM blob WHERE id = ?", namespace)
    version = await vault.parts()[0].cache.read(partial(blobs.load_version, version_no=number))  # type: ignore[arg-type]  # an int
    return dict(version.metadata)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"fetch": 1},
        {"fetch": b"eager"},
        {"dedup": "x"},
        {"history": 0},
        {"history": 1.0},
        {"history": True},
    ],
)
def test_values_that_are_none_count_as_not_set(metadata: dict[str, MetadataValue]) -> None:
    assert parsed(metadata) == NamespaceSettings()


# What is fetched ---------------------------------------------------------------------------------------


async def test_on_demand_nothing_is_fetched_by_itself(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.namespace("notes").put_many([("x", b"1"), ("big", BIG), ("empty", b"")])
        await vault.sync()
        assert set((await statuses(vault)).values()) == {"SYNCED"}, "what was put here stays here"
    async with world.open("b") as vault:
        report = await vault.sync()
        assert report.fetched_bytes == 0
        assert await statuses(vault) == {"x": "REMOTE_ONLY", "big": "REMOTE_ONLY", "empty": "SYNCED"}
        assert await vault.namespace("notes").count(status=SyncStatus.REMOTE_ONLY) == 2
        assert await vault.namespace("notes").prefetch(["x"]) == [PrefetchResult("x")]
        assert (await statuses(vault))["x"] == "SYNCED"
    await world.put_and_sync("a", x=b"2", big=BIG + b"!")
    async with world.open("b") as vault:
        assert (await vault.sync()).fetched_bytes == 0
        assert (await statuses(vault))["x"] == "REMOTE_ONLY", "a new version is not fetched either"


async def test_a_change_of_policy_is_followed_by_what_was_known_before(world: World) -> None:
    await world.put("a", x=b"1", y=b"2", z=b"3")
    await world.sync("a")
    async with world.open("b") as vault:
        await vault.sync()
    async with world.open("a") as vault:
        await vault.namespace("notes").put_many([(f"n{number}", b"n%d" % number) for number in range(600)])
        await vault.namespace("mail").put("m", b"mail")
        await vault.sync()
    async with world.open("b") as vault:
        ctx, engine = vault.parts()
        await engine.read_journals()
        assert (await statuses(vault))["n7"] == "PENDING_DOWNLOAD"
        await vault.namespace("notes").settings(fetch="on-demand")
        found = await statuses(vault)
        assert (found["n7"], found["x"]) == ("REMOTE_ONLY", "SYNCED"), "what is here stays"
        assert await vault.namespace("notes").count(status=SyncStatus.REMOTE_ONLY) == 600
        report = await vault.sync()
        assert report.fetched == 1, "another namespace has its own policy"
        await vault.namespace("notes").settings(fetch="eager")
        assert await vault.namespace("notes").count(status=SyncStatus.PENDING_DOWNLOAD) == 600
        assert (await vault.sync()).fetched == 600
        assert set((await statuses(vault)).values()) == {"SYNCED"}
        assert await ctx.cache.read(rows_of_settings.unsettled) == []


async def test_a_policy_reaches_a_device_before_it_fetches_what_came_with_it(world: World) -> None:
    async with world.open("a") as vault:
        await vault.namespace("notes").put_many([(f"n{number}", b"%d" % number) for number in range(300)])
        await vault.namespace("notes").settings(fetch="on-demand")
        await vault.sync()
    async with world.open("b") as vault:
        report = await vault.sync()
        assert (report.fetched, report.fetched_bytes) == (1, 0), "the settings alone, which have no content"
        assert set((await statuses(vault)).values()) == {"REMOTE_ONLY"}
        assert (await vault.sync()).fetched == 0


async def test_a_change_that_was_not_followed_to_the_end_is_by_the_next_sync(world: World) -> None:
    await world.put("a", **{f"n{number}": b"%d" % number for number in range(3)})
    await world.sync("a")
    async with world.open("b") as vault:
        _, engine = vault.parts()
        await engine.read_journals()
        # As a crash leaves it: the setting is stored, nothing has followed it.
        await write_settings(vault, "notes", {"fetch": "on-demand"})
        assert set((await statuses(vault)).values()) == {"PENDING_DOWNLOAD"}
    async with world.open("b") as vault:
        assert (await vault.sync()).fetched_bytes == 0
        assert set((await statuses(vault)).values()) == {"REMOTE_ONLY"}


# What stays here, what is stored once, what goes together ------------------------------------------------


async def test_new_blobs_of_a_local_namespace_stay_on_this_device_alone(world: World) -> None:
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        await notes.put("shared", b"before")
        assert (await notes.settings(local_only=True)).local_only
        await notes.put("one", b"1")
        await notes.put_many([("two", b"2"), ("big", BIG)])
        await notes.put("shared", b"again", replace=True)
        await notes.put("told", b"3", local_only=False)
        async with vault.transaction() as tx:
            tx.namespace("notes").put("grouped", b"4")
        await vault.sync()
        found = await statuses(vault)
        assert {key for key, status in found.items() if status == "LOCAL_ONLY"} == {
            "one",
            "two",
            "big",
            "grouped",
        }
        assert (found["shared"], found["told"]) == ("SYNCED", "SYNCED")
        await notes.settings(local_only=False)
        await notes.put("three", b"3")
        await vault.sync()
        assert (await statuses(vault))["one"] == "LOCAL_ONLY", "what there is stays as it is"
    async with world.open("b") as vault:
        await vault.sync()
        assert set(await statuses(vault)) == {"shared", "told", "three"}
        assert not (await vault.namespace("notes").settings()).local_only


@pytest.mark.parametrize("data", [b"the same", BIG])
async def test_equal_content_is_stored_once_where_the_setting_says_so(world: World, data: bytes) -> None:
    async with world.open("a") as vault:
        ctx, _ = vault.parts()
        scopes = {}
        for dedup in Dedup:
            for name in (f"{dedup.value}-1", f"{dedup.value}-2"):
                await vault.namespace(name).settings(dedup=dedup.value)
                for blob_id in ("x", "y"):
                    scopes[name, blob_id] = (await vault.namespace(name).put(blob_id, data)).scope
        assert {scopes[name] for name in scopes if name[0].startswith("vault")} == {VAULT_SCOPE}
        for name in ("namespace-1", "namespace-2"):
            assert scopes[name, "x"] == scopes[name, "y"] == ctx.keys.namespace_scope(name)
        assert len({scopes[name] for name in scopes if name[0].startswith("none")}) == 4
        # What is known under an id keeps its scope.
        await vault.namespace("vault-1").settings(dedup="none")
        again = await vault.namespace("vault-1").put("x", data + b"!", replace=True)
        assert again.scope == VAULT_SCOPE
        await vault.sync()
    async with world.open("b") as vault:
        await vault.sync()
        for name, blob_id in scopes:
            assert (await vault.namespace(name).get(blob_id)).data.startswith(data)


async def test_what_strangers_write_shares_no_batch_with_anything_else(world: World) -> None:
    def namespaces(changes: tuple[Change, ...]) -> set[str]:
        return {
            change.version.namespace if isinstance(change, VersionChange) else change.namespace
            for change in changes
            if isinstance(change, VersionChange | FlagsChange)
        }

    async with world.open("a") as vault:
        await vault.namespace("inbox").settings(dedup="none")
        await vault.sync()
        for number in range(20):
            await vault.namespace("inbox" if number % 2 else "notes").put(f"{number}", b"%d" % number)
        await vault.namespace("inbox").put("empty", b"")
        await vault.namespace("inbox").add_flags("1", {"seen"})
        await vault.namespace("notes").add_flags("0", {"seen"})
        await vault.namespace("inbox").delete("3")
        await vault.sync()
        found = [namespaces(batch.changes) for batch in (await batches(world, vault)).values()]
        assert {"inbox"} in found and {"notes"} in found
        assert not [names for names in found if "inbox" in names and len(names) > 1]
        assert len(found) < 10, "they are put together with their like"
        await vault.namespace("inbox").put("alone", b"1")
        async with vault.transaction() as tx:  # all or none comes first
            tx.namespace("inbox").put("t", b"t")
            tx.namespace("notes").put("t", b"t")
        await vault.sync()
    async with world.open("b") as vault:
        await vault.sync()
        assert await vault.namespace("inbox").count() == 12
        assert await vault.namespace("notes").count() == 11
        assert await vault.namespace("inbox").count(flag="seen") == 1

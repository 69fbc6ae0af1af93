"""Devices that have exchanged everything hold the same, whatever was done in what order; nothing is lost."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncagent.errors import BlobExists, BlobNotFound
from syncagent.model import Version
from syncagent.remote.memory import MemoryStore
from syncagent.vault import Vault
from tests.engine.world import World, listed, rows

pytestmark = pytest.mark.anyio

ROUNDS = 2
"""In the first each sends; in the second each reads what those after it have sent."""


@dataclass(frozen=True)
class Shown:
    """What one device shows of a blob."""

    winner: str
    data: bytes
    is_conflict: bool
    heads: tuple[str, ...]


async def shown(vault: Vault) -> dict[str, Shown]:
    found: dict[str, Shown] = {}
    for blob_id, blob in (await listed(vault)).items():
        heads = await rows(
            vault,
            "SELECT hex(version.id) FROM version JOIN blob ON blob.no = blob_no"
            " WHERE blob.id = ? AND version.status IS NOT NULL ORDER BY 1",
            blob_id,
        )
        found[blob_id] = Shown(
            blob.version,
            (await vault.namespace("notes").get(blob_id)).data,
            blob.conflict,
            tuple(str(head[0]) for head in heads),
        )
    return found


async def quiet(world: World, *devices: str) -> dict[str, Shown]:
    """Sync until nothing moves any more, then what all show, which must be the same."""
    for _ in range(ROUNDS):
        reports = [await world.sync(device) for device in devices]
        assert not any(report.failed or report.alarms for report in reports)
    before = dict(world.store.objects)
    for device in devices:
        report = await world.sync(device)
        assert (report.sent, report.fetched, report.conflicts) == (0, 0, 0)
    assert world.store.objects == before
    everyone = []
    for device in devices:
        async with world.open(device) as vault:
            everyone.append(await shown(vault))
            assert {blob.status.name for blob in (await listed(vault)).values()} <= {"SYNCED"}
            status = await vault.status()
            assert status.conflicts == sum(each.is_conflict for each in everyone[-1].values())
    assert all(each == everyone[0] for each in everyone)
    return everyone[0]


# Cases worth a name ----------------------------------------------------------------------------------


async def test_concurrent_edits_conflict_on_both_the_same_way_and_an_edit_of_both_settles_it(
    world: World,
) -> None:
    await world.put("a", x=b"from a")
    await world.put("b", x=b"from b")
    [blob] = (await quiet(world, "a", "b", "c")).values()
    assert blob.is_conflict and len(blob.heads) == 2
    await world.put("c", x=b"settled")
    [blob] = (await quiet(world, "a", "b", "c")).values()
    assert (blob.data, blob.is_conflict, len(blob.heads)) == (b"settled", False, 1)


async def test_a_conflict_is_counted_once_where_it_arises(world: World) -> None:
    await world.put_and_sync("a", x=b"from a")
    await world.put("b", x=b"from b")
    assert (await world.sync("b")).conflicts == 1
    assert (await world.sync("b")).conflicts == 0
    assert (await world.sync("a")).conflicts == 1


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
async def test_an_edit_wins_over_a_concurrent_deletion_everywhere(
    world: World, order: tuple[str, str]
) -> None:
    await world.put_and_sync("a", x=b"old")
    await quiet(world, "a", "b", "c")
    await world.put("a", x=b"edited")
    world.clock.now += 100  # the deletion is later, and loses all the same
    async with world.open("b") as vault:
        await vault.namespace("notes").delete("x")
    for device in order:
        await world.sync(device)
    found = await quiet(world, "a", "b", "c")
    assert found["x"].data == b"edited"
    assert not found["x"].is_conflict


async def test_the_same_bytes_put_on_two_devices_are_no_conflict(world: World) -> None:
    await world.put("a", x=b"same")
    await world.put("b", x=b"same")
    [blob] = (await quiet(world, "a", "b", "c")).values()
    assert (blob.data, blob.is_conflict, len(blob.heads)) == (b"same", False, 2)


async def test_a_blob_made_anew_after_its_deletion_stays(world: World) -> None:
    """The deletion of before does not come back for it (row A7)."""
    await world.put_and_sync("a", x=b"first")
    await quiet(world, "a", "b", "c")
    async with world.open("b") as vault:
        await vault.namespace("notes").delete("x")
        await vault.namespace("notes").put("x", b"second")
    found = await quiet(world, "a", "b", "c")
    assert found["x"].data == b"second" and not found["x"].is_conflict
    async with world.open("c") as vault:
        await vault.namespace("notes").delete("x")
    assert await quiet(world, "a", "b", "c") == {}
    async with world.open("a") as vault:
        await vault.namespace("notes").put("x", b"third")
    assert (await quiet(world, "a", "b", "c"))["x"].data == b"third"


async def test_deleted_on_both_is_deleted(world: World) -> None:
    await world.put_and_sync("a", x=b"x")
    await quiet(world, "a", "b", "c")
    for device in ("a", "b"):
        async with world.open(device) as vault:
            await vault.namespace("notes").delete("x")
    assert await quiet(world, "a", "b", "c") == {}


async def test_a_chain_of_edits_over_devices_that_read_each_other_is_no_conflict(world: World) -> None:
    for number in range(3):
        for device in ("a", "b", "c"):
            await world.sync(device)
            await world.put_and_sync(device, x=f"{device}{number}".encode())
    [blob] = (await quiet(world, "a", "b", "c")).values()
    assert (blob.data, blob.is_conflict) == (b"c2", False)


async def test_metadata_of_folders_is_no_conflict_and_other_metadata_is(world: World) -> None:
    for device in ("a", "b"):
        async with world.open(device) as vault:
            notes = vault.namespace("notes")
            await notes.put("x", b"same", metadata={"fs.mtime": ord(device)})
            await notes.put("y", b"same", metadata={"title": device})
    found = await quiet(world, "a", "b", "c")
    assert (found["x"].is_conflict, found["y"].is_conflict) == (False, True)


async def test_a_clock_a_year_ahead_is_reported_and_does_not_spread(world: World) -> None:
    """A skewed clock is named (row D9)."""
    noon = world.clock.now
    world.clock.now += 365 * 24 * 3600
    await world.put_and_sync("a", x=b"from the future")
    world.clock.now = noon
    report = await world.sync("b")
    [alarm] = report.alarms
    assert (alarm.kind, alarm.safe[:14]) == ("ClockAhead", "it was applied"), "and not that it was not used"
    async with world.open("b") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"from the future"
        version = await vault.namespace("notes").put("y", b"now")
        assert version.hlc >> 16 < (noon + 24 * 3600) * 1000
        await vault.namespace("notes").put("x", b"edited now", replace=True)
        await vault.sync()
    await world.sync("c")
    async with world.open("c") as vault:
        assert (await vault.namespace("notes").get("x")).data == b"edited now", "parents decide, not clocks"


# Any order -------------------------------------------------------------------------------------------

IDS = ("x", "y")


@dataclass(frozen=True)
class Step:
    """One thing done on one device."""

    device: str
    action: str
    blob_id: str
    byte: int
    later_s: int


@dataclass(frozen=True)
class Told:
    """A version whose put or delete was acknowledged; no data for a deletion."""

    blob_id: str
    data: bytes | None
    rank: tuple[bool, int, str, str]
    parents: frozenset[str]


class Story:
    """All that was acknowledged on any device, as it was told then: what must be found in the end."""

    def __init__(self) -> None:
        self._told: dict[str, Told] = {}

    def tell(self, version: Version, device: str, data: bytes | None) -> None:
        """Note a version; one that was there already, for a put of the same bytes, is as it was."""
        rank = (not version.deleted, version.hlc, device, str(version))
        parents = frozenset(parent.version.hex() for parent in version.parents)
        self._told.setdefault(str(version), Told(version.blob_id, data, rank, parents))

    def end(self) -> dict[str, Shown]:
        """What every device must show: nothing is gone but what someone saw and replaced."""
        replaced = {parent for told in self._told.values() for parent in told.parents}
        found: dict[str, Shown] = {}
        for blob_id in IDS:
            heads = {k: t for k, t in self._told.items() if t.blob_id == blob_id and k not in replaced}
            if not heads:
                continue
            winner = max(heads, key=lambda version_id: heads[version_id].rank)
            data = heads[winner].data
            if data is None:
                continue  # deleted, and nobody edited it meanwhile
            live = {told.data for told in heads.values() if told.data is not None}
            ids = tuple(sorted(version_id.upper() for version_id in heads))
            found[blob_id] = Shown(winner, data, len(live) > 1, ids)
        return found


_steps = st.lists(
    st.builds(
        Step,
        device=st.sampled_from(["a", "b", "c"]),
        action=st.sampled_from(["put", "replace", "replace", "delete", "sync", "sync", "send"]),
        blob_id=st.sampled_from(IDS),
        byte=st.integers(0, 2),
        later_s=st.sampled_from([0, 0, 1, -5]),
    ),
    min_size=3,
    max_size=16,
)


async def _do(world: World, step: Step, story: Story) -> None:
    world.clock.now += step.later_s
    async with world.open(step.device) as vault:
        notes = vault.namespace("notes")
        try:
            match step.action:
                case "sync":
                    assert not (await vault.sync()).alarms
                case "send":
                    await vault.send_missing()
                case "delete":
                    story.tell(await notes.delete(step.blob_id), vault.device_id, None)
                case action:
                    data = bytes([step.byte]) * step.byte  # nothing, one byte, two
                    version = await notes.put(step.blob_id, data, replace=action == "replace")
                    story.tell(version, vault.device_id, data)
        except (BlobExists, BlobNotFound):
            return


async def _run(template: World, folder: Path, steps: list[Step]) -> None:
    shutil.copytree(template.folder, folder)
    world = World(folder, MemoryStore(objects=dict(template.store.objects)), template.root)
    story = Story()
    for step in steps:
        await _do(world, step, story)
    assert await quiet(world, "a", "b", "c") == story.end()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@settings(
    max_examples=35,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=_steps)
def test_whatever_is_done_all_devices_end_up_with_the_same(
    template: World, anyio_backend: str, steps: list[Step]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(_run, template, Path(folder) / "world", steps, backend=anyio_backend)

"""Whatever one device does before and between syncs, another sees the end of it and nothing else."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import anyio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncagent.errors import BlobNotFound
from syncagent.remote.memory import MemoryStore
from tests.engine.test_rollback import contents
from tests.engine.world import World, rows

IDS = st.sampled_from(["a", "b", "c"])
DATA = st.sampled_from([b"", b"one", b"two", bytes(300 << 10), bytes(300 << 10) + b"x"])
EDIT = st.one_of(
    st.tuples(st.just("put"), IDS, DATA),
    st.tuples(st.just("put"), IDS, DATA),
    st.tuples(st.just("delete"), IDS, st.just(b"")),
)
STEP = st.one_of(
    EDIT,
    EDIT,
    st.tuples(st.just("transaction"), st.lists(EDIT, min_size=1, max_size=4), st.just(b"")),
    st.tuples(st.just("sync"), st.just(""), st.just(b"")),
    st.tuples(st.just("other"), st.just(""), st.just(b"")),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, max_size=14))
def test_edits_deletes_and_transactions_of_one_device(template: World, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(_play, template, Path(folder), steps)


async def _play(template: World, folder: Path, steps: list[Any]) -> None:
    shutil.copytree(template.folder, folder / "world")
    world = World(folder / "world", MemoryStore(objects=dict(template.store.objects)), template.root)
    model: dict[str, bytes] = {}
    async with world.open("a") as vault:
        notes = vault.namespace("notes")
        for kind, first, data in steps:
            match kind:
                case "put":
                    await notes.put(first, data, replace=True)
                    model[first] = data
                case "delete":
                    try:
                        await notes.delete(first)
                    except BlobNotFound:
                        assert first not in model
                    model.pop(first, None)
                case "transaction":
                    after = dict(model)
                    try:
                        async with vault.transaction() as tx:
                            for edit, blob_id, content in first:
                                if edit == "put":
                                    tx.namespace("notes").put(blob_id, content, replace=True)
                                    after[blob_id] = content
                                else:
                                    tx.namespace("notes").delete(blob_id)
                                    if after.pop(blob_id, None) is None:
                                        after = dict.fromkeys(["impossible"], b"")
                    except BlobNotFound:
                        continue
                    assert "impossible" not in after
                    model = after
                case "sync":
                    assert not (await vault.sync()).alarms
                case _:
                    assert not (await world.sync("b")).alarms
        assert await contents(vault) == model
        await vault.sync()
        assert await rows(vault, "SELECT 1 FROM upload") == []
    await world.sync("b")
    async with world.open("b") as vault:
        assert await contents(vault) == model
        assert await rows(vault, "SELECT 1 FROM hole UNION SELECT 1 FROM blob WHERE conflict") == []
        heads = await rows(vault, "SELECT count(*) FROM version WHERE status IS NOT NULL GROUP BY blob_no")
        assert all(count == 1 for (count,) in heads)

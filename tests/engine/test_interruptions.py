"""Cut off at any call of the remote, a send or fetch goes on where it was: nothing lost, nothing doubled."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from syncagent import names
from syncagent.engine.fetch import Fetcher
from syncagent.engine.report import Meter, Tally
from syncagent.errors import Unreachable
from syncagent.remote.directory import DirectoryRemote
from syncagent.vault import Vault
from tests.engine.test_rollback import contents, is_quiet
from tests.engine.threads import CuttingLimiter, open_packs
from tests.engine.world import Call, Fails, LedRemote, World, kinds, rows, statuses

pytestmark = pytest.mark.anyio

LARGE = random.Random(10).randbytes(300 << 10)
LARGER = random.Random(11).randbytes(3 << 20)


async def some_blobs(vault: Vault) -> dict[str, bytes]:
    """Small, large, larger, an edit and a deletion, in two namespaces' worth of packs."""
    notes = vault.namespace("notes")
    await notes.put_many([(f"n{number}", b"%d" % number * 50) for number in range(20)])
    await notes.put("large", LARGE)
    await notes.put("larger", LARGER)
    await notes.put("edited", b"one")
    await notes.put("edited", b"two", replace=True)
    await notes.put("gone", b"gone")
    await notes.delete("gone")
    return await contents(vault)


class Cut:
    """Ends a sync at its n-th call of the remote, before or after it has its effect."""

    def __init__(self, at: int, *, is_cancel: bool) -> None:
        self.at = at
        self.is_cancel = is_cancel
        self.calls = 0
        self.scope = anyio.CancelScope()

    @property
    def has_cut(self) -> bool:
        return self.calls >= self.at

    async def __call__(self, call: Call) -> None:
        self.calls += 1
        if self.calls < self.at:
            return
        if not self.is_cancel:
            raise Unreachable("gone")
        self.scope.cancel()
        await anyio.lowlevel.checkpoint()

    async def run(self, world: World, device: str, remote: LedRemote) -> None:
        try:
            with self.scope:
                await world.sync(device, remote)
        except Unreachable:
            pass


@pytest.mark.parametrize("is_cancel", [True, False], ids=["cancelled", "gone"])
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
async def test_a_send_cut_off_at_every_call_sends_each_pack_once(
    world: World, is_cancel: bool, is_after: bool
) -> None:
    async with world.open("a") as vault:
        wanted = await some_blobs(vault)
    puts: Counter[str] = Counter()
    at = 0
    while True:
        at += 1
        remote = world.remote()
        cut = Cut(at, is_cancel=is_cancel)
        if is_after:
            remote.after = cut
        else:
            remote.before = cut
        before = set(world.names())
        await cut.run(world, "a", remote)
        puts.update(name for name in remote.called("put") if name not in before)
        async with world.open("a") as vault:
            assert await contents(vault) == wanted
        if not cut.has_cut:
            break
    # Whatever was at the remote and recorded was not sent again.
    stored = Counter(world.names(names.PACKS))
    assert stored == Counter({name: 1 for name in puts if name.startswith(names.PACKS) and name in stored})
    assert await is_quiet(world, "a")
    assert kinds(await world.sync("b")) == []
    async with world.open("b") as vault:
        assert await contents(vault) == wanted
        assert await rows(vault, "SELECT 1 FROM blob WHERE conflict") == []
        assert await rows(vault, "SELECT count(*) FROM version JOIN blob ON blob.no = blob_no") == [
            (len(wanted) + 1,)
        ]


@pytest.mark.parametrize("is_cancel", [True, False], ids=["cancelled", "gone"])
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
async def test_a_fetch_cut_off_at_every_call_fetches_each_pack_once(
    world: World, is_cancel: bool, is_after: bool
) -> None:
    async with world.open("a") as vault:
        wanted = await some_blobs(vault)
        await vault.sync()
    gets: Counter[str] = Counter()
    at = 0
    while True:
        at += 1
        remote = world.remote()
        cut = Cut(at, is_cancel=is_cancel)
        if is_after:
            remote.after = cut
        else:
            remote.before = cut
        await cut.run(world, "b", remote)
        gets.update(remote.called("get", names.PACKS))
        if not cut.has_cut:
            break
    async with world.open("b") as vault:
        assert await contents(vault) == wanted
        assert set((await statuses(vault)).values()) == {"SYNCED"}
    packs = world.names(names.PACKS)
    assert set(gets) == set(packs)
    # A transfer that was cut off is made again; one that was stored is not. At most 4 are under way.
    last = world.remote()
    await world.sync("b", last)
    assert last.called("get", names.PACKS) == []


@pytest.mark.parametrize("is_cancel", [True, False], ids=["cancelled", "gone"])
async def test_a_cut_off_send_repeats_at_most_the_packs_that_were_under_way(
    world: World, is_cancel: bool
) -> None:
    dice = random.Random(12)
    async with world.open("a") as vault:
        for number in range(12):
            await vault.namespace("notes").put(f"n{number}", dice.randbytes(300 << 10))
    started: Counter[str] = Counter()
    for at in (3, 5, 4):
        remote = world.remote()
        count = 0
        scope = anyio.CancelScope()

        async def cut(
            call: Call, at: int = at, scope: anyio.CancelScope = scope, remote: LedRemote = remote
        ) -> None:
            nonlocal count
            if call.method != "put" or not call.name.startswith(names.PACKS):
                return
            count += 1
            if count >= at:
                if not is_cancel:
                    remote.before = _gone
                    raise Unreachable("gone")
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        remote.after = cut
        try:
            with scope:
                await world.sync("a", remote)
        except Unreachable:
            pass
        started.update(remote.called("put", names.PACKS))
    remote = world.remote()
    await world.sync("a", remote)
    started.update(remote.called("put", names.PACKS))
    assert len(world.names(names.PACKS)) == 12
    repeated = sum(started.values()) - 12
    # Three cuts, at most four packs under way at each; those with three tries for one object count thrice.
    assert repeated <= 3 * 4 * (1 if is_cancel else 3)


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_gibibyte_cut_off_in_the_middle_repeats_at_most_four_packs(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    dice = random.Random(14)
    with path.open("wb") as file:
        for _ in range(1024):
            file.write(dice.randbytes(1 << 20))
    folder = tmp_path / "remote"
    inner = await DirectoryRemote.create(folder)
    for name in world.names():
        await inner.put(name, world.data(name))
    async with world.open("a", LedRemote(inner)) as vault:
        await vault.namespace("notes").put("large", path)
    sent: Counter[str] = Counter()
    for at in (30, 50, 1_000):
        remote = LedRemote(inner)
        scope = anyio.CancelScope()

        async def cut(
            call: Call, at: int = at, scope: anyio.CancelScope = scope, remote: LedRemote = remote
        ) -> None:
            if len(remote.called("put", names.PACKS)) >= at:
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        remote.before = cut
        with scope:
            await world.sync("a", remote)
        sent.update(remote.called("put", names.PACKS))
    assert len(sent) == 128
    assert sum(sent.values()) - len(sent) <= 2 * 4


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
async def test_a_fetch_cut_off_at_every_thread_leaves_none_at_work_and_ends_whole(
    world: World, is_after: bool
) -> None:
    data = random.Random(15).randbytes(27 << 20)
    await world.put_and_sync("a", x=data)
    remote = world.remote()
    remote.before = Fails(Unreachable("gone"), "get", names.PACKS)
    async with world.open("b", remote) as vault:
        with pytest.raises(Unreachable):
            await vault.sync()
        remote.before = Fails(Unreachable("gone"), "put", times=0)
        ctx, engine = vault.parts()
        [(version,)] = await rows(vault, "SELECT winner_no FROM blob WHERE id = 'x'")
        assert isinstance(version, int)
        at = 0
        while True:
            at += 1
            limiter = CuttingLimiter(at, is_after=is_after)
            fetcher = Fetcher(
                replace(ctx, workers=limiter),
                remote,
                engine.gate,
                Tally(),
                Meter("fetch", None),
                interactive=True,
            )
            with limiter.scope:
                await fetcher.fetch([version])
            assert limiter.borrowed_tokens == 0
            assert open_packs(world, "b") == []
            assert not list((world.folder / "b" / "packs").glob("*.tmp"))
            if not limiter.has_cut:
                break
        assert at > 1
        stored = {path.name for path in (world.folder / "b" / "packs").iterdir()}
        assert stored == {name.removeprefix(names.PACKS) for name in world.names(names.PACKS)}
        assert await contents(vault) == {"x": data}


async def _gone(call: Call) -> None:
    raise Unreachable("gone")


# Puts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_at", range(6))
async def test_a_put_cancelled_while_its_content_comes_leaves_nothing(world: World, stop_at: int) -> None:
    dice = random.Random(13)
    async with world.open("a") as vault:
        with anyio.CancelScope() as scope:

            class Stream:
                def __init__(self) -> None:
                    self.number = 0

                def __aiter__(self) -> "Stream":
                    return self

                async def __anext__(self) -> bytes:
                    if self.number == stop_at:
                        scope.cancel()
                        await anyio.lowlevel.checkpoint()
                    if self.number == 6:
                        raise StopAsyncIteration
                    self.number += 1
                    return dice.randbytes(2 << 20)

            await vault.namespace("notes").put("x", Stream())
        assert scope.cancelled_caught
        assert await contents(vault) == {}
        assert list((world.folder / "a" / "packs").iterdir()) == []
        await vault.namespace("notes").put("x", b"after all")
        assert await contents(vault) == {"x": b"after all"}

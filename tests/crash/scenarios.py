"""What is run, killed and looked at: puts, syncs, copied profiles, memberships, migrations, plain objects.

A scenario is prepared once; each run starts from a copy. What a run has been told
to be done it acknowledges, and `check`, in a fresh process, must find it, finish
the work and find nothing doubled.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import syncagent
from syncagent.cache import meta, schema
from syncagent.cache.db import Database
from syncagent.cache.profile import Credential, Profile, open_slots, read_slots
from syncagent.crypto.keys import cache_key
from syncagent.errors import BlobNotFound, ObjectExists, VaultExists, WrongPassphrase
from syncagent.remote import open_remote
from syncagent.remote.base import Remote
from syncagent.remote.directory import DirectoryRemote
from syncagent.vault import Vault
from tests.crash.place import (
    Place,
    check_nothing_doubled,
    content,
    contents,
    device_objects,
    make_place,
    settle,
)
from tests.crash.points import Points
from tests.engine.world import PASSPHRASE

Acks = Sequence[str]


@dataclass(frozen=True)
class Scenario:
    """One kind of work. `check` gets what was acknowledged, in order."""

    prepare: Callable[[Place], Awaitable[None]]
    run: Callable[[Place, Points], Awaitable[None]]
    check: Callable[[Place, Acks], Awaitable[None]]


@dataclass(frozen=True)
class Change:
    """One call of the library on `notes`: what each blob is afterwards, None for no more there."""

    call: str
    blobs: dict[str, bytes | None]

    async def make(self, vault: Vault) -> None:
        """Make it. Once more, it changes nothing."""
        notes = vault.namespace("notes")
        match self.call:
            case "put_many":
                results = await notes.put_many([(key, data or b"") for key, data in self.blobs.items()])
                assert all(result.error is None for result in results)
            case "transaction":
                async with vault.transaction() as tx:
                    for key, data in self.blobs.items():
                        tx.namespace("notes").put(key, data or b"", replace=True)
            case _:
                for key, data in self.blobs.items():
                    if data is not None:
                        await notes.put(key, data, replace=True)
                    else:
                        with contextlib.suppress(BlobNotFound):
                            await notes.delete(key)


def after(changes: Sequence[Change]) -> dict[str, bytes]:
    """The blobs there are after these changes."""
    blobs: dict[str, bytes | None] = {}
    for change in changes:
        blobs |= change.blobs
    return {key: data for key, data in blobs.items() if data is not None}


def check_blobs(found: dict[str, bytes], changes: Sequence[Change], acknowledged: int) -> None:
    """What was acknowledged is there with its bytes, and beyond it at most the one change under way."""
    wanted = after(changes[:acknowledged])
    for change in changes[acknowledged : acknowledged + 1]:
        done = {key: data for key, data in change.blobs.items() if found.get(key) == data}
        if change.call == "transaction":
            assert len(done) in (0, len(change.blobs)), "half a transaction"
        for key, data in done.items():
            wanted.pop(key, None)
            if data is not None:
                wanted[key] = data
    assert found.keys() == wanted.keys()
    for key, data in wanted.items():
        assert found[key] == data, f"other bytes of {key}"


async def check_at_rest(place: Place, wanted: dict[str, bytes], *devices: str) -> list[str]:
    """The devices exchange everything, hold these blobs, and nothing is doubled; the alarms on the way."""
    alarms = await settle(place, *devices)
    for device in devices:
        assert await place.contents(device) == wanted, device
    await check_nothing_doubled(place, *devices)
    return alarms


# Puts --------------------------------------------------------------------------------------------------

SMALL = [
    Change("put", {"a": b"a"}),
    Change("put", {"empty": b""}),
    Change("put", {"b": content(1, 5_000)}),
    Change("put", {"same as b": content(1, 5_000)}),
    Change("put_many", {f"m{number}": content(number, 300) for number in range(5)}),
    Change("put", {"a": b"another"}),
    Change("delete", {"b": None}),
    Change("transaction", {"t1": b"one", "t2": b"two", "a": b"of the transaction"}),
    Change("put", {"large for a row": content(2, 200 << 10)}),
]
LARGE = [
    Change("put", {"one pack": content(3, 300 << 10)}),
    Change("put", {"small": b"small"}),
    Change("put", {"two packs": content(4, 9 << 20)}),
    Change("put", {"one pack": content(5, 400 << 10)}),
    Change("put", {"partly the same": content(4, 9 << 20)[: 1 << 20] + content(6, 300 << 10)}),
]


def puts(changes: Sequence[Change]) -> Scenario:
    """Changes one after another, on a device that does not sync."""

    async def run(place: Place, points: Points) -> None:
        async with place.open("a", points.remote(place.remote())) as vault:
            for number, change in enumerate(changes):
                await change.make(vault)
                points.acknowledge(str(number))

    async def check(place: Place, acks: Acks) -> None:
        check_blobs(await place.contents("a"), changes, len(acks))
        await finish(place, changes, len(acks))
        assert await check_at_rest(place, after(changes), "a", "b") == []

    return Scenario(make_place, run, check)


async def finish(place: Place, changes: Sequence[Change], acknowledged: int) -> None:
    """What was not acknowledged is done once more."""
    async with place.open("a") as vault:
        for change in changes[acknowledged:]:
            await change.make(vault)


# Syncs -------------------------------------------------------------------------------------------------


async def _prepare_send(place: Place) -> None:
    await make_place(place)
    await finish(place, [*SMALL, *LARGE], 0)


async def _prepare_fetch(place: Place) -> None:
    await _prepare_send(place)
    await place.sync("a")


def syncs(device: str, prepare: Callable[[Place], Awaitable[None]]) -> Scenario:
    """One sync of a device, which has everything to send or everything to fetch."""

    async def run(place: Place, points: Points) -> None:
        async with place.open(device, points.remote(place.remote())) as vault:
            await vault.sync()
        points.acknowledge("synced")

    async def check(place: Place, acks: Acks) -> None:
        wanted = after([*SMALL, *LARGE])
        assert await place.contents("a") == wanted
        if acks and device == "b":
            assert await place.contents("b") == wanted
        assert await check_at_rest(place, wanted, "a", "b") == []

    return Scenario(prepare, run, check)


# A copied profile --------------------------------------------------------------------------------------

BEFORE = [Change("put", {"before": b"before", "large before": content(7, 300 << 10)})]
WAITING = [Change("put", {"waiting": b"waiting", "large waiting": content(8, 300 << 10)})]
OF_COPY = [Change("put", {"of the copy": b"copy", "large of the copy": content(9, 300 << 10)})]
OF_A = [Change("put", {"of a": b"a", "large of a": content(10, 300 << 10)})]


async def _prepare_clone(place: Place) -> None:
    """`copy` is `a` as it was while something waited; since then `a` has sent that, and more."""
    await make_place(place)
    for changes in (BEFORE, WAITING):
        await settle(place, "a", "b")
        await finish(place, changes, 0)
    place.clone("a", "copy")
    await finish(place, OF_A, 0)
    await settle(place, "a", "b")


async def _run_clone(place: Place, points: Points) -> None:
    async with place.open("copy", points.remote(place.remote())) as vault:
        for number, change in enumerate(OF_COPY):
            await change.make(vault)
            points.acknowledge(str(number))
        await vault.sync()
        points.acknowledge("synced")


async def _check_clone(place: Place, acks: Acks) -> None:
    if "synced" in acks:
        assert await place.contents("copy") == after([*BEFORE, *WAITING, *OF_A, *OF_COPY])
    else:  # what `a` has sent meanwhile may be there or not
        found = await place.contents("copy", but=OF_A[0].blobs)
        check_blobs(found, [*BEFORE, *WAITING, *OF_COPY], len(acks) + 2)
    async with place.open("copy") as vault:
        for change in OF_COPY:
            await change.make(vault)
    wanted = after([*BEFORE, *WAITING, *OF_A, *OF_COPY])
    alarms = await check_at_rest(place, wanted, "copy", "a", "b")
    assert len(alarms) <= 1 and all(alarm.startswith("RemoteForked") for alarm in alarms)
    assert len(device_objects(place)) == 3, "the copy became a device once"


# Memberships -------------------------------------------------------------------------------------------

NEW = "new secret"


async def _prepare_nothing(place: Place) -> None:
    place.folder.mkdir(parents=True)


async def _create(place: Place) -> None:
    await syncagent.create_vault(
        place.folder / "home" / "vaults" / "a",
        remote=(place.folder / "mnt" / "remote").as_uri(),
        passphrase=PASSPHRASE,
        device_name="a",
        kdf=syncagent.FLOOR_KDF,
    )


async def _join(place: Place, path: str, passphrase: str = PASSPHRASE) -> None:
    remote = place.folder / "mnt" / "remote"
    await syncagent.join_vault(
        place.folder / path, remote=remote.as_uri(), passphrase=passphrase, device_name=path.replace("/", "-")
    )


def _open(place: Place, path: str, passphrase: str, remote: Remote | None = None) -> Vault:
    # The vault's own URL is that of the folder from which this one was copied.
    remote = DirectoryRemote(place.folder / "mnt" / "remote") if remote is None else remote
    return syncagent.open_vault(place.folder / path, passphrase=passphrase, remote=remote)


async def _run_create(place: Place, points: Points) -> None:
    await _create(place)
    points.acknowledge("created")


async def _check_create(place: Place, acks: Acks) -> None:
    profile = place.folder / "home" / "vaults" / "a"
    if acks:
        assert profile.is_dir(), "an acknowledged vault is gone"
    if not profile.exists():
        with contextlib.suppress(VaultExists):
            await _create(place)
    if not profile.exists():  # it was made at the remote: its passphrase opens it
        await _join(place, "home/vaults/a")
    await _check_members(place, PASSPHRASE, "home/vaults/a")


async def _check_members(place: Place, passphrase: str, path: str) -> None:
    """The vault is usable here, another device can join it, and blobs go over."""
    async with _open(place, path, passphrase) as vault:
        await vault.namespace("notes").put("x", b"x")
        report = await vault.sync()
        assert not report.alarms and not report.failed
    await _join(place, "other", passphrase)
    async with _open(place, "other", passphrase) as vault:
        report = await vault.sync()
        assert not report.alarms and not report.failed
        assert await contents(vault) == {"x": b"x"}
    for left in (place.folder / path).parent.glob("*.new-*"):
        assert left.is_dir()  # removed a day later by another attempt, see test_interrupted_membership


async def _run_join(place: Place, points: Points) -> None:
    await _join(place, "home/vaults/b")
    points.acknowledge("joined")


async def _prepare_join(place: Place) -> None:
    await _prepare_nothing(place)
    await _create(place)


async def _check_join(place: Place, acks: Acks) -> None:
    profile = place.folder / "home" / "vaults" / "b"
    if acks:
        assert profile.is_dir(), "an acknowledged device is gone"
    if not profile.exists():
        await _join(place, "home/vaults/b")
    await _check_members(place, PASSPHRASE, "home/vaults/b")


async def _run_passphrase(place: Place, points: Points) -> None:
    remote = points.remote(DirectoryRemote(place.folder / "mnt" / "remote"))
    async with _open(place, "home/vaults/a", PASSPHRASE, remote) as vault:
        await vault.change_passphrase(NEW, kdf=syncagent.FLOOR_KDF)
    points.acknowledge("changed")


async def _check_passphrase(place: Place, acks: Acks) -> None:
    path = "home/vaults/a"
    if not acks:
        opening = PASSPHRASE if _opens(place.folder / path, PASSPHRASE) else NEW
        async with _open(place, path, opening) as vault:
            await vault.change_passphrase(NEW, kdf=syncagent.FLOOR_KDF)
    await _check_members(place, NEW, path)
    assert not _opens(place.folder / path, PASSPHRASE), "the replaced passphrase still opens the vault"
    try:
        await _join(place, "late", PASSPHRASE)
    except WrongPassphrase:
        return
    raise AssertionError("the replaced passphrase still lets a device join")


def _opens(profile: Path, passphrase: str) -> bool:
    try:
        open_slots(read_slots(Profile(profile)), Credential.of(passphrase=passphrase, recovery_code=None))
    except WrongPassphrase:
        return False
    return True


# A migration -------------------------------------------------------------------------------------------

SECOND = """CREATE TABLE extra (no INTEGER PRIMARY KEY, id BLOB NOT NULL);
INSERT INTO extra SELECT no, id FROM version;
ALTER TABLE version ADD COLUMN extra INTEGER NOT NULL DEFAULT 0;
"""
THIRD = """UPDATE version SET extra = no;
DROP TABLE extra;
"""
MIGRATIONS = (*schema.MIGRATIONS, SECOND, THIRD)


class _Statements(Database):
    """Each statement is a point, besides the commits."""

    points: Points | None = None

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> int:
        done = super().execute(sql, parameters)
        if self.points is not None:
            self.points.say(f"statement {sql.split()[0]}")
        return done


def _database(place: Place) -> _Statements:
    profile = place.profile("a")
    return _Statements(profile.database, cache_key(place.root(), profile.salt.read_bytes()))


async def _run_migration(place: Place, points: Points) -> None:
    db = _database(place)
    db.points = points
    db.open()
    schema.migrate(db, MIGRATIONS)
    points.acknowledge("migrated")
    db.close()


async def _check_migration(place: Place, acks: Acks) -> None:
    wanted = after([*SMALL, *LARGE])
    db = _database(place)
    db.open()
    found = int(db.scalar("PRAGMA user_version"))
    assert found in ((3,) if acks else (1, 2, 3))
    columns = {row[1] for row in db.all("PRAGMA table_info(version)")}
    assert ("extra" in columns) == (found >= 2)
    assert bool(db.all("SELECT 1 FROM sqlite_master WHERE name = 'extra'")) == (found == 2)
    schema.migrate(db, MIGRATIONS)
    assert not db.scalar("SELECT count(*) FROM version WHERE extra <> no")
    db.execute("ALTER TABLE version DROP COLUMN extra")  # this version of the code knows schema 1
    db.execute("PRAGMA user_version = 1")
    assert meta.find_text(db, meta.REMOTE)
    db.close()
    assert await place.contents("a") == wanted
    assert await check_at_rest(place, wanted, "a", "b") == []


# Objects of a remote folder ----------------------------------------------------------------------------

DEVICE = "0123456789abcdef" * 2
OBJECTS = [
    ("put", "vault", b"v"),
    ("put", f"journal/{DEVICE}/000000000001", content(1, 3_000)),
    ("put", f"journal/{DEVICE}/000000000002", content(2, 3_000)),
    ("put", "packs/" + "5" * 64, content(3, 2 << 20)),
    ("overwrite", "vault", b"w" * 3_000),
    ("put", f"keys/{DEVICE}", b"k" * 500),
    ("delete", f"keys/{DEVICE}", b""),
]


async def _run_objects(place: Place, points: Points) -> None:
    remote = await open_remote((place.folder / "mnt" / "remote").as_uri(), create=True)
    for number, (call, name, data) in enumerate(OBJECTS):
        if call == "delete":
            await remote.delete(name)
        else:
            await remote.put(name, data, overwrite=call == "overwrite")
        points.acknowledge(str(number))


async def _check_objects(place: Place, acks: Acks) -> None:
    remote = await open_remote((place.folder / "mnt" / "remote").as_uri(), create=not acks)

    async def found() -> dict[str, bytes]:
        return {info.name: await remote.get(info.name) for info in (await remote.list("")).objects}

    changes = [Change(call, {name: None if call == "delete" else data}) for call, name, data in OBJECTS]
    check_blobs(await found(), changes, len(acks))
    for call, name, data in OBJECTS[len(acks) :]:
        if call == "delete":
            await remote.delete(name)
            continue
        with contextlib.suppress(ObjectExists):
            await remote.put(name, data, overwrite=call == "overwrite")
    assert await found() == after(changes)


SCENARIOS = {
    "put-small": puts(SMALL),
    "put-large": puts(LARGE),
    "send": syncs("a", _prepare_send),
    "fetch": syncs("b", _prepare_fetch),
    "clone": Scenario(_prepare_clone, _run_clone, _check_clone),
    "migration": Scenario(_prepare_send, _run_migration, _check_migration),
    "init": Scenario(_prepare_nothing, _run_create, _check_create),
    "join": Scenario(_prepare_join, _run_join, _check_join),
    "passphrase": Scenario(_prepare_join, _run_passphrase, _check_passphrase),
    "objects": Scenario(_prepare_nothing, _run_objects, _check_objects),
}

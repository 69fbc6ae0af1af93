"""Objects of a remote folder, and files that `get -o` writes: killed anywhere, whole or not there."""

import contextlib
import hashlib
from collections.abc import Sequence

from syncagent import files
from syncagent.cli.outfile import OutFile
from syncagent.errors import ObjectExists
from syncagent.remote.base import FileSlice
from syncagent.remote.directory import TEMPORARY_FOLDER, DirectoryRemote
from tests.crash.members import prepare_nothing
from tests.crash.place import Place, content
from tests.crash.points import Points
from tests.crash.work import Acks, Change, Scenario, after, check_blobs

DEVICE = "0123456789abcdef" * 2
MOVED = content(4, 1 << 20)
OBJECTS = [
    Change("put", {"vault": b"v"}),
    Change("put", {f"journal/{DEVICE}/000000000001": content(1, 3_000)}),
    Change("put", {f"journal/{DEVICE}/000000000002": content(2, 3_000)}),
    Change("put", {"packs/" + "5" * 64: content(3, 2 << 20)}),
    Change("overwrite", {"vault": b"w" * 3_000}),
    Change("put", {f"keys/{DEVICE}": b"k" * 500}),
    Change("delete", {f"keys/{DEVICE}": None}),
    Change("put file", {"packs/" + hashlib.sha256(MOVED).hexdigest(): MOVED}),
]


async def _make(remote: DirectoryRemote, change: Change) -> None:
    for name, data in change.blobs.items():
        if data is None:
            await remote.delete(name)
        elif change.call == "put file":
            path = remote.temporary()
            with files.new_file(path) as file:
                file.write(data)
            await remote.put_file(name, FileSlice(path, 0, len(data)))
        else:
            await remote.put(name, data, overwrite=change.call == "overwrite")


async def _run_objects(place: Place, points: Points) -> None:
    remote = await DirectoryRemote.create(place.folder / "mnt" / "remote")
    for number, change in enumerate(OBJECTS):
        await _make(remote, change)
        points.acknowledge(str(number))


async def _check_objects(place: Place, acks: Acks) -> None:
    root = place.folder / "mnt" / "remote"
    if acks:
        assert root.is_dir(), "the remote of an acknowledged object is gone"
    remote = await DirectoryRemote.create(root)

    async def found() -> dict[str, bytes]:
        return {info.name: await remote.get(info.name) for info in (await remote.list("")).objects}

    check_blobs(await found(), OBJECTS, len(acks))
    if not place.is_after_power_cut:
        assert len(list((root / TEMPORARY_FOLDER).glob("*"))) <= 1
    for change in OBJECTS[len(acks) :]:
        with contextlib.suppress(ObjectExists):
            await _make(remote, change)
    assert await found() == after(OBJECTS)


WRITTEN = [
    Change("new", {"out": content(1, 100_000)}),
    Change("new", {"empty": b""}),
    Change("replace", {"out": content(2, 50_000)}),
]


async def _run_export(place: Place, points: Points) -> None:
    for number, change in enumerate(WRITTEN):
        _write(place, change)
        points.acknowledge(str(number))


def _write(place: Place, change: Change) -> None:
    for name, data in change.blobs.items():
        with OutFile(place.folder / name, may_replace=change.call == "replace").written() as file:
            file.write(data or b"")


async def _check_export(place: Place, acks: Acks) -> None:
    check_blobs(_files(place), WRITTEN, len(acks))
    left = [path for path in place.folder.iterdir() if path.name.startswith(".syncagent-")]
    assert len(left) <= 1 or place.is_after_power_cut
    missing: Sequence[Change] = WRITTEN[len(acks) :]
    for change in missing:
        _write(place, Change("replace", change.blobs))
    assert _files(place) == after(WRITTEN)


def _files(place: Place) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in place.folder.iterdir() if path.name[0] != "."}


PLAIN = {
    "objects": Scenario(prepare_nothing, _run_objects, _check_objects),
    "export": Scenario(prepare_nothing, _run_export, _check_export),
}

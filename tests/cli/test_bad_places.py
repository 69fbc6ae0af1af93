"""What lies on the disks is damaged, missing, foreign or full: one line that says so, its code, nothing lost.

Each case breaks one thing of a vault with a blob that waits and one that was sent, runs one command,
repairs the thing, and looks that everything is there and syncs.
"""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

import syncagent
from tests.cli.shell import PASSPHRASE, Shell

LARGE = random.Random(15).randbytes(300 << 10)
KEPT = {"waits": b"not sent yet", "waits-large": LARGE + b"waits", "sent": b"sent", "sent-large": LARGE}


@dataclass(frozen=True, slots=True)
class Bad:
    """One thing that is wrong with a place, and what a command says of it."""

    command: tuple[str, ...]
    code: int
    says: str
    harm: Callable[[Shell], object]
    others: tuple[str, ...] = field(default=())
    """What else may be said: lines of alarms or failures."""


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)


def flip(path: Path, at: int = -20) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    overwrite(path, bytes(data))


def objects(shell: Shell, kind: str) -> list[Path]:
    return sorted(path for path in (shell.remote / kind).rglob("*") if path.is_file())


def largest(paths: list[Path]) -> Path:
    return max(paths, key=lambda path: path.stat().st_size)


def slots(shell: Shell, change: Callable[[dict[str, object]], object]) -> None:
    for path in (shell.profile / "keys").iterdir():
        document = json.loads(path.read_bytes())
        change(document)
        overwrite(path, json.dumps(document, separators=(",", ":")).encode())


def alter_slots(shell: Shell) -> None:
    """Another bit in what each slot wraps, in whatever way it is written."""

    def alter(document: dict[str, object]) -> None:
        wrapped = document["wrapped"]
        assert isinstance(wrapped, str)
        document["wrapped"] = ("A" if wrapped[10] != "A" else "B").join([wrapped[:10], wrapped[11:]])

    slots(shell, alter)


def overwrite_slots(shell: Shell, content: Callable[[Path], bytes]) -> None:
    for path in (shell.profile / "keys").iterdir():
        overwrite(path, content(path))


def remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink()


def replace_in_vault(shell: Shell, pattern: bytes, new: bytes) -> None:
    path = shell.remote / "vault"
    overwrite(path, re.sub(pattern, new, path.read_bytes()))


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"a file")


def kdf(document: dict[str, object], **values: int) -> None:
    found = document["kdf"]
    assert isinstance(found, dict)
    for name in values:
        assert name in found
    found.update(values)


def pack_file(shell: Shell, *, waits: bool) -> Path:
    """A pack file of this device: of the large blob that waits, or that was sent."""
    sent = {path.name for path in objects(shell, "packs")}
    [path] = [one for one in (shell.profile / "packs").iterdir() if (one.name in sent) is not waits]
    return path


def only_vault(shell: Shell) -> None:
    for kind in ("journal", "packs", "devices", "keys"):
        shutil.rmtree(shell.remote / kind)


RESTORE = r"restore it from a backup"
FETCHED = r"`syncagent sync` fetches the blob again if the remote has it"

CASES = {
    # This device: the profile
    "key slots altered": Bad(
        ("status",), 5, r"the passphrase does not open this vault, or its key slot was altered; .+",
        alter_slots,
    ),
    "key slots garbage": Bad(
        ("status",), 5, r"no key slot of this vault can be read; .+",
        lambda s: overwrite_slots(s, lambda p: b"\xff garbage"),
    ),
    "key slots oversized": Bad(
        ("status",), 5, r"no key slot of this vault can be read; .+",
        lambda s: overwrite_slots(s, lambda p: p.read_bytes() + b" " * 5000),
    ),
    "key slots that ask for 100 GiB of memory": Bad(
        ("status",), 5, r"no key slot of this vault can be read; .+",
        lambda s: slots(s, lambda d: kdf(d, memory_kib=100 << 20)),
    ),
    "key slots that ask for next to no work": Bad(
        ("status",), 5, r"no key slot of this vault can be read; .+",
        lambda s: slots(s, lambda d: kdf(d, iterations=1)),
    ),
    "no key slots": Bad(
        ("status",), 5, r"no key slot of this vault can be read; .+restore the keys folder.+",
        lambda s: remove(list((s.profile / "keys").iterdir())),
    ),
    "cache.salt cut short": Bad(
        ("status",), 6, rf"cache\.salt is damaged; .+{RESTORE}.+",
        lambda s: overwrite(s.profile / "cache.salt", b"short"),
    ),
    "cache.salt of another": Bad(
        ("status",), 6, r"cache\.db cannot be read: .+; the file was left as it is.+",
        lambda s: overwrite(s.profile / "cache.salt", bytes(32)),
    ),
    "cache.db gone": Bad(
        ("status",), 6, rf"cache\.db is missing; .+{RESTORE}.+", lambda s: (s.profile / "cache.db").unlink()
    ),
    "cache.db empty": Bad(
        ("status",), 6, rf"cache\.db is empty; .+{RESTORE}.+",
        lambda s: overwrite(s.profile / "cache.db", b""),
    ),
    "cache.db replaced by garbage": Bad(
        ("get", "n/sent"), 6, r"cache\.db cannot be read: .+; the file was left as it is.+",
        lambda s: overwrite(s.profile / "cache.db", os.urandom(40_960)),
    ),
    "cache.db cut in the middle": Bad(
        ("ls", "n"), 6, r".+", lambda s: os.truncate(s.profile / "cache.db", 4096 * 3)
    ),
    "cache.db, first page damaged": Bad(
        ("put", "n/new", "-"), 6, r"cache\.db cannot be read: .+", lambda s: flip(s.profile / "cache.db", 100)
    ),
    "pack file of a waiting blob damaged": Bad(
        ("get", "n/waits-large"), 6,
        rf"the content in the cache does not verify: .+; no wrong bytes.+; {FETCHED}",
        lambda s: flip(pack_file(s, waits=True), 1000),
    ),
    "pack file of a waiting blob gone": Bad(
        ("get", "n/waits-large"), 6, rf"the content in the cache does not verify: pack file .+; {FETCHED}",
        lambda s: pack_file(s, waits=True).unlink(),
    ),
    "pack file of a waiting blob damaged, sync": Bad(
        ("sync",), 3, r"n/'waits-large' failed to upload: CacheDamaged: .+; the others went on; .+",
        lambda s: flip(pack_file(s, waits=True), 1000),
    ),
    # The remote
    "remote emptied but for its vault": Bad(
        ("sync",), 6,
        r"RemoteRolledBack: remote: the remote went back: \d batch(?:es)?, 1 pack and 2 key slots"
        r" of this device put there again, 1 blob to be sent again; everything this device holds is kept; .+",
        only_vault,
    ),
    "remote's vault gone": Bad(
        ("sync",), 6, r"the remote no longer has this vault; everything this device holds is kept; .+",
        lambda s: (s.remote / "vault").unlink(),
    ),
    "remote's vault garbage": Bad(
        ("sync",), 5, r"the vault record was made by a newer syncagent, or altered; .+",
        lambda s: overwrite(s.remote / "vault", b"{}"),
    ),
    "remote's vault of a later format": Bad(
        ("sync",), 5, r"the vault record was made by a newer syncagent, or altered; .+",
        lambda s: replace_in_vault(s, rb'"format":1', b'"format":9'),
    ),
    "remote's vault of another": Bad(
        ("sync",), 6,
        r"the remote holds vault 0{32}, this device belongs to .+; nothing was sent or applied; .+",
        lambda s: replace_in_vault(s, rb"[0-9a-f]{32}", b"0" * 32),
    ),
    "remote is a file": Bad(
        ("sync",), 4, r".+everything put on this device is kept and stays pending.+",
        lambda s: replace_by_file(s.remote),
    ),
}  # fmt: skip

OTHER_CASES = {
    # Seen by a device that fetches
    "a pack altered": Bad(
        ("sync",), 6, r"Tampered: packs/[0-9a-f]{64}: .+; the bytes were not used",
        lambda s: flip(largest(objects(s, "packs"))),
        (r"n/'sent-large' failed to download: Tampered: .+",),
    ),
    "a pack cut short": Bad(
        ("sync",), 3, r"BadResponse: packs/[0-9a-f]{64}: pack .+ ends after 64 of \d+ bytes; .+",
        lambda s: overwrite(largest(objects(s, "packs")), b"SAP1" + bytes(60)),
        (r"n/'sent-large' failed to download: .+",),
    ),
    "a pack gone": Bad(
        ("sync",), 4, r"Withheld: packs/[0-9a-f]{64}: pack .+ is named by a journal and not given; .+",
        lambda s: largest(objects(s, "packs")).unlink(),
        (r"n/'sent-large' failed to download: Withheld: .+",),
    ),
    "a batch altered": Bad(
        ("sync",), 6, r"Tampered: journal/[0-9a-f]{32}/[0-9]{12}: .+; the bytes were not used",
        lambda s: flip(objects(s, "journal")[-1]),
    ),
    "a batch of rubbish": Bad(
        ("sync",), 6, r"(Tampered|Truncated): journal/.+",
        lambda s: overwrite(objects(s, "journal")[-1], b"rubbish"),
    ),
    "batches gone that were read": Bad(
        ("sync",), 6,
        r"RemoteRolledBack: journal [0-9a-f]{32}: the remote no longer has batch \d of device .+",
        lambda s: remove(objects(s, "journal")),
        (r"(Withheld|RemoteRolledBack): .+",),
    ),
}  # fmt: skip


async def make(shell: Shell) -> None:
    shell.profile.parent.mkdir(parents=True)
    await syncagent.create_vault(
        shell.profile,
        remote=shell.remote.as_uri(),
        passphrase=PASSPHRASE,
        device_name="first",
        kdf=syncagent.FLOOR_KDF,
    )
    async with syncagent.open_vault(shell.profile, passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("n")
        await notes.put("sent", KEPT["sent"])
        await notes.put("sent-large", KEPT["sent-large"])
        await vault.sync()
        await notes.put("waits", KEPT["waits"])
        await notes.put("waits-large", KEPT["waits-large"])


async def check(profile: Path, wanted: dict[str, bytes]) -> None:
    async with syncagent.open_vault(profile, passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("n")
        assert {blob.id for blob in (await notes.list()).blobs} == set(wanted)
        for blob_id, content in wanted.items():
            assert (await notes.get(blob_id)).data == content


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad-places") / "home"
    anyio.run(make, Shell(folder))
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Shell:
    """A copy of the vault, whose remote moved with it."""
    shutil.copytree(template, tmp_path / "home")
    shell = Shell(tmp_path / "home")
    shell("remote", "set", shell.remote.as_uri()).ok()
    return shell


def lines(err: str) -> list[str]:
    found = err.splitlines()
    assert found and all(line.startswith("syncagent: ") and line.isprintable() for line in found), err
    return [line.removeprefix("syncagent: ") for line in found]


def check_said(case: Bad, code: int, err: str) -> None:
    assert code == case.code, err
    said = lines(err)
    assert any(re.fullmatch(case.says, line) for line in said), said
    rest = [line for line in said if not re.fullmatch(case.says, line)]
    assert all(any(re.fullmatch(other, line) for other in case.others) for line in rest), rest


@pytest.mark.parametrize("name", CASES)
def test_a_place_that_is_bad(name: str, place: Shell, tmp_path: Path) -> None:
    case = CASES[name]
    shutil.copytree(place.home, tmp_path / "good")
    case.harm(place)
    done = place(*case.command, stdin=b"new")
    check_said(case, done.code, done.err)
    # Made good again, as from a backup of what was harmed, everything is there and goes on.
    kept = tmp_path / "good"
    if case.command != ("sync",) or case.code in (4, 5) or "vault" in name:
        shutil.rmtree(place.home)
        shutil.copytree(kept, place.home)
    elif "pack file" in name:
        shutil.rmtree(place.profile / "packs")
        shutil.copytree(kept / "vaults" / "default" / "packs", place.profile / "packs")
        place("retry").ok()
    place("sync")
    place("sync").ok()
    anyio.run(check, place.profile, KEPT)


@pytest.mark.parametrize("name", OTHER_CASES)
def test_a_remote_that_is_bad_for_another_device(name: str, place: Shell, tmp_path: Path) -> None:
    case = OTHER_CASES[name]
    other = Shell(tmp_path / "other")
    other("join", "--remote", place.remote.as_uri()).ok()
    later = {"later": b"later"} if "batch" in name else {}
    if later:
        place("put", "n/later", "-", "--sync", stdin=b"later").ok()
    shutil.copytree(place.remote, tmp_path / "good")
    case.harm(place)
    done = other("sync")
    check_said(case, done.code, done.err)
    shutil.rmtree(place.remote)
    shutil.copytree(tmp_path / "good", place.remote)
    anyio.run(check, place.profile, KEPT | later)
    other("retry").ok()
    assert other("sync").code in (0, 6)  # what it had published meanwhile is not in the copy
    place("sync")
    other("sync").ok()
    assert other("get", "n/sent-large").ok().stdout == LARGE


def test_names_that_are_no_objects_are_left_alone(place: Shell) -> None:
    for name in ("packs/readme.txt", "journal/x", "desktop.ini", "keys/" + "g" * 32):
        (place.remote / name).parent.mkdir(exist_ok=True)
        (place.remote / name).write_bytes(b"somebody's file")
    place("sync").ok()
    assert (place.remote / "packs/readme.txt").read_bytes() == b"somebody's file"


def test_eight_planted_slots_are_named_when_they_keep_a_device_from_joining(
    place: Shell, tmp_path: Path
) -> None:
    [real] = [p for p in objects(place, "keys") if json.loads(p.read_bytes())["kind"] == "passphrase"]
    for number in range(8):
        overwrite_new = place.remote / "keys" / f"{number:032x}"
        overwrite_new.write_bytes(real.read_bytes())
    other = Shell(tmp_path / "other")
    line = other("join", "--remote", place.remote.as_uri()).failed(5)
    assert "passphrase" in line
    assert not other.profile.exists()


# Too little of something -------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, *, but: int = 0) -> Path:
    """Use up a disk, but for some bytes; the file that does."""
    path = folder / "filler"
    free = shutil.disk_usage(folder).free
    with contextlib.suppress(OSError):
        path.write_bytes(bytes(max(0, free - but)))
    return path


@pytest.mark.parametrize("room", [0, 8_192, 65_536, 500_000])
@pytest.mark.parametrize("size", [10, 200_000, 1_500_000])
def test_a_full_disk_refuses_a_put_and_keeps_what_was_put(
    template: Path, small_disk: Path, room: int, size: int
) -> None:
    shutil.copytree(template, small_disk / "home")
    shell = Shell(small_disk / "home")
    filler = fill(small_disk, but=room)
    done = shell("put", "n/new", "-", stdin=os.urandom(size))
    wanted = dict(KEPT)
    if done.code:
        line = done.failed(5)
        assert "the disk of the local cache is full; everything stored before is intact" in line
    filler.unlink()
    found = shell("get", "n/new")
    assert found.code == (0 if not done.code else 1)
    if not done.code:
        wanted["new"] = found.stdout
        assert len(found.stdout) == size
    anyio.run(check, shell.profile, wanted)
    left = [path for path in (shell.profile / "packs").iterdir() if path.suffix == ".tmp"]
    assert left == []


def test_a_full_disk_of_the_remote_keeps_everything_pending(place: Shell, small_disk: Path) -> None:
    shutil.copytree(place.remote, small_disk / "remote")
    place("remote", "set", (small_disk / "remote").as_uri()).ok()
    filler = fill(small_disk)
    line = place("sync").failed(5)
    assert "everything put on this device is kept and stays pending" in line
    filler.unlink()
    assert "sent 2 blobs" in place("sync").ok().out


def test_a_full_disk_stops_fetching_and_not_sending(place: Shell, template: Path, small_disk: Path) -> None:
    place("sync").ok()
    other = Shell(small_disk / "home")
    other("join", "--remote", place.remote.as_uri()).ok()
    other("put", "n/mine", "-", stdin=b"mine").ok()
    filler = fill(small_disk, but=200_000)
    done = other("sync")
    assert done.code == 5 and "the disk of the local cache is full" in done.err
    filler.unlink()
    other("sync").ok()
    anyio.run(check, other.profile, KEPT | {"mine": b"mine"})


def test_init_and_join_on_a_full_disk_leave_nothing(place: Shell, small_disk: Path) -> None:
    filler = fill(small_disk, but=20_000)
    other = Shell(small_disk / "home")
    for command in (
        ["join", "--remote", place.remote.as_uri()],
        ["init", "--remote", (small_disk / "r").as_uri()],
    ):
        assert other(*command).code in (4, 5)
        assert not other.profile.exists()
    filler.unlink()
    other("join", "--remote", place.remote.as_uri()).ok()


def test_get_onto_a_full_disk(place: Shell, small_disk: Path) -> None:
    filler = fill(small_disk, but=100_000)
    line = place("get", "n/waits-large", "-o", str(small_disk / "out")).failed(5)
    assert "full" in line or "No space left" in line
    assert {path.name for path in small_disk.iterdir()} == {filler.name}


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("command", [["sync"], ["put", "n/new", "-"], ["get", "n/sent-large"], ["status"]])
def test_no_file_descriptors_left(place: Shell, command: list[str]) -> None:
    process = place.process(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=limit_files,
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode in (0, 1, 2, 4, 5, 6)
    if process.returncode:
        assert len(lines(err.decode())) == 1 and b"a bug" not in err
    anyio.run(
        check, place.profile, KEPT if command[0] != "put" or process.returncode else KEPT | {"new": b""}
    )


@pytest.mark.parametrize("target", ["remotes/default", "vaults"])
def test_a_disk_that_may_only_be_read(place: Shell, target: str) -> None:
    folder = place.home / target
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount")
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        if target == "vaults":
            for command in (["sync"], ["put", "n/new", "-"], ["get", "n/sent"], ["status"]):
                said = place(*command, stdin=b"new").failed(2)
                assert re.search("cannot be opened; it was not touched; .+ read-only", said)
        else:
            said = place("sync").failed(5)
            assert re.search("does not allow this: .+; everything put on this device is kept", said)
            place("put", "n/new", "-", stdin=b"new").ok()
            assert place("get", "n/sent").ok().stdout == b"sent"
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    wanted = KEPT | ({"new": b"new"} if target != "vaults" else {})
    anyio.run(check, place.profile, wanted)
    place("sync").ok()

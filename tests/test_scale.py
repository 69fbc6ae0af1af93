"""The amounts the project promises to handle, through the library and real processes."""

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

import syncagent
from tests.samples import text_blobs

PASSPHRASE = "a passphrase of the tests"
MIB = 1 << 20

_STEP = """
import json, sys
import anyio, syncagent
from pathlib import Path

def peak_mb():
    try:  # of this program alone: getrusage would count what the test process had when it forked
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    except FileNotFoundError:
        import resource
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // (1 << 20) if sys.platform == "darwin" else peak // 1024

async def main(step, home, source, target):
    async with syncagent.open_vault(home, passphrase=sys.stdin.readline().strip()) as vault:
        blobs = vault.namespace("files")
        if step == "put":
            await blobs.put("big", Path(source))
        elif step == "sync":
            report = await vault.sync()
            assert not report.failures and not report.alarms, report
        else:
            with open(target, "wb") as file:
                async with blobs.open("big") as reader:
                    async for chunk in reader:
                        file.write(chunk)
    print(json.dumps({"peak_mb": peak_mb()}))

anyio.run(main, *sys.argv[1:])
"""


async def _two_devices(folder: Path) -> tuple[Path, Path]:
    remote = f"file://{folder}/remote"
    await syncagent.create_vault(
        folder / "a", remote=remote, passphrase=PASSPHRASE, device_name="a", kdf=syncagent.FLOOR_KDF
    )
    await syncagent.join_vault(folder / "b", remote=remote, passphrase=PASSPHRASE, device_name="b")
    return folder / "a", folder / "b"


def _objects(remote: Path) -> Counter[str]:
    return Counter(
        path.relative_to(remote).parts[0]
        for path in remote.rglob("*")
        if path.is_file() and not path.relative_to(remote).parts[0].startswith(".")
    )


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.anyio
async def test_ten_thousand_small_blobs_travel_in_about_ten_packs(tmp_path: Path) -> None:
    home_a, home_b = await _two_devices(tmp_path)
    blobs = text_blobs(10_000)
    async with syncagent.open_vault(home_a, passphrase=PASSPHRASE) as vault:
        results = await vault.namespace("mail").put_many(blobs)
        assert [result.error for result in results] == [None] * len(blobs)
        report = await vault.sync()
        assert report.sent == len(blobs)
    objects = _objects(tmp_path / "remote")
    assert 1 <= objects["packs"] <= 20
    assert objects["journal"] <= 40
    async with syncagent.open_vault(home_b, passphrase=PASSPHRASE) as vault:
        report = await vault.sync()
        assert (report.fetched, report.failed) == (len(blobs), 0)
        fetched = await vault.namespace("mail").get_many([blob_id for blob_id, _ in blobs])
        assert [result.data for result in fetched] == [content for _, content in blobs]


def _large_blob(folder: Path, size: int) -> None:
    home_a, home_b = anyio.run(_two_devices, folder)
    source, target = folder / "source", folder / "target"
    dice = random.Random(7)
    with source.open("wb") as file:
        for _ in range(size // MIB):
            file.write(dice.randbytes(MIB))
    steps = (("put", home_a), ("sync", home_a), ("sync", home_b), ("get", home_b))
    for step, home in steps:
        done = subprocess.run(
            [sys.executable, "-c", _STEP, step, str(home), str(source), str(target)],
            input=PASSPHRASE + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["peak_mb"] < 200, step
    with source.open("rb") as a, target.open("rb") as b:
        assert hashlib.file_digest(a, "sha256").digest() == hashlib.file_digest(b, "sha256").digest()


def test_a_large_blob_is_put_sent_fetched_and_written_in_bounded_memory(tmp_path: Path) -> None:
    """Both ways, in pieces (row A9)."""
    _large_blob(tmp_path, 256 * MIB)


@pytest.mark.slow
def test_a_gib_is_put_sent_fetched_and_written_in_bounded_memory(tmp_path: Path) -> None:
    _large_blob(tmp_path, 1024 * MIB)


@pytest.mark.anyio
async def test_one_changed_byte_of_a_large_blob_sends_one_chunk_and_a_copy_sends_none(tmp_path: Path) -> None:
    home_a, _ = await _two_devices(tmp_path)
    remote = tmp_path / "remote"
    content = bytearray(random.Random(3).randbytes(64 * MIB))
    async with syncagent.open_vault(home_a, passphrase=PASSPHRASE) as vault:
        files = vault.namespace("files")
        await files.put("big", bytes(content))
        await vault.sync()
        before = _bytes_of(remote)
        content[len(content) // 2] ^= 1
        await files.put("big", bytes(content), replace=True)
        await vault.sync()
        sent = _bytes_of(remote) - before
        assert MIB < sent < 1.1 * MIB
        packs = _objects(remote)["packs"]
        await files.put("copy", bytes(content))
        await vault.sync()
        assert _objects(remote)["packs"] == packs
        assert _bytes_of(remote) - before - sent < 32 * 1024
        assert (await files.get("copy")).data == content


@pytest.mark.anyio
async def test_a_second_sync_changes_no_byte_here_or_at_the_remote(tmp_path: Path) -> None:
    homes = await _two_devices(tmp_path)
    for home in (*homes, homes[0]):
        async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
            name = f"{home.name}-{vault.device_id[:4]}"
            await vault.namespace("notes").put(name, name.encode() * 1000)
            await vault.sync()
    async with syncagent.open_vault(homes[1], passphrase=PASSPHRASE) as vault:
        await vault.sync()
    for home in homes:
        cache = home / "cache.db"
        before = (_contents(tmp_path / "remote"), cache.read_bytes(), cache.stat().st_mtime_ns)
        async with syncagent.open_vault(home, passphrase=PASSPHRASE) as vault:
            report = await vault.sync()
        assert (report.sent, report.fetched, report.sent_bytes, report.fetched_bytes) == (0, 0, 0, 0)
        assert (_contents(tmp_path / "remote"), cache.read_bytes(), cache.stat().st_mtime_ns) == before

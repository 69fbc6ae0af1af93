"""The core beside its floor, in one run on the same bytes: small blobs and large ones.

    python -m benchmarks.bench_core [--small 10000] [--large 4] [--json FILE]

Each figure stands beside a *floor*: reading the bytes, SHA-256 and AES-GCM a
MiB at a time, writing and fsync, with nothing else. Figures of different
machines cannot be compared; the ratios can.
"""

import argparse
import hashlib
import json
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import syncagent
from tests.samples import text_blobs

MIB = 1 << 20
LARGE_BYTES = 256 * MIB
CALLERS = 32
PASSPHRASE = "benchmark"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured step: seconds, what was moved, and the floor for the same bytes."""

    step: str
    seconds: float
    blobs: int
    size_bytes: int
    floor_seconds: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.floor_seconds


class Heartbeat:
    """The longest time the event loop did not come round, beyond its own period."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def run(self) -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.001)
            self.longest_s = max(self.longest_s, time.perf_counter() - before - 0.001)


def floor(contents: list[bytes], folder: Path) -> float:
    """Seconds to hash, encrypt and durably write these bytes, a MiB at a time, into one file."""
    cipher = AESGCM(os.urandom(32))
    started = time.perf_counter()
    with (folder / "floor").open("wb") as file:
        pending = bytearray()
        for content in contents:
            pending += content
            while len(pending) >= MIB:
                _seal_piece(cipher, bytes(pending[:MIB]), file.write)
                del pending[:MIB]
        _seal_piece(cipher, bytes(pending), file.write)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - started


def file_floor(paths: list[Path], folder: Path) -> float:
    """The same for files, reading them as well."""
    cipher = AESGCM(os.urandom(32))
    started = time.perf_counter()
    with (folder / "floor").open("wb") as target:
        for path in paths:
            with path.open("rb") as source:
                while piece := source.read(MIB):
                    _seal_piece(cipher, piece, target.write)
        target.flush()
        os.fsync(target.fileno())
    return time.perf_counter() - started


def _seal_piece(cipher: AESGCM, piece: bytes, write: Callable[[bytes], int]) -> None:
    hashlib.sha256(piece).digest()
    write(cipher.encrypt(os.urandom(12), piece, None))


async def timed(step: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await step()
    return time.perf_counter() - started


async def small_blobs(count: int, folder: Path) -> list[Figure]:
    blobs = text_blobs(count)
    size = sum(len(content) for _, content in blobs)
    least = min(floor([content for _, content in blobs], folder) for _ in range(3))
    figures: list[Figure] = []

    def note(step: str, seconds: float, blobs_moved: int = count) -> None:
        figures.append(
            Figure(step, seconds, blobs_moved, size * blobs_moved // count, least * blobs_moved / count)
        )

    url = f"file://{folder}/remote"
    await syncagent.create_vault(folder / "a", remote=url, passphrase=PASSPHRASE, kdf=syncagent.FLOOR_KDF)
    async with syncagent.open_vault(folder / "a", passphrase=PASSPHRASE) as vault:
        notes = vault.namespace("notes")
        note("put_many", await timed(lambda: notes.put_many(blobs)))
        note("send", await timed(vault.sync))
        note("no-op sync", await timed(vault.sync))
    started = time.perf_counter()
    await syncagent.join_vault(folder / "b", remote=url, passphrase=PASSPHRASE)
    note("join (reads the journal)", time.perf_counter() - started)
    async with syncagent.open_vault(folder / "b", passphrase=PASSPHRASE) as vault:
        note("fetch", await timed(vault.sync))
        other = vault.namespace("other")
        some = blobs[: max(1, count // 4)]

        async def caller(part: list[tuple[str, bytes]]) -> None:
            for blob_id, content in part:
                await other.put(blob_id, content)

        started = time.perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(CALLERS):
                group.start_soon(caller, some[number::CALLERS])
        note(f"put, {CALLERS} callers", time.perf_counter() - started, len(some))
    return figures


async def large_blobs(count: int, folder: Path) -> list[Figure]:
    paths = []
    for number in range(count):
        paths.append(folder / f"source-{number}")
        dice = random.Random(number)
        with paths[-1].open("wb") as file:
            for _ in range(LARGE_BYTES // MIB):
                file.write(dice.randbytes(MIB))
    least = min(file_floor(paths, folder) for _ in range(2))
    url = f"file://{folder}/remote"
    size = count * LARGE_BYTES
    await syncagent.create_vault(folder / "a", remote=url, passphrase=PASSPHRASE, kdf=syncagent.FLOOR_KDF)
    await syncagent.join_vault(folder / "b", remote=url, passphrase=PASSPHRASE)
    figures: list[Figure] = []
    async with syncagent.open_vault(folder / "a", passphrase=PASSPHRASE) as vault:
        files = vault.namespace("files")
        started = time.perf_counter()
        for number, path in enumerate(paths):
            await files.put(f"large-{number}", path)
        figures.append(Figure("put from a path", time.perf_counter() - started, count, size, least))
        figures.append(Figure("send", await timed(vault.sync), count, size, least))
    async with syncagent.open_vault(folder / "b", passphrase=PASSPHRASE) as vault:
        figures.append(Figure("fetch", await timed(vault.sync), count, size, least))
    return figures


async def main(small: int, large: int, report: Path | None) -> None:
    heartbeat = Heartbeat()
    figures: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with anyio.create_task_group() as group:
            group.start_soon(heartbeat.run)
            if small:
                (Path(folder) / "small").mkdir()
                figures["small"] = await small_blobs(small, Path(folder, "small"))
            if large:
                (Path(folder) / "large").mkdir()
                figures["large"] = await large_blobs(large, Path(folder, "large"))
            group.cancel_scope.cancel()
    for title, rows in figures.items():
        print(f"\n{title}: {'step':26} {'s':>8} {'blobs/s':>9} {'MB/s':>7} {'x floor':>8}")
        for row in rows:
            rate = row.size_bytes / 1e6 / row.seconds
            print(
                f"{'':{len(title) + 2}}{row.step:26} {row.seconds:8.2f} {row.blobs / row.seconds:9.0f}"
                f" {rate:7.0f} {row.ratio:8.2f}"
            )
    print(f"\nlongest stall of the event loop: {heartbeat.longest_s * 1000:.0f} ms (the floors included)")
    if report is not None:
        document = {
            title: [asdict(row) | {"ratio": row.ratio} for row in rows] for title, rows in figures.items()
        }
        await anyio.Path(report).write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", type=int, default=10_000, help="number of small blobs")
    parser.add_argument("--large", type=int, default=4, help="number of blobs of 256 MiB")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures here")
    arguments = parser.parse_args()
    anyio.run(main, arguments.small, arguments.large, arguments.json)

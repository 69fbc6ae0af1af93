"""How long `syncagent status` takes beyond one key derivation, with 10,000 blobs.

    python -m benchmarks.bench_status [--blobs 10000] [--runs 9]

The command and a bare key derivation (in a process of its own, imports not
counted) run in turn; the difference of their medians is what is ours.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio

import syncagent
from benchmarks.devices import PASSPHRASE, make_vault, opened
from benchmarks.spread import Spread
from tests.samples import text_blobs

_DERIVE = """
import os, time
from syncagent.crypto.keyslot import DEFAULT_KDF as kdf
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
started = time.perf_counter()
Argon2id(salt=os.urandom(16), length=32, iterations=kdf.iterations, lanes=kdf.lanes,
         memory_cost=kdf.memory_kib).derive(b"x")
print(time.perf_counter() - started)
"""


async def fill(home: Path, blobs: int) -> None:
    profile = home / "vaults" / "default"
    profile.parent.mkdir()
    await make_vault(profile, home / "remote", kdf=syncagent.DEFAULT_KDF)
    async with opened(profile) as vault:
        await vault.namespace("notes").put_many(text_blobs(blobs))
        await vault.sync()


def main(blobs: int, runs: int) -> None:
    commands: list[float] = []
    derivations: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(fill, Path(folder), blobs)
        environment = os.environ | {"SYNCAGENT_HOME": folder, "SYNCAGENT_PASSPHRASE": PASSPHRASE}
        for _ in range(runs):
            started = time.perf_counter()
            command = [sys.executable, "-m", "syncagent.cli", "status", "--json"]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            commands.append(time.perf_counter() - started)
            derived = subprocess.run(
                [sys.executable, "-c", _DERIVE], check=True, capture_output=True, text=True
            )
            derivations.append(float(derived.stdout))
    for name, values in (("status", commands), ("key derivation", derivations)):
        found = Spread.of([1000 * value for value in values])
        print(f"{name:15} {found.min:6.0f} {found.median:6.0f} {found.max:6.0f} ms (min, median, max)")
    beyond = Spread.of(commands).median - Spread.of(derivations).median
    print(f"{'beyond it':15} {beyond * 1000:13.0f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--blobs", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    main(arguments.blobs, arguments.runs)

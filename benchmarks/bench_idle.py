"""What an open vault with a watched remote costs while nothing happens: processor time.

python -m benchmarks.bench_idle --seconds 60
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import anyio

import syncagent
from tests.samples import text_blobs

SETTLE_S = 5.0
"""For the first sync to be over."""


async def idle_share(seconds: float, blobs: int, folder: Path) -> float:
    """Processor time of this process while it waits, as a share of the time that passed."""
    await syncagent.create_vault(
        folder / "vault", remote="memory:idle", passphrase="idle", kdf=syncagent.FLOOR_KDF
    )
    async with syncagent.open_vault(folder / "vault", passphrase="idle", background=True) as vault:
        await vault.namespace("notes").put_many(text_blobs(blobs))
        await vault.barrier()
        await anyio.sleep(SETTLE_S)
        before, started = time.process_time(), time.monotonic()
        await anyio.sleep(seconds)
        return (time.process_time() - before) / (time.monotonic() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--blobs", type=int, default=1000)
    parser.add_argument("--backend", default="asyncio", choices=("asyncio", "trio"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = partial(idle_share, options.seconds, options.blobs, Path(folder))
        share = anyio.run(work, backend=options.backend)
    print(
        f"{share:.3%} of one processor over {options.seconds:g} s, {options.blobs} blobs, {options.backend}"
    )


if __name__ == "__main__":
    main()

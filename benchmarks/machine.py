"""What figures were made on: enough to compare them, nothing that tells whose machine it is."""

import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.floors import new_database


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine and the libraries that matter."""

    cores: int
    platform: str
    python: str
    sqlcipher: str
    backend: str


def find_machine(backend: str) -> Machine:
    """This machine, with the event loop that was used."""
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        platform=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        sqlcipher=_sqlcipher_version(),
        backend=backend,
    )


def _sqlcipher_version() -> str:
    with tempfile.TemporaryDirectory() as folder:
        db = new_database(Path(folder, "empty.db"))
        version = str(db.scalar("PRAGMA cipher_version"))
        db.close()
    return version

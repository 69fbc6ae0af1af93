"""The least the same bytes could cost on this machine: what figures stand beside.

Both floors use the libraries the product uses, and nothing of its own work:
no names, no versions, no packs, no event loop.
"""

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from syncagent.cache.db import Database

MIB = 1 << 20
COMMITS = 200
"""Enough that a few slow ones do not move the median."""


def floor_seconds(sources: Sequence[Path], folder: Path) -> float:
    """Seconds to read these files, hash, encrypt and write them a MiB at a time, with one fsync."""
    cipher = AESGCM(os.urandom(32))
    path = folder / "floor"
    started = time.perf_counter()
    with path.open("wb") as target:
        for source_path in sources:
            with source_path.open("rb") as source:
                while piece := source.read(MIB):
                    hashlib.sha256(piece).digest()
                    target.write(cipher.encrypt(os.urandom(12), piece, None))
        target.flush()
        os.fsync(target.fileno())
    seconds = time.perf_counter() - started
    path.unlink()
    return seconds


def commit_seconds(folder: Path, count: int = COMMITS) -> list[float]:
    """Seconds of each of so many transactions of one small row, in a database set up as the cache is."""
    path = folder / "commits.db"
    db = new_database(path)
    db.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, value BLOB NOT NULL)")
    seconds = []
    for _ in range(count):
        value = os.urandom(200)
        started = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO rows (value) VALUES (?)", (value,))
        db.execute("COMMIT")
        seconds.append(time.perf_counter() - started)
    db.close()
    path.unlink()
    return seconds


def new_database(path: Path) -> Database:
    """An empty database under a random key, open."""
    path.touch()
    db = Database(path, os.urandom(32))
    db.open()
    return db


def settle() -> None:
    """Let the system write what earlier work left in memory, so that the next figure does not pay for it."""
    if hasattr(os, "sync"):  # not on Windows
        os.sync()

"""Ten defects of one line, each put into a copy of the code: the machine must find every one of them.

    python -m tests.campaign.defects [--runs 300] [--only NAME]

A machine that finds nothing wrong is worth nothing until it has been seen to find what is.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Defect:
    """A text in a file of the package, and what takes its place."""

    name: str
    file: str
    right: str
    wrong: str


DEFECTS = (
    Defect(
        "skip the outbox",
        "engine/cutting.py",
        "    ownbatches.store_batch(db, seq=seq, sealed=sealed,",
        "    0 and ownbatches.store_batch(db, seq=seq, sealed=sealed,",
    ),
    Defect(
        "advance the cursor before the merge commits",
        "engine/apply.py",
        "    for position, change in enumerate(incoming.batch.changes):",
        "    journals.advance(db, device_no, incoming.seq, chain)\n"
        '    for sql in ("RELEASE operation", "COMMIT", "BEGIN IMMEDIATE", "SAVEPOINT operation"):\n'
        "        db.execute(sql)\n"
        "    for position, change in enumerate(incoming.batch.changes):",
    ),
    Defect(
        "drop parents on fold",
        "engine/heads.py",
        "inherit(newer.parents, {VersionId(older.id): older.parents})",
        "inherit(newer.parents, {VersionId(older.id): ()})",
    ),
    Defect(
        "trust a listing as complete",
        "engine/pull.py",
        "    beyond = await ctx.cache.read(journals.beyond_cursors)\n    await check",
        "    beyond = (await ctx.cache.read(journals.beyond_cursors))[:0]\n    await check",
    ),
    Defect(
        "confirm before the PUT",
        "engine/publish.py",
        "            await self._put(batch)\n        except FailsAlone",
        "            early = partial(_confirm, seq=batch.seq, now_ms=self._ctx.now_ms())\n"
        "            await self._ctx.cache.write(early)\n"
        "            await self._put(batch)\n        except FailsAlone",
    ),
    Defect(
        "reuse a pack salt",
        "crypto/pack.py",
        "self._salt = os.urandom(32)",
        "self._salt = bytes(32)",
    ),
    Defect(
        "ignore holes",
        "engine/apply.py",
        "            blobs.add_hole(",
        "            0 and blobs.add_hole(",
    ),
    Defect(
        "let a tombstone beat an edit",
        "journal/merge.py",
        "    return (not node.deleted, node.hlc,",
        "    return (node.deleted, node.hlc,",
    ),
    Defect(
        "forget remove-tags",
        "engine/apply.py",
        "change.add, change.remove)",
        "change.add, ())",
    ),
    Defect(
        "re-send under a new seq after a lost answer",
        "cache/ownbatches.py",
        '    return _verified(\n        db.one(f"{_OWN_BATCH} WHERE NOT confirmed',
        '    db.execute("UPDATE upload SET batch_seq = NULL")\n'
        '    db.execute("UPDATE own_batch SET confirmed = 1")\n'
        '    return _verified(\n        db.one(f"{_OWN_BATCH} WHERE NOT confirmed',
    ),
)


def is_caught(defect: Defect, runs: int) -> bool:
    """Whether the machine fails on a copy of the code with the defect."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("syncagent", "tests"):
            shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "pyproject.toml", folder)
        path = Path(folder, "syncagent", defect.file)
        text = path.read_text("utf-8")
        assert text.count(defect.right) >= 1, f"{defect.file} no longer has what {defect.name!r} changes"
        path.write_text(text.replace(defect.right, defect.wrong), "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "tests.campaign.machine", "--from", "0", "--runs", str(runs)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line.strip() for line in done.stderr.splitlines() if "Error" in line]
        print(
            f"{'caught' if done.returncode else 'MISSED'}: {defect.name}  ({lines[-1][:90] if lines else ''})"
        )
        return done.returncode != 0


def main() -> None:
    """Try every defect; exits with the number of those that were missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    missed = [
        defect.name
        for defect in DEFECTS
        if arguments.only in defect.name and not is_caught(defect, arguments.runs)
    ]
    sys.exit(len(missed))


if __name__ == "__main__":
    main()

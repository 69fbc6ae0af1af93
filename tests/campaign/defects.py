"""Defects of one line, each put into a copy of the code: the machine must find every one of them.

    python -m tests.campaign.defects [--runs 300] [--only NAME] [--jobs 2]

A machine that finds nothing wrong is worth nothing until it has been seen to find what is.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.simulation.template import scratch

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
        "engine/holes.py",
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
    Defect(
        "publish what is to stay here",
        "engine/local.py",
        "    if status is not SyncStatus.LOCAL_ONLY:\n        outbox.enqueue_version(",
        "    if True:\n        outbox.enqueue_version(",
    ),
    Defect(
        "one id, whatever the namespace",
        "cache/blobs.py",
        "FROM blob WHERE namespace_no = ? AND id = ?",
        "FROM blob WHERE namespace_no > 0 * ? AND id = ?",
    ),
    Defect(
        "replace another version than the one that was read",
        "engine/history.py",
        "        if version_no(db, name, reference) == present:",
        "        if version_no(db, name, reference):",
    ),
    Defect(
        "wait for years after a failure",
        "engine/backoff.py",
        "    return bound / 2 + random * bound / 2",
        "    return bound + 3e8",
    ),
    Defect(
        "acknowledge acknowledgements",
        "engine/apply.py",
        "    if incoming.batch.changes or incoming.batch.packs:",
        "    if True:",
    ),
    Defect(
        "sweep pack files that are in use",
        "cache/sweep.py",
        "if pack_id not in known]",
        "if pack_id]",
    ),
    Defect(
        "remove the files of a put that was cancelled while it committed",
        "engine/content.py",
        "    except _REFUSALS:",
        "    except BaseException:",
    ),
    Defect(
        "two processes sync at once",
        "cache/lock.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH",
    ),
    Defect(
        "list a flag that was taken away",
        "cache/schema.py",
        "AFTER DELETE ON flag_tag",
        "AFTER DELETE ON flag_removed",
    ),
    Defect(
        "count a status and never discount it",
        "cache/schema.py",
        "    UPDATE status_count SET blobs = blobs - 1",
        "    UPDATE status_count SET blobs = blobs - 0",
    ),
    Defect(
        "take a pack for there for ever",
        "engine/proof.py",
        "    return max(now_ms - SEEN_MS,",
        "    return 0 and max(now_ms - SEEN_MS,",
    ),
    Defect(
        "send nothing of what is put once more after it was lost",
        "engine/local.py",
        "there.is_lost(db, row.winner_no)",
        "False",
    ),
    Defect(
        "wait with new metadata for content that is lost",
        "cache/sendable.py",
        "other.seq > 0",
        "other.seq > 0 AND 0",
    ),
)


def is_caught(defect: Defect, runs: int) -> bool:
    """Whether the machine fails on a copy of the code with the defect."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        for name in ("syncagent", "tests"):
            shutil.copytree(ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__"))
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
    errors = [line.strip(" |") for line in done.stderr.splitlines() if "Error: " in line]
    seed = re.search(r"to play it again: .* --seed (\d+)", done.stderr)
    assert seed is not None or done.returncode == 0, f"no run, but: {done.stderr[-2000:]}"
    is_caught = seed is not None
    how = f"by run {seed[1]}: {errors[-1][:90]}" if seed is not None and errors else ""
    print(f"{'caught' if is_caught else 'MISSED'}: {defect.name}  {how}", flush=True)
    return is_caught


def main() -> None:
    """Try every defect; exits with the number of those that were missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--only", default="")
    parser.add_argument("--jobs", type=int, default=1, help="defects tried at a time")
    arguments = parser.parse_args()
    chosen = [defect for defect in DEFECTS if arguments.only in defect.name]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        caught = list(pool.map(partial(is_caught, runs=arguments.runs), chosen))
    sys.exit(caught.count(False))


if __name__ == "__main__":
    main()

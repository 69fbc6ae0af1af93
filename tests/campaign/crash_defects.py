"""Wrong orders and missing fsyncs, each put into a copy of the code: the crash points must find every one.

python -m tests.campaign.crash_defects [--only NAME]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.campaign import defects
from tests.simulation.template import scratch


@dataclass(frozen=True)
class Edit:
    """A text in a file of the package, and what takes its place."""

    file: str
    right: str
    wrong: str = ""


@dataclass(frozen=True)
class Defect:
    """Edits that make one mistake, and the scenario that must find it."""

    name: str
    scenario: str
    edits: tuple[Edit, ...]


def known(name: str) -> Edit:
    """A defect that the machine looks for too."""
    (found,) = (defect for defect in defects.DEFECTS if defect.name == name)
    return Edit(found.file, found.right, found.wrong)


KEEP = "await anyio.to_thread.run_sync(files.keep, limiter=ctx.workers)\n"
PREPARED = "yield Prepared(content.content_digest, lambda wanted: _for_scope(content, wanted))\n"
KEPT_LATE = (
    Edit("engine/content.py", f"    {KEEP}"),
    Edit("engine/content.py", f"        {PREPARED}", f"        {PREPARED}        {KEEP}"),
)
PUT_VAULT = "await remote.put(names.VAULT, encode_vault_record(identity.vault))\n"
PUBLISHED = "            self._publish(name, temporary)\n"
SYNCED = "        files.sync_folder(self._path(name).parent)\n"
RECORD = "        await _put_device_record(remote, identity)\n"
IN_SLOTS = "    try:\n        for slot_id, data in slots.items():\n"

DEFECTS = (
    Defect(
        "pack files are not fsynced",
        "put-large",
        (Edit("files.py", "        sync_file(file, path)\n"),),
    ),
    Defect(
        "the names of pack files are not fsynced",
        "put-large",
        (
            Edit(
                "cache/packfiles.py",
                "                files.sync_folder(self._folder)",
                "                pass",
            ),
        ),
    ),
    Defect(
        "the row before the names of its pack files",
        "put-large",
        KEPT_LATE,
    ),
    Defect(
        "the row before the rename of its pack file",
        "put-large",
        (
            *KEPT_LATE,
            # The transaction looks whether they are there.
            Edit("engine/storing.py", "if not pack_path(source.packs, record.id).exists():", "if False:"),
            Edit(
                "cache/packfiles.py", "files.rename(temporary, path)", "self._late.append((temporary, path))"
            ),
            Edit(
                "cache/packfiles.py",
                "        self._is_kept = False\n",
                "        self._is_kept = False\n        self._late: list[tuple[Path, Path]] = []\n",
            ),
            Edit(
                "cache/packfiles.py",
                "            if self._paths:\n",
                "            for pair in self._late:\n                files.rename(*pair)\n"
                "            if self._paths:\n",
            ),
        ),
    ),
    Defect(
        "a put is acknowledged before its commit",
        "put-small",
        (
            Edit(
                "cache/commit.py",
                "        self._db = db\n",
                "        self._db = db\n        self._is_late = False\n",
            ),
            Edit(
                "cache/commit.py",
                "            db.commit()\n            self.stamp = stamp\n",
                "            self._is_late = True\n            self.stamp = stamp\n",
            ),
            Edit(
                "cache/commit.py",
                '            try:\n                db.execute("BEGIN IMMEDIATE")\n',
                "            try:\n                if self._is_late:\n                    db.commit()\n"
                '                db.execute("BEGIN IMMEDIATE")\n',
            ),
            Edit(
                "cache/commit.py",
                "            self._db.close()\n",
                "            if self._is_late:\n                self._db.commit()\n"
                "            self._db.close()\n",
            ),
            # Reads go into the transaction that is open.
            Edit("cache/commit.py", '    db.execute("BEGIN")\n', '    db.execute("SAVEPOINT late")\n'),
            Edit(
                "cache/commit.py",
                '    db.execute("COMMIT")\n    return result',
                '    db.execute("RELEASE late")\n    return result',
            ),
        ),
    ),
    Defect(
        "a fetched pack file is not durable under its name",
        "fetch",
        (Edit("cache/packfiles.py", "            files.sync_folder(folder)\n"),),
    ),
    Defect(
        "an object is not durable under its name",
        "send",
        (Edit("remote/directory.py", PUBLISHED + SYNCED, PUBLISHED),),
    ),
    Defect(
        "an object is not durable under its name, as who put it sees",
        "objects",
        (Edit("remote/directory.py", PUBLISHED + SYNCED, PUBLISHED),),
    ),
    Defect(
        "a removed object comes back",
        "objects",
        (Edit("remote/directory.py", "        files.sync_folder(path.parent)\n"),),
    ),
    Defect(
        "the folder of an object is not durable",
        "objects",
        (Edit("remote/directory.py", "            files.sync_folder(folder.parent)\n"),),
    ),
    Defect(
        "folders above a profile or a remote are not durable",
        "init",
        (Edit("files.py", "        sync_folder(path.parent)\n    if not", "    if not"),),
    ),
    Defect(
        "a new profile is not durable under its name",
        "join",
        (Edit("cache/profile.py", "        files.sync_folder(folder.parent)\n"),),
    ),
    Defect(
        "what is in a new profile is not durable",
        "join",
        (Edit("cache/profile.py", "        files.sync_folder(temporary)\n"),),
    ),
    Defect(
        "the copy of a new key slot is not durable",
        "passphrase",
        (
            Edit(
                "files.py",
                "    rename(temporary, path)\n    sync_folder(path.parent)\n",
                "    rename(temporary, path)\n",
            ),
        ),
    ),
    Defect(
        "a batch is confirmed before its PUT",
        "send",
        (known("confirm before the PUT"),),
    ),
    Defect(
        "a batch is sealed anew after a crash",
        "send",
        (known("re-send under a new seq after a lost answer"),),
    ),
    Defect(
        "a pack salt is used again",
        "send",
        (known("reuse a pack salt"),),
    ),
    Defect(
        "the vault's object before its key slots",
        "init",
        (
            Edit("membership.py", IN_SLOTS, IN_SLOTS.replace("try:\n", f"try:\n        {PUT_VAULT}")),
            Edit("membership.py", f"{RECORD}        {PUT_VAULT}", RECORD),
        ),
    ),
    Defect(
        "a migration is not one transaction",
        "migration",
        (
            Edit("cache/schema.py", '        db.execute("BEGIN IMMEDIATE")\n'),
            Edit("cache/schema.py", "            db.commit()\n"),
        ),
    ),
    Defect(
        "what a kill leaves is never swept",
        "put-large",
        (Edit("engine/sweeping.py", "    if unknown:\n", "    if unknown and not unknown:\n"),),
    ),
)


def make(defect: Defect, package: Path) -> None:
    """Put a defect into a copy of the package."""
    for edit in defect.edits:
        path = package / edit.file
        text = path.read_text("utf-8")
        assert text.count(edit.right) == 1, f"{edit.file} no longer has what {defect.name!r} changes"
        path.write_text(text.replace(edit.right, edit.wrong), "utf-8")


def is_caught(defect: Defect) -> bool:
    """Whether the crash points of a scenario go wrong on a copy of the code with the defect."""
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        for name in ("syncagent", "tests"):
            shutil.copytree(
                defects.ROOT / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__")
            )
        make(defect, Path(folder, "syncagent"))
        done = subprocess.run(
            [sys.executable, "-m", "tests.campaign.crash_points", "--only", defect.scenario, "--stop"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    lines = done.stdout.splitlines()
    kills = sum(line.startswith(f"{defect.scenario}, killed at") for line in lines)
    cuts = sum(line.startswith(f"{defect.scenario}, power lost") for line in lines)
    is_caught = kills + cuts > 0
    last = next((line for line in lines if "Error" in line), (done.stderr.splitlines() or [""])[-1])
    print(
        f"{'caught' if is_caught else 'MISSED'}: {defect.name} ({defect.scenario}: {kills} kills,"
        f" {cuts} power cuts; {last.strip()[:100]})",
        flush=True,
    )
    return is_caught


def main() -> None:
    """Try every defect; exits with the number of those that were missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    chosen = [defect for defect in DEFECTS if arguments.only in defect.name]
    sys.exit([is_caught(defect) for defect in chosen].count(False))


if __name__ == "__main__":
    main()

"""`syncagent demo`: two devices and a remote in a temporary folder, and proof of what is promised.

Real vaults, the real engine, a real server: put, send, fetch, compare, stop the server, edit
on both sides, start it, sync, compare again, and search every file that was written for plaintext.
"""

import contextlib
import secrets
import shutil
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import click

import syncagent
from syncagent.cli import demoremote, demorun
from syncagent.cli.demorun import Places, Result
from syncagent.cli.output import Output
from syncagent.cli.running import run_async
from syncagent.cli.session import Session, takes_session
from syncagent.cli.text import escaped, from_argument


@click.command()
@click.option(
    "--from", "source", metavar="DIR", help="Whose files to put; syncagent's own source by default."
)
@click.option(
    "--remote",
    "kind",
    type=click.Choice([demoremote.SERVER, demoremote.FOLDER]),
    help="Meet at a server, or in a folder; by default at a server, where that is installed.",
)
@click.option("--keep", is_flag=True, help="Leave the folder there to look at.")
@takes_session
def demo(session: Session, source: str | None, kind: str | None, keep: bool) -> None:
    """Show two devices and a remote at work, in a temporary folder.

    The remote is a server on this machine. It is stopped while both devices edit, and started again.
    Ends with 6 if a byte differs or anything readable is found outside the vaults.

    \b
        syncagent demo
        syncagent demo --from ~/Documents --keep
    """
    root = Path(from_argument(source)) if source is not None else Path(syncagent.__file__).parent
    if not root.is_dir():
        raise click.UsageError(f"{str(root)!r} is not a folder")
    output = session.output
    passphrase = secrets.token_hex(8)
    with _folder(keep) as folder:
        with demoremote.meeting_place(kind, folder) as remote:
            places = Places(folder, remote)
            result = run_async(lambda: demorun.run(places, root, passphrase, output))
        if output.is_json:
            output.document(_document(result, folder if keep else None))
        for line in _by_hand(has_server=remote.token is not None):
            output.line(line)
        if keep:
            _tell_kept(places, passphrase, output)


@contextlib.contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="syncagent-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _by_hand(*, has_server: bool) -> list[str]:
    server = [
        "The same by hand, the server:",
        "  syncagent serve user add me --data DIR > token",
        "  syncagent serve --data DIR",
        "on the first device:",
    ]
    where = "http://127.0.0.1:8720 --token-file token" if has_server else "file:///mnt/disk/vault"
    return [
        "",
        *(server if has_server else ["The same by hand, on the first device:"]),
        f"  syncagent init --remote {where}",
        "  syncagent put files/ DIR --recursive",
        "  syncagent sync",
        "and on the second:",
        f"  syncagent join --remote {where}",
        "  syncagent sync",
        "  syncagent ls files",
    ]


def _tell_kept(places: Places, passphrase: str, output: Output) -> None:
    output.line("")
    output.line(f"Kept in {escaped(str(places.folder))}. Look at it with")
    output.line(f"  export SYNCAGENT_PASSPHRASE={passphrase}")
    for home in (places.first, places.second):
        output.line(f"  SYNCAGENT_HOME={escaped(str(home.folder))} syncagent status")
    if places.remote.token is not None:
        listen = urllib.parse.urlsplit(places.remote.url).netloc
        output.line("and for a sync start its server with")
        output.line(f"  syncagent serve --data {escaped(str(places.remote.folder))} --listen {listen}")


def _document(result: Result, kept: Path | None) -> dict[str, object]:
    return {
        "phases": [
            {
                "name": phase.name,
                "blobs": phase.blobs,
                "bytes": phase.size_bytes,
                "seconds": round(phase.seconds, 3),
                "remote_objects": phase.objects,
            }
            for phase in result.phases
        ],
        "blobs": result.blobs,
        "searched_files": result.searched_files,
        "searched_bytes": result.searched_bytes,
        "searched_for": result.searched_for,
        "folder": None if kept is None else str(kept),
    }

"""What the demo does, step by step."""

import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from syncagent.cli import leaks
from syncagent.cli.democompare import Content, compare, size_of
from syncagent.cli.demoremote import MeetingPlace
from syncagent.cli.exit import PromiseBroken, error_line
from syncagent.cli.output import Output
from syncagent.cli.put import put_files
from syncagent.cli.text import escaped, size_text
from syncagent.cli.tree import Entry, Refused, Skipped, TreeFile, walk
from syncagent.config import DEFAULT_VAULT, Home
from syncagent.errors import SourceChanged, TransientRemoteError
from syncagent.membership import create_vault, join_vault
from syncagent.namespace import Namespace
from syncagent.reports import SyncReport
from syncagent.vault import Vault, open_vault
from syncagent.wording import counted

NAMESPACE = "demo-namespace"
FIRST, SECOND = "demo-laptop", "demo-desktop"
MOST_EDITS = 20
MOST_ROUNDS = 10
"""Syncs of both devices until nothing moves: three are enough, so ten mean that it never ends."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the demo's devices and remote lie."""

    folder: Path
    remote: MeetingPlace

    @property
    def first(self) -> Home:
        """The home of the first device."""
        return Home(self.folder / "laptop")

    @property
    def second(self) -> Home:
        """The home of the second device."""
        return Home(self.folder / "desktop")

    def searched(self) -> list[Path]:
        """What is not to hold anything readable: the remote, and all that the devices wrote."""
        return [self.remote.folder, self.first.folder, self.second.folder]


@dataclass(frozen=True, slots=True)
class Phase:
    """One row of the table."""

    name: str
    blobs: int
    size_bytes: int
    seconds: float
    objects: int


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo has shown."""

    phases: tuple[Phase, ...]
    blobs: int
    searched_files: int
    searched_bytes: int
    searched_for: int


@dataclass(frozen=True, slots=True)
class Edits:
    """Changes that the devices make without knowing of each other."""

    replaced: Mapping[str, bytes]
    added: Mapping[str, bytes]
    deleted: Sequence[str]

    @property
    def count(self) -> int:
        """How many blobs they touch."""
        return len(self.replaced) + len(self.added) + len(self.deleted)

    @property
    def size_bytes(self) -> int:
        """Bytes of the new content."""
        return sum(map(len, (*self.replaced.values(), *self.added.values())))

    def applied_to(self, expected: Mapping[str, Content]) -> dict[str, Content]:
        """What both devices are to hold in the end."""
        kept = {blob_id: content for blob_id, content in expected.items() if blob_id not in self.deleted}
        return {**kept, **self.replaced, **self.added}


async def run(places: Places, root: Path, passphrase: str, output: Output) -> Result:
    """The whole demo, told as it goes.

    Raises:
        PromiseBroken: a byte differs, or plaintext was found.
        SourceChanged: a file changed while the demo ran.
    """
    files = [entry for entry in _walk(root, output) if isinstance(entry, TreeFile)]
    total = size_text(sum(file.size for file in files))
    output.line(f"Two devices and a remote; {counted(len(files), 'file')} ({total}) of {escaped(str(root))}")
    output.line("")
    output.line(f"{'':<18} {'blobs':>8} {'bytes':>11} {'seconds':>8} {'objects at the remote':>22}")
    expected: dict[str, Content] = {file.blob_id: file for file in files}
    edits = _plan(expected)
    wanted = await anyio.to_thread.run_sync(_wanted, expected, edits)
    steps = _Steps(places, output)
    async with AsyncExitStack() as stack:
        first, second = await _make_devices(places, passphrase, stack)
        laptop, desktop = first.namespace(NAMESPACE), second.namespace(NAMESPACE)
        # What is there before anything is put is the fixed text of a format.
        empty = await anyio.to_thread.run_sync(leaks.search, places.searched(), wanted)
        wanted.forget(empty.found)

        steps.begin()
        tally = await put_files(laptop, iter(files), output, metadata={})
        steps.end("put on laptop", tally.stored, tally.stored_bytes)
        if tally.failed:
            raise SourceChanged(
                "some files could not be put", todo="use --from with a folder that is at rest"
            )
        steps.begin()
        report = await first.sync()
        steps.end("laptop to remote", report.sent, report.sent_bytes)
        steps.begin()
        report = await second.sync()
        steps.end("remote to desktop", await desktop.count(), report.fetched_bytes)
        await compare(desktop, SECOND, expected)

        if places.remote.stopping is not None:
            await places.remote.stop()
            output.line("the server is stopped")
        steps.begin()
        await _edit(laptop, desktop, edits)
        expected = edits.applied_to(expected)
        steps.end("edits on both", edits.count, edits.size_bytes)
        if places.remote.stopping is not None:
            await _fail_to_sync(first, output)
            await places.remote.start()
            output.line("the server is started again")
        steps.begin()
        report = await _sync_until_quiet([first, second])
        steps.end("sync until quiet", report.sent, report.sent_bytes)
        await compare(laptop, FIRST, expected)
        await compare(desktop, SECOND, expected)
        output.line("")
        output.line("Every byte on the desktop was what the files hold, and after edits on both sides")
        output.line(f"both devices hold the same {counted(len(expected), 'blob')}.")
        # The vaults are still open: files that are there only while they run are searched, too.
        search = await anyio.to_thread.run_sync(leaks.search, places.searched(), wanted)
    for leak in search.found.values():
        raise PromiseBroken(f"{leak.what} can be read in {str(leak.path)!r}")
    where = (
        f"the {counted(search.files, 'file')} ({size_text(search.size_bytes)}) of the remote and both devices"
    )
    output.line(f"No plaintext found: {where}")
    output.line(f"were searched for {len(wanted.pieces):,} pieces of content and names.")
    return Result(tuple(steps.phases), len(expected), search.files, search.size_bytes, len(wanted.pieces))


class _Steps:
    """Measures the phases and prints a row for each."""

    def __init__(self, places: Places, output: Output) -> None:
        self._places = places
        self._output = output
        self._started = 0.0
        self.phases: list[Phase] = []

    def begin(self) -> None:
        """A phase begins."""
        self._started = time.perf_counter()

    def end(self, name: str, blobs: int, size_bytes: int) -> None:
        """It has ended."""
        seconds = time.perf_counter() - self._started
        objects = self._places.remote.objects()
        self.phases.append(Phase(name, blobs, size_bytes, seconds, objects))
        self._output.line(
            f"{name:<18} {blobs:>8,} {size_text(size_bytes):>11} {seconds:>8.2f} {objects:>22,}"
        )
        self._output.flush()


def _walk(root: Path, output: Output) -> Iterator[Entry]:
    """The files of a folder that can be read; the others are told of."""
    for entry in walk(root, without=frozenset({"__pycache__"})):
        if isinstance(entry, Refused):
            output.complain(error_line(entry.error))
        elif isinstance(entry, Skipped):
            output.note(f"{str(entry.path)!r} was skipped: {entry.reason}")
        elif os.access(entry.path, os.R_OK):
            yield entry
        else:
            output.note(f"{str(entry.path)!r} was skipped: it cannot be read")


async def _make_devices(places: Places, passphrase: str, stack: AsyncExitStack) -> tuple[Vault, Vault]:
    url, token = places.remote.url, places.remote.token
    paths = [home.profile(DEFAULT_VAULT) for home in (places.first, places.second)]
    await create_vault(paths[0], remote=url, token=token, passphrase=passphrase, device_name=FIRST)
    await join_vault(paths[1], remote=url, token=token, passphrase=passphrase, device_name=SECOND)
    first = await stack.enter_async_context(open_vault(paths[0], passphrase=passphrase))
    second = await stack.enter_async_context(open_vault(paths[1], passphrase=passphrase))
    return first, second


def _plan(expected: Mapping[str, Content]) -> Edits:
    """Every fifth blob is replaced on one device, every fifth deleted on the other; never the same ones."""
    ids = sorted(expected)
    return Edits(
        replaced={
            blob_id: f"replaced on the laptop without a network: {blob_id}\n".encode()
            for blob_id in ids[0 : 5 * MOST_EDITS : 5]
        },
        added={
            blob_id: f"written on the desktop without a network: {blob_id}\n".encode()
            for blob_id in (f"demo-new/{number}" for number in range(MOST_EDITS))
            if blob_id not in expected
        },
        deleted=ids[2 : 5 * MOST_EDITS : 5],
    )


async def _edit(laptop: Namespace, desktop: Namespace, edits: Edits) -> None:
    for result in [
        *await laptop.put_many(edits.replaced.items(), replace=True),
        *await desktop.put_many(edits.added.items()),
    ]:
        if result.error is not None:
            raise result.error
    for blob_id in edits.deleted:
        await desktop.delete(blob_id)


async def _fail_to_sync(vault: Vault, output: Output) -> None:
    try:
        await vault.sync()
    except TransientRemoteError as exc:
        output.line(f"  a sync says: {error_line(exc)}")
    else:
        raise PromiseBroken("a sync without a server did not fail")


async def _sync_until_quiet(vaults: Sequence[Vault]) -> SyncReport:
    sent = sent_bytes = 0
    for _ in range(MOST_ROUNDS):
        reports = [await vault.sync() for vault in vaults]
        sent += sum(report.sent for report in reports)
        sent_bytes += sum(report.sent_bytes for report in reports)
        for report in reports:
            if report.alarms or report.failures:
                raise PromiseBroken(
                    f"a sync of the demo did not end well: {report.alarms or report.failures}"
                )
        if not any(report.sent or report.fetched for report in reports):
            return SyncReport(sent=sent, sent_bytes=sent_bytes)
    raise PromiseBroken(f"two devices were still exchanging blobs after {MOST_ROUNDS} syncs of both")


def _wanted(expected: Mapping[str, Content], edits: Edits) -> leaks.Wanted:
    """Content, ids and names that nobody outside may read."""
    wanted = leaks.Wanted()
    contents: list[tuple[str, Content]] = [*expected.items(), *edits.replaced.items(), *edits.added.items()]
    for blob_id, content in contents:
        what = f"content of {blob_id!r}"
        wanted.add_name(blob_id, f"the blob id {blob_id!r}")
        with io.BytesIO(content) if isinstance(content, bytes) else content.path.open("rb") as stream:
            wanted.add_content(
                stream, size_of(content), what, most=max(1, leaks.MOST_PIECES // len(contents))
            )
    for name in (NAMESPACE, FIRST, SECOND):
        wanted.add_name(name, f"the name {name!r}")
    return wanted

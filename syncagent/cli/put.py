"""`syncagent put`: one blob from a file or standard input, or a whole folder."""

import datetime
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import cast

import anyio
import anyio.to_thread
import click

from syncagent.cli import exit as exits
from syncagent.cli.output import Output
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.sync import sync_now
from syncagent.cli.target import Target, parse_blob, parse_tree
from syncagent.cli.text import escaped, from_argument, size_text
from syncagent.cli.tree import Entry, Refused, Skipped, TreeFile, read_file, walk
from syncagent.cli.when import parse_when
from syncagent.engine.sources import Source
from syncagent.errors import CacheFull, ConfigError, SourceChanged, SyncAgentError
from syncagent.model import CHUNK_SIZE, DEFAULT_PRIORITY, SMALL_BLOB, Version
from syncagent.namespace import Namespace
from syncagent.vault import Vault
from syncagent.wording import counted

GROUP_FILES = 512
GROUP_BYTES = 8 << 20
"""Small files read at a time: enough for a few transactions, little enough to hold in memory."""


@click.command()
@click.argument("target", metavar="NS/ID")
@click.argument("source", metavar="[FILE|-]", required=False)
@click.option("-r", "--recursive", is_flag=True, help="Store every file of a folder; ids are their paths.")
@click.option("--replace", is_flag=True, help="Store a new version where the id holds something else.")
@click.option(
    "--meta", multiple=True, metavar="KEY=VALUE", help="Metadata to store with the blob; repeatable."
)
@click.option(
    "--if-version", metavar="VERSION", help="Replace, but only this version: 8 digits of it, or a tag."
)
@click.option("--expected-sha256", metavar="HEX", help="Refuse content with another SHA-256.")
@click.option("--expected-size", type=int, metavar="BYTES", help="Refuse content of another length.")
@click.option("--priority", type=click.IntRange(1, 4), default=2, help="1 is sent first; 2 by default.")
@click.option(
    "--local-only/--shared", "local_only", default=None, help="Keep it on this device, or share it again."
)
@click.option("--expires", metavar="TIME", help="When it is to be gone: 12h, 7d, or a date with its zone.")
@click.option("--sync", "does_sync", is_flag=True, help="Sync afterwards.")
@takes_session
def put(
    session: Session,
    target: str,
    source: str | None,
    recursive: bool,
    replace: bool,
    meta: Sequence[str],
    if_version: str | None,
    expected_sha256: str | None,
    expected_size: int | None,
    priority: int,
    local_only: bool | None,
    expires: str | None,
    does_sync: bool,
) -> int:
    """Store a file, standard input or a folder. It is durable here when the command ends.

    Nothing is sent yet, unless --sync is given: that is what `sync` does.

    \b
        syncagent put notes/hello hello.txt --sync
        date | syncagent put notes/now - --replace
        syncagent put photos/ ~/Pictures --recursive
    """
    of_one = (if_version, expected_sha256, expected_size, local_only, expires)
    if recursive and any(option is not None for option in of_one):
        raise click.UsageError("--recursive stores many blobs: the options for one do not go with it")
    code = _put(
        session,
        target,
        source,
        recursive,
        _Options(
            [*map(_pair, meta)],
            replace,
            if_version,
            expected_sha256,
            expected_size,
            priority,
            local_only,
            None if expires is None else parse_when(expires, datetime.datetime.now(datetime.UTC)),
        ),
    )
    return max(code, sync_now(session)) if does_sync else code


@dataclass(frozen=True, slots=True)
class _Options:
    """How to store."""

    meta: Sequence[tuple[str, str]]
    replace: bool
    if_version: str | None
    expected_sha256: str | None
    expected_size: int | None
    priority: int
    local_only: bool | None
    expires_at: datetime.datetime | None


def _put(session: Session, target: str, source: str | None, recursive: bool, options: _Options) -> int:
    metadata = dict(options.meta)
    if source is None:
        raise click.UsageError("missing argument FILE; write - for standard input")
    if recursive:
        where = parse_tree(target)
        root = Path(source)
        if not root.is_dir():
            raise click.UsageError(f"{source!r} is not a folder")
        return run_on_vault(
            session, lambda vault: _put_tree(vault, where, root, options, metadata, session.output)
        )
    where = parse_blob(target)
    if source != "-" and Path(source).is_dir():
        raise click.UsageError(f"{source!r} is a folder: add --recursive")
    checked_source(source)
    version = run_on_vault(session, lambda vault: _put_one(vault, where, source, metadata, options))
    tell_version(version, session.output, "put")
    return exits.DONE


async def _put_one(
    vault: Vault, where: Target, source: str, metadata: dict[str, str], options: _Options
) -> Version:
    return await vault.namespace(where.namespace).put(
        where.blob_id,
        content_of(source),
        metadata=metadata,
        replace=options.replace,
        if_version=options.if_version,
        expected_sha256=options.expected_sha256,
        expected_size=options.expected_size,
        priority=options.priority,
        local_only=options.local_only,
        expires_at=options.expires_at,
    )


def checked_source(source: str) -> None:
    """Raises what keeps one blob from being read from here."""
    if source != "-" and Path(source).is_dir():
        raise click.UsageError(f"{source!r} is a folder")
    if source == "-" and sys.stdin is None:
        raise ConfigError("standard input is closed", todo="pipe the content in, or name a file")


def content_of(source: str) -> Source:
    """What a file holds, or standard input where it is `-`."""
    return _stdin_pieces() if source == "-" else Path(source)


async def _stdin_pieces() -> AsyncIterator[bytes]:
    stdin = cast(BufferedReader, sys.stdin.buffer)
    can_wait = True
    try:
        while True:
            if can_wait:
                # Waiting in the event loop rather than in a read, which Ctrl-C could not end.
                try:
                    await anyio.wait_readable(stdin.fileno())
                except OSError:  # a file: always ready
                    can_wait = False
            piece = await anyio.to_thread.run_sync(stdin.read1, CHUNK_SIZE)
            if not piece:
                return
            yield piece
    except OSError as exc:
        raise SourceChanged(f"standard input cannot be read: {exc.strerror}", todo="") from exc


def tell_version(version: Version, output: Output, done: str) -> None:
    """Say which version a command has made."""
    if output.is_json:
        output.document(
            {
                "namespace": version.namespace,
                "id": version.blob_id,
                "size": version.size,
                "version": str(version),
            }
        )
    name = f"{version.namespace}/{escaped(version.blob_id)}"
    output.line(f"{done} {name} ({size_text(version.size)}), version {str(version)[:8]}")


@dataclass(slots=True)
class TreeTally:
    """What became of a folder's entries."""

    stored: int = 0
    stored_bytes: int = 0
    skipped: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Group:
    """The next part of a folder: small files with their content, and at most one large one."""

    small: list[tuple[TreeFile, bytes]] = field(default_factory=list)
    large: TreeFile | None = None
    others: list[Skipped | Refused] = field(default_factory=list)


async def _put_tree(
    vault: Vault, where: Target, root: Path, options: _Options, metadata: dict[str, str], output: Output
) -> int:
    tally = await put_files(
        vault.namespace(where.namespace),
        walk(root, where.blob_id),
        output,
        replace=options.replace,
        metadata=metadata,
        priority=options.priority,
    )
    if output.is_json:
        output.document(
            {
                "namespace": where.namespace,
                "stored": tally.stored,
                "stored_bytes": tally.stored_bytes,
                "skipped": tally.skipped,
                "failed": tally.failed,
            }
        )
    parts = [f"put {counted(tally.stored, 'blob')} ({size_text(tally.stored_bytes)}) into {where.namespace}"]
    parts += [f"{tally.skipped} skipped"] * bool(tally.skipped)
    parts += [f"{tally.failed} failed"] * bool(tally.failed)
    output.line(", ".join(parts))
    if not tally.failed:
        return exits.DONE
    return exits.SOME_FAILED if tally.stored else exits.FAILED


async def put_files(
    namespace: Namespace,
    entries: Iterator[Entry],
    output: Output,
    *,
    replace: bool = False,
    metadata: dict[str, str],
    priority: int = DEFAULT_PRIORITY,
) -> TreeTally:
    """Store files, small ones in groups; what cannot be stored is told on stderr and the rest goes on.

    Raises:
        CacheFull: nothing more fits.
    """
    tally = TreeTally()
    while (group := await anyio.to_thread.run_sync(_next_group, entries)) is not None:
        for other in group.others:
            if isinstance(other, Skipped):
                tally.skipped += 1
                output.note(f"{str(other.path)!r} was skipped: {other.reason}")
            else:
                tally.failed += 1
                output.complain(exits.error_line(other.error))
        blobs: list[tuple[str, Source, dict[str, str]]] = [
            (file.blob_id, data, metadata) for file, data in group.small
        ]
        if group.large is not None:
            blobs.append((group.large.blob_id, group.large.path, metadata))
        results = await namespace.put_many(blobs, replace=replace, priority=priority)
        for result in results:
            if result.error is not None:
                if isinstance(result.error, CacheFull):
                    raise result.error
                tally.failed += 1
                subject = f"{namespace.name}/{result.id!r}"
                output.complain(exits.error_line(result.error, subject))
            elif result.version is not None:
                tally.stored += 1
                tally.stored_bytes += result.version.size
    return tally


def _next_group(entries: Iterator[Entry]) -> _Group | None:
    """Runs on a worker thread: walking and reading wait for the disk."""
    first = next(entries, None)
    if first is None:
        return None
    group = _Group()
    size = 0
    for entry in chain([first], entries):
        if not isinstance(entry, TreeFile):
            group.others.append(entry)
        elif entry.size > SMALL_BLOB:
            group.large = entry
            break
        else:
            try:
                data = read_file(entry)
            except SyncAgentError as exc:
                group.others.append(Refused(entry.path, exc))
                continue
            group.small.append((entry, data))
            size += len(data)
        if size >= GROUP_BYTES or len(group.small) + len(group.others) >= GROUP_FILES:
            break
    return group


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = from_argument(text).partition("=")
    if not equals or not key:
        raise click.UsageError(f"--meta {text!r} is not KEY=VALUE")
    return key, value

"""`syncagent get`: a blob to standard output or into a file."""

import datetime
from pathlib import Path

import anyio.to_thread
import click

from syncagent.cli.outfile import OutFile
from syncagent.cli.output import Output
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.target import Target, parse_blob
from syncagent.cli.text import escaped, from_argument, metadata_document, size_text, time_value
from syncagent.cli.versions import expiry_of
from syncagent.model import Version
from syncagent.vault import Vault


@click.command()
@click.argument("target", metavar="NS/ID")
@click.option("-o", "--output", "file", metavar="FILE", help="Write here; - is standard output, the default.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.option("--version", metavar="VERSION", help="8 digits of an older one, ~1, or a tag: see `history`.")
@takes_session
def get(session: Session, target: str, file: str | None, force: bool, version: str | None) -> None:
    """Write a blob to standard output or a file. It is fetched first if it is not on this device.

    A file appears under its name when it is complete.

    \b
        syncagent get notes/hello
        syncagent get photos/2024/sea.jpg -o sea.jpg
        syncagent get notes/hello --version ~1
    """
    where = parse_blob(target)
    wanted = None if version is None else from_argument(version)
    if file is None or file == "-":
        if session.output.is_json:
            raise click.UsageError("--json needs -o FILE: standard output cannot hold both")
        run_on_vault(session, lambda vault: _to_stdout(vault, where, wanted, session.output))
        return
    out = OutFile(Path(file), may_replace=force)
    out.check()
    got, expires_at = run_on_vault(session, lambda vault: _to_file(vault, where, wanted, out))
    if session.output.is_json:
        session.output.document(
            {
                "namespace": where.namespace,
                "id": where.blob_id,
                "size": got.size,
                "version": str(got),
                "metadata": metadata_document(got.metadata),
                "expires_at": time_value(expires_at),
                "file": file,
            }
        )
    session.output.line(f"got {where.namespace}/{escaped(where.blob_id)} ({size_text(got.size)})")


async def _to_file(
    vault: Vault, where: Target, version: str | None, out: OutFile
) -> tuple[Version, datetime.datetime | None]:
    async with vault.namespace(where.namespace).open(where.blob_id, version=version) as reader:
        with out.written() as file:
            async for chunk in reader:
                await anyio.to_thread.run_sync(file.write, chunk)
        return reader.version, await expiry_of(vault, where)


async def _to_stdout(vault: Vault, where: Target, version: str | None, output: Output) -> None:
    async with vault.namespace(where.namespace).open(where.blob_id, version=version) as reader:
        async for chunk in reader:
            await anyio.to_thread.run_sync(output.raw, chunk)
            if output.is_closed:
                return

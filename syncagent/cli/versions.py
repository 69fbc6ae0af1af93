"""`syncagent history` and `tag`: the versions of a blob."""

import datetime

import click

from syncagent.answers import VersionInfo
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.target import Target, parse_blob
from syncagent.cli.text import escaped, from_argument, metadata_document, size_text, time_text, time_value
from syncagent.errors import BlobNotFound
from syncagent.vault import Vault

PAGE_VERSIONS = 1000
SHOWN_DIGITS = 12


@click.command()
@click.argument("target", metavar="NS/ID")
@takes_session
def history(session: Session, target: str) -> None:
    """List the versions of a blob that this device knows, newest first, also of a deleted one.

    `get --version` takes the digits in front; ~1 is the version before the present one.

    \b
        syncagent history notes/hello
        syncagent get notes/hello --version ~1
    """
    where = parse_blob(target)
    found, expires_at = run_on_vault(session, lambda vault: _history(vault, where))
    if session.output.is_json:
        session.output.document(
            {
                "namespace": where.namespace,
                "id": where.blob_id,
                "expires_at": time_value(expires_at),
                "versions": [version_document(one) for one in found],
            }
        )
        return
    for one in found:
        session.output.result(version_line(one))


@click.command()
@click.argument("target", metavar="NS/ID")
@click.argument("version", metavar="VERSION")
@click.argument("name", metavar="NAME")
@click.option("--remove", is_flag=True, help="Take the tag off again.")
@takes_session
def tag(session: Session, target: str, version: str, name: str, remove: bool) -> None:
    """Put a name on a version, by which it is found on all devices, or take it off.

    \b
        syncagent tag notes/report ~1 "as sent to Ann"
        syncagent get notes/report --version "as sent to Ann"
    """
    where, name = parse_blob(target), from_argument(name)
    run_on_vault(session, lambda vault: _tag(vault, where, from_argument(version), name, remove))
    if session.output.is_json:
        session.output.document(
            {"namespace": where.namespace, "id": where.blob_id, "tag": name, "on": not remove}
        )
    done = "taken off" if remove else "put on"
    session.output.line(f"{escaped(name)} {done} {where.namespace}/{escaped(where.blob_id)}")


def version_line(one: VersionInfo) -> str:
    """A version for people: digits of its id, when, how large, by whom, and what there is to know of it."""
    notes = ["present"] * one.is_current
    notes += ["in conflict"] * (one.is_head and not one.is_current and not one.deleted)
    notes += ["deleted"] * one.deleted + ["not on this device"] * (not one.is_here)
    notes += [f"tag {escaped(name)}" for name in one.tags]
    told = f"  ({', '.join(notes)})" if notes else ""
    device = escaped(one.device) or one.device_id[:8]
    return f"{one.id[:SHOWN_DIGITS]}  {time_text(one.changed_at)}  {size_text(one.size):>10}  {device}{told}"


def version_document(one: VersionInfo) -> dict[str, object]:
    """A version as one part of a JSON document."""
    return {
        "version": one.id,
        "device": one.device,
        "device_id": one.device_id,
        "changed_at": time_text(one.changed_at),
        "size": one.size,
        "metadata": None if one.metadata is None else metadata_document(one.metadata),
        "deleted": one.deleted,
        "is_here": one.is_here,
        "is_current": one.is_current,
        "is_head": one.is_head,
        "tags": list(one.tags),
    }


async def expiry_of(vault: Vault, where: Target) -> datetime.datetime | None:
    """When a blob is to be gone. None is never, and where it is gone."""
    try:
        return (await vault.namespace(where.namespace).stat(where.blob_id)).expires_at
    except BlobNotFound:
        return None


async def _history(vault: Vault, where: Target) -> tuple[list[VersionInfo], datetime.datetime | None]:
    return await _versions(vault, where), await expiry_of(vault, where)


async def _versions(vault: Vault, where: Target) -> list[VersionInfo]:
    namespace = vault.namespace(where.namespace)
    found = await namespace.history(where.blob_id, limit=PAGE_VERSIONS)
    page = found
    while len(page) == PAGE_VERSIONS:
        page = await namespace.history(where.blob_id, before=page[-1], limit=PAGE_VERSIONS)
        found += page
    return found


async def _tag(vault: Vault, where: Target, version: str, name: str, remove: bool) -> None:
    namespace = vault.namespace(where.namespace)
    if remove:
        await namespace.untag(where.blob_id, version, name)
    else:
        await namespace.tag(where.blob_id, version, name)

"""`syncagent conflicts` and `resolve`: blobs that two devices have put without knowing of each other."""

import click

from syncagent.answers import Conflict
from syncagent.cli.put import checked_source, content_of, tell_version
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.target import Target, parse_blob
from syncagent.cli.text import escaped, from_argument
from syncagent.cli.versions import version_document, version_line
from syncagent.model import Version
from syncagent.names import check_namespace
from syncagent.vault import Vault


@click.command()
@click.argument("namespace", metavar="[NS]", required=False)
@takes_session
def conflicts(session: Session, namespace: str | None) -> None:
    """List blobs in conflict with their versions, the one that `get` gives first.

    Nothing is lost, and nothing has to be done at once: all devices show the same, until `resolve` ends it
    on one of them.

    \b
        syncagent conflicts
        syncagent conflicts notes
    """
    wanted = None if namespace is None else check_namespace(from_argument(namespace))
    found = run_on_vault(session, lambda vault: _conflicts(vault, wanted))
    if session.output.is_json:
        session.output.document(
            {
                "conflicts": [
                    {
                        "namespace": one.namespace,
                        "id": one.id,
                        "versions": [version_document(version) for version in one.versions],
                    }
                    for one in found
                ]
            }
        )
        return
    for one in found:
        session.output.result(f"{one.namespace}/{escaped(one.id)}")
        for version in one.versions:
            session.output.result(f"  {version_line(version)}")


@click.command()
@click.argument("target", metavar="NS/ID")
@click.argument("source", metavar="[FILE|-]", required=False)
@click.option("--version", metavar="VERSION", help="Let this version stand: at least 8 digits of it.")
@takes_session
def resolve(session: Session, target: str, source: str | None, version: str | None) -> None:
    """End a conflict by a file, standard input, or one of the versions. All of them stay in the history.

    \b
        syncagent resolve notes/list merged.txt
        syncagent resolve notes/list --version 1f0c93ab
    """
    if (source is None) is (version is None):
        raise click.UsageError("a conflict is resolved by FILE, by - for standard input, or by --version")
    where = parse_blob(target)
    if source is not None:
        checked_source(source)
    tell_version(
        run_on_vault(session, lambda vault: _resolve(vault, where, source, version)),
        session.output,
        "resolved",
    )


async def _conflicts(vault: Vault, namespace: str | None) -> list[Conflict]:
    names = [one.name for one in await vault.namespaces()] if namespace is None else [namespace]
    return [one for name in names for one in await vault.namespace(name).conflicts()]


async def _resolve(vault: Vault, where: Target, source: str | None, version: str | None) -> Version:
    namespace = vault.namespace(where.namespace)
    if source is not None:
        return await namespace.resolve(where.blob_id, content_of(source))
    return await namespace.resolve(where.blob_id, version=from_argument(version or ""))

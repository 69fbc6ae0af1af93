"""`syncagent conflicts` and `resolve`: blobs that two devices have put without knowing of each other."""

from collections.abc import Sequence

import click

from syncagent.answers import Conflict, VersionInfo
from syncagent.cli.put import checked_source, content_of, tell_version
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.target import Target, parse_blob
from syncagent.cli.text import escaped, from_argument
from syncagent.cli.versions import SHOWN_DIGITS, version_document, version_line
from syncagent.engine.history import MIN_PREFIX
from syncagent.errors import VersionConflict
from syncagent.model import Version
from syncagent.names import check_namespace
from syncagent.vault import Vault

UNSEEN_MOST = 5
"""Named in one error line; a conflict of more is told in several."""


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
@click.option(
    "--seen", multiple=True, metavar="VERSION", help="A version that has been looked at; repeatable."
)
@takes_session
def resolve(
    session: Session, target: str, source: str | None, version: str | None, seen: Sequence[str]
) -> None:
    """End a conflict by a file, standard input, or one of the versions. All of them stay in the history.

    Every version in conflict has to be named, by --seen or --version: what a sync has brought since you
    looked is not replaced unseen. `conflicts` lists them, `get --version` shows one.

    \b
        syncagent resolve notes/list merged.txt --seen 1f0c93ab --seen 77d20e51
        syncagent resolve notes/list --version 1f0c93ab --seen 77d20e51
    """
    if (source is None) is (version is None):
        raise click.UsageError("a conflict is resolved by FILE, by - for standard input, or by --version")
    where = parse_blob(target)
    if source is not None:
        checked_source(source)
    stands = None if version is None else from_argument(version)
    named = [*map(from_argument, seen), *([] if stands is None else [stands])]
    done = run_on_vault(session, lambda vault: _resolve(vault, where, source, stands, named))
    tell_version(done, session.output, "resolved")


async def _conflicts(vault: Vault, namespace: str | None) -> list[Conflict]:
    names = [one.name for one in await vault.namespaces()] if namespace is None else [namespace]
    return [one for name in names for one in await vault.namespace(name).conflicts()]


async def _resolve(
    vault: Vault, where: Target, source: str | None, version: str | None, named: Sequence[str]
) -> Version:
    namespace = vault.namespace(where.namespace)
    seen = next((one for one in await namespace.conflicts() if one.id == where.blob_id), None)
    if seen is None:
        await namespace.stat(where.blob_id)  # or there is no such blob
        todo = "`put --replace` stores a new version"
        raise VersionConflict(f"{where.namespace}/{where.blob_id!r} is not in conflict", todo=todo)
    _check_named(seen, named)
    data = None if source is None else content_of(source)
    return await namespace.resolve(where.blob_id, data, version=version, seen=seen)


def _check_named(conflict: Conflict, named: Sequence[str]) -> None:
    """Raises `VersionConflict` where a version in conflict is not among those that were named."""
    heads = conflict.versions
    seen = {one for name in named for one in _only(heads, name)}
    unseen = [one.id[:SHOWN_DIGITS] for one in heads if one.id not in seen][:UNSEEN_MOST]
    if unseen:
        name = f"{conflict.namespace}/{conflict.id!r}"
        raise VersionConflict(
            f"{name} has versions in conflict that were not named: {', '.join(unseen)}",
            safe="nothing was stored",
            todo=f"look at it with `get --version`, then add {' '.join(f'--seen {one}' for one in unseen)}",
        )


def _only(heads: Sequence[VersionInfo], name: str) -> list[str]:
    """The one version that a name means, if there is one."""
    found = [
        one.id
        for one in heads
        if name in one.tags or (len(name) >= MIN_PREFIX and one.id.startswith(name.lower()))
    ]
    return found if len(found) == 1 else []

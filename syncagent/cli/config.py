"""`syncagent config`: how a namespace is kept."""

import click

from syncagent import names
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.errors import ConfigError
from syncagent.model import NamespaceSettings
from syncagent.vault import Vault

_KNOWN = ("fetch", "dedup", "history", "local_only")
_BOOLEANS = {"true": True, "false": False}


@click.command()
@click.argument("namespace", metavar="NS")
@click.argument("changes", metavar="[NAME=VALUE]...", nargs=-1)
@takes_session
def config(session: Session, namespace: str, changes: tuple[str, ...]) -> int:
    """Show how a namespace is kept, after changing what is given.

    \b
    fetch=eager|on-demand|pinned     which content a device fetches by itself
    dedup=namespace|vault|none       among which blobs equal content is stored once
    history=NUMBER                   versions to keep, 0 for all; nothing is removed yet
    local_only=true|false            of this device: whether new blobs stay here

    All but local_only hold on every device, with the next syncs.

    \b
        syncagent config films
        syncagent config films fetch=on-demand
    """
    names.check_namespace(namespace)
    wanted = _parsed(changes)
    return run_on_vault(session, lambda vault: _change(session, vault, namespace, wanted))


async def _change(session: Session, vault: Vault, namespace: str, wanted: dict[str, str]) -> int:
    history = wanted.get("history")
    local_only = wanted.get("local_only")
    standing = await vault.namespace(namespace).settings(
        fetch=wanted.get("fetch"),
        dedup=wanted.get("dedup"),
        history=None if history is None else _number(history),
        local_only=None if local_only is None else _boolean(local_only),
    )
    document = _document(standing)
    if session.output.is_json:
        session.output.document({"namespace": namespace, **document})
    else:
        for name, value in document.items():
            session.output.result(f"{name:<10} {'all' if value is None else str(value).lower()}")
    return 0


def _document(standing: NamespaceSettings) -> dict[str, object]:
    return {
        "fetch": standing.fetch.value,
        "dedup": standing.dedup.value,
        "history": standing.history,
        "local_only": standing.local_only,
    }


def _parsed(changes: tuple[str, ...]) -> dict[str, str]:
    wanted: dict[str, str] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or name not in _KNOWN or name in wanted:
            raise click.UsageError(f"{change!r} is no NAME=VALUE of {', '.join(_KNOWN)}, or comes twice")
        wanted[name] = value
    return wanted


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"history is a number of versions, or 0 for all of them, not {text!r}")
    return int(text[:20])


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise ConfigError(f"local_only is true or false, not {text!r}")
    return _BOOLEANS[text]

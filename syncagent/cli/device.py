"""`syncagent device`: the devices of the vault."""

import click

from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.text import escaped, from_argument
from syncagent.reports import DeviceInfo
from syncagent.wording import counted


@click.group(no_args_is_help=False)
def device() -> None:
    """List, rename and remove the devices of the vault."""


@device.command()
@takes_session
def ls(session: Session) -> None:
    """List the devices that this one knows: id, name, system, and how much each has published.

    \b
        syncagent device ls
    """
    found = run_on_vault(session, lambda vault: vault.devices())
    if session.output.is_json:
        session.output.document({"devices": [_document(one) for one in found]})
        return
    for one in found:
        marks = [mark for mark, is_so in (("this device", one.is_this), ("removed", one.is_retired)) if is_so]
        notes = ", ".join([counted(one.batches, "batch").replace("batchs", "batches"), *marks])
        name = escaped(one.name) or "(unnamed)"
        session.output.result(f"{one.id}  {name}  {escaped(one.platform) or '-'}  {notes}")


@device.command()
@click.argument("target", metavar="DEVICE")
@click.argument("name", metavar="NAME")
@takes_session
def rename(session: Session, target: str, name: str) -> None:
    """Call a device something else. DEVICE is its name or the start of its id.

    \b
        syncagent device rename laptop "old laptop"
    """
    wanted, new = from_argument(target), from_argument(name)
    found = run_on_vault(session, lambda vault: vault.rename_device(wanted, new))
    if session.output.is_json:
        session.output.document(_document(found))
    session.output.line(f"device {found.id[:8]} is called {escaped(found.name)}")


@device.command()
@click.argument("target", metavar="DEVICE")
@takes_session
def remove(session: Session, target: str) -> None:
    """Say that a device is gone. DEVICE is its name or the start of its id.

    What it has put stays. It is not locked out: it has the vault's keys, and so has whoever holds it. Take
    its access to the remote away, too.

    \b
        syncagent device remove "old laptop"
    """
    wanted = from_argument(target)
    found = run_on_vault(session, lambda vault: vault.remove_device(wanted))
    if session.output.is_json:
        session.output.document(_document(found))
    session.output.line(f"removed {escaped(found.name) or found.id[:8]}; it keeps what it has, and the keys")


def _document(one: DeviceInfo) -> dict[str, object]:
    return {
        "id": one.id,
        "name": one.name,
        "platform": one.platform,
        "this": one.is_this,
        "removed": one.is_retired,
        "replaces": one.replaces,
        "batches": one.batches,
    }

"""`syncagent pin` and `syncagent evict`: which content is on this device."""

from collections.abc import Awaitable, Callable, Sequence

import click

from syncagent.cli import exit as exits
from syncagent.cli.output import Output
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.target import Target, parse_blob
from syncagent.cli.text import escaped
from syncagent.errors import CacheFull, RemoteStopped, SyncAgentError, TransientRemoteError
from syncagent.namespace import Namespace
from syncagent.vault import Vault
from syncagent.wording import counted

Act = Callable[[Namespace, str], Awaitable[None]]


@click.command()
@click.argument("targets", metavar="NS/ID...", nargs=-1, required=True)
@takes_session
def pin(session: Session, targets: Sequence[str]) -> int:
    """Want the content of blobs on this device, with all later versions; the next fetch brings it.

    \b
        syncagent pin films/holiday
        syncagent fetch
    """
    return _run(session, targets, Namespace.pin, "pinned")


@click.command()
@click.argument("targets", metavar="NS/ID...", nargs=-1, required=True)
@takes_session
def evict(session: Session, targets: Sequence[str]) -> int:
    """Free the space of content that the remote holds; it is fetched again when it is read.

    The remote is asked for every pack of it first; what it does not show stays here.

    \b
        syncagent evict films/holiday
    """
    return _run(session, targets, Namespace.evict, "evicted")


def _run(session: Session, targets: Sequence[str], act: Act, done: str) -> int:
    wanted = [parse_blob(target) for target in targets]
    return run_on_vault(session, lambda vault: _each(vault, wanted, act, done, session.output))


async def _each(vault: Vault, wanted: Sequence[Target], act: Act, done: str, output: Output) -> int:
    succeeded: list[dict[str, str]] = []
    failed: list[dict[str, object]] = []
    codes: list[int] = []
    for tried, one in enumerate(wanted, start=1):
        name = {"namespace": one.namespace, "id": one.blob_id}
        try:
            await act(vault.namespace(one.namespace), one.blob_id)
        except CacheFull:
            raise
        except (TransientRemoteError, RemoteStopped) as exc:
            codes.append(exits.code_of(type(exc)))
            failed.append({**name, **exits.document_of(exc)})
            output.complain(exits.error_line(exc, f"{one.namespace}/{one.blob_id!r}"))
            if rest := len(wanted) - tried:
                output.note(f"{counted(rest, 'blob')} after it {'was' if rest == 1 else 'were'} not tried")
            break
        except SyncAgentError as exc:
            codes.append(exits.code_of(type(exc)))
            failed.append({**name, **exits.document_of(exc)})
            output.complain(exits.error_line(exc))
        else:
            succeeded.append(name)
            output.line(f"{done} {one.namespace}/{escaped(one.blob_id)}")
    if output.is_json:
        output.document({done: succeeded, "failed": failed})
    if succeeded and codes:
        codes.append(exits.SOME_FAILED)
    return max(codes, default=exits.DONE)

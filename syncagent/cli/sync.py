"""`syncagent sync`, `send` and `fetch`: a round, after the one that is running."""

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import click

from syncagent.cli import exit as exits
from syncagent.cli.output import Output
from syncagent.cli.report import report_document, report_line
from syncagent.cli.running import run_on_vault
from syncagent.cli.session import Session, takes_session
from syncagent.cli.text import size_text
from syncagent.engine.report import Listener
from syncagent.errors import SyncAgentError, VaultInUse
from syncagent.names import check_namespace
from syncagent.reports import Progress, SyncReport
from syncagent.vault import Vault

Round = Callable[[Vault, Listener | None], Awaitable[SyncReport]]

WAIT_FIRST_S = 0.05
WAIT_MOST_S = 1.0
LOCKED_TRIES = 5
"""How often a cache that another process keeps locked is tried: each try waits half a minute by itself."""


@click.command()
@click.option(
    "--watch", is_flag=True, help="Stay: sync again whenever something changes, and show what arrives."
)
@takes_session
def sync(session: Session, watch: bool) -> int:
    """Send what the remote lacks and fetch what this device lacks.

    Waits for a sync of this vault that is running, then does its own round.

    With --watch it stays and shows each round in which something happened; with --json
    too, each is a document on a line of its own. Ctrl-C ends it at any time, with code
    130, and nothing is lost by that.

    \b
        syncagent sync
        syncagent sync --watch
    """
    if watch:
        from syncagent.cli.watch import watch_vault  # here: a plain sync does without

        return watch_vault(session)
    return _run(session, lambda vault, listener: vault.sync(progress=listener))


@click.command()
@click.argument("namespace", metavar="[NS]", required=False)
@takes_session
def send(session: Session, namespace: str | None) -> int:
    """Send what the remote lacks, of one namespace or all.

    \b
        syncagent send photos
    """
    wanted = _checked(namespace)
    return _run(session, lambda vault, listener: vault.send_missing(wanted, progress=listener))


@click.command()
@click.argument("namespace", metavar="[NS]", required=False)
@takes_session
def fetch(session: Session, namespace: str | None) -> int:
    """Learn what other devices have put and fetch it, of one namespace or all.

    \b
        syncagent fetch notes
    """
    wanted = _checked(namespace)
    return _run(session, lambda vault, listener: vault.fetch_missing(wanted, progress=listener))


def sync_now(session: Session) -> int:
    """A sync after another command, which has told what it did; the exit code."""
    output = session.output
    try:
        report = _round(session, lambda vault, listener: vault.sync(progress=listener))
    except SyncAgentError as exc:
        output.complain(exits.error_line(exc))
        return exits.code_of(type(exc))
    code = exits.tell_report(report, output)
    output.line(report_line(report))
    return code


def _run(session: Session, one_round: Round) -> int:
    output = session.output
    report = _round(session, one_round)
    code = exits.tell_report(report, output)
    if output.is_json:
        output.document(report_document(report))
    output.line(report_line(report))
    return code


def _round(session: Session, one_round: Round) -> SyncReport:
    output = session.output
    with _listener(output) as listener:
        return run_on_vault(session, lambda vault: _after_others(vault, one_round, listener, output))


async def _after_others(
    vault: Vault, one_round: Round, listener: Listener | None, output: Output
) -> SyncReport:
    """The round, tried until no other process syncs this vault."""
    pause_s = WAIT_FIRST_S
    locked = 0
    while True:
        try:
            return await one_round(vault, listener)
        except VaultInUse as exc:
            locked += not exc.pid
            if locked >= LOCKED_TRIES:
                raise
            if pause_s == WAIT_FIRST_S:
                output.note(f"{exc}: waiting for it to finish")
        await anyio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, WAIT_MOST_S)


@contextmanager
def _listener(output: Output) -> Iterator[Listener | None]:
    """A bar a phase, for a person at a terminal."""
    if output.is_json or output.is_quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    columns = TextColumn("{task.description:<5}"), BarColumn(), MofNCompleteColumn()
    bars = Bars(*columns, TextColumn("{task.fields[size]}"), console=Console(stderr=True), transient=True)
    tasks: dict[str, TaskID] = {}

    def show(progress: Progress) -> None:
        if not progress.total:
            return
        if progress.phase not in tasks:
            tasks[progress.phase] = bars.add_task(progress.phase, total=progress.total, size="")
        bars.update(
            tasks[progress.phase],
            completed=progress.done,
            total=progress.total,
            size=size_text(progress.done_bytes),
        )

    with bars:
        yield show


def _checked(namespace: str | None) -> str | None:
    return None if namespace is None else check_namespace(namespace)

"""`syncagent sync --watch`: stays, keeps the vault in sync, and shows what comes and goes.

Each round in which something happened is told, with `--json` as a document on a line of its own. What
goes on from round to round, such as a remote that is away, is told when it begins and when it ends.
"""

from dataclasses import replace

from syncagent.cli import exit as exits
from syncagent.cli.output import Output
from syncagent.cli.report import arrival_lines, has_happened, report_document, report_line
from syncagent.cli.running import run_async
from syncagent.cli.session import Session
from syncagent.errors import SyncAgentError, VaultInUse
from syncagent.events import Event, Missed, SyncFinished, SyncWaiting
from syncagent.reports import SyncReport
from syncagent.vault import open_vault
from syncagent.wording import counted


def watch_vault(session: Session) -> int:
    """Sync until interrupted, or until nobody reads what is said; the exit code."""
    profile = session.profile()
    secret = session.secret()
    output = session.output

    async def stay() -> int:
        screen = Screen(output)
        async with open_vault(
            profile.folder,
            passphrase=secret.passphrase,
            recovery_code=secret.recovery_code,
            background=True,
        ) as vault:
            async for event in vault.events(only=(SyncFinished, SyncWaiting)):
                screen.show(event)
                output.flush()
                if output.is_closed:
                    break
        return exits.DONE

    try:
        return run_async(stay)
    except KeyboardInterrupt:
        return exits.INTERRUPTED  # the way it is meant to end: nothing to explain


class Screen:
    """Tells rounds one after the other, and nothing twice that has not changed."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._trouble: object = None
        self._has_waited = False
        self._last = SyncReport()
        self._is_first = True

    def show(self, event: Event) -> None:
        """Tell what is new in this round."""
        match event:
            case SyncFinished(report=SyncReport() as report):
                has_waited, self._has_waited = self._has_waited, False
                self._show_report(report, is_back=has_waited or self._trouble is not None)
            case SyncFinished(error=VaultInUse()):
                pass  # it is waited for; where that takes a while it is told
            case SyncFinished(error=SyncAgentError() as error):
                self._has_waited = False
                self._show_error(error)
            case SyncWaiting(error=error):
                self._show_wait(error)
            case Missed(count=count):
                self._show_missed(count)
            case _:
                pass

    def _show_wait(self, error: VaultInUse) -> None:
        self._has_waited = True
        if self._output.is_json:
            self._output.document({"event": "waiting", **exits.document_of(error)})
        self._output.note(f"{error}: waiting for it to finish")

    def _show_missed(self, count: int) -> None:
        """Nobody read for hours: what those rounds brought is in the vault and cannot be listed any more."""
        if self._output.is_json:
            self._output.document({"event": "missed", "rounds": count})
        self._is_first = True
        missed = counted(count, "round")
        self._output.note(
            f"{missed} went unshown, for nobody read; nothing is lost: `syncagent status` tells how it stands"
        )

    def _show_report(self, report: SyncReport, *, is_back: bool) -> None:
        output = self._output
        self._trouble = None
        last, self._last = self._last, report
        failures = tuple(failure for failure in report.failures if failure not in last.failures)
        alarms = tuple(alarm for alarm in report.alarms if alarm not in last.alarms)
        news = replace(report, alarms=alarms, failures=failures, failed=len(failures))
        exits.tell_report(news, output)
        if not (has_happened(news) or is_back or self._is_first):
            return
        self._is_first = False
        if output.is_json:
            output.document({"event": "round", **report_document(report)})
            return
        if is_back:
            output.note("syncing again")
        for line in arrival_lines(report):
            output.result(line)
        output.line(report_line(report))

    def _show_error(self, error: SyncAgentError) -> None:
        output = self._output
        code = exits.code_of(type(error))
        # A remote that is away fails now in one way and now in another.
        trouble = code if code == exits.UNREACHABLE else type(error)
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if output.is_json:
            output.document({"event": "failed", **exits.document_of(error)})
        output.complain(exits.error_line(error))

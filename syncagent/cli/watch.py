"""`syncagent sync --watch`: stays, keeps the vault in sync, and shows what comes and goes.

Each round in which something happened is told, with `--json` as a document on a line of its own. What
goes on from round to round, such as a remote that is away, is told when it begins and when it ends.
"""

import math
from dataclasses import replace

import anyio

from syncagent.cli import exit as exits
from syncagent.cli.output import Output
from syncagent.cli.report import arrival_lines, has_happened, report_document, report_line
from syncagent.cli.running import run_async
from syncagent.cli.session import Session
from syncagent.errors import SyncAgentError, VaultInUse
from syncagent.reports import SyncReport
from syncagent.vault import open_vault

Outcome = SyncReport | SyncAgentError

WAITS_TOLD = 4
"""Tries for the lock, two seconds of them, before it is said that another process syncs: most are quicker."""


def watch_vault(session: Session) -> int:
    """Sync until interrupted, or until nobody reads what is said; the exit code."""
    profile = session.profile()
    secret = session.secret()
    output = session.output

    async def stay() -> int:
        screen = Screen(output)
        send, receive = anyio.create_memory_object_stream[Outcome](math.inf)
        with send, receive:
            async with open_vault(
                profile.folder,
                passphrase=secret.passphrase,
                recovery_code=secret.recovery_code,
                background=True,
                on_round=send.send_nowait,
            ):
                async for outcome in receive:
                    screen.show(outcome)
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
        self._waits = 0
        self._last = SyncReport()
        self._is_first = True

    def show(self, outcome: Outcome) -> None:
        """Tell what is new in this round."""
        if isinstance(outcome, VaultInUse):
            self._waits += 1
            if self._waits == WAITS_TOLD or (self._waits == 1 and not outcome.pid):
                self._show_wait(outcome)
            return
        has_waited, self._waits = self._waits >= WAITS_TOLD, 0
        if isinstance(outcome, SyncReport):
            self._show_report(outcome, is_back=has_waited or self._trouble is not None)
        else:
            self._show_error(outcome)

    def _show_wait(self, error: VaultInUse) -> None:
        if self._output.is_json:
            self._output.document({"event": "waiting", **exits.document_of(error)})
        self._output.note(f"{error}: waiting for it to finish")

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

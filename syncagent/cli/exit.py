"""Errors as the user meets them: one line of text and an exit code. Nothing else makes either.

    0  done                     4  the remote cannot be reached; work is kept
    1  failed                   5  the user has to do something
    2  usage, no vault here     6  integrity or rollback alarm
    3  some blobs failed      130  interrupted

When several apply the greatest counts (6 > 5 > 4 > 3 > 1).
"""

import contextlib
import traceback
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from syncagent import errors
from syncagent.cli.output import Output, OutputError, OutputFull
from syncagent.cli.text import one_line
from syncagent.errors import SyncAgentError

if TYPE_CHECKING:
    from syncagent.reports import Alarm, SyncReport

DONE = 0
FAILED = 1
USAGE = 2
SOME_FAILED = 3
UNREACHABLE = 4
NEEDS_USER = 5
ALARM = 6
INTERRUPTED = 130


class PromiseBroken(SyncAgentError):
    """The demo found that a vault does not do what is promised of it."""

    default_safe = "your own files and vaults were not touched"
    default_todo = "report it as a bug"


CODES: dict[type[SyncAgentError], int] = {
    SyncAgentError: FAILED,
    errors.InvalidName: USAGE,
    errors.LimitExceeded: FAILED,
    errors.ConfigError: USAGE,
    errors.VaultExists: FAILED,
    errors.VaultNotFound: USAGE,
    errors.VaultInUse: FAILED,
    errors.WrongVault: ALARM,
    errors.WrongPassphrase: NEEDS_USER,
    # Waiting does not help and nothing is known to be damaged: the user updates, and an alteration
    # that posed as a newer format shows itself by staying.
    errors.TooNew: NEEDS_USER,
    errors.BlobExists: FAILED,
    errors.BlobNotFound: FAILED,
    errors.VersionNotFound: FAILED,
    errors.BlobNotHere: UNREACHABLE,
    errors.VersionConflict: FAILED,
    errors.NotSent: FAILED,
    errors.ContentMismatch: FAILED,
    errors.SourceChanged: FAILED,
    errors.TokenExpired: FAILED,
    errors.CacheDamaged: ALARM,
    errors.CacheFull: NEEDS_USER,
    errors.OpenError: ALARM,
    errors.Tampered: ALARM,
    errors.Truncated: ALARM,
    errors.RemoteError: FAILED,
    errors.TransientRemoteError: UNREACHABLE,
    errors.Unreachable: UNREACHABLE,
    errors.RateLimited: UNREACHABLE,
    errors.Withheld: UNREACHABLE,
    errors.RemoteStopped: NEEDS_USER,
    errors.Unauthorized: NEEDS_USER,
    errors.Forbidden: NEEDS_USER,
    errors.AppendOnly: NEEDS_USER,
    errors.QuotaExceeded: NEEDS_USER,
    errors.CertificateRejected: NEEDS_USER,
    errors.ObjectError: FAILED,
    errors.ObjectNotFound: FAILED,
    errors.ObjectExists: FAILED,
    errors.ObjectRefused: FAILED,
    errors.BadResponse: FAILED,
    errors.UnsupportedByRemote: FAILED,
    errors.RemoteRolledBack: ALARM,
    errors.RemoteForked: ALARM,
    errors.ClockAhead: ALARM,
    errors.AgentNotRunning: FAILED,
    OutputError: FAILED,
    OutputFull: NEEDS_USER,
    PromiseBroken: ALARM,
}

_KINDS = {kind.__name__: kind for kind in CODES}
_KEPT = "what was stored before is kept"


def code_of(kind: type[SyncAgentError]) -> int:
    """The exit code of an error's class."""
    return next(CODES[base] for base in kind.__mro__ if base in CODES)


def error_line(error: SyncAgentError, subject: str = "") -> str:
    """What happened; what is safe; what to do next."""
    what = f"{subject}: {error}" if subject else str(error)
    return joined(what, error.safe, error.todo)


def joined(what: str, safe: str = "", todo: str = "") -> str:
    """The parts of an error line that there are."""
    return one_line("; ".join(part for part in (what, safe, todo) if part))


def error_document(kind: str, what: str, safe: str = "", todo: str = "") -> dict[str, dict[str, str | None]]:
    """The same for `--json`."""
    return {"error": {"kind": kind, "message": what, "safe": safe, "todo": todo}}


def document_of(error: SyncAgentError) -> dict[str, dict[str, str | None]]:
    """An error for `--json`; of one that knows which version is here instead, that too."""
    document = error_document(type(error).__name__, str(error), error.safe, error.todo)
    if isinstance(error, errors.BlobNotHere):
        document["error"]["available"] = error.available
    return document


def tell_alarms(alarms: "Iterable[Alarm]", output: Output) -> int:
    """What must not pass in silence, a line each on stderr; the exit code."""
    codes = [DONE]
    for alarm in alarms:
        kind = _KINDS.get(alarm.kind)
        # An alarm of a class that is not known here is still an alarm.
        codes.append(ALARM if kind is None else code_of(kind))
        output.complain(joined(f"{alarm.kind}: {alarm.subject}: {alarm.message}", alarm.safe, alarm.todo))
    return max(codes)


def tell_report(report: "SyncReport", output: Output) -> int:
    """Alarms and failures of a sync, a line each on stderr; the exit code."""
    codes = [tell_alarms(report.alarms, output)]
    for failure in report.failures:
        codes.append(SOME_FAILED)
        what = f"{failure.namespace}/{failure.id!r} failed to {failure.direction}: {failure.error}"
        output.complain(joined(what, "the others went on", "it is tried again by a later sync"))
    return max(codes)


def tell(exc: BaseException, output: Output) -> int:
    """Say what ended the command; the exit code."""
    kind, what, safe, todo = type(exc).__name__, str(exc), "", ""
    match exc:
        case SyncAgentError():
            code, safe, todo = code_of(type(exc)), exc.safe, exc.todo
        case click.ClickException():
            code, kind, what = USAGE, "UsageError", _sentence(exc.format_message())
            if isinstance(exc, click.UsageError) and exc.ctx is not None:
                todo = f"see `{exc.ctx.command_path} --help`"
        case KeyboardInterrupt() | click.Abort():
            code, kind, what, safe = INTERRUPTED, "Interrupted", "interrupted", _KEPT
            todo = "run it again to go on"
        case _:
            # The text of a foreign error may hold anything, also content: only its place is told.
            code, kind, what, safe = FAILED, "Bug", f"a bug: {kind} at {_place(exc)}", _KEPT
            todo = "report it, with the output of the same command with -v"
    if output.is_json:
        with contextlib.suppress(OutputError):
            ours = document_of(exc) if isinstance(exc, SyncAgentError) else None
            output.document(ours or error_document(kind, what, safe, todo))
    output.complain(joined(what, safe, todo))
    if output.is_verbose and code != INTERRUPTED:
        for line in _trace(exc):
            output.complain(line)
    return code


def _sentence(text: str) -> str:
    """Click's messages in our form: no capital, no full stop."""
    text = text.removesuffix(".")
    return text[:1].lower() + text[1:]


def _place(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup):
        return _place(exc.exceptions[0])
    frames = traceback.extract_tb(exc.__traceback__)
    if not frames:
        return "an unknown place"
    last = next((f for f in reversed(frames) if "syncagent" in f.filename), frames[-1])
    return f"{'/'.join(last.filename.replace(chr(92), '/').split('/')[-2:])}:{last.lineno}"


def _trace(exc: BaseException, told: frozenset[int] = frozenset()) -> Iterator[str]:
    """Frames and classes of an error and of what led to it; texts of our own errors only, never locals.

    `told`: those that this one belongs to. An error of a group may have been raised while that was handled.
    """
    told |= {id(exc)}
    cause = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    if cause is not None and id(cause) not in told:
        yield from _trace(cause, told)
    for frame in traceback.extract_tb(exc.__traceback__):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    yield f"{type(exc).__name__}: {exc}" if isinstance(exc, SyncAgentError) else type(exc).__name__
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            if id(inner) not in told:
                yield from _trace(inner, told)

"""Every error has a code and a line, and only this table decides them."""

import inspect
import json

import click
import pytest

from syncagent import errors
from syncagent.cli import exit as exits
from syncagent.cli.output import Output
from syncagent.errors import SyncAgentError
from syncagent.reports import Alarm, BlobFailure, SyncReport

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, SyncAgentError)]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_class_is_in_the_table(kind: type[SyncAgentError]) -> None:
    assert kind in exits.CODES


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.BlobNotFound, 1),
        (errors.BlobExists, 1),
        (errors.VaultExists, 1),
        (errors.VaultInUse, 1),
        (errors.InvalidName, 2),
        (errors.ConfigError, 2),
        (errors.VaultNotFound, 2),
        (errors.Unreachable, 4),
        (errors.Withheld, 4),
        (errors.BlobNotHere, 4),
        (errors.WrongPassphrase, 5),
        (errors.Unauthorized, 5),
        (errors.QuotaExceeded, 5),
        (errors.CertificateRejected, 5),
        (errors.CacheFull, 5),
        (errors.TooNew, 5),
        (errors.CacheDamaged, 6),
        (errors.Tampered, 6),
        (errors.WrongVault, 6),
        (errors.RemoteRolledBack, 6),
        (errors.RemoteForked, 6),
        (errors.ClockAhead, 6),
    ],
)
def test_codes(kind: type[SyncAgentError], code: int) -> None:
    assert exits.code_of(kind) == code


def test_a_class_that_is_not_in_the_table_counts_as_its_base() -> None:
    class Odd(errors.Tampered):
        pass

    assert exits.code_of(Odd) == 6


def test_a_line_has_three_parts_and_leaves_out_empty_ones() -> None:
    assert exits.error_line(SyncAgentError("a", safe="b", todo="c")) == "a; b; c"
    assert exits.error_line(SyncAgentError("a", safe="", todo="")) == "a"


@pytest.mark.parametrize(
    ("exc", "code", "kind"),
    [
        (errors.Tampered("bad"), 6, "Tampered"),
        (click.UsageError("Missing argument."), 2, "UsageError"),
        (click.ClickException("Odd."), 2, "UsageError"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (click.Abort(), 130, "Interrupted"),
        (RuntimeError("secret words"), 1, "Bug"),
        (ExceptionGroup("several", [ValueError("secret words")]), 1, "Bug"),
    ],
)
def test_told_in_one_line_and_one_document(
    exc: BaseException, code: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits.tell(exc, Output()) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("syncagent: ")
    assert said.err.count("\n") == 1
    assert "secret" not in said.err

    output = Output(is_json=True)
    exits.tell(exc, output)
    output.flush()
    said = capsys.readouterr()
    assert f'"kind": "{kind}"' in said.out
    assert "secret" not in said.out + said.err


def test_control_characters_never_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    exits.tell(SyncAgentError("a\nb\x1b[31mc\u202ed\x9be 🚀"), Output())
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert "🚀" in err


def test_verbose_shows_where_a_bug_came_from_but_not_what_it_held(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def deep() -> None:
        data = "plaintext of a blob"
        raise KeyError(data)

    try:
        try:
            deep()
        except KeyError as cause:
            raise errors.CacheDamaged("a page does not verify") from cause
    except errors.CacheDamaged as exc:
        exits.tell(exc, Output(is_verbose=True))
    err = capsys.readouterr().err
    assert "in deep" in err
    assert "KeyError" in err
    assert "CacheDamaged: a page does not verify" in err
    assert "plaintext of a blob" not in err.replace('data = "plaintext of a blob"', "")


@pytest.mark.parametrize(
    ("report", "code", "lines"),
    [
        (SyncReport(sent=1), 0, 0),
        (SyncReport(failures=(BlobFailure("n", "a\nb", "upload", "refused"),)), 3, 1),
        (SyncReport(alarms=(Alarm("Withheld", "journal", "not shown"),)), 4, 1),
        (
            SyncReport(
                alarms=(Alarm("Tampered", "pack", "does not open"), Alarm("Withheld", "journal", "hidden")),
                failures=(BlobFailure("n", "a", "download", "tampered"),),
            ),
            6,
            3,
        ),
        (SyncReport(alarms=(Alarm("FromTheFuture", "x", "y"),)), 6, 1),
    ],
)
def test_reports_go_through_the_same_table(
    report: SyncReport, code: int, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits.tell_report(report, Output()) == code
    assert capsys.readouterr().err.count("\n") == lines


def test_verbose_tells_each_error_of_a_group_that_is_its_own_context_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = KeyError("while another was handled")
    group = ExceptionGroup("of a task group", [first])
    first.__context__ = group  # as a clean-up that fails leaves it
    exits.tell(group, Output(is_verbose=True))
    told = capsys.readouterr().err
    assert (told.count("syncagent: KeyError\n"), told.count("syncagent: ExceptionGroup\n")) == (1, 1)


def test_what_is_here_instead_of_the_present_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for available in ("0123456789abcdef" * 2, None):
        error = errors.BlobNotHere("it is elsewhere", available=available)
        assert exits.document_of(error)["error"]["available"] == available
        assert ("its version 01234567 is here" in exits.error_line(error)) is (available is not None)
        exits.tell(error, Output(is_json=True))
        assert json.loads(capsys.readouterr().out)["error"]["available"] == available

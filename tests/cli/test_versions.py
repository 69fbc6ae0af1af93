"""`flags`, `history`, `tag`, `conflicts`, `resolve`, `get --version`, `put --expires` at the command line."""

import datetime

import click
import pytest

from syncagent.cli.when import parse_when
from tests.cli.shell import Shell


def test_flags_are_shown_and_changed(shell: Shell, other: Shell) -> None:
    shell("put", "notes/x", "-", stdin=b"x").ok()
    assert shell("flags", "notes/x").ok().out == ""
    assert shell("flags", "notes/x", "--add", "seen", "--add", "a b").ok().out == "a b\nseen\n"
    assert shell("flags", "notes/x", "--add", "ü", "--remove", "seen").ok().out == "a b\nü\n"
    assert shell("flags", "notes/x", "--set", "esc\x1b", "--json").ok().document == {
        "namespace": "notes",
        "id": "x",
        "flags": ["esc\x1b"],
    }
    assert shell("flags", "notes/x").ok().out == "esc\\x1b\n"
    shell("sync").ok()
    other("sync").ok()
    assert other("flags", "notes/x", "--clear").ok().out == ""
    assert "notes/'never'" in shell("flags", "notes/never").failed(1)
    assert "notes/'never'" in shell("flags", "notes/never", "--add", "x").failed(1)
    assert "a flag" in shell("flags", "notes/x", "--add", "").failed(2)
    for together in (["--clear", "--set", "x"], ["--set", "x", "--add", "y"], ["--clear", "--remove", "x"]):
        assert "--set and --clear" in shell("flags", "notes/x", *together).failed(2)


def test_history_tags_and_old_versions(shell: Shell) -> None:
    for data in (b"first", b"second"):
        shell("put", "notes/x", "-", "--replace", stdin=data).ok()
        shell("sync").ok()
    second, first = shell("history", "notes/x").ok().out.splitlines()
    assert "(present)" in second and "5 B" in first and "(" not in first
    digits = first.split()[0]
    assert shell("get", "notes/x", "--version", digits).ok().out == "first"
    assert shell("get", "notes/x", "--version", "~1").ok().out == "first"
    said = shell("tag", "notes/x", digits, "sent\tto Ann").ok().out
    assert said == "sent\\tto Ann put on notes/x\n"
    assert shell("get", "notes/x", "--version", "sent\tto Ann").ok().out == "first"
    document = shell("history", "notes/x", "--json").ok().document
    assert document["namespace"] == "notes" and document["id"] == "x"
    assert [one["tags"] for one in document["versions"]] == [[], ["sent\tto Ann"]]
    assert set(document["versions"][0]) == {
        *("version", "device", "device_id", "changed_at", "size", "metadata", "deleted"),
        *("is_here", "is_current", "is_head", "tags"),
    }
    assert "tag sent\\tto Ann" in shell("history", "notes/x").ok().out
    shell("tag", "notes/x", "~0", "sent\tto Ann").ok()
    assert "name one by its id" in shell("get", "notes/x", "--version", "sent\tto Ann").failed(2)
    shell("tag", "notes/x", "~0", "sent\tto Ann", "--remove").ok()
    shell("tag", "notes/x", digits, "sent\tto Ann", "--remove").ok()
    assert "no version" in shell("get", "notes/x", "--version", "sent\tto Ann").failed(1)
    assert "no version" in shell("get", "notes/x", "--version", "0" * 32).failed(1)
    assert "would be taken" in shell("tag", "notes/x", digits, "~1").failed(2)
    assert "not on this device" in shell("history", "notes/never").failed(1)


def test_a_conflict_is_listed_and_resolved(shell: Shell, other: Shell) -> None:
    shell("put", "notes/x", "-", stdin=b"one").ok()
    other("put", "notes/x", "-", stdin=b"two").ok()
    for one in (shell, other, shell):
        one("sync")
    assert shell("conflicts", "mail").ok().out == ""
    listed = shell("conflicts").ok().out
    assert listed == other("conflicts", "notes").ok().out
    name, winner, loser = listed.splitlines()
    assert name == "notes/x" and "(present)" in winner and "(in conflict)" in loser
    (document,) = shell("conflicts", "--json").ok().document["conflicts"]
    assert [version["is_current"] for version in document["versions"]] == [True, False]
    chosen, replaced = loser.split()[0], winner.split()[0]
    said = shell("resolve", "notes/x", "--version", chosen, "--seen", replaced).ok().out
    assert said.startswith("resolved notes/x (3 B), version ")
    for one in (shell, other):
        one("sync").ok()
        assert one("conflicts").ok().out == ""
    lost = document["versions"][1]["version"]
    kept = shell("get", "notes/x", "--version", lost).ok().out
    assert other("get", "notes/x").ok().out == kept
    assert "not in conflict;" in shell("resolve", "notes/x", "-", stdin=b"merged").failed(1)
    assert "not on this device" in shell("resolve", "notes/never", "-", stdin=b"merged").failed(1)
    for bad in ([], ["-", "--version", "~1"]):
        assert "resolved by" in shell("resolve", "notes/x", *bad).failed(2)


def test_a_conflict_is_resolved_by_standard_input(shell: Shell, other: Shell) -> None:
    shell("put", "notes/x", "-", stdin=b"one").ok()
    other("put", "notes/x", "-", stdin=b"two").ok()
    for one in (shell, other, shell):
        one("sync")
    seen = [f"--seen={line.split()[0]}" for line in shell("conflicts").ok().out.splitlines()[1:]]
    assert shell("resolve", "notes/x", "-", *seen, "--json", stdin=b"both").ok().document["size"] == 4
    assert shell("get", "notes/x").ok().out == "both"


def test_a_version_that_was_not_named_is_not_replaced(shell: Shell, other: Shell) -> None:
    shell("put", "notes/x", "-", stdin=b"one").ok()
    other("put", "notes/x", "-", stdin=b"two").ok()
    for one in (shell, other):
        one("sync")
    mine, theirs = (line.split()[0] for line in other("conflicts").ok().out.splitlines()[1:])
    for named in ([], ["--seen", mine], ["--seen", mine, "--seen", "0" * 32], ["--seen", mine, "--seen", ""]):
        said = other("resolve", "notes/x", "-", *named, stdin=b"both").failed(1)
        assert "nothing was stored" in said and f"--seen {theirs}" in said
        assert (f"--seen {mine}" in said) is (named == [])
    assert f"--seen {theirs}" in other("resolve", "notes/x", "--version", mine).failed(1)
    # What was seen may have been replaced by something that was not.
    other("tag", "notes/x", theirs, "theirs").ok()
    shell("put", "notes/x", "-", "--replace", stdin=b"newer").ok()
    for one in (shell, other):
        one("sync")
    assert "were not named" in other("resolve", "notes/x", "--version", mine, "--seen", theirs).failed(1)
    (_, *lines) = other("conflicts").ok().out.splitlines()
    seen = [f"--seen={line.split()[0][:8]}" for line in lines]
    other("resolve", "notes/x", "--version", "theirs", *seen).ok()
    assert other("conflicts").ok().out == ""


def test_a_blob_with_a_time(shell: Shell) -> None:
    shell("put", "notes/x", "-", "--expires", "2w", stdin=b"x").ok()
    shell("put", "notes/y", "-", "--expires", "2990-12-31T12:00:00+01:00", stdin=b"y").ok()
    assert len(shell("ls", "notes").ok().out.splitlines()) == 2
    assert "past" in shell("put", "notes/z", "-", "--expires", "2001-01-01T00:00Z", stdin=b"z").failed(2)
    for bad in ("2w3", "tomorrow", "2030-01-01", "999999999w", ""):
        assert "is no time" in shell("put", "notes/z", "-", "--expires", bad, stdin=b"z").failed(2)
    assert "not on this device" in shell("get", "notes/z").failed(1)
    assert shell("put", "notes/", ".", "-r", "--expires", "1d").code == 2


def test_a_time_is_shown_and_only_put_off_unless_forced(shell: Shell, other: Shell) -> None:
    shell("put", "notes/x", "-", stdin=b"x").ok()
    assert shell("expire", "notes/x").ok().out == "never\n"
    assert shell("expire", "notes/x", "--at", "2990-12-31T12:00+01:00").ok().out == "2990-12-31T11:00:00Z\n"
    sooner = shell("expire", "notes/x", "--at", "2w")
    assert "--force makes it sooner" in sooner.failed(1) and sooner.out == "2990-12-31T11:00:00Z\n"
    when = {"expires_at": "2990-12-31T11:00:00Z"}
    assert shell("expire", "notes/x", "--json").ok().document == {"namespace": "notes", "id": "x", **when}
    assert when.items() <= shell("ls", "notes", "--json").ok().document["blobs"][0].items()
    assert when.items() <= shell("history", "notes/x", "--json").ok().document.items()
    file = str(shell.home / "out")
    assert when.items() <= shell("get", "notes/x", "-o", file, "--json").ok().document.items()
    shell("expire", "notes/x", "--at", "2980-01-01T00:00Z", "--force").ok()
    assert shell("expire", "notes/x", "--never").ok().out == "never\n"
    assert "--force makes it sooner" in shell("expire", "notes/x", "--at", "2w").failed(1)
    shell("sync").ok()
    other("sync").ok()
    assert other("expire", "notes/x", "--json").ok().document["expires_at"] is None
    assert "past" in shell("expire", "notes/x", "--at", "2001-01-01T00:00Z").failed(2)
    shell("expire", "notes/x", "--at", "2001-01-01T00:00Z", "--force").ok()
    assert shell("get", "notes/x").code == 1
    assert shell("history", "notes/x", "--json").ok().document["expires_at"] is None
    assert "not on this device" in shell("expire", "notes/x").failed(1)
    shell("expire", "notes/x", "--never").ok()
    assert shell("get", "notes/x").ok().out == "x"
    assert "not on this device" in shell("expire", "notes/never", "--at", "1d").failed(1)
    for bad in (["--at", "1d", "--never"], ["--force"], ["--at", "soon"]):
        shell("expire", "notes/x", *bad).failed(2)


@pytest.mark.parametrize(
    ("text", "hours"), [("30m", 0.5), ("12h", 12), ("7d", 168), ("2w", 336), ("1970-01-02T01:00+01:00", 24)]
)
def test_times(text: str, hours: float) -> None:
    start = datetime.datetime.fromtimestamp(0, datetime.UTC)
    assert parse_when(text, start) == start + datetime.timedelta(hours=hours)


def test_a_time_that_is_none() -> None:
    with pytest.raises(click.UsageError):
        parse_when("7 days", datetime.datetime.now(datetime.UTC))

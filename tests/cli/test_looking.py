"""`status` and `ls` look at the cache directly: quickly, by page, and without the engine."""

import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import syncagent
from syncagent.answers import BlobPage
from syncagent.cli import ls as ls_module
from syncagent.errors import CacheDamaged
from tests.cli.shell import PASSPHRASE, Shell

HEAVY = (
    "httpx",
    "anyio",
    "asyncio",
    "rich",
    "syncagent.vault",
    "syncagent.engine.engine",
    "syncagent.remote",
)


@pytest.mark.parametrize(
    "command", [["status"], ["status", "--json"], ["ls"], ["ls", "n"], ["ls", "--count"]]
)
def test_looking_loads_neither_engine_nor_event_loop(command: list[str], shell: Shell) -> None:
    script = (
        "import sys\n"
        "from syncagent.cli.main import run\n"
        f"code = run({command!r})\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'loaded: {loaded}' if loaded else code)\n"
    )
    import os

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **shell.environment},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_status_of_a_new_vault(shell: Shell) -> None:
    lines = shell("status").ok().out.splitlines()
    assert [line.split()[0] for line in lines] == ["vault", "device", "remote", "last"]
    assert "first" in lines[1]


def test_status_tells_what_is_in_the_way(shell: Shell, tmp_path: Path) -> None:
    shell("put", "n/a", "-", stdin=b"x").ok()
    shell.remote.rename(tmp_path / "unplugged")
    shell("sync").failed(4)
    said = shell("status").ok().out
    assert "1 blob: 1 pending_upload" in said
    assert "trouble    Unreachable: " in said
    assert shell("status", "--json").ok().document["reasons"][0].startswith("Unreachable: ")


def test_an_alarm_is_told_by_join_and_sync_and_shown_by_status_until_it_is_over(
    shell: Shell, tmp_path: Path
) -> None:
    shell("put", "n/a", "-", "--sync", stdin=b"x").ok()
    last = max((shell.remote / "journal").rglob("0*"))
    right = last.read_bytes()
    last.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    late = Shell(tmp_path / "late")
    assert "Tampered: journal/" in late("join", "--remote", shell.remote.as_uri()).failed(6)
    for _ in range(2):
        said = late("status").ok().out
        assert "alarm      Tampered: journal/" in said and "trouble" not in said
        [alarm] = late("status", "--json").ok().document["alarms"]
        assert alarm["kind"] == "Tampered" and alarm["subject"].endswith("/" + last.name)
        assert "Tampered: journal/" in late("sync").failed(6)
    last.write_bytes(right)
    late("sync").ok()
    assert "alarm  " not in late("status").ok().out


def test_status_of_deletions_and_conflicts(shell: Shell, other: Shell) -> None:
    for blob_id in ("a", "b"):
        shell("put", f"n/{blob_id}", "-", stdin=b"x").ok()
    for device in (shell, other):
        device("sync").ok()
        device("put", "n/a", "-", "--replace", stdin=str(device.home).encode()).ok()
    shell("rm", "n/b").ok()
    assert "waiting    1 change without content" in shell("status").ok().out
    shell("sync").ok()
    assert "1 conflict" in other("sync").ok().out
    assert "conflicts  1" in other("status").ok().out
    assert other("ls", "n").ok().out.startswith("synced+conflict ")
    assert other("ls", "n", "--json").ok().document["blobs"][0]["conflict"] is True


@pytest.fixture
def full(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A namespace of several pages."""
    monkeypatch.setattr(ls_module, "PAGE_BLOBS", 7)
    (tmp_path / "tree").mkdir()
    for number in range(23):
        (tmp_path / "tree" / f"{number:02}").touch()
    shell("put", "n/", str(tmp_path / "tree"), "-r").ok()
    return shell


def test_all_pages(full: Shell) -> None:
    ids = [f"{number:02}" for number in range(23)]
    assert [line.split()[-1] for line in full("ls", "n").ok().out.splitlines()] == ids
    assert full("ls", "n", "-0").ok().out.split("\0")[:-1] == ids
    assert [blob["id"] for blob in full("ls", "n", "--json").ok().document["blobs"]] == ids
    assert [line.split()[-1] for line in full("ls", "n/1").ok().out.splitlines()] == ids[10:20]
    assert full("ls", "n/nothing", "--json").ok().document == {"namespace": "n", "blobs": []}


def test_an_error_between_pages_still_ends_in_one_document(
    full: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ls_module._page
    calls: list[object] = []

    def page(*arguments: object, details: bool) -> BlobPage:
        calls.append(arguments)
        if len(calls) == 3:
            raise CacheDamaged("a page of the cache does not verify")
        return real(*arguments, details=details)  # type: ignore[arg-type]  # passed on as they come

    monkeypatch.setattr(ls_module, "_page", page)
    done = full("ls", "n", "--json")
    done.failed(6)
    assert len(done.document["blobs"]) == 14
    assert done.document["error"]["kind"] == "CacheDamaged"


def test_namespaces_without_blobs_are_left_out(shell: Shell) -> None:
    shell("put", "n/a", "-", stdin=b"x").ok()
    shell("put", "m/a", "-", stdin=b"x").ok()
    shell("rm", "n/a").ok()
    assert shell("ls", "-0").ok().stdout == b"m\0"
    assert shell("ls", "--status", "synced").ok().out == ""
    assert shell("ls", "--status", "PENDING_UPLOAD", "--count").ok().out == "1\n"
    assert shell("ls", "never-seen").ok().out == ""


def test_what_has_expired_is_in_no_list_and_explain_says_so(shell: Shell) -> None:
    shell("put", "n/a", "-", stdin=b"x").ok()
    shell("put", "n/b", "-", stdin=b"x").ok()
    shell("put", "m/a", "-", stdin=b"x").ok()
    shell("sync").ok()
    for name in ("n/a", "m/a"):
        shell("expire", name, "--at", "2020-01-01T00:00:00Z", "--force").ok()
    shell("sync").ok()
    assert shell("ls").ok().out == f"{'n':<20} 1 blob: 1 synced\n"
    assert shell("ls", "--count").ok().out == shell("ls", "n", "--count").ok().out == "1\n"
    assert shell("ls", "--json").ok().document["namespaces"][0]["blobs"] == 1
    lines = shell("explain", "n/a").ok().out.splitlines()
    assert lines[1] == "cause      it expired at 2020-01-01 00:00:00+00:00"
    assert [line.split()[0] for line in lines[1:]] == ["cause", "what"]


def test_ls_sorts_and_filters_by_flag(shell: Shell) -> None:
    for name, content in (("a", b"33"), ("b", b"1"), ("c", b"222")):
        shell("put", f"n/{name}", "-", stdin=content).ok()

    async def mark() -> None:
        async with syncagent.open_vault(shell.profile, passphrase=PASSPHRASE) as vault:
            await vault.namespace("n").update_flags(["a", "c"], add={"seen"})

    anyio.run(mark)

    def names(*options: str) -> list[str]:
        return [blob["id"] for blob in shell("ls", "n", *options, "--json").ok().document["blobs"]]

    assert names("--sort", "size") == ["b", "a", "c"]
    told = shell("ls", "n", "--json").ok().document["blobs"]
    assert [(blob["flags"], blob["metadata"]) for blob in told] == [(["seen"], {}), ([], {}), (["seen"], {})]
    assert names("--sort", "changed", "--reverse") == ["c", "b", "a"]
    assert names("--flag", "seen", "--sort", "size", "--reverse") == ["c", "a"]
    assert names("--flag", "other") == []
    assert shell("ls", "n", "--flag", "seen", "--count").ok().out == "2\n"
    for options in (["--flag", "seen"], ["--sort", "size"], ["--reverse"]):
        assert "one namespace" in shell("ls", *options).failed(2)
    shell("ls", "n", "--sort", "colour").failed(2)

"""`pin`, `evict` and `config`: which content is on this device."""

from pathlib import Path

import pytest

from tests.cli.shell import Shell


def test_content_is_given_up_and_comes_back(shell: Shell, tmp_path: Path) -> None:
    shell("put", "n/a", "-", stdin=b"content").ok()
    shell("put", "n/c", "-", stdin=b"other").ok()
    assert "on this device alone" in shell("evict", "n/a").failed(1)
    shell("sync").ok()
    assert shell("evict", "n/a").ok().out == "evicted n/a\n"
    assert shell("ls", "n", "--status", "remote_only", "-0").ok().out == "a\0"
    shell("pin", "n/a").ok()
    shell("fetch").ok()
    assert shell("ls", "n", "--status", "synced", "-0").ok().out == "a\0c\0"
    assert shell("evict", "n/a", "n/b", "--json").failed(3)
    shell.remote.rename(tmp_path / "unplugged")
    shell("get", "n/a").failed(4)
    shell("evict", "n/c").failed(4)
    # Nothing else is asked of a remote that is away: with a thousand names that would take all day.
    shell("put", "n/d", "-", stdin=b"not sent").ok()
    away = shell("evict", "n/a", "n/c", "n/c", "n/d", "--json")
    assert away.code == 4 and away.err.count("\n") == 2
    assert "n/'c': the remote's folder" in away.err and "2 blobs after it were not tried" in away.err
    assert [one["id"] for one in away.document["evicted"]] == ["a"]
    assert [one["id"] for one in away.document["failed"]] == ["c"]
    shell("evict", "n/a").ok()  # there is nothing here to be given up
    shell("pin", "n/unknown").failed(1)


def test_how_a_namespace_is_kept(shell: Shell) -> None:
    assert shell("config", "n").ok().out.splitlines() == [
        "fetch      eager",
        "dedup      namespace",
        "history    all",
        "local_only false",
    ]
    changed = shell("config", "n", "fetch=on-demand", "history=7", "local_only=true", "--json").ok().document
    assert changed == {
        "namespace": "n",
        "fetch": "on-demand",
        "dedup": "namespace",
        "history": 7,
        "local_only": True,
    }
    assert "history    7" in shell("config", "n").ok().out
    shell("put", "n/a", "-", stdin=b"x").ok()
    assert shell("ls", "n", "--status", "local_only", "--count").ok().out == "1\n"
    shell("config", "n", "fetch=pinned", "local_only=false").ok()
    shell("put", "n/b", "-", stdin=b"y").ok()
    shell("sync").ok()
    assert "pinned" in shell("evict", "n/b").failed(2)


@pytest.mark.parametrize(
    "wrong", ["fetch=often", "colour=red", "fetch", "history=-1", "history=many", "local_only=1", "dedup="]
)
def test_what_cannot_be_set_is_refused(wrong: str, shell: Shell) -> None:
    before = shell("config", "n").ok().out
    shell("config", "n", wrong).failed(2)
    shell("config", "n", "history=3", "history=4").failed(2)
    shell("config", ".settings").failed(2)
    assert shell("config", "n").ok().out == before

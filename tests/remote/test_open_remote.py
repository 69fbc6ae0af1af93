"""URLs of remotes, and what is imported for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from syncagent.errors import ConfigError, Unreachable
from syncagent.remote import directory_url, open_remote
from syncagent.remote.directory import DirectoryRemote
from syncagent.remote.memory import MemoryRemote
from syncagent.remote.retry import RetryRemote

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "folder", ["plain", "with space", "ünïcode ☃", "50% #1? a+b;c", "-", "a:b", "line\nbreak", "tail "]
)
async def test_folder_urls_come_back(tmp_path: Path, folder: str) -> None:
    root = tmp_path / folder
    root.mkdir()
    remote = await open_remote(directory_url(root))
    await remote.put("vault", b"v")
    assert (root / "vault").read_bytes() == b"v"


async def test_spellings_of_a_folder(tmp_path: Path) -> None:
    root = tmp_path / "with ü"
    root.mkdir()
    path = root.as_posix()
    quoted = directory_url(root).removeprefix("file://")
    for url in (
        f"file://{path}",
        f"file://{quoted}",
        f"file://localhost{quoted}",
        f"file://LOCALHOST{path}",
        f"file:{path}",
        f"FILE://{path}",
        f"file://{path}/",
    ):
        remote = await open_remote(url)
        await remote.put("vault", b"v", overwrite=True)
        await remote.delete("vault")
        assert (root / "journal").exists() is False
    assert [entry.name for entry in root.iterdir()] == [".tmp"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are Unicode")
async def test_folder_names_that_are_not_unicode(tmp_path: Path) -> None:
    root = tmp_path / "\udcff"
    root.mkdir()
    remote = await open_remote(directory_url(root))
    await remote.put("vault", b"v")
    assert (root / "vault").exists()


def test_relative_folders_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert directory_url(Path("a b")) == directory_url(tmp_path / "a b")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not a URL"),
        ("/home/me/sync", "not a URL"),
        ("sync", "not a URL"),
        ("ftp://me:secret@host/x", "not a URL"),
        ("s3://bucket", "not a URL"),
        ("memory", "not a URL"),
        ("http://host/x", "no HTTP remote"),
        ("HTTPS://me:secret@host/x", "no HTTP remote"),
        ("file:", "absolute"),
        ("file://", "absolute"),
        ("file:sync", "absolute"),
        ("file:./sync", "absolute"),
        ("file://localhost", "absolute"),
        ("file://relative/sync", "this machine"),
        ("file://nas/share", "this machine"),
        ("file:///a?b", "query"),
        ("file:///a#b", "fragment"),
        ("file:///a%00b", "NUL"),
    ],
)
async def test_what_is_no_remote_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        await open_remote(url, create=True)
    assert "\n" not in str(caught.value)
    assert "secret" not in f"{caught.value} {caught.value.todo}"


async def test_a_folder_is_made_only_when_asked(tmp_path: Path) -> None:
    url = directory_url(tmp_path / "a" / "b")
    remote = await open_remote(url, retry=False)
    with pytest.raises(Unreachable):
        await remote.list("")
    assert not (tmp_path / "a").exists()
    remote = await open_remote(url, create=True)
    assert (await remote.list("")).objects == ()


async def test_memory_is_shared_by_name() -> None:
    first = await open_remote("memory:shared by name", create=True)
    second = await open_remote("memory:shared by name")
    others = [await open_remote(url) for url in ("memory:another", "memory:", "memory:")]
    await first.put("vault", b"v", overwrite=True)
    await first.aclose()
    assert await second.get("vault") == b"v"
    await others[1].put("vault", b"w")
    assert [len((await other.list("")).objects) for other in others] == [0, 1, 0]


async def test_retrying_can_be_left_out(tmp_path: Path) -> None:
    for url, kind in (("memory:", MemoryRemote), (directory_url(tmp_path), DirectoryRemote)):
        assert isinstance(await open_remote(url), RetryRemote)
        assert isinstance(await open_remote(url, retry=False), kind)


def test_importing_is_cheap() -> None:
    """Neither the kinds of remotes nor pytest are imported before they are asked for."""
    program = (
        "import sys, syncagent.remote, syncagent.testing;"
        "print([m for m in ('anyio', 'pytest', 'syncagent.remote.directory') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"

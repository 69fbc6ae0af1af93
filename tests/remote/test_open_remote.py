"""URLs of remotes, and what is imported for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from syncagent.errors import ConfigError, Unreachable
from syncagent.remote import Access, directory_url, locate, open_remote
from syncagent.remote.directory import DirectoryRemote
from syncagent.remote.http.address import read_address
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
        ("HTTPS://me:secret@host/x", "user or password"),
        ("http://:secret@host/x", "user or password"),
        ("https://host/secret name", "characters"),
        ("https://höst/x", "characters"),
        ("https://host/x\n", "characters"),
        ("https://host\\x", "characters"),
        ("https://host/x?token=secret", "query"),
        ("https://host/x#secret", "fragment"),
        ("https://host/x?", "query"),
        ("https:", "no host"),
        ("https:///x", "no host"),
        ("https://[::1/x", "no host"),
        ("https://[fe80::1%25eth0]/x", "no host"),
        ("https://a..b/x", "no host"),
        (f"https://{'a' * 64}/x", "no host"),
        ("https://host:0/x", "port"),
        ("https://host:/x", "port"),
        ("https://host:70000/x", "port"),
        ("https://host:9x/x", "port"),
        ("https://host//x", "path"),
        ("https://host/../x", "path"),
        ("https://host/a%2fb/x", "path"),
        ("https://host/Name", "'Name' is not the name of a vault"),
        ("https://host/.hidden", "is not the name of a vault"),
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
        "print([m for m in ('anyio', 'httpx', 'pytest', 'syncagent.remote.directory') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("url", "api", "vault"),
    [
        ("https://host/notes", "https://host/v1", "notes"),
        ("HTTPS://Host:8443/notes", "https://host:8443/v1", "notes"),
        ("https://host", "https://host/v1", None),
        ("https://host/", "https://host/v1", None),
        ("https://host/sync/notes", "https://host/sync/v1", "notes"),
        ("https://host/sync/", "https://host/sync/v1", None),
        ("https://host/a/B.c_~-/notes", "https://host/a/B.c_~-/v1", "notes"),
        ("https://[2001:DB8::1]:8443/notes", "https://[2001:db8::1]:8443/v1", "notes"),
        ("http://127.0.0.1:80/notes", "http://127.0.0.1:80/v1", "notes"),
    ],
)
def test_what_a_url_of_a_server_means(url: str, api: str, vault: str | None) -> None:
    address = read_address(url)
    assert (address.api, address.vault) == (api, vault)
    assert read_address(address.url) == address


async def test_init_at_a_server_without_a_name_means_default() -> None:
    assert await locate("https://host", create=True) == "https://host/default"
    assert await locate("https://host/sync/", create=True) == "https://host/sync/default"


@pytest.mark.parametrize("url", ["https://host/notes", "file:///a", "memory:x", "what ever"])
async def test_a_url_that_says_all_stays_as_it_is(url: str) -> None:
    assert await locate(url) == await locate(url, create=True) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8080/x",
        "http://127.1.2.3/x",
        "http://[::1]/x",
        "https://sync.example/x",
    ],
)
async def test_a_token_goes_to_this_machine_or_out_encrypted(url: str) -> None:
    assert await locate(url, access=Access(token="t")) == url


@pytest.mark.parametrize(
    "url", ["http://sync.example/x", "http://10.0.0.1/x", "http://localhost.example/x", "http://[::]/x"]
)
async def test_a_token_never_goes_out_in_the_clear_unasked(url: str) -> None:
    for call in (locate, open_remote):
        with pytest.raises(ConfigError, match="unencrypted") as caught:
            await call(url, access=Access(token="secret"))
        assert "secret" not in f"{caught.value} {caught.value.todo}"
    assert await locate(url, access=Access(token="secret", plain_http=True)) == url
    assert await locate(url) == url


@pytest.mark.parametrize("url", ["file:///nowhere", "memory:"])
@pytest.mark.parametrize("access", [Access(token="t"), Access(ca_file=Path("ca.pem"))])
async def test_a_token_for_what_is_no_server_is_refused(url: str, access: Access) -> None:
    with pytest.raises(ConfigError, match="not one of a server"):
        await open_remote(url, access=access)


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "\ta", "ä", "a\x7f", "a\0", "t" * 1025])
def test_what_is_no_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Access(token=token)
    assert not token.strip() or token not in f"{caught.value} {caught.value.todo}"


def test_a_token_is_in_no_text() -> None:
    assert "secret" not in f"{Access(token='secret')!r} {Access(token='secret')}"

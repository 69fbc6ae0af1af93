"""The demo proves what it says: it fails when a byte differs, and when something leaks."""

import io
import os
import sys
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path

import pytest

import syncagent
from syncagent.cli import demorun, leaks
from syncagent.cli.leaks import Search, Wanted, search
from tests.cli.shell import Shell


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The demo's own vaults open quickly, and its folder is where the test can look."""
    quick_create = partial(syncagent.create_vault, kdf=syncagent.FLOOR_KDF)
    monkeypatch.setattr(demorun, "create_vault", quick_create)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "sub folder" / "__pycache__").mkdir(parents=True)
    (folder / "empty").touch()
    (folder / "one byte").write_bytes(b"1")
    (folder / "zeros").write_bytes(bytes(5000))
    (folder / "sub folder" / "new\nline 🚀").write_bytes(b"some words to look for")
    (folder / "sub folder" / "big").write_bytes(os.urandom(1_200_000) + b"the end of a large file")
    (folder / "sub folder" / "__pycache__" / "left out").write_bytes(b"x")
    (folder / "link").symlink_to("empty")
    return folder


@pytest.mark.parametrize("kind", ["server", "file"])
def test_files_of_every_kind(kind: str, bare: Shell, files: Path, tmp_path: Path) -> None:
    said = bare("demo", "--from", str(files), "--remote", kind)
    assert said.code == 0
    assert "5 files" in said.out
    assert "No plaintext found" in said.out
    assert "syncagent join --remote" in said.out
    assert ("the server is started again" in said.out) is (kind == "server")
    assert ("a sync says: http://127.0.0.1:" in said.out) is (kind == "server")
    assert said.err.count("\n") == said.err.count("skipped") == 1
    assert not list((tmp_path / "temporary").iterdir())
    assert not bare.home.exists()


def test_quietly(bare: Shell, files: Path) -> None:
    done = bare("demo", "--from", str(files), "-q")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_without_a_server_installed_it_is_a_folder(
    bare: Shell, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("syncagent.server")]:
        monkeypatch.delitem(sys.modules, name)
    said = bare("demo", "--from", str(files), "-q", "--remote", "server").failed(2)
    assert "pip install 'syncagent[server]'" in said
    assert "init --remote file://" in bare("demo", "--from", str(files)).out


def test_a_sync_that_does_not_miss_the_server_is_found(
    bare: Shell, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from syncagent.cli.demoremote import MeetingPlace

    async def nothing(self: MeetingPlace) -> None:
        return None

    monkeypatch.setattr(MeetingPlace, "stop", nothing)
    assert "did not fail" in bare("demo", "--from", str(files), "-q").failed(6)


def test_as_json(bare: Shell, files: Path) -> None:
    document = bare("demo", "--from", str(files), "--json", "-q").ok().document
    assert [phase["name"] for phase in document["phases"]] == [
        "put on laptop",
        "laptop to remote",
        "remote to desktop",
        "edits on both",
        "sync until quiet",
    ]
    assert document["phases"][0]["blobs"] == 5
    assert document["phases"][0]["bytes"] == sum(
        path.stat().st_size for path in files.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    assert document["blobs"] == 5 + demorun.MOST_EDITS - 1
    assert document["searched_for"] > 100


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_files(count: int, bare: Shell, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for number in range(count):
        (tmp_path / "few" / str(number)).write_bytes(b"x" * number)
    bare("demo", "--from", str(tmp_path / "few"), "--remote", "file").ok()


def test_the_folder_is_kept_and_can_be_used(bare: Shell, files: Path, tmp_path: Path) -> None:
    out = bare("demo", "--from", str(files), "--keep", "-q", "--json", "--remote", "file").ok().document
    folder = Path(out["folder"])
    assert folder.parent == tmp_path / "temporary"
    said = bare("demo", "--from", str(files), "--keep").out
    assert f"syncagent serve --data {tmp_path}" in said
    passphrase = said.split("SYNCAGENT_PASSPHRASE=")[1].split()[0]
    for home in [part.split()[0] for part in said.split("SYNCAGENT_HOME=")[1:]]:
        done = bare("ls", "--count", environment={"SYNCAGENT_HOME": home, "SYNCAGENT_PASSPHRASE": passphrase})
        assert done.ok().out == f"{5 + demorun.MOST_EDITS - 1}\n"


OBJECTS = "server/vaults/demo/default"
"""Where the server keeps what it is given."""


@pytest.mark.parametrize(
    ("leak", "what", "place"),
    [
        (b"...some words to look for...", "content of 'sub folder/new\\nline 🚀'", f"{OBJECTS}/packs/leak"),
        ("an id: sub folder/new\nline 🚀!".encode(), "blob id", "laptop/vaults/default/leak"),
        (b"demo-namespace", "the name 'demo-namespace'", "server/leak"),
        (b"...demo-desktop...", "the name 'demo-desktop'", "desktop/vaults/leak"),
        (b"replaced on the laptop without a network: ", "content of", "desktop/leak"),
        (b"written on the desktop without a network", "content of", f"{OBJECTS}/journal/leak"),
    ],
)
def test_a_leak_is_found(
    leak: bytes, what: str, place: str, bare: Shell, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[Search] = []

    def planted(folders: Iterable[Path], wanted: Wanted) -> Search:
        folders = list(folders)
        if searches:  # the first is before anything is put
            (folders[0].parent / place).write_bytes(os.urandom(1003) + leak + os.urandom(77))
        searches.append(search(folders, wanted))
        return searches[-1]

    monkeypatch.setattr(leaks, "search", planted)
    kind = "server" if place.startswith("server/") else "file"
    line = bare("demo", "--from", str(files), "-q", "--remote", kind).failed(6)
    assert what in line
    assert "leak" in line


def test_a_byte_that_differs_is_found(bare: Shell, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from syncagent.reader import BlobReader

    async def wrong(self: BlobReader) -> AsyncIterator[bytes]:
        yield bytes(self.size)

    monkeypatch.setattr(BlobReader, "__aiter__", wrong)
    assert "other bytes" in bare("demo", "--from", str(files), "-q", "--remote", "file").failed(6)


def test_a_blob_that_is_missing_is_found(bare: Shell, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> list[str]:
        return []

    monkeypatch.setattr("syncagent.cli.democompare._ids", nothing)
    assert "holds 0 blobs" in bare("demo", "--from", str(files), "-q", "--remote", "file").failed(6)


def wanted_of(content: bytes, name: str = "a name") -> Wanted:
    wanted = Wanted()
    wanted.add_content(io.BytesIO(content), len(content), "content", most=100)
    wanted.add_name(name, "name")
    return wanted


@pytest.mark.parametrize("shift", range(9))
def test_the_search_finds_a_piece_at_any_place(shift: int, tmp_path: Path) -> None:
    content = b"The quick brown fox jumps over the lazy dog."
    (tmp_path / "file").write_bytes(b"x" * shift + content[16:32] + b"y")
    found = search([tmp_path], wanted_of(content)).found
    assert [leak.path.name for leak in found.values()] == ["file"]


def test_the_search_finds_a_piece_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_BLOCK_BYTES", 2000)
    content = b"The quick brown fox jumps over the lazy dog."
    for before in range(1980, 2001):
        (tmp_path / "file").write_bytes(b"x" * before + content[:16] + b"y" * 3000)
        assert search([tmp_path], wanted_of(content)).found


def test_the_search_reads_names_of_files(tmp_path: Path) -> None:
    (tmp_path / "a secret name").touch()
    assert search([tmp_path], wanted_of(b"", "secret name")).found


def test_what_is_everywhere_is_not_looked_for(tmp_path: Path) -> None:
    assert not wanted_of(bytes(1000) + b"-" * 1000, "short").pieces
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    assert not search([tmp_path], wanted_of(os.urandom(100_000))).found


def test_big_contents_are_sampled_all_over() -> None:
    wanted = wanted_of(os.urandom(1_000_000))
    assert 90 <= len(wanted.pieces) <= 100
    assert sys.byteorder in ("little", "big")

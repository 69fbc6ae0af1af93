"""Getting a blob into a file: complete or not at all, and nothing replaced unasked."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from syncagent import files
from syncagent.cli.outfile import OutFile
from syncagent.cli.output import OutputError
from syncagent.errors import CacheDamaged
from syncagent.reader import BlobReader
from tests.cli.shell import Shell
from tests.conftest import no_room


@pytest.fixture
def big(shell: Shell) -> bytes:
    data = os.urandom(6_000_000)
    shell("put", "n/big", "-", stdin=data).ok()
    return data


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_into_a_file(shell: Shell, big: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert shell("get", "n/big", "-o", str(out)).ok().out == "got n/big (5.7 MiB)\n"
    assert out.read_bytes() == big
    assert names_in(tmp_path) == ["home", "out"]


def test_an_existing_file_is_replaced_only_by_force(shell: Shell, big: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"mine")
    assert "--force" in shell("get", "n/big", "-o", str(out)).failed(1)
    assert out.read_bytes() == b"mine"
    shell("get", "n/big", "-o", str(out), "--force").ok()
    assert out.read_bytes() == big


def test_a_link_is_followed_only_by_force(shell: Shell, big: bytes, tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("real")
    shell("get", "n/big", "-o", str(tmp_path / "link")).failed(1)
    shell("get", "n/big", "-o", str(tmp_path / "link"), "--force").ok()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == big


def test_an_interruption_leaves_nothing(
    shell: Shell, big: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = BlobReader.__aiter__

    async def broken(self: BlobReader) -> AsyncIterator[bytes]:
        async for chunk in real(self):
            yield chunk
            raise CacheDamaged("a chunk does not verify")

    monkeypatch.setattr(BlobReader, "__aiter__", broken)
    kept = tmp_path / "kept"
    kept.write_bytes(b"mine")
    shell("get", "n/big", "-o", str(tmp_path / "out")).failed(6)
    shell("get", "n/big", "-o", str(kept), "--force").failed(6)
    assert kept.read_bytes() == b"mine"
    assert names_in(tmp_path) == ["home", "kept"]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = OutFile(tmp_path / "out")
    with pytest.raises(OutputError, match="is there already"), out.written() as file:
        file.write(b"new")
        (tmp_path / "out").write_bytes(b"mine")
    assert (tmp_path / "out").read_bytes() == b"mine"
    assert names_in(tmp_path) == ["out"]


def test_without_hard_links_nothing_is_replaced_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with OutFile(tmp_path / "a").written() as file:
        file.write(b"a")
    assert (tmp_path / "a").read_bytes() == b"a"
    with pytest.raises(OutputError), OutFile(tmp_path / "b").written() as file:
        (tmp_path / "b").write_bytes(b"mine")
    assert (tmp_path / "b").read_bytes() == b"mine"
    assert names_in(tmp_path) == ["a", "b"]


def test_a_full_disk_is_told(tmp_path: Path, observed: Callable[[files.Observer], None]) -> None:
    observed(no_room)
    with pytest.raises(OutputError, match="No space left"), OutFile(tmp_path / "a").written():
        pass
    assert names_in(tmp_path) == []


def test_content_that_is_not_here_is_fetched(shell: Shell, other: Shell, big: bytes) -> None:
    shell("sync").ok()
    other("fetch", "unknown").ok()
    assert other("get", "n/big").ok().stdout == big


def test_content_that_cannot_be_had_now(shell: Shell, other: Shell, big: bytes, tmp_path: Path) -> None:
    shell("sync").ok()
    other("fetch", "unknown").ok()
    shell.remote.rename(tmp_path / "unplugged")
    other("get", "n/big").failed(4)
    (tmp_path / "unplugged").rename(shell.remote)
    assert other("get", "n/big").ok().stdout == big

"""The checks and readers that all remotes share."""

from pathlib import Path

import pytest

from syncagent.errors import BadResponse, SourceChanged
from syncagent.remote.base import (
    MAX_LIST_LIMIT,
    PIECE_SIZE,
    Body,
    FileSlice,
    body_size,
    check_list,
    max_object_size,
    range_end,
    read_piece,
    read_pieces,
)

ID = "0" * 32
KINDS = {
    "vault": 4 << 10,
    f"keys/{ID}": 4 << 10,
    f"devices/{ID}": 4 << 10,
    f"journal/{ID}/000000000001": (8 << 20) + (4 << 10),
    f"packs/{ID}{ID}": 16 << 20,
    f"snapshots/{ID}": 16 << 20,
}


@pytest.mark.parametrize(("name", "size"), KINDS.items())
def test_limits_by_kind(name: str, size: int) -> None:
    assert max_object_size(name) == size
    assert range_end(name, size, 0, None) == size
    with pytest.raises(BadResponse):
        range_end(name, size + 1, 0, 1)


@pytest.mark.parametrize(("stop", "end"), [(None, 100), (1, 1), (100, 100), (101, 100), (1 << 60, 100)])
def test_a_range_ends_inside_the_object(stop: int | None, end: int) -> None:
    assert range_end("vault", 100, 0, stop) == end


@pytest.mark.parametrize(("size", "start"), [(0, 0), (100, 100), (100, 1 << 60)])
def test_a_range_begins_inside_the_object(size: int, start: int) -> None:
    with pytest.raises(BadResponse):
        range_end("vault", size, start, None)


def test_pages_are_bounded() -> None:
    assert check_list("", "", 5) == 5
    assert check_list("packs/", "vault", 1 << 60) == MAX_LIST_LIMIT


@pytest.mark.anyio
@pytest.mark.parametrize("size", [0, 1, PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, 3 * PIECE_SIZE])
async def test_pieces_make_the_body(tmp_path: Path, size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    source = tmp_path / "source"
    source.write_bytes(b"before" + data + b"after")
    bodies: list[Body] = [data, FileSlice(source, 6, 6 + size)]
    for body in bodies:
        assert body_size(body) == size
        for _ in range(2):  # a body is read again at every attempt
            pieces = [piece async for piece in read_pieces(body)]
            assert b"".join(pieces) == data
            assert all(0 < len(piece) <= PIECE_SIZE for piece in pieces)
            assert len(pieces) == -(-size // PIECE_SIZE)


@pytest.mark.anyio
async def test_a_file_that_shrinks_meanwhile_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(2 * PIECE_SIZE))
    pieces = read_pieces(FileSlice(source, 0, 2 * PIECE_SIZE))
    assert len(await anext(pieces)) == PIECE_SIZE
    source.write_bytes(bytes(2 * PIECE_SIZE - 1))
    with pytest.raises(SourceChanged):
        await anext(pieces)


def test_an_unreadable_source_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(SourceChanged, match=str(path)):
            read_piece(FileSlice(path, 0, 1), 0)

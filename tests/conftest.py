"""Everything asynchronous is tested on both backends, and what files are written can be watched."""

from collections.abc import Callable, Iterator

import pytest

from syncagent import files


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def observed() -> Iterator[Callable[[files.Observer | None], None]]:
    """Sets the observer of file operations, for this test."""
    yield files.observe
    files.observe(None)


def no_room(step: files.Step) -> None:
    """An observer: the disk is full when bytes are to be made durable."""
    if step.act is files.Act.SYNC:
        raise OSError(28, "No space left on device")

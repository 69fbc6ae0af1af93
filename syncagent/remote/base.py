"""What a remote is: the `Remote` protocol, its values, and the checks that every remote makes first.

Not a base class: a remote is anything with these seven methods, and wrappers
(`retry.py`) are remotes around a remote. `syncagent.testing.RemoteContract` is
the suite that each of them passes.
"""

from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio.lowlevel
import anyio.to_thread

from syncagent.errors import BadResponse, ObjectRefused, SourceChanged
from syncagent.names import (
    JOURNAL,
    PACKS,
    SNAPSHOTS,
    check_object_name,
    check_object_prefix,
)

PATIENCE_S: ContextVar[float | None] = ContextVar("patience_s", default=None)
"""How long a remote may be silent for somebody who waits; None: as long as the remote's own time-outs are.

Not a parameter of `Remote`: most remotes have no use for it, and wrappers would all have to pass it on.
"""
PIECE_SIZE = 1 << 20
"""Most bytes of a body held at once while it is read; a system call costs nothing beside so many."""
MAX_LIST_LIMIT = 1000
"""Most objects on one page; asking for more gives this many."""

_MAX_PACK = 16 << 20
_MAX_BATCH = (8 << 20) + (4 << 10)
_MAX_SNAPSHOT = 16 << 20
_MAX_RECORD = 4 << 10


@dataclass(frozen=True, slots=True)
class FileSlice:
    """Bytes `start` to `stop` (exclusive) of a file: a body that need not fit in memory.

    It is read again at every attempt, so the file stays as it is until the put
    is settled. One that shrinks or vanishes is noticed (`SourceChanged`); other
    bytes of the same length are not: whoever opens the object finds that out.
    """

    path: Path
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.stop - self.start


Body = bytes | FileSlice
"""What is put: of known length, and readable again for another attempt."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object without its bytes. `created` is the remote's clock in Unix seconds: a hint, not evidence."""

    name: str
    size: int
    created: float


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """One page of a listing, strictly ascending by name.

    When `more` is true the page is not empty, and the next one, which may be, is
    asked for with `after` = the last name. Objects that come or go during the paging may
    or may not be seen; all others are seen exactly once.
    """

    objects: tuple[ObjectInfo, ...]
    more: bool


class Remote(Protocol):
    """Storage for objects under names of the grammar in `syncagent.names`; not trusted with more than that.

    What every remote owes its caller:

    *Atomic.* An object is visible whole or not at all, and of several puts of
    an absent name without `overwrite` exactly one succeeds.

    *Durable.* What `put` stored when it returns outlives a power cut at the
    remote, as far as the remote can promise that.

    *Cancellation.* Every call may be cancelled at any point and leaves nothing
    half done: no part of an object is ever visible. A cancelled put may have
    stored the whole object, as may one that failed with
    `TransientRemoteError`: the answer can be lost after the effect.

    *One attempt.* A remote does not retry; `RetryRemote` does.

    *Exact reads.* `get` gives every byte of the range or raises. A short
    answer is never passed on.

    *Bounded.* Nothing larger than `max_object_size` is stored, or read into
    memory.

    *Errors.* Only `InvalidName`, `SourceChanged` and the classes below
    `RemoteError` come out, never an error of the operating system or of a
    library. A range or limit that makes no sense is the caller's bug
    (`ValueError`).

    Calls may overlap. Whether the bytes are the right ones is not checked here:
    they are sealed, and whoever opens them finds out.
    """

    async def put(self, name: str, body: Body, *, overwrite: bool = False) -> None:
        """Store an object; durable on return. Without `overwrite`: only if the name is absent.

        Raises:
            ObjectExists: the name is taken; what is there was not touched.
            ObjectRefused: the body is empty or larger than this kind of object may be.
            SourceChanged: the body's file is gone, unreadable or too short; nothing was stored.
        """
        ...

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes from `start` to `stop` (exclusive; None or beyond the end: to the end).

        Raises:
            ObjectNotFound: no object has this name.
            BadResponse: `start` is not inside the object, or the object is larger than is legal.
        """
        ...

    async def head(self, name: str) -> ObjectInfo:
        """Size and age of an object, or `ObjectNotFound`."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an object. Idempotent: an absent one is no error."""
        ...

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> ObjectPage:
        """One page of the objects below a prefix, strictly ascending by name.

        Args:
            prefix: empty, or a whole folder such as `packs/`.
            after: empty, or the object name after which the page begins; it need not exist.
            limit: most objects on the page, at least 1. A page may hold fewer; `more` tells.
        """
        ...

    async def wait_for_change(self, cursor: str | None, timeout_s: float) -> str:
        """The present change cursor, as soon as it differs from `cursor`, or after `timeout_s`.

        The cursor is opaque and differs after any object was stored. None, and a
        cursor that the remote does not know, are answered at once.

        Raises:
            UnsupportedByRemote: this kind of remote cannot tell; list instead.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections. Nothing stored is touched; may be called again."""
        ...


def max_object_size(name: str) -> int:
    """The largest legal size in bytes of the object of this name (`docs/format.md#limits`)."""
    if name.startswith(PACKS):
        return _MAX_PACK
    if name.startswith(JOURNAL):
        return _MAX_BATCH
    if name.startswith(SNAPSHOTS):
        return _MAX_SNAPSHOT
    return _MAX_RECORD


def body_size(body: Body) -> int:
    """Length of a body in bytes."""
    return body.size if isinstance(body, FileSlice) else len(body)


def check_put(name: str, body: Body) -> int:
    """The body's length, once it is sure that an object of this name may be that long.

    Raises:
        InvalidName: the name is outside the grammar.
        ObjectRefused: the body is empty (no object of the format is) or too large.
    """
    check_object_name(name)
    size = body_size(body)
    if size <= 0:
        raise ObjectRefused(f"an empty body cannot be stored as {name}")
    if size > max_object_size(name):
        raise ObjectRefused(f"{name} would have {size} bytes, {max_object_size(name)} are allowed")
    return size


def check_get(name: str, start: int, stop: int | None) -> None:
    """Refuse a name outside the grammar (`InvalidName`) and a range that holds nothing (`ValueError`)."""
    check_object_name(name)
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"no bytes lie in the range {start}:{stop}")


def check_list(prefix: str, after: str, limit: int) -> int:
    """The page size to use, once prefix and `after` are inside the grammar (else `InvalidName`)."""
    check_object_prefix(prefix)
    if after:
        check_object_name(after)
    if limit < 1:
        raise ValueError(f"a page of {limit} objects never ends")
    return min(limit, MAX_LIST_LIMIT)


def range_end(name: str, size: int, start: int, stop: int | None) -> int:
    """Where a checked range ends in an object of this size; to be asked before anything is allocated.

    Raises:
        BadResponse: the object is larger than is legal, or `start` lies outside it.
    """
    if size > max_object_size(name):
        raise BadResponse(f"{name} has {size} bytes, {max_object_size(name)} are allowed")
    if start >= size:
        raise BadResponse(f"{name} has {size} bytes, bytes from {start} were asked for")
    return size if stop is None else min(stop, size)


def read_piece(body: Body, offset: int) -> bytes:
    """The bytes of a body from `offset`, at most `PIECE_SIZE`; `b""` at its end. Blocks: for worker threads.

    The file is opened anew for each piece, so that an abandoned put has nothing to close.

    Raises:
        SourceChanged: the file is gone, unreadable, or ends before the slice does.
    """
    if not isinstance(body, FileSlice):
        return body[offset : offset + PIECE_SIZE]
    wanted = min(PIECE_SIZE, body.size - offset)
    if wanted <= 0:
        return b""
    try:
        with body.path.open("rb") as file:
            file.seek(body.start + offset)
            piece = file.read(wanted)
    except OSError as error:
        raise SourceChanged(f"{body.path} cannot be read: {error.strerror}") from error
    if len(piece) < wanted:
        raise SourceChanged(f"{body.path} is shorter than the {body.stop} bytes it had")
    return piece


def read_pieces(body: Body) -> AsyncIterator[bytes]:
    """A body from its beginning, in pieces of at most `PIECE_SIZE`, read on a worker thread."""
    return _Pieces(body)


class _Pieces:
    """An iterator object, not an async generator: dropping it half-way leaves nothing to finalise."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._offset = 0

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        if isinstance(self._body, FileSlice):
            piece = await anyio.to_thread.run_sync(
                read_piece, self._body, self._offset, abandon_on_cancel=True
            )
        else:
            await anyio.lowlevel.checkpoint()
            piece = read_piece(self._body, self._offset)
        if not piece:
            raise StopAsyncIteration
        self._offset += len(piece)
        return piece

"""The library's classes for callers without `await`: each call is the asynchronous one, waited for.

A method here is a line that names the asynchronous one: its parameters, result and text come from there.
`tests/blocking/test_surface.py` compares the two, and fails when one has what the other has not.
"""

import datetime
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from functools import partial, wraps
from types import TracebackType
from typing import Concatenate, Generic, ParamSpec, Self, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus

from syncagent import namespace, reader, transaction, vault
from syncagent.blobs.reading import OpenBlob
from syncagent.blocking.thread import LoopThread
from syncagent.errors import ConfigError
from syncagent.events import Event
from syncagent.model import Metadata, Version
from syncagent.transaction import TransactionNamespace

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
P = ParamSpec("P")


class Face(Generic[A]):
    """An object of the asynchronous library, and the thread that it lives in."""

    def __init__(self, thread: LoopThread, inner: A) -> None:
        self.thread = thread
        self.inner = inner


def waits(method: Callable[Concatenate[A, P], Awaitable[T]]) -> Callable[Concatenate[Face[A], P], T]:
    """The method that waits for an asynchronous one."""

    @wraps(method)
    def call(self: Face[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.thread.run(partial(method, self.inner, *args, **kwargs))

    return call


def gives(
    method: Callable[Concatenate[A, P], B], face: Callable[[LoopThread, B], T]
) -> Callable[Concatenate[Face[A], P], T]:
    """The method that gives the face of what another one gives at once."""

    @wraps(method)
    def call(self: Face[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return face(self.thread, method(self.inner, *args, **kwargs))

    return call


class BlobReader(Face[reader.BlobReader]):
    """A blob's content, in order or by range; iterate over it for the chunks."""

    @property
    def version(self) -> Version:
        """The version that is read."""
        return self.inner.version

    @property
    def size(self) -> int:
        """Length of the content in bytes."""
        return self.inner.size

    @property
    def metadata(self) -> Metadata:
        """The version's metadata."""
        return self.inner.metadata

    @property
    def created_at(self) -> datetime.datetime:
        """When the blob was first put, UTC."""
        return self.inner.created_at

    def __iter__(self) -> Iterator[bytes]:
        """The content in chunks of 1 MiB but the last; raises as the asynchronous one does."""
        return _Waiting(self.thread, self.inner.__aiter__())

    read_range = waits(reader.BlobReader.read_range)


class OpenedBlob(Face[OpenBlob]):
    """The context manager that `Namespace.open` returns."""

    def __enter__(self) -> "BlobReader":
        return BlobReader(self.thread, self.thread.run(self.inner.__aenter__))

    def __exit__(self, *exc: object) -> None:
        self.thread.run(partial(self.inner.__aexit__, *exc))


class Namespace(Face[namespace.Namespace]):
    """A named group of blobs. Made by `Vault.namespace`; costs nothing to make."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.inner.name

    open = gives(namespace.Namespace.open, OpenedBlob)

    put = waits(namespace.Namespace.put)
    put_many = waits(namespace.Namespace.put_many)
    get = waits(namespace.Namespace.get)
    get_many = waits(namespace.Namespace.get_many)
    delete = waits(namespace.Namespace.delete)
    get_flags = waits(namespace.Namespace.get_flags)
    add_flags = waits(namespace.Namespace.add_flags)
    remove_flags = waits(namespace.Namespace.remove_flags)
    set_flags = waits(namespace.Namespace.set_flags)
    update_flags = waits(namespace.Namespace.update_flags)
    stat = waits(namespace.Namespace.stat)
    history = waits(namespace.Namespace.history)
    conflicts = waits(namespace.Namespace.conflicts)
    resolve = waits(namespace.Namespace.resolve)
    set_metadata = waits(namespace.Namespace.set_metadata)
    set_expiry = waits(namespace.Namespace.set_expiry)
    tag = waits(namespace.Namespace.tag)
    untag = waits(namespace.Namespace.untag)
    pin = waits(namespace.Namespace.pin)
    prefetch = waits(namespace.Namespace.prefetch)
    evict = waits(namespace.Namespace.evict)
    settings = waits(namespace.Namespace.settings)
    exists = waits(namespace.Namespace.exists)
    count = waits(namespace.Namespace.count)
    list = waits(namespace.Namespace.list)


class Transaction(Face[transaction.Transaction]):
    """Changes that happen together or not at all, when its `with` block ends."""

    @property
    def versions(self) -> tuple[Version, ...]:
        """After the block: what each put and delete has made, in their order."""
        return self.inner.versions

    def namespace(self, name: str) -> TransactionNamespace:
        """A namespace whose changes are part of the transaction. Raises `InvalidName`."""
        return self.inner.namespace(name)

    def __enter__(self) -> Self:
        self.thread.run(self.inner.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thread.run(partial(self.inner.__aexit__, kind, exc, trace))


class Vault(Face[vault.Vault]):
    """An open vault, for any number of threads. Made by `open_vault`.

    Use it in a `with` block, or call `open` and `close`. The calls of all threads are done by one event
    loop in a thread of its own: callbacks given to a call (`progress`) run there, must not
    block and must not call the vault. Those of `listen` run elsewhere and may.
    """

    def __init__(self, thread: LoopThread, inner: vault.Vault) -> None:
        super().__init__(thread, inner)
        self._held: Future[None] | None = None
        self._leave: anyio.Event | None = None
        self._has_left: anyio.Event | None = None

    def open(self) -> Self:
        """Open it; raises as entering the asynchronous one does. `close` is the other end."""
        if self._held is not None:
            self.close()
        self._held = self.thread.hold(self._hold)
        return self

    def close(self) -> None:
        """Close it, and end what listens. Nothing happens when it is closed already.

        What is pending stays pending: nothing waits for the remote.
        """
        held, self._held = self._held, None
        if held is not None:
            self.thread.run(self._ask_to_leave)
            held.result()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _hold(self, *, task_status: TaskStatus[None]) -> None:
        """Entered and left by one task: a background sync has a task group."""
        self._leave, self._has_left = anyio.Event(), anyio.Event()
        try:
            async with self.inner:
                self.thread.at_end(self, self._end)
                task_status.started()
                await self._leave.wait()
        finally:
            self.thread.at_end(self, None)
            self._has_left.set()

    async def _end(self) -> None:
        await self._ask_to_leave()
        assert self._has_left is not None
        await self._has_left.wait()

    async def _ask_to_leave(self) -> None:
        assert self._leave is not None
        self._leave.set()

    @property
    def id(self) -> str:
        """The vault's id in hex: the same on every device."""
        return self.inner.id

    @property
    def device_id(self) -> str:
        """This device's id in hex."""
        return self.inner.device_id

    namespace = gives(vault.Vault.namespace, Namespace)
    transaction = gives(vault.Vault.transaction, Transaction)

    def events(self, *, queue: int = 1000, only: Collection[type[Event]] | None = None) -> Iterator[Event]:
        """What happens from this call on, one by one; waits for each. See `syncagent.Vault.events`."""
        return _Waiting(self.thread, self.thread.run(partial(_events, self.inner, queue, only)))

    def listen(
        self,
        callback: Callable[[Event], None],
        *,
        queue: int = 1000,
        only: Collection[type[Event]] | None = None,
    ) -> Callable[[], None]:
        """Call back for every event from now on, until the vault is closed.

        The callback runs in a worker thread, one call at a time and never in the caller's thread: a program
        with a window hands the event to its own loop (`GLib.idle_add`, a Qt signal, Tk's `after`). It may
        call the vault. An error that it raises ends it.

        Returns:
            A function that ends it, and waits for a callback that runs. It raises what one has raised.
        """
        caller = self.thread.run(partial(_caller, self.inner, callback, queue, only))
        future = self.thread.start(caller.run)

        def stop() -> None:
            self.thread.run(caller.stop)
            if not caller.is_here():
                future.result()

        return stop

    namespaces = waits(vault.Vault.namespaces)
    sync = waits(vault.Vault.sync)
    send_missing = waits(vault.Vault.send_missing)
    fetch_missing = waits(vault.Vault.fetch_missing)
    status = waits(vault.Vault.status)
    changes = waits(vault.Vault.changes)
    explain = waits(vault.Vault.explain)
    retry = waits(vault.Vault.retry)
    barrier = waits(vault.Vault.barrier)
    devices = waits(vault.Vault.devices)
    rename_device = waits(vault.Vault.rename_device)
    remove_device = waits(vault.Vault.remove_device)
    key_slots = waits(vault.Vault.key_slots)
    change_passphrase = waits(vault.Vault.change_passphrase)
    new_recovery_code = waits(vault.Vault.new_recovery_code)
    remote_info = waits(vault.Vault.remote_info)
    check_remote = waits(vault.Vault.check_remote)
    set_remote = waits(vault.Vault.set_remote)


class _Waiting(Iterator[T]):
    """An asynchronous iterator, waited for."""

    def __init__(self, thread: LoopThread, inner: AsyncIterator[T]) -> None:
        self._thread = thread
        self._inner = inner

    def __next__(self) -> T:
        found = self._thread.run(partial(_next, self._inner))
        if not found:
            raise StopIteration
        return found[0]


def stream(chunks: Iterable[bytes]) -> AsyncIterable[bytes]:
    """Content for `put` from an iterable of bytes, such as a generator or an open binary file.

    It is read in a worker thread, piece by piece as it is stored, and once. Where a piece is not bytes
    (`TypeError`), or the iterable raises, nothing is stored and `put` raises it.
    """
    if isinstance(chunks, str | bytes | bytearray | memoryview):  # whose pieces are letters and numbers
        raise TypeError(f"a stream is an iterable of bytes, not {type(chunks).__name__}: give bytes to put")
    return _Stream(chunks)


class _Stream(AsyncIterable[bytes]):
    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._is_read = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_read:  # nothing more would come, and that must not pass for content
            raise ConfigError("this stream has been read already", todo="make another one for each put")
        self._is_read = True
        while chunk := await anyio.to_thread.run_sync(self._next, limiter=anyio.CapacityLimiter(1)):
            yield chunk[0]

    def _next(self) -> tuple[bytes, ...]:
        for chunk in self._chunks:
            if not isinstance(chunk, bytes | bytearray | memoryview):
                raise TypeError(f"a stream is of bytes, not {type(chunk).__name__}")
            return (chunk,)
        return ()


async def _next(iterator: AsyncIterator[T]) -> tuple[T, ...]:
    try:
        return (await anext(iterator),)
    except StopAsyncIteration:  # no future can carry it
        return ()


async def _events(
    inner: vault.Vault, queue: int, only: Collection[type[Event]] | None
) -> AsyncIterator[Event]:
    return inner.events(queue=queue, only=only)


async def _caller(
    inner: vault.Vault, callback: Callable[[Event], None], queue: int, only: Collection[type[Event]] | None
) -> "_Caller":
    return _Caller(inner.events(queue=queue, only=only), callback)


class _Caller:
    """Calls back for each event, one after another."""

    def __init__(self, events: AsyncIterator[Event], callback: Callable[[Event], None]) -> None:
        self._events = events
        self._callback = callback
        self._scope = anyio.CancelScope()
        self._calling: int | None = None

    async def run(self) -> None:
        with self._scope:
            async for event in self._events:
                await anyio.to_thread.run_sync(self._call, event, limiter=anyio.CapacityLimiter(1))

    async def stop(self) -> None:
        self._scope.cancel()

    def is_here(self) -> bool:
        """Whether it is the callback that asks."""
        return self._calling == threading.get_ident()

    def _call(self, event: Event) -> None:
        self._calling = threading.get_ident()
        try:
            self._callback(event)
        finally:
            self._calling = None

"""The library's classes for callers without `await`: each call is the asynchronous one, waited for.

A method here is a line that names the asynchronous one: its parameters, result and text come from there.
`tests/blocking/test_surface.py` compares the two, and fails when one has what the other has not.
"""

import datetime
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

import anyio
import anyio.to_thread

from syncagent import namespace, reader, transaction, vault
from syncagent.blobs.reading import OpenBlob
from syncagent.blocking.callbacks import Caller, Guarded, called
from syncagent.blocking.calls import Calls
from syncagent.blocking.held import Held
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

    def __init__(self, thread: Calls, inner: A) -> None:
        self.thread = thread
        self.inner = inner


def waits(method: Callable[Concatenate[A, P], Awaitable[T]]) -> Callable[Concatenate[Face[A], P], T]:
    """The method that waits for an asynchronous one."""

    @wraps(method)
    def call(self: Face[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.thread.run(partial(method, self.inner, *args, **kwargs))

    return call


def tells(method: Callable[Concatenate[A, P], Awaitable[T]]) -> Callable[Concatenate[Face[A], P], T]:
    """As `waits`, of one that tells its `progress`. What that raises ends the call, which raises it."""

    @wraps(method)
    def call(self: Face[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        progress = kwargs.get("progress")
        if progress is None:
            return self.thread.run(partial(method, self.inner, *args, **kwargs))
        told = Guarded[Any](cast(Callable[[Any], None], progress))
        kwargs["progress"] = told
        try:
            return self.thread.run(partial(method, self.inner, *args, **kwargs))
        except Exception:
            if told.raised is None:
                raise
        raise told.raised

    return call


def gives(
    method: Callable[Concatenate[A, P], B], face: Callable[[Calls, B], T]
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
    block and must not call the vault. Those of `listen` run elsewhere and may. Ctrl-C in a call cancels it.
    """

    def __init__(self, thread: LoopThread, inner: vault.Vault) -> None:
        super().__init__(Calls(thread), inner)
        self._guard = threading.Lock()
        self._held: Held | None = None

    def open(self) -> Self:
        """Open it; raises as entering the asynchronous one does. `close` is the other end.

        One that is just being closed is waited for. Interrupted by Ctrl-C, it is not open.

        Raises:
            ConfigError: it is open already.
        """
        self.thread.check()
        while True:
            with self._guard:
                before = self._held
                if before is None or before.is_over:
                    held = self._held = Held(self.thread, self.inner)
                    break
            if not before.is_leaving:
                raise ConfigError("this vault is open already")
            before.wait()
        held.enter()
        return self

    def close(self) -> None:
        """Close it, and end what listens. Nothing happens when it is closed already.

        What is pending stays pending: nothing waits for the remote. A call that another thread waits in ends
        with `ConfigError`.
        """
        held = self._held
        if held is not None:
            try:
                held.leave()
            finally:
                with self._guard:
                    if self._held is held and held.is_over:
                        self._held = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        return _Waiting(self.thread.loop, self.thread.run(partial(_events, self.inner, queue, only)))

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
        call the vault. What it raises, `SystemExit` too, ends it and nothing else, and is logged.

        Returns:
            A function that ends it, and waits for a callback that runs. It raises what one has raised.
        """
        caller = Caller(callback)
        events = self.thread.run(partial(_events, self.inner, queue, only))
        future = self.thread.loop.start(partial(caller.run, events))
        del events  # without a reader it would fill its queue

        def stop() -> None:
            self.thread.loop.run(caller.stop)
            if not caller.is_here():
                future.result()
                caller.check()

        return stop

    namespaces = waits(vault.Vault.namespaces)
    sync = tells(vault.Vault.sync)
    send_missing = tells(vault.Vault.send_missing)
    fetch_missing = tells(vault.Vault.fetch_missing)
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
    """An asynchronous iterator, waited for; threads that share it get a part each."""

    def __init__(self, thread: LoopThread | Calls, inner: AsyncIterator[T]) -> None:
        self._thread = thread
        self._inner = inner
        self._turn = threading.Lock()

    def __next__(self) -> T:
        self._thread.check()  # in a forked child the lock may be held for ever
        with self._turn:
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
        while chunk := await anyio.to_thread.run_sync(called, self._next, limiter=anyio.CapacityLimiter(1)):
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
    await inner.parts()[1].events.look()
    return inner.events(queue=queue, only=only)

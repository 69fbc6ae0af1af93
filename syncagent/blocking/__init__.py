"""The library without `await`: for GTK, Qt, Tk and scripts.

    from syncagent import blocking

    with blocking.open_vault(path, passphrase="…") as vault:
        vault.namespace("notes").put("note-1", b"…")
        vault.sync()

Names, parameters, results and errors are those of `syncagent`; what differs is in `Vault` below. A vault may
be used by any number of threads. After a fork it must be opened again in the child. A program that ends
without closing loses nothing, and does not hang: Python waits only for threads of the program's own that are
no daemons, so one that waits for events is a daemon, or the vault is closed.
"""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from syncagent import membership, vault
from syncagent.blocking.faces import BlobReader, Namespace, Transaction, Vault, stream
from syncagent.blocking.thread import loop_thread

__all__ = [
    "BlobReader",
    "Namespace",
    "Transaction",
    "Vault",
    "create_vault",
    "join_vault",
    "open_vault",
    "stream",
]

T = TypeVar("T")
P = ParamSpec("P")

BACKEND = "asyncio"
"""Of the event loop behind it: the one that is part of Python."""


def _waits(function: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return loop_thread(BACKEND).run(partial(function, *args, **kwargs))

    return call


def _opens(function: Callable[P, vault.Vault]) -> Callable[P, Vault]:
    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Vault:
        return Vault(loop_thread(BACKEND), function(*args, **kwargs))

    return call


create_vault = _waits(membership.create_vault)
join_vault = _waits(membership.join_vault)
open_vault = _opens(vault.open_vault)

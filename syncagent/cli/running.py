"""From a command's function into an event loop and an open vault."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

from syncagent.cli.session import Session
from syncagent.vault import Vault, open_vault

T = TypeVar("T")


def run_async(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end."""
    return anyio.run(function)


def run_on_vault(session: Session, function: Callable[[Vault], Coroutine[Any, Any, T]]) -> T:
    """Open the session's vault, run a function on it, and close it."""
    profile = session.profile()
    secret = session.secret()

    async def work() -> T:
        async with open_vault(
            profile.folder, passphrase=secret.passphrase, recovery_code=secret.recovery_code
        ) as vault:
            return await function(vault)

    return run_async(work)

"""Reading a vault's cache without the engine, for commands that only look.

Starting Python, loading modules and deriving the key take a tenth of a second
each. The derivation runs beside the loading: it does not need the interpreter.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from syncagent.cli.session import Session

if TYPE_CHECKING:
    from syncagent.cache.db import Database


@contextmanager
def open_cache(session: Session) -> "Iterator[Database]":
    """The open cache of the session's vault.

    Raises:
        VaultNotFound, WrongPassphrase, TooNew, CacheDamaged: as `open_vault` does.
    """
    profile = session.profile()
    secret = session.secret()
    from syncagent.cache.profile import Credential, open_database, open_slots, read_slots

    credential = Credential.of(passphrase=secret.passphrase, recovery_code=secret.recovery_code)
    with ThreadPoolExecutor(max_workers=1) as worker:
        contents = worker.submit(open_slots, read_slots(profile), credential)
        _load()
        root = contents.result().root
    db = open_database(profile, root)
    try:
        yield db
    finally:
        db.close()


def _load() -> None:
    """What comes after the key: loaded while it is derived."""
    import syncagent.cache.lock
    import syncagent.cache.queries  # noqa: F401

"""What a scenario is, and changes of blobs of which a kill leaves all that were acknowledged."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from syncagent.errors import BlobNotFound
from syncagent.vault import Vault
from tests.crash.place import Place
from tests.crash.points import Points

Acks = Sequence[str]


@dataclass(frozen=True)
class Scenario:
    """One kind of work. `check` gets what was acknowledged, in order."""

    prepare: Callable[[Place], Awaitable[None]]
    run: Callable[[Place, Points], Awaitable[None]]
    check: Callable[[Place, Acks], Awaitable[None]]


@dataclass(frozen=True)
class Change:
    """One call of the library on `notes`: what each blob is afterwards, None for no more there."""

    call: str
    blobs: dict[str, bytes | None]

    async def make(self, vault: Vault) -> None:
        """Make it. Once more, it changes nothing."""
        notes = vault.namespace("notes")
        match self.call:
            case "put_many":
                results = await notes.put_many([(key, data or b"") for key, data in self.blobs.items()])
                assert all(result.error is None for result in results)
            case "transaction":
                async with vault.transaction() as tx:
                    for key, data in self.blobs.items():
                        tx.namespace("notes").put(key, data or b"", replace=True)
            case _:
                for key, data in self.blobs.items():
                    if data is not None:
                        await notes.put(key, data, replace=True)
                    else:
                        with contextlib.suppress(BlobNotFound):
                            await notes.delete(key)


def after(changes: Sequence[Change]) -> dict[str, bytes]:
    """The blobs there are after these changes."""
    blobs: dict[str, bytes | None] = {}
    for change in changes:
        blobs |= change.blobs
    return {key: data for key, data in blobs.items() if data is not None}


def check_blobs(found: dict[str, bytes], changes: Sequence[Change], acknowledged: int) -> None:
    """What was acknowledged is there with its bytes, and beyond it at most the one change under way."""
    wanted = after(changes[:acknowledged])
    for change in changes[acknowledged : acknowledged + 1]:
        done = {key: data for key, data in change.blobs.items() if found.get(key) == data}
        if change.call == "transaction":
            assert len(done) in (0, len(change.blobs)), "half a transaction"
        for key, data in done.items():
            wanted.pop(key, None)
            if data is not None:
                wanted[key] = data
    assert found.keys() == wanted.keys()
    for key, data in wanted.items():
        assert found[key] == data, f"other bytes of {key}"

"""A vault's membership under test: a store that `memory:` URLs reach, and folders for profiles."""

from collections.abc import Callable, Iterator
from pathlib import Path

import syncagent
from syncagent.crypto.keys import new_root
from syncagent.crypto.keyslot import FORMAT, SlotContents, SlotKind, seal_slot
from syncagent.model import SlotId, VaultId
from syncagent.remote.memory import MemoryRemote, MemoryStore, _Stored, named_store
from syncagent.vault import Vault, open_vault

PASSPHRASE = "correct horse"
_numbers = iter(range(10**6))


class LedObjects(dict[str, _Stored]):
    """The objects of a store that runs a hook before and after each remote call takes effect."""

    def __init__(self, objects: dict[str, _Stored]) -> None:
        super().__init__(objects)
        self.calls = 0
        self.before: Callable[[int], None] = nothing
        self.after: Callable[[int], None] = nothing

    def __setitem__(self, name: str, stored: _Stored) -> None:
        with self:
            super().__setitem__(name, stored)

    def get(self, name: str, default: _Stored | None = None) -> _Stored | None:  # type: ignore[override]  # narrower than a dict's
        with self:
            return super().get(name, default)

    def pop(self, name: str, default: _Stored | None = None) -> _Stored | None:  # type: ignore[override]  # narrower than a dict's
        with self:
            return super().pop(name, default)

    def __iter__(self) -> Iterator[str]:
        with self:
            return super().__iter__()

    def __enter__(self) -> None:
        self.calls += 1
        self.before(self.calls)

    def __exit__(self, *exc: object) -> None:
        self.after(self.calls)


def nothing(number: int) -> None:
    return None


class Place:
    """A remote that `memory:` URLs reach, and a folder for profiles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"memory:{folder.name}-{next(_numbers)}"
        self.store: MemoryStore = named_store(self.url.partition(":")[2])

    async def create(self, name: str, passphrase: str = PASSPHRASE) -> syncagent.CreatedVault:
        return await syncagent.create_vault(
            self.folder / name,
            remote=self.url,
            passphrase=passphrase,
            device_name=name,
            kdf=syncagent.FLOOR_KDF,
        )

    async def join(self, name: str, passphrase: str = PASSPHRASE) -> syncagent.JoinedVault:
        return await syncagent.join_vault(
            self.folder / name, remote=self.url, passphrase=passphrase, device_name=name
        )

    def open(self, name: str, passphrase: str = PASSPHRASE) -> Vault:
        return open_vault(self.folder / name, passphrase=passphrase, remote=MemoryRemote(self.store))

    def led(self) -> LedObjects:
        led = LedObjects(dict(self.store.objects))
        self.store.objects = led
        return led

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in list(dict.keys(self.store.objects)) if name.startswith(prefix))

    def stored(self, name: str, data: bytes) -> None:
        self.store.objects[name] = _Stored(data, 0.0)

    def profiles(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


async def works(place: Place, name: str) -> None:
    """A device puts, syncs, and another joins and gets."""
    async with place.open(name) as vault:
        await vault.namespace("notes").put(f"by-{name}", b"content")
        assert not (await vault.sync()).alarms
    other = f"{name}-check"
    await place.join(other)
    async with place.open(other) as vault:
        assert not (await vault.sync()).alarms
        assert (await vault.namespace("notes").get(f"by-{name}")).data == b"content"


def slot(kind: SlotKind, secret: bytes, vault: VaultId, number: int) -> tuple[SlotId, bytes]:
    """A key slot of another root under an id that sorts by its number."""
    slot_id = SlotId(number.to_bytes(16, "big"))
    contents = SlotContents(FORMAT, vault, {1: new_root()})
    return slot_id, seal_slot(slot_id, kind, secret, contents, syncagent.FLOOR_KDF)

"""How a device comes to belong to a vault: create one, or join one.

Both work in a folder beside the wanted one and move it into place when it is
complete, so an interruption leaves no half vault behind.
"""

import contextlib
import hashlib
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from syncagent import files, names
from syncagent.cache import facts, meta, outbox
from syncagent.cache.db import Database
from syncagent.cache.place import Place, store_place
from syncagent.cache.profile import (
    Credential,
    Profile,
    create_profile,
    discard_profile,
    open_database,
    open_slots,
    publish_profile,
)
from syncagent.cache.sweep import GRACE_S
from syncagent.crypto.keys import RootSecret, VaultKeys, new_root
from syncagent.crypto.keyslot import (
    DEFAULT_KDF,
    FLOOR_KDF,
    FORMAT,
    KdfParameters,
    KeySlot,
    OpenedSlot,
    SlotContents,
    SlotKind,
    open_any,
    parse_slot,
    passphrase_bytes,
    seal_slot,
)
from syncagent.crypto.recovery import new_recovery_code, recovery_bytes
from syncagent.devices import check_device_name
from syncagent.engine.listing import list_names
from syncagent.engine.records import decode_vault_record, encode_vault_record, put_device_record
from syncagent.engine.slots import SLOTS_KEY, listed_slots
from syncagent.errors import (
    BadResponse,
    ConfigError,
    ObjectExists,
    ObjectNotFound,
    OpenError,
    SyncAgentError,
    VaultExists,
    VaultNotFound,
    WrongPassphrase,
    WrongVault,
)
from syncagent.journal.batch import encode_change
from syncagent.journal.changes import DeviceChange, SlotsChange
from syncagent.journal.clock import tick
from syncagent.model import DeviceId, Hlc, SlotId, VaultId
from syncagent.places import find_place, visit_place
from syncagent.remote.base import Remote
from syncagent.reports import Alarm, CreatedVault, JoinedVault
from syncagent.vault import Vault

MAX_SLOTS = 64
"""Slots read when joining: a vault has a handful, a hostile listing has no end."""


async def create_vault(
    path: str | os.PathLike[str],
    *,
    remote: str,
    passphrase: str,
    token: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    client_cert: str | os.PathLike[str] | None = None,
    device_name: str | None = None,
    kdf: KdfParameters = DEFAULT_KDF,
) -> CreatedVault:
    """Make a new vault: a profile folder here, and the vault at the remote.

    On return the profile is durable and the remote holds the vault, its key slots and
    this device's first batch (the batch may still be pending if the remote failed then).

    Args:
        path: where the profile folder is to be; missing or empty.
        remote: URL, such as `file:///path`, whose folder is made, or `https://host/vault`, which is made
            at the server; `https://host` is the vault `default` there.
        passphrase: opens the vault on any device; not empty, not trimmed.
        token: what the server asks for. It is kept in the encrypted cache, as the following are.
        ca_file: PEM file of the certificates to trust instead of the system's; it must stay where it is.
        client_cert: PEM file of this device's certificate and key, for a server that asks for one.
        device_name: shown to the owner's other devices; the host's name by default.
        kdf: cost of guessing the passphrase.

    Returns:
        Ids, and the recovery code: it is stored nowhere, so show it once.

    Raises:
        VaultExists: there is a vault at the path or at the remote.
        RemoteError: the remote cannot be used. Nothing is left at the path.
    """
    profile = _free_profile(path)
    secret = passphrase_bytes(passphrase)
    identity = _Identity(VaultId(os.urandom(16)), DeviceId(os.urandom(16)), new_root(), _name(device_name))
    recovery_code = new_recovery_code()
    place = await find_place(remote, token=token, ca_file=ca_file, client_cert=client_cert, create=True)
    async with visit_place(place, create=True) as opened:
        await _refuse_existing(opened)
        contents = SlotContents(FORMAT, identity.vault, {1: identity.root})
        slots = await anyio.to_thread.run_sync(
            _new_slots, contents, secret, recovery_bytes(recovery_code), kdf
        )
        temporary = _temporary(profile)
        try:
            db = await anyio.to_thread.run_sync(create_profile, temporary, identity.root, slots)
            try:
                _write_identity(db, identity, place, slots)
            finally:
                db.close()
            await _claim(opened, identity, slots, secret)
            publish_profile(temporary, profile.folder)
        except BaseException:
            discard_profile(temporary)
            raise
    async with Vault(profile, partial(open_database, profile, identity.root)) as vault:
        # If this fails the vault is made all the same, and its recovery code must be shown: the first
        # batch goes out with the first sync.
        with contextlib.suppress(SyncAgentError):
            await vault.send_missing()
    return CreatedVault(identity.vault.hex(), identity.device.hex(), place.url, recovery_code)


async def join_vault(
    path: str | os.PathLike[str],
    *,
    remote: str,
    passphrase: str | None = None,
    recovery_code: str | None = None,
    token: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    client_cert: str | os.PathLike[str] | None = None,
    device_name: str | None = None,
) -> JoinedVault:
    """Make this device part of a vault that another device has created.

    On return the profile is durable and knows every blob by name; the content comes
    with the first sync.

    Args:
        path: where the profile folder is to be; missing or empty.
        remote: the URL the vault lives at; `https://host` is the token's only vault there.
        passphrase: or
        recovery_code: what opens one of the vault's key slots.
        token: see `create_vault`, as for the following.
        ca_file: certificates to trust instead of the system's.
        client_cert: this device's certificate and key.
        device_name: shown to the owner's other devices; the host's name by default.

    Raises:
        VaultExists: there is a vault at the path.
        VaultNotFound: there is none at the remote.
        WrongPassphrase: no key slot opens, or the passphrase was replaced.
        RemoteError: the remote cannot be used. Nothing is left at the path.
    """
    profile = _free_profile(path)
    credential = Credential.of(passphrase=passphrase, recovery_code=recovery_code)
    name = _name(device_name)
    place = await find_place(remote, token=token, ca_file=ca_file, client_cert=client_cert)
    async with visit_place(place) as opened:
        try:
            vault_id = decode_vault_record(await opened.get(names.VAULT))
        except ObjectNotFound as exc:
            raise VaultNotFound("there is no vault at the remote", todo="check the remote's address") from exc
        found = await _fetch_slots(opened)
        parsed = _parsed(found)
        if not parsed:
            raise WrongPassphrase("no key slot at the remote can be read", todo="check the remote's address")
        own_slot = await anyio.to_thread.run_sync(_open_own, parsed, credential, vault_id)
        # What cannot be read, or opens to another vault, would be in the way of opening this one offline.
        kept = {slot.id: found[slot.id] for slot in parsed}
        identity = _Identity(vault_id, DeviceId(os.urandom(16)), own_slot.contents.root, name)
        temporary = _temporary(profile)
        try:
            db = await anyio.to_thread.run_sync(create_profile, temporary, identity.root, kept)
            try:
                _write_identity(db, identity, place, None)
            finally:
                db.close()
            alarms = await _read_journals(Profile(temporary), identity, credential, own_slot.slot.id, kept)
            await _put_device_record(opened, identity)
            publish_profile(temporary, profile.folder)
        except BaseException:
            discard_profile(temporary)
            raise
    return JoinedVault(identity.vault.hex(), identity.device.hex(), place.url, alarms)


@dataclass(frozen=True, slots=True)
class _Identity:
    vault: VaultId
    device: DeviceId
    root: RootSecret
    name: str


def _free_profile(path: str | os.PathLike[str]) -> Profile:
    profile = Profile(Path(path).absolute())
    folder = profile.folder
    if profile.exists():
        raise VaultExists(f"there is a vault at {folder} already")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder", todo="name another folder")
    return profile


def _temporary(profile: Profile) -> Path:
    """Where a profile is made before it has its name; what killed attempts have left there is removed."""
    with contextlib.suppress(OSError):
        for left in profile.folder.parent.iterdir():
            is_left = left.name.startswith(f"{profile.folder.name}.new-")
            if is_left and time.time() - left.stat().st_mtime > GRACE_S:
                discard_profile(left)
    return profile.folder.with_name(f"{profile.folder.name}.new-{os.urandom(4).hex()}")


def _name(device_name: str | None) -> str:
    return check_device_name(device_name if device_name is not None else platform.node() or "device")


async def _refuse_existing(remote: Remote) -> None:
    try:
        await remote.head(names.VAULT)
    except ObjectNotFound:
        return
    raise VaultExists("the remote already holds a vault", todo="run `syncagent join` to join it")


def _new_slots(
    contents: SlotContents, passphrase: bytes, recovery: bytes, kdf: KdfParameters
) -> dict[SlotId, bytes]:
    # 160 random bits cannot be guessed: the recovery slot needs no more than the floor.
    slots = (
        (SlotKind.PASSPHRASE, passphrase, kdf),
        (SlotKind.RECOVERY, recovery, FLOOR_KDF),
    )
    sealed: dict[SlotId, bytes] = {}
    for kind, secret, parameters in slots:
        slot_id = SlotId(os.urandom(16))
        sealed[slot_id] = seal_slot(slot_id, kind, secret, contents, parameters)
    return sealed


def _write_identity(
    db: Database, identity: _Identity, place: Place, slots: Mapping[SlotId, bytes] | None
) -> None:
    now_ms = int(time.time() * 1000)
    db.execute("BEGIN IMMEDIATE")
    meta.put(db, meta.VAULT_ID, identity.vault)
    meta.put(db, meta.DEVICE_ID, identity.device)
    meta.put(db, meta.DEVICE_NAME, identity.name)
    meta.put(db, meta.ROOT, identity.root.reveal())
    store_place(db, place)
    meta.put(db, meta.JOINED_AT, now_ms)
    hlc = tick(Hlc(0), now_ms)
    meta.put(db, meta.HLC, hlc)
    device = DeviceChange(identity.device, identity.name, platform.system() or "unknown", None, False, hlc)
    outbox.enqueue_change(db, encode_change(device), priority=1)
    facts.set_register(
        db, "device", identity.device, change=encode_change(device), hlc=hlc, device=identity.device
    )
    if slots is not None:
        listed = SlotsChange({slot: hashlib.sha256(data).digest() for slot, data in slots.items()}, hlc)
        outbox.enqueue_change(db, encode_change(listed), priority=1)
        facts.set_register(
            db, "slots", SLOTS_KEY, change=encode_change(listed), hlc=hlc, device=identity.device
        )
    db.commit()


async def _claim(remote: Remote, identity: _Identity, slots: Mapping[SlotId, bytes], secret: bytes) -> None:
    """Slots first, read back and opened; the object `vault` last: it is what makes the vault exist."""
    try:
        for slot_id, data in slots.items():
            await remote.put(names.slot_object(slot_id), data)
        stored = {slot_id: await remote.get(names.slot_object(slot_id)) for slot_id in slots}
        if stored != slots:
            raise OpenError("the remote gives back other key slots than it was given")
        credential = Credential(SlotKind.PASSPHRASE, secret)
        await anyio.to_thread.run_sync(open_slots, _parsed(stored), credential)
        await _put_device_record(remote, identity)
        await remote.put(names.VAULT, encode_vault_record(identity.vault))
    except BaseException as exc:  # cancellation too
        await _withdraw(remote, identity, slots)
        if isinstance(exc, ObjectExists):
            raise VaultExists("another device has just created a vault at this remote") from exc
        raise


async def _withdraw(remote: Remote, identity: _Identity, slots: Mapping[SlotId, bytes]) -> None:
    """Take back what a failed creation has left at the remote; what cannot be taken back means nothing.

    The last put may have taken effect though its answer was lost: the object `vault` goes first, for
    with it and without slots the remote would hold a vault that nobody can open.
    """
    left = [names.slot_object(slot) for slot in slots] + [names.device_object(identity.device)]
    with anyio.move_on_after(10, shield=True), contextlib.suppress(SyncAgentError):
        try:
            if await remote.get(names.VAULT) == encode_vault_record(identity.vault):
                await remote.delete(names.VAULT)
        except ObjectNotFound:
            pass
        for name in left:
            await remote.delete(name)


async def _put_device_record(remote: Remote, identity: _Identity) -> None:
    await put_device_record(remote, VaultKeys(identity.root), identity.device, int(time.time() * 1000))


async def _fetch_slots(remote: Remote) -> dict[SlotId, bytes]:
    found: dict[SlotId, bytes] = {}
    for name in (await list_names(remote, names.KEYS))[:MAX_SLOTS]:
        try:
            found[SlotId(bytes.fromhex(name[len(names.KEYS) :]))] = await remote.get(name)
        except (ObjectNotFound, BadResponse):
            continue  # replaced a moment ago, or larger than any slot
    return found


def _parsed(slots: Mapping[SlotId, bytes]) -> list[KeySlot]:
    parsed: list[KeySlot] = []
    for slot_id, data in slots.items():
        try:
            parsed.append(parse_slot(slot_id, data))
        except SyncAgentError:
            continue  # one altered slot must not keep the others from opening
    return parsed


def _open_own(slots: list[KeySlot], credential: Credential, vault: VaultId) -> OpenedSlot:
    """The slot of this vault that opens; those of another one are taken out of `slots`.

    A creation that was killed before it put the vault's object leaves slots behind, and the user
    has likely tried again with the same passphrase.

    Raises:
        WrongPassphrase: none opens.
        WrongVault: one opens, but none of this vault.
    """
    foreign: OpenedSlot | None = None
    while True:
        try:
            opened = open_any(slots, credential.kind, credential.secret)
        except WrongPassphrase:
            if foreign is None:
                raise
            raise WrongVault("the key slot belongs to another vault than the remote names") from None
        if opened.contents.vault_id == vault:
            return opened
        foreign = opened
        slots.remove(opened.slot)


async def _read_journals(
    profile: Profile,
    identity: _Identity,
    credential: Credential,
    own_slot: SlotId,
    slots: Mapping[SlotId, bytes],
) -> tuple[Alarm, ...]:
    """Learn what the vault holds, that what opened it is still in force, and keep only listed slots."""
    async with Vault(profile, partial(open_database, profile, identity.root)) as vault:
        ctx, engine = vault.parts()
        alarms = await engine.read_journals()
        listed = await ctx.cache.read(listed_slots)
    if listed is None:  # the creator's first batch has yet to come
        return alarms
    in_force = {
        slot_id: data
        for slot_id, data in slots.items()
        if listed.get(slot_id) == hashlib.sha256(data).digest()
    }
    if own_slot not in in_force:
        try:
            # A change of the passphrase that was killed and made again leaves a slot that opens with the
            # same passphrase and was never listed.
            await anyio.to_thread.run_sync(open_slots, _parsed(in_force), credential)
        except WrongPassphrase as exc:
            text = "this passphrase or recovery code was replaced"
            raise WrongPassphrase(text, todo="use the new one") from exc
    for slot_id in slots.keys() - in_force.keys():
        files.unlink(profile.keys / slot_id.hex())
    return alarms

"""The small objects that say who is who at the remote: which vault it holds, and which devices it has."""

import contextlib

import msgspec

from syncagent import names
from syncagent.crypto.keys import VaultKeys
from syncagent.crypto.sealed import seal_object
from syncagent.engine.context import Context
from syncagent.errors import ObjectExists, ObjectNotFound, RemoteRolledBack, TooNew, WrongVault
from syncagent.model import DeviceId, VaultId
from syncagent.remote.base import Remote

FORMAT = 1


class VaultRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The object `vault`: a hint which vault this is, confirmed by the key slot. JSON."""

    format: int
    vault_id: str


def encode_vault_record(vault: VaultId) -> bytes:
    """The bytes of the object `vault`."""
    return msgspec.json.encode(VaultRecord(1, vault.hex()))


def decode_vault_record(data: bytes) -> VaultId:
    """The vault id an object `vault` names. `TooNew` for anything but format 1."""
    try:
        record = msgspec.json.decode(data, type=VaultRecord)
        vault = bytes.fromhex(record.vault_id)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise TooNew("the vault record was made by a newer syncagent, or altered") from exc
    if record.format != 1 or len(vault) != 16 or encode_vault_record(VaultId(vault)) != data:
        raise TooNew("the vault record was made by a newer syncagent, or altered")
    return VaultId(vault)


async def check_vault(ctx: Context, remote: Remote) -> None:
    """Make sure the remote holds this device's vault, before anything is read or written there.

    Raises:
        RemoteRolledBack: the remote is there, but the vault is gone.
        WrongVault: it is another vault.
    """
    try:
        found = decode_vault_record(await remote.get(names.VAULT))
    except ObjectNotFound as exc:
        raise RemoteRolledBack("the remote no longer has this vault") from exc
    if found != ctx.vault:
        raise WrongVault(f"the remote holds vault {found.hex()}, this device belongs to {ctx.vault.hex()}")


async def put_device_record(remote: Remote, keys: VaultKeys, device: DeviceId, joined_at_ms: int) -> None:
    """Let the others find a device's journal. One that is there stays as it is."""
    name = names.device_object(device)
    record = msgspec.msgpack.encode([FORMAT, joined_at_ms])
    with contextlib.suppress(ObjectExists):
        await remote.put(name, seal_object(keys, name, record))

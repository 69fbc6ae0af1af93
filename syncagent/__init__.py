"""Offline-first, end-to-end encrypted sync of blobs over storage that need not be trusted.

    created = await syncagent.create_vault(path, remote="file:///…", passphrase="…")
    async with syncagent.open_vault(path, passphrase="…") as vault:
        await vault.namespace("notes").put("note-1", b"…")
        await vault.sync()

Names are imported when they are first used, so that a program which only asks
for the status of a vault does not load the engine.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncagent.crypto.keyslot import (
        DEFAULT_KDF,
        FLOOR_KDF,
        KdfParameters,
    )
    from syncagent.errors import (
        AgentNotRunning,
        BadResponse,
        BlobExists,
        BlobNotFound,
        BlobNotHere,
        CacheDamaged,
        CacheFull,
        CertificateRejected,
        ConfigError,
        ContentMismatch,
        Forbidden,
        InvalidName,
        LimitExceeded,
        ObjectError,
        ObjectExists,
        ObjectNotFound,
        ObjectRefused,
        OpenError,
        QuotaExceeded,
        RateLimited,
        RemoteError,
        RemoteForked,
        RemoteRolledBack,
        RemoteStopped,
        SourceChanged,
        SyncAgentError,
        Tampered,
        TooNew,
        TransientRemoteError,
        Truncated,
        Unauthorized,
        Unreachable,
        UnsupportedByRemote,
        VaultExists,
        VaultInUse,
        VaultNotFound,
        VersionConflict,
        Withheld,
        WrongPassphrase,
        WrongVault,
    )
    from syncagent.membership import (
        create_vault,
        join_vault,
    )
    from syncagent.model import (
        Alarm,
        Blob,
        BlobFailure,
        BlobInfo,
        BlobPage,
        CreatedVault,
        DeviceInfo,
        Explanation,
        GetResult,
        JoinedVault,
        KeySlotInfo,
        NamespaceStatus,
        Progress,
        PutResult,
        SyncReport,
        SyncState,
        SyncStatus,
        VaultStatus,
        Version,
    )
    from syncagent.namespace import (
        Namespace,
    )
    from syncagent.reader import (
        BlobReader,
    )
    from syncagent.transaction import (
        Transaction,
        TransactionNamespace,
    )
    from syncagent.vault import (
        Vault,
        open_vault,
    )

__version__ = "0.1.0"

_HOMES = {
    "AgentNotRunning": "syncagent.errors",
    "Alarm": "syncagent.model",
    "BadResponse": "syncagent.errors",
    "Blob": "syncagent.model",
    "BlobExists": "syncagent.errors",
    "BlobFailure": "syncagent.model",
    "BlobInfo": "syncagent.model",
    "BlobNotFound": "syncagent.errors",
    "BlobNotHere": "syncagent.errors",
    "BlobPage": "syncagent.model",
    "BlobReader": "syncagent.reader",
    "CacheDamaged": "syncagent.errors",
    "CacheFull": "syncagent.errors",
    "CertificateRejected": "syncagent.errors",
    "ConfigError": "syncagent.errors",
    "ContentMismatch": "syncagent.errors",
    "CreatedVault": "syncagent.model",
    "DEFAULT_KDF": "syncagent.crypto.keyslot",
    "DeviceInfo": "syncagent.model",
    "Explanation": "syncagent.model",
    "FLOOR_KDF": "syncagent.crypto.keyslot",
    "Forbidden": "syncagent.errors",
    "GetResult": "syncagent.model",
    "InvalidName": "syncagent.errors",
    "JoinedVault": "syncagent.model",
    "KdfParameters": "syncagent.crypto.keyslot",
    "KeySlotInfo": "syncagent.model",
    "LimitExceeded": "syncagent.errors",
    "Namespace": "syncagent.namespace",
    "NamespaceStatus": "syncagent.model",
    "ObjectError": "syncagent.errors",
    "ObjectExists": "syncagent.errors",
    "ObjectNotFound": "syncagent.errors",
    "ObjectRefused": "syncagent.errors",
    "OpenError": "syncagent.errors",
    "Progress": "syncagent.model",
    "PutResult": "syncagent.model",
    "QuotaExceeded": "syncagent.errors",
    "RateLimited": "syncagent.errors",
    "RemoteError": "syncagent.errors",
    "RemoteForked": "syncagent.errors",
    "RemoteRolledBack": "syncagent.errors",
    "RemoteStopped": "syncagent.errors",
    "SourceChanged": "syncagent.errors",
    "SyncAgentError": "syncagent.errors",
    "SyncReport": "syncagent.model",
    "SyncState": "syncagent.model",
    "SyncStatus": "syncagent.model",
    "Tampered": "syncagent.errors",
    "TooNew": "syncagent.errors",
    "Transaction": "syncagent.transaction",
    "TransactionNamespace": "syncagent.transaction",
    "TransientRemoteError": "syncagent.errors",
    "Truncated": "syncagent.errors",
    "Unauthorized": "syncagent.errors",
    "Unreachable": "syncagent.errors",
    "UnsupportedByRemote": "syncagent.errors",
    "Vault": "syncagent.vault",
    "VaultExists": "syncagent.errors",
    "VaultInUse": "syncagent.errors",
    "VaultNotFound": "syncagent.errors",
    "VaultStatus": "syncagent.model",
    "Version": "syncagent.model",
    "VersionConflict": "syncagent.errors",
    "Withheld": "syncagent.errors",
    "WrongPassphrase": "syncagent.errors",
    "WrongVault": "syncagent.errors",
    "create_vault": "syncagent.membership",
    "join_vault": "syncagent.membership",
    "open_vault": "syncagent.vault",
}

__all__ = [
    "DEFAULT_KDF",
    "FLOOR_KDF",
    "AgentNotRunning",
    "Alarm",
    "BadResponse",
    "Blob",
    "BlobExists",
    "BlobFailure",
    "BlobInfo",
    "BlobNotFound",
    "BlobNotHere",
    "BlobPage",
    "BlobReader",
    "CacheDamaged",
    "CacheFull",
    "CertificateRejected",
    "ConfigError",
    "ContentMismatch",
    "CreatedVault",
    "DeviceInfo",
    "Explanation",
    "Forbidden",
    "GetResult",
    "InvalidName",
    "JoinedVault",
    "KdfParameters",
    "KeySlotInfo",
    "LimitExceeded",
    "Namespace",
    "NamespaceStatus",
    "ObjectError",
    "ObjectExists",
    "ObjectNotFound",
    "ObjectRefused",
    "OpenError",
    "Progress",
    "PutResult",
    "QuotaExceeded",
    "RateLimited",
    "RemoteError",
    "RemoteForked",
    "RemoteRolledBack",
    "RemoteStopped",
    "SourceChanged",
    "SyncAgentError",
    "SyncReport",
    "SyncState",
    "SyncStatus",
    "Tampered",
    "TooNew",
    "Transaction",
    "TransactionNamespace",
    "TransientRemoteError",
    "Truncated",
    "Unauthorized",
    "Unreachable",
    "UnsupportedByRemote",
    "Vault",
    "VaultExists",
    "VaultInUse",
    "VaultNotFound",
    "VaultStatus",
    "Version",
    "VersionConflict",
    "Withheld",
    "WrongPassphrase",
    "WrongVault",
    "__version__",
    "create_vault",
    "join_vault",
    "open_vault",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'syncagent' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

"""The public names: exactly these, each importable, and nothing loaded before it is used."""

import json
import subprocess
import sys
import types

import pytest

import syncagent
from syncagent import errors

NAMES = [
    "DEFAULT_KDF",
    "FLOOR_KDF",
    "AgentNotRunning",
    "Alarm",
    "AppendOnly",
    "Arrival",
    "AttentionNeeded",
    "BadResponse",
    "Blob",
    "BlobArrival",
    "BlobChange",
    "BlobChanged",
    "BlobDeleted",
    "BlobExists",
    "BlobFailure",
    "BlobFetched",
    "BlobInfo",
    "BlobNotFound",
    "BlobNotHere",
    "BlobPage",
    "BlobReader",
    "BlobSent",
    "BlobStored",
    "CacheDamaged",
    "CacheFull",
    "CertificateRejected",
    "ChangePage",
    "ClockAhead",
    "ConfigError",
    "Conflict",
    "ConflictAppeared",
    "ConflictResolved",
    "ContentMismatch",
    "CreatedVault",
    "Dedup",
    "DeviceInfo",
    "Event",
    "Explanation",
    "FetchPolicy",
    "FlagsChanged",
    "FlagsResult",
    "Forbidden",
    "GetResult",
    "InvalidName",
    "JoinedVault",
    "KdfParameters",
    "KeySlotInfo",
    "LimitExceeded",
    "Missed",
    "Namespace",
    "NamespaceInfo",
    "NamespaceSettings",
    "NamespaceStatus",
    "NotSent",
    "ObjectError",
    "ObjectExists",
    "ObjectNotFound",
    "ObjectRefused",
    "OpenError",
    "PrefetchResult",
    "Progress",
    "PutResult",
    "QuotaExceeded",
    "RateLimited",
    "RemoteError",
    "RemoteForked",
    "RemoteInfo",
    "RemoteRolledBack",
    "RemoteStopped",
    "SourceChanged",
    "StateChanged",
    "SyncAgentError",
    "SyncFinished",
    "SyncReport",
    "SyncStarted",
    "SyncState",
    "SyncStatus",
    "SyncWaiting",
    "Tampered",
    "TokenExpired",
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
    "VersionInfo",
    "VersionNotFound",
    "Withheld",
    "WrongPassphrase",
    "WrongVault",
    "__version__",
    "create_vault",
    "join_vault",
    "open_vault",
]


def loaded_after(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after running some code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


def test_the_public_names_are_exactly_these() -> None:
    assert sorted(syncagent.__all__) == sorted(NAMES)
    assert len(set(syncagent.__all__)) == len(syncagent.__all__)
    assert dir(syncagent) == sorted(syncagent.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_can_be_imported(name: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from syncagent import {name}", namespace)
    assert namespace[name] is getattr(syncagent, name)
    assert not isinstance(namespace[name], types.ModuleType)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = syncagent.no_such_name
    with pytest.raises(ImportError):
        exec("from syncagent import no_such_name")


def test_the_whole_error_tree_is_public() -> None:
    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.SyncAgentError)
    }
    assert classes <= set(syncagent.__all__)
    assert all(issubclass(getattr(errors, name), syncagent.SyncAgentError) for name in classes)


@pytest.mark.parametrize(
    "code", ["import syncagent", "import syncagent; syncagent.__version__; dir(syncagent)"]
)
def test_importing_the_package_loads_no_library_and_no_engine(code: str) -> None:
    loaded = loaded_after(code)
    assert "syncagent" in loaded
    assert not loaded & {"anyio", "httpx", "sqlcipher3", "cryptography", "msgspec", "zstandard", "click"}
    assert {name for name in loaded if name.startswith("syncagent.")} == set()


def test_errors_and_values_are_had_without_the_engine() -> None:
    loaded = loaded_after("from syncagent import Unreachable, SyncStatus, SyncReport")
    assert not loaded & {"anyio", "httpx", "sqlcipher3", "cryptography"}
    assert {name for name in loaded if name.startswith("syncagent.")} == {
        "syncagent.errors",
        "syncagent.model",
        "syncagent.reports",
    }


def test_the_engine_is_had_without_http_and_the_command_line() -> None:
    loaded = loaded_after("from syncagent import open_vault, create_vault, join_vault")
    assert {"anyio", "sqlcipher3"} <= loaded
    assert not loaded & {"httpx", "click", "rich", "trio", "pytest"}

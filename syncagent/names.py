"""The grammar of every name: namespaces, blob ids, object names.

Nothing outside this grammar is sent to a remote or accepted from one, so a
listing cannot smuggle a path, and a blob id cannot be two different strings
that look the same.
"""

import re
import unicodedata
from collections.abc import Iterable

from syncagent.errors import InvalidName

MAX_BLOB_ID_BYTES = 1024

SETTINGS = ".settings"
"""The namespace whose blobs are the settings of the others."""

VAULT = "vault"
KEYS = "keys/"
DEVICES = "devices/"
JOURNAL = "journal/"
PACKS = "packs/"
SNAPSHOTS = "snapshots/"

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_INTERNAL_NAMESPACE = re.compile(r"\.[a-z0-9][a-z0-9._-]{0,62}")
_VAULT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_OBJECT = re.compile(
    r"vault"
    r"|(?:keys|devices|snapshots)/[0-9a-f]{32}"
    r"|journal/[0-9a-f]{32}/[0-9]{12}"
    r"|packs/[0-9a-f]{64}"
)
_PREFIX = re.compile(r"|(?:keys|devices|snapshots|packs|journal)/|journal/[0-9a-f]{32}/")


def plain(text: str) -> str:
    """The same text as exactly `str`: a subclass, such as a mail's header, cannot be packed."""
    return text if type(text) is str else str.__str__(text)


def check_namespace(name: str) -> str:
    """The name itself, or `InvalidName`. Names that begin with a dot are internal and refused."""
    if not isinstance(name, str):
        raise InvalidName(f"a namespace name is text, not {type(name).__name__}")
    name = plain(name)
    if not _NAMESPACE.fullmatch(name):
        raise InvalidName(
            f"{name[:80]!r} is not a namespace name",
            todo="use 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit",
        )
    return name


def is_user_namespace(name: str) -> bool:
    """Whether a name is one that users may give to a namespace."""
    return bool(_NAMESPACE.fullmatch(name))


def is_namespace(name: str) -> bool:
    """Whether a name may stand in a journal: a user's namespace or an internal one."""
    return bool(_NAMESPACE.fullmatch(name) or _INTERNAL_NAMESPACE.fullmatch(name))


def is_vault_name(name: str) -> bool:
    """Whether a vault may be called so, here or at a server: never a path, a query or two spellings."""
    return bool(_VAULT.fullmatch(name))


def check_blob_id(blob_id: str) -> str:
    """The id itself, or `InvalidName`: 1 to 1024 bytes of UTF-8 in NFC, without NUL."""
    if not isinstance(blob_id, str):
        raise InvalidName(f"a blob id is text, not {type(blob_id).__name__}")
    blob_id = plain(blob_id)
    problem = blob_id_problem(blob_id)
    if problem:
        raise InvalidName(f"{blob_id[:80]!r} is not a blob id: {problem}")
    return blob_id


def check_several(blob_ids: Iterable[str]) -> list[str]:
    """Ids where several are asked for; `InvalidName` for one alone: its letters would be taken for ids."""
    if isinstance(blob_ids, str):
        raise InvalidName(f"{blob_ids[:80]!r} is one blob id: pass a list of ids")
    if not isinstance(blob_ids, Iterable):
        raise InvalidName(f"blob ids are a list of text, not {type(blob_ids).__name__}")
    return list(blob_ids)


def blob_id_problem(blob_id: str) -> str | None:
    """What is wrong with a blob id, or None."""
    try:
        encoded = blob_id.encode()
    except UnicodeEncodeError:
        return "it cannot be written as UTF-8"
    if not encoded:
        return "it is empty"
    if len(encoded) > MAX_BLOB_ID_BYTES:
        return f"it has {len(encoded)} bytes, {MAX_BLOB_ID_BYTES} are allowed"
    if b"\0" in encoded:
        return "it contains a NUL"
    if not unicodedata.is_normalized("NFC", blob_id):
        return "it is not in Unicode NFC"
    return None


def is_object_name(name: str) -> bool:
    """Whether a remote may hold an object of this name."""
    return bool(_OBJECT.fullmatch(name))


def check_object_name(name: str) -> str:
    """The name itself, or `InvalidName`."""
    if not is_object_name(name):
        raise InvalidName(f"{name[:80]!r} is not an object name")
    return name


def is_listable_prefix(prefix: str) -> bool:
    """Whether a remote may be asked for the objects below it."""
    return bool(_PREFIX.fullmatch(prefix))


def check_object_prefix(prefix: str) -> str:
    """A prefix that may be listed, or `InvalidName`: empty, or a whole folder such as `packs/`."""
    if not is_listable_prefix(prefix):
        raise InvalidName(f"{prefix[:80]!r} is not a listable prefix")
    return prefix


def slot_object(slot_id: bytes) -> str:
    """`keys/<slot id>`."""
    return KEYS + slot_id.hex()


def device_object(device_id: bytes) -> str:
    """`devices/<device id>`."""
    return DEVICES + device_id.hex()


def journal_prefix(device_id: bytes) -> str:
    """`journal/<device id>/`."""
    return f"{JOURNAL}{device_id.hex()}/"


def batch_object(device_id: bytes, seq: int) -> str:
    """`journal/<device id>/<seq, 12 digits>`."""
    return f"{JOURNAL}{device_id.hex()}/{seq:012d}"


def batch_seq(name: str) -> int:
    """The sequence number in a batch's object name."""
    return int(name.rpartition("/")[2])


def pack_object(pack_id: bytes) -> str:
    """`packs/<hex SHA-256 of the whole object>`."""
    return PACKS + pack_id.hex()

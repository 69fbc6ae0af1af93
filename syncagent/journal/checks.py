"""What is checked of a batch and its changes beyond their types: a batch that opens is still not trusted."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from syncagent import names
from syncagent.errors import ConfigError, InvalidName, LimitExceeded, Tampered, TooNew
from syncagent.journal.changes import (
    MAX_DEVICE_NAME_BYTES,
    MAX_FLAG_BYTES,
    MAX_PLATFORM_BYTES,
    MAX_TAG_NAME_BYTES,
    Batch,
    Change,
    DeviceChange,
    ExpiresChange,
    FlagsChange,
    TagChange,
    VersionChange,
)
from syncagent.model import (
    CHUNK_SIZE,
    EPOCH,
    MAX_METADATA_BYTES,
    PACK_HEADER,
    TAG_SIZE,
    Codec,
    MetadataValue,
    PackRecord,
    Version,
)

_K = TypeVar("_K", bound=bytes | str)
_V = TypeVar("_V")
_T = TypeVar("_T")
_encode: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode


def check_metadata(metadata: Mapping[str, MetadataValue]) -> dict[str, MetadataValue]:
    """A caller's metadata as a version holds it, keys sorted.

    Raises:
        ConfigError: a key or a value is of a kind that metadata cannot hold; the message names the key.
        LimitExceeded: it is over 16 KiB when packed.
    """
    if not isinstance(metadata, Mapping):
        raise ConfigError(f"metadata is a mapping, not {type(metadata).__name__}", safe="nothing was stored")
    metadata = {_plain(key): _plain(value) for key, value in metadata.items()}
    for key, value in metadata.items():
        problem = _wrong_kind(key, value) or _wrong_value(key, value)
        if problem:
            raise ConfigError(f"metadata {str(key)[:80]!r}: {problem}", safe="nothing was stored")
    ordered = by_key(metadata)
    _check_metadata_size(ordered)
    return ordered


def check_flags(flags: Iterable[str]) -> frozenset[str]:
    """A caller's flags: each 1 to 256 bytes of UTF-8 without NUL.

    Raises:
        InvalidName: one is outside that grammar; the message names it.
    """
    if isinstance(flags, str):  # its letters would be taken for flags
        raise InvalidName(f"{flags[:80]!r} is one flag: pass a set of flags")
    if not isinstance(flags, Iterable):
        raise InvalidName(f"flags are a set of text, not {type(flags).__name__}")
    return frozenset(check_label(flag, "a flag", MAX_FLAG_BYTES) for flag in flags)


def check_label(text: str, what: str, most_bytes: int) -> str:
    """A caller's own text itself, or `InvalidName`."""
    if not isinstance(text, str):
        raise InvalidName(f"{what} is text, not {type(text).__name__}")
    text = names.plain(text)
    try:
        _check_text(text, what, most_bytes)
    except (Tampered, LimitExceeded) as exc:
        raise InvalidName(str(exc)) from None
    return text


def check_change(change: Change) -> None:
    """Raises `LimitExceeded`, `Tampered` or `TooNew` for what the types of a change cannot refuse."""
    match change:
        case VersionChange(version):
            check_version(version)
        case FlagsChange():
            _check_blob(change.namespace, change.blob_id)
            for flag, _ in change.add:
                _check_text(flag, "a flag", MAX_FLAG_BYTES)
        case ExpiresChange():
            _check_blob(change.namespace, change.blob_id)
        case TagChange():
            _check_text(change.name, "a tag's name", MAX_TAG_NAME_BYTES)
        case DeviceChange():
            _check_text(change.name, "a device's name", MAX_DEVICE_NAME_BYTES)
            _check_text(change.platform, "a device's platform", MAX_PLATFORM_BYTES)
            if change.replaces == change.device:
                raise Tampered(f"device {change.device.hex()} is said to replace itself")
        case _:
            # ids only: their types say all
            pass


def check_new(version: Version) -> None:
    """Refuses a version of this device that could not be published: it would hold up all that waits.

    Raises:
        InvalidName, ConfigError: its name or what it says is outside the format; nothing may be stored.
    """
    if type(version.namespace) is not str or type(version.blob_id) is not str:
        raise InvalidName("a blob's name is plain text")
    names.check_blob_id(version.blob_id)
    try:
        check_version(version)
    except (Tampered, LimitExceeded, TooNew) as exc:
        raise ConfigError(f"this cannot be published: {exc}", safe="nothing was stored") from exc


def check_version(version: Version) -> None:
    """Raises `LimitExceeded`, `Tampered` or `TooNew` for what the types of a version cannot refuse."""
    _check_blob(version.namespace, version.blob_id)
    seen = {version.id}
    for parent in version.parents:
        if parent.version in seen:
            raise Tampered(f"version {version} names itself or a parent twice")
        seen.add(parent.version)
    if version.deleted and (version.size or version.content):
        raise Tampered(f"version {version} is a deletion, but has content")
    chunks = -(-version.size // CHUNK_SIZE)
    if len(version.content) != chunks:
        raise Tampered(
            f"version {version} has {len(version.content)} chunks, {chunks} belong to {version.size} bytes"
        )
    for key, value in version.metadata.items():
        if problem := _wrong_kind(key, value):
            raise too_new(f"version {version}, metadata {str(key)[:80]!r}", problem)
        if problem := _wrong_value(key, value):
            raise Tampered(f"version {version}, metadata {key[:80]!r}: {problem}")
    _check_metadata_size(version.metadata)


def check_batch(batch: Batch) -> None:
    """Raises `LimitExceeded`, `Tampered` or `TooNew` for what the types of a batch cannot refuse."""
    versions: set[bytes] = set()
    packs: set[bytes] = set()
    for change in batch.changes:
        check_change(change)
        if isinstance(change, VersionChange):
            if change.version.id in versions:
                raise Tampered(f"a batch holds version {change.version} twice")
            versions.add(change.version.id)
    for pack in batch.packs:
        _check_pack(pack)
        if pack.id in packs:
            raise Tampered(f"a batch names pack {pack.id.hex()} twice")
        packs.add(pack.id)


def _check_pack(pack: PackRecord) -> None:
    if pack.epoch != EPOCH:
        raise too_new(f"pack {pack.id.hex()}", f"epoch {pack.epoch}")
    end = PACK_HEADER + sum(chunk.stored_length for chunk in pack.chunks)
    if pack.size < end:
        raise Tampered(f"pack {pack.id.hex()} has {pack.size} bytes, its chunks end at {end}")
    for chunk in pack.chunks:
        if chunk.codec is Codec.STORED and chunk.stored_length != chunk.raw_length + TAG_SIZE:
            raise Tampered(f"pack {pack.id.hex()} holds a stored chunk of another length than its content")


def _check_blob(namespace: str, blob_id: str) -> None:
    if not names.is_namespace(namespace):
        raise Tampered(f"{namespace[:80]!r} is not a namespace name")
    if problem := names.blob_id_problem(blob_id):
        raise Tampered(f"{blob_id[:80]!r} is not a blob id: {problem}")


def _check_text(text: str, what: str, most_bytes: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Tampered(f"{what} cannot be written as UTF-8: {text[:80]!r}") from None
    if size > most_bytes:
        raise LimitExceeded(f"{what} has {size} bytes, {most_bytes} are allowed: {text[:80]!r}")
    if not size or "\0" in text:
        raise Tampered(f"{what} is empty or contains a NUL: {text[:80]!r}")


def _check_metadata_size(metadata: Mapping[str, MetadataValue]) -> None:
    size = len(_encode(metadata))
    if size > MAX_METADATA_BYTES:
        key = max(metadata, key=lambda key: len(_encode(metadata[key])))
        raise LimitExceeded(
            f"metadata has {size} bytes, {MAX_METADATA_BYTES} are allowed; {key[:80]!r} is its greatest value"
        )


def _plain(value: _T) -> _T:
    return names.plain(value) if isinstance(value, str) else value  # type: ignore[return-value]  # text for text


def _wrong_kind(key: object, value: object) -> str | None:
    """Exact types: `True` is not 1, and what a subclass adds would be lost on the way."""
    if type(key) is not str:
        return f"a key is text, not {type(key).__name__}"
    if type(value) not in (str, int, float, bool, bytes):
        return f"a value is text, int, float, bool or bytes, not {type(value).__name__}"
    return None


def _wrong_value(key: str, value: MetadataValue) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not a finite number"
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return "the number does not fit in 64 bits"
    for text in (key, value):
        if isinstance(text, str):
            try:
                text.encode()
            except UnicodeEncodeError:
                return "the text cannot be written as UTF-8"
    return None


def by_key(mapping: Mapping[_K, _V]) -> dict[_K, _V]:
    """Sorted by hand: msgspec sorts only maps whose keys are text."""
    return dict(sorted(mapping.items()))


def too_new(what: str, problem: str) -> TooNew:
    """The error for what no version of the format known here has."""
    return TooNew(f"{what} was made by a newer syncagent, or altered: {problem[:200]!r}")

"""Names put on versions: last writer wins for each version and name."""

from syncagent.cache import blobs, meta, outbox
from syncagent.cache.db import Database
from syncagent.engine import history
from syncagent.engine.apply import merge_register
from syncagent.engine.history import Name
from syncagent.engine.stamps import next_register_hlc
from syncagent.errors import ConfigError, InvalidName
from syncagent.journal.batch import encode_change
from syncagent.journal.changes import MAX_TAG_NAME_BYTES, TagChange
from syncagent.journal.checks import check_label
from syncagent.journal.merge import Register
from syncagent.model import SyncStatus


def check_tag(name: str) -> str:
    """A tag's name itself; `InvalidName` where it cannot be one, or could be taken for another reference."""
    name = check_label(name, "a tag's name", MAX_TAG_NAME_BYTES)
    if name.startswith("~") or history.is_id(name):
        raise InvalidName(f"{name!r} would be taken for a version: it begins with `~`, or is digits of an id")
    return name


def record_tag(db: Database, name: Name, version: str, tag: str, *, is_on: bool, now_ms: int) -> None:
    """Put a tag on a version, or take it off; no change where it is so already.

    Raises:
        BlobNotFound, VersionNotFound, InvalidName: there is no such version.
        ConfigError: the version stays on this device.
    """
    number = history.version_no(db, name, version)
    row = history.find_known(db, name)
    if (tag in history.tags(db, row.no).get(number, ())) is is_on:
        return
    if blobs.status_of(db, number) is SyncStatus.LOCAL_ONLY:
        raise ConfigError(
            "a version that stays on this device is gone once it is replaced, so it takes no tag",
            todo="put it again with local_only=False",
        )
    version_id = blobs.version_id(db, number)
    key = version_id + tag.encode()
    change = TagChange(version_id, tag, is_on, next_register_hlc(db, "tag", key, now_ms))
    merge_register(db, "tag", key, Register(change, meta.device_id(db)))
    outbox.enqueue_change(db, encode_change(change))

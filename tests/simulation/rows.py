"""What must hold in the cache of one device at any time: nothing waits for ever, and the counts are right."""

from collections import Counter

from syncagent.cache.db import Database
from syncagent.cache.status import PRECEDENCE
from syncagent.cache.waiting import LONGEST_MS
from syncagent.model import SyncStatus

_UPLOADS = f"({SyncStatus.PENDING_UPLOAD}, {SyncStatus.FAILED_UPLOAD})"
_DOWNLOADS = f"({SyncStatus.PENDING_DOWNLOAD}, {SyncStatus.FAILED_DOWNLOAD})"
_LISTED = "SELECT blob_no, flag FROM blob_flag"
_SET = (
    "SELECT blob_no, flag FROM flag_tag JOIN blob ON blob.no = blob_no WHERE NOT deleted"
    " AND winner_no IS NOT NULL"
)
_NEVER = {
    "a version is to be sent and in no queue": "SELECT no FROM version"
    f" WHERE status IN {_UPLOADS} AND no NOT IN (SELECT version_no FROM upload WHERE version_no IS NOT NULL)",
    "a version is to be fetched and in no queue": "SELECT no FROM version"
    f" WHERE status IN {_DOWNLOADS} AND no NOT IN (SELECT version_no FROM download)",
    # What has new metadata may be sent before its content has come.
    "what the queue is to send is not to be sent": "SELECT upload.no FROM upload"
    " JOIN version ON version.no = version_no"
    f" WHERE status IN ({SyncStatus.SYNCED}, {SyncStatus.LOCAL_ONLY})",
    "what the queue is to fetch is not to be fetched": "SELECT version_no FROM download"
    f" JOIN version ON version.no = version_no WHERE status NOT IN {_DOWNLOADS}",
    "the queue names a version that is gone": "SELECT version_no FROM"
    " (SELECT version_no FROM upload UNION SELECT version_no FROM download)"
    " WHERE version_no IS NOT NULL AND version_no NOT IN (SELECT no FROM version)",
    "a row waits for a batch that is not in the outbox": "SELECT no FROM upload WHERE batch_seq IS NOT NULL"
    " AND batch_seq NOT IN (SELECT seq FROM own_batch WHERE NOT confirmed)",
    "a blob has no head": "SELECT no FROM blob WHERE winner_no IS NOT NULL"
    " AND no NOT IN (SELECT blob_no FROM version WHERE status IS NOT NULL)",
    "a blob says of its winner what is not so": "SELECT blob.no FROM blob"
    " JOIN version ON version.no = winner_no WHERE blob_no <> blob.no OR version.status IS NULL"
    " OR blob.deleted <> version.deleted OR blob.size <> version.size OR changed <> hlc",
    "a flag is listed and not set, or set and not listed": f"{_LISTED} EXCEPT {_SET}"
    f" UNION ALL SELECT * FROM ({_SET} EXCEPT {_LISTED})",
    "a tag of a flag is removed and there": "SELECT * FROM flag_tag JOIN flag_removed USING (blob_no, tag)",
    "the count of a flag is wrong": "SELECT namespace_no, flag, blobs FROM flag_count WHERE blobs <>"
    " (SELECT count(*) FROM blob_flag AS listed WHERE listed.namespace_no = flag_count.namespace_no"
    " AND listed.flag = flag_count.flag)",
}
"""SQL that must find nothing, with what is wrong if it does."""
_FAR = (
    "SELECT next_attempt_at FROM"
    " (SELECT next_attempt_at FROM upload UNION SELECT next_attempt_at FROM download)"
    " WHERE next_attempt_at > ?"
)


def check_rows(db: Database, now: float, *, is_synced: bool) -> None:
    """Every row that waits has a time, within a day once a sync has gone through; counts are what they count.

    Args:
        db: the cache of a device.
        now: Unix time of its clock.
        is_synced: a sync has just done what it could; else times may be those of a clock that ran ahead.
    """
    for what, sql in _NEVER.items():
        found = db.all(sql)
        assert not found, f"{what}: {found}"
    if is_synced:
        assert not db.all(_FAR, (int(now * 1000) + LONGEST_MS,)), "a row waits for more than a day"
    heads: dict[int, list[SyncStatus]] = {}
    for blob, status in db.all("SELECT blob_no, status FROM version WHERE status IS NOT NULL"):
        heads.setdefault(blob, []).append(SyncStatus(status))
    counted: Counter[tuple[int, int, int]] = Counter()
    for number, namespace, deleted, status in db.all("SELECT no, namespace_no, deleted, status FROM blob"):
        shown = min(heads[number], key=PRECEDENCE.index) if number in heads else None
        assert status == shown, "a blob shows another status than its heads have"
        if status is not None:
            counted[namespace, deleted, status] += 1
    kept = {
        row[:3]: row[3] for row in db.all("SELECT namespace_no, deleted, status, blobs FROM status_count")
    }
    assert {key: count for key, count in kept.items() if count} == counted, "the counts are wrong"

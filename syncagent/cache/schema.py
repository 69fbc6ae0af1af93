"""The tables of `cache.db`, as numbered migrations.

Migration *n* takes a cache from schema *n - 1* to *n*, in one transaction with
the number itself (`PRAGMA user_version`). A released migration never changes:
`tests/cache/fixtures` keeps a cache of every released schema.

Ids of 16 and 32 bytes stand in one row and are referred to by integer. Large
values (`packed`, `payload`) have rows of their own that nothing updates: a
damaged one is replaced by a new row and a changed pointer, because SQLite
cannot update or delete a row on a damaged page.
"""

from collections.abc import Sequence

from syncagent.cache.db import Database, check_schema
from syncagent.cache.news import sql_kinds
from syncagent.cache.status import sql_rank

_SCHEMA_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

-- Who and where -----------------------------------------------------------------
CREATE TABLE namespace (
    no INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    fetch TEXT NOT NULL DEFAULT 'eager',       -- these as the blob in `.settings` says
    dedup TEXT NOT NULL DEFAULT 'namespace',
    history INTEGER,
    fetch_done TEXT NOT NULL DEFAULT 'eager',  -- the policy by which all that is known is wanted or not
    local_only INTEGER NOT NULL DEFAULT 0      -- of this device alone
);
CREATE TABLE device (
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    seq INTEGER NOT NULL DEFAULT 0,            -- cursor: the last batch applied here, or issued by us
    chain BLOB,                                -- the chain value after it
    announced_seq INTEGER NOT NULL DEFAULT 0,  -- the cursor our own batches have named
    owed_seq INTEGER NOT NULL DEFAULT 0,       -- the last batch that changed something here
    shown_seq INTEGER NOT NULL DEFAULT 0,      -- the highest seq any device's heads named
    shown_chain BLOB
);

-- Blobs and versions ----------------------------------------------------------
CREATE TABLE blob (
    no INTEGER PRIMARY KEY,
    namespace_no INTEGER NOT NULL,
    id TEXT NOT NULL,
    winner_no INTEGER,                         -- null: only facts without a version are known
    deleted INTEGER NOT NULL DEFAULT 0,        -- of the winner, like the next three
    size INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL DEFAULT 0,
    changed INTEGER NOT NULL DEFAULT 0,        -- hlc
    conflict INTEGER NOT NULL DEFAULT 0,
    pinned INTEGER NOT NULL DEFAULT 0,         -- on this device: its content is wanted, whatever the policy
    expires_at INTEGER,                        -- Unix ms, what its rows in `expiry` say; null: never
    status INTEGER,                            -- kept by the triggers below
    UNIQUE (namespace_no, id)
);
CREATE INDEX blob_conflict ON blob (namespace_no, id) WHERE conflict;
-- With the columns that tell of live blobs, so that counts are answered by the index and read no blob.
CREATE INDEX blob_expires ON blob (namespace_no, expires_at, no, deleted, winner_no)
    WHERE expires_at IS NOT NULL;
-- What a count of ids takes off.
CREATE INDEX blob_hidden ON blob (namespace_no, id, deleted, winner_no) WHERE deleted OR winner_no IS NULL;
CREATE TABLE access (                          -- on this device alone
    blob_no INTEGER PRIMARY KEY,
    reads INTEGER NOT NULL,                    -- how often its content was read
    read_at INTEGER NOT NULL                   -- when last, Unix ms
);
-- New blobs go to the end of both: a page a transaction, not a page a blob.
CREATE INDEX blob_changed ON blob (namespace_no, changed) WHERE NOT deleted AND winner_no IS NOT NULL;
CREATE INDEX blob_created ON blob (namespace_no, created_at) WHERE NOT deleted AND winner_no IS NOT NULL;
-- Not of what is synced or waits: then each put and each fetch would write a page of it for every blob.
CREATE INDEX blob_status ON blob (namespace_no, status, id) WHERE status > 3 AND NOT deleted;
CREATE TABLE packed (no INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE version (
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    blob_no INTEGER NOT NULL,
    device_no INTEGER NOT NULL,
    seq INTEGER NOT NULL,                      -- of the batch that published it; 0: not yet
    hlc INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    size INTEGER NOT NULL,
    packed_no INTEGER NOT NULL,
    packed_sha256 BLOB NOT NULL,
    status INTEGER                             -- not null: this version is a head
);
CREATE INDEX version_blob ON version (blob_no, status);
CREATE TABLE parent (
    version_no INTEGER NOT NULL,
    position INTEGER NOT NULL,
    parent_id BLOB NOT NULL,
    device BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (version_no, position)
) WITHOUT ROWID;
CREATE INDEX parent_id ON parent (parent_id);
CREATE TABLE hole (                            -- parents that are unknown and above the cursor
    blob_no INTEGER NOT NULL,
    parent_id BLOB NOT NULL,
    device BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (blob_no, parent_id)
) WITHOUT ROWID;

-- Content -------------------------------------------------------------------------
CREATE TABLE payload (no INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
CREATE TABLE chunk (
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    raw_length INTEGER,                        -- null: only a version has named it so far
    scope BLOB,                                -- null: only a pack has named it so far
    payload_no INTEGER                         -- the content in this file, if it is here
);
CREATE TABLE version_chunk (
    version_no INTEGER NOT NULL,
    position INTEGER NOT NULL,
    chunk_no INTEGER NOT NULL,
    PRIMARY KEY (version_no, position)
) WITHOUT ROWID;
CREATE INDEX version_chunk_chunk ON version_chunk (chunk_no);
CREATE TABLE pack (                            -- as one device or more have recorded it
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    record_sha256 BLOB NOT NULL,               -- faulty devices may record another's pack wrongly
    size INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    salt BLOB NOT NULL,
    is_remote INTEGER NOT NULL,                -- 1: the PUT succeeded, or a journal names it
    has_file INTEGER NOT NULL,                 -- 1: packs/<id> is here
    put_at INTEGER NOT NULL DEFAULT 0,         -- Unix ms of our own PUT
    -- Unix ms at which somebody last knew it to be at the remote; 0: it was asked for and not given since;
    -- -1: what was given did not verify.
    seen_at INTEGER NOT NULL DEFAULT 0,
    batch_seq INTEGER,                         -- our batch that announces it; 0: another device's
    UNIQUE (id, record_sha256)
);
CREATE INDEX pack_unannounced ON pack (no) WHERE batch_seq IS NULL;
CREATE TABLE pack_chunk (
    pack_no INTEGER NOT NULL,
    position INTEGER NOT NULL,
    chunk_no INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    stored_length INTEGER NOT NULL,
    raw_length INTEGER NOT NULL,
    codec INTEGER NOT NULL,
    is_damaged INTEGER NOT NULL,               -- 1: the pack file here does not hold it any more
    PRIMARY KEY (pack_no, position)
) WITHOUT ROWID;
CREATE INDEX pack_chunk_chunk ON pack_chunk (chunk_no);
CREATE TABLE outside_file (
    no INTEGER PRIMARY KEY,
    root TEXT NOT NULL,
    path TEXT NOT NULL,
    size INTEGER NOT NULL,                     -- the recorded stat
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    UNIQUE (root, path)
);
CREATE TABLE outside_chunk (
    chunk_no INTEGER NOT NULL,
    file_no INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    PRIMARY KEY (chunk_no, file_no, offset)
) WITHOUT ROWID;

-- Work ------------------------------------------------------------------------------
CREATE TABLE upload (
    no INTEGER PRIMARY KEY,                    -- age
    version_no INTEGER UNIQUE,                 -- or
    change BLOB,                               -- a packed change without content
    group_id BLOB,                             -- transaction: its rows go out together
    priority INTEGER NOT NULL,
    retries INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    batch_seq INTEGER,                         -- in the outbox with this batch
    was_bare INTEGER NOT NULL DEFAULT 0        -- 1: a version whose content was not here when it was made
);
CREATE INDEX upload_bare ON upload (version_no) WHERE was_bare;
CREATE INDEX upload_due ON upload (priority, no) WHERE batch_seq IS NULL;
CREATE INDEX upload_group ON upload (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX upload_batch ON upload (batch_seq) WHERE batch_seq IS NOT NULL;
CREATE INDEX upload_later ON upload (next_attempt_at) WHERE next_attempt_at > 0;
CREATE INDEX upload_failed ON upload (last_error) WHERE last_error IS NOT NULL;
CREATE TABLE download (
    version_no INTEGER PRIMARY KEY,
    priority INTEGER NOT NULL,
    retries INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER NOT NULL DEFAULT 0,
    last_error TEXT
);
CREATE INDEX download_due ON download (priority, version_no);
CREATE INDEX download_later ON download (next_attempt_at) WHERE next_attempt_at > 0;
CREATE INDEX download_failed ON download (last_error) WHERE last_error IS NOT NULL;
CREATE TABLE own_batch (                       -- every sealed batch we issued; unconfirmed: the outbox
    device_no INTEGER NOT NULL,                -- our id, or one we had before
    seq INTEGER NOT NULL,
    payload_no INTEGER NOT NULL,
    object_sha256 BLOB NOT NULL,
    chain BLOB NOT NULL,
    confirmed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (device_no, seq)
) WITHOUT ROWID;
CREATE INDEX own_batch_unconfirmed ON own_batch (seq) WHERE NOT confirmed;

-- Facts of the journal that are not versions ---------------------------------------
CREATE TABLE flag_tag (                        -- those that nobody has removed
    blob_no INTEGER NOT NULL, flag TEXT NOT NULL, tag INTEGER NOT NULL,
    PRIMARY KEY (blob_no, flag, tag)
) WITHOUT ROWID;
CREATE INDEX flag_tag_tag ON flag_tag (blob_no, tag);
CREATE TABLE flag_removed (                    -- also those that have not come yet
    blob_no INTEGER NOT NULL, tag INTEGER NOT NULL, PRIMARY KEY (blob_no, tag)
) WITHOUT ROWID;
-- The flags that are set on live blobs, in the order in which they are listed; kept by the triggers below.
CREATE TABLE blob_flag (
    namespace_no INTEGER NOT NULL, flag TEXT NOT NULL, id TEXT NOT NULL, blob_no INTEGER NOT NULL,
    PRIMARY KEY (namespace_no, flag, id)
) WITHOUT ROWID;
CREATE TABLE flag_count (
    namespace_no INTEGER NOT NULL, flag TEXT NOT NULL, blobs INTEGER NOT NULL,
    PRIMARY KEY (namespace_no, flag)
) WITHOUT ROWID;
CREATE TABLE expiry (
    blob_no INTEGER NOT NULL, hlc INTEGER NOT NULL, device_no INTEGER NOT NULL,
    at INTEGER NOT NULL, forced INTEGER NOT NULL,
    PRIMARY KEY (blob_no, hlc, device_no, at, forced)
) WITHOUT ROWID;
CREATE TABLE register (                        -- last writer wins: version tags, devices, key slots
    kind TEXT NOT NULL, key BLOB NOT NULL, hlc INTEGER NOT NULL, device BLOB NOT NULL,
    change BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE kept_change (                     -- kinds that upkeep will act on
    device_no INTEGER NOT NULL, seq INTEGER NOT NULL, position INTEGER NOT NULL,
    kind TEXT NOT NULL, change BLOB NOT NULL,
    PRIMARY KEY (device_no, seq, position)
) WITHOUT ROWID;

-- What has changed here, in order: `news.py`. Rows go at the old end only -----------------
CREATE TABLE news (
    no INTEGER PRIMARY KEY,
    blob_no INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    version_no INTEGER,                        -- the winner that a blob has moved to
    mark INTEGER NOT NULL DEFAULT 0            -- random: tells this row from one of a restored cache
);
CREATE TRIGGER blob_moved AFTER UPDATE OF winner_no, conflict ON blob BEGIN
    INSERT INTO news (blob_no, kind, version_no) VALUES (
        NEW.no, CASE WHEN OLD.winner_no IS NEW.winner_no THEN @other ELSE @moved END, NEW.winner_no);
    INSERT INTO news (blob_no, kind)
        SELECT NEW.no, CASE WHEN NEW.conflict THEN @disputed ELSE @settled END
        WHERE OLD.conflict <> NEW.conflict;
END;
-- Not once more after what the same transaction (`mark` is 0) has just told of the blob.
CREATE TRIGGER flag_added AFTER INSERT ON flag_tag
WHEN (SELECT winner_no FROM blob WHERE no = NEW.blob_no) IS NOT NULL BEGIN
    INSERT INTO news (blob_no, kind) SELECT NEW.blob_no, @flagged WHERE NOT EXISTS (
        SELECT 1 FROM news WHERE no = (SELECT max(no) FROM news)
        AND blob_no = NEW.blob_no AND kind = @flagged AND mark = 0);
END;
CREATE TRIGGER flag_taken AFTER INSERT ON flag_removed
WHEN (SELECT winner_no FROM blob WHERE no = NEW.blob_no) IS NOT NULL BEGIN
    INSERT INTO news (blob_no, kind) SELECT NEW.blob_no, @flagged WHERE NOT EXISTS (
        SELECT 1 FROM news WHERE no = (SELECT max(no) FROM news)
        AND blob_no = NEW.blob_no AND kind = @flagged AND mark = 0);
END;
CREATE TRIGGER blob_dated AFTER UPDATE OF expires_at ON blob
WHEN OLD.expires_at IS NOT NEW.expires_at AND NEW.winner_no IS NOT NULL BEGIN
    INSERT INTO news (blob_no, kind) VALUES (NEW.no, @other);
END;

-- What follows from the flags ---------------------------------------------------------
CREATE TRIGGER flag_listed AFTER INSERT ON flag_tag BEGIN
    INSERT OR IGNORE INTO blob_flag
        SELECT namespace_no, NEW.flag, id, no FROM blob
        WHERE no = NEW.blob_no AND NOT deleted AND winner_no IS NOT NULL;
END;
CREATE TRIGGER flag_dropped AFTER INSERT ON flag_removed BEGIN
    DELETE FROM flag_tag WHERE blob_no = NEW.blob_no AND tag = NEW.tag;
END;
-- By keys alone: however many tags a flag has had, a faulty device's thousands too.
CREATE TRIGGER flag_unlisted AFTER DELETE ON flag_tag
WHEN NOT EXISTS (SELECT 1 FROM flag_tag WHERE blob_no = OLD.blob_no AND flag = OLD.flag) BEGIN
    DELETE FROM blob_flag
        WHERE (namespace_no, flag, id) = (SELECT namespace_no, OLD.flag, id FROM blob WHERE no = OLD.blob_no);
END;
CREATE TRIGGER blob_revived AFTER UPDATE OF deleted, winner_no ON blob
WHEN NOT NEW.deleted AND NEW.winner_no IS NOT NULL AND (OLD.deleted OR OLD.winner_no IS NULL) BEGIN
    INSERT OR IGNORE INTO blob_flag
        SELECT NEW.namespace_no, flag, NEW.id, NEW.no FROM flag_tag WHERE blob_no = NEW.no;
END;
CREATE TRIGGER blob_died AFTER UPDATE OF deleted, winner_no ON blob
WHEN (NEW.deleted OR NEW.winner_no IS NULL) AND NOT OLD.deleted AND OLD.winner_no IS NOT NULL BEGIN
    DELETE FROM blob_flag
        WHERE namespace_no = NEW.namespace_no AND id = NEW.id
        AND flag IN (SELECT flag FROM flag_tag WHERE blob_no = NEW.no);
END;
CREATE TRIGGER flag_counted AFTER INSERT ON blob_flag BEGIN
    -- No upsert: the conflict clause of the statement that fires a trigger holds in it too.
    INSERT INTO flag_count SELECT NEW.namespace_no, NEW.flag, 0
        WHERE NOT EXISTS (SELECT 1 FROM flag_count WHERE namespace_no = NEW.namespace_no AND flag = NEW.flag);
    UPDATE flag_count SET blobs = blobs + 1 WHERE namespace_no = NEW.namespace_no AND flag = NEW.flag;
END;
CREATE TRIGGER flag_uncounted AFTER DELETE ON blob_flag BEGIN
    UPDATE flag_count SET blobs = blobs - 1 WHERE namespace_no = OLD.namespace_no AND flag = OLD.flag;
END;

-- Counts per status, so that status needs no scan -------------------------------------
CREATE TABLE status_count (
    namespace_no INTEGER NOT NULL, deleted INTEGER NOT NULL, status INTEGER NOT NULL,
    blobs INTEGER NOT NULL,
    PRIMARY KEY (namespace_no, deleted, status)
) WITHOUT ROWID;
CREATE TRIGGER namespace_counted AFTER INSERT ON namespace BEGIN
    INSERT INTO status_count
        SELECT NEW.no, deleted.value, status.value, 0
        FROM (SELECT 0 AS value UNION ALL SELECT 1) AS deleted,
             (SELECT 1 AS value UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
              UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7) AS status;
END;
CREATE TRIGGER blob_arrived AFTER INSERT ON blob WHEN NEW.status IS NOT NULL BEGIN
    UPDATE status_count SET blobs = blobs + 1
        WHERE namespace_no = NEW.namespace_no AND deleted = NEW.deleted AND status = NEW.status;
    INSERT INTO news (blob_no, kind, version_no) VALUES (NEW.no, @moved, NEW.winner_no);
END;
CREATE TRIGGER blob_counted AFTER UPDATE OF status, deleted ON blob
WHEN OLD.status IS NOT NEW.status OR OLD.deleted <> NEW.deleted BEGIN
    UPDATE status_count SET blobs = blobs - 1
        WHERE namespace_no = OLD.namespace_no AND deleted = OLD.deleted AND status = OLD.status;
    UPDATE status_count SET blobs = blobs + 1
        WHERE namespace_no = NEW.namespace_no AND deleted = NEW.deleted AND status = NEW.status;
    INSERT INTO news (blob_no, kind) SELECT NEW.no, @other
        WHERE OLD.status <> NEW.status AND NOT EXISTS (
            SELECT 1 FROM news WHERE no = (SELECT max(no) FROM news) AND blob_no = NEW.no AND mark = 0);
END;
CREATE TRIGGER version_arrived AFTER INSERT ON version WHEN NEW.status IS NOT NULL BEGIN
    UPDATE blob SET status = (
        SELECT status FROM version WHERE blob_no = NEW.blob_no AND status IS NOT NULL
        ORDER BY @rank LIMIT 1) WHERE no = NEW.blob_no;
END;
-- What is sent or fetched is a version: the blob's status may be another head's.
CREATE TRIGGER version_moved AFTER UPDATE OF status ON version WHEN OLD.status IS NOT NEW.status BEGIN
    INSERT INTO news (blob_no, kind)
        SELECT NEW.blob_no, CASE WHEN OLD.status IN (2, 4) THEN @sent ELSE @fetched END
        WHERE NEW.status = 1 AND OLD.status IN (2, 3, 4, 5, 6)
        OR NEW.status = 2 AND OLD.status IN (3, 5, 6);
    UPDATE blob SET status = (
        SELECT status FROM version WHERE blob_no = NEW.blob_no AND status IS NOT NULL
        ORDER BY @rank LIMIT 1) WHERE no = NEW.blob_no;
END;
-- New metadata of content that is not here: its status tells of the content alone.
CREATE TRIGGER bare_sent AFTER DELETE ON upload WHEN OLD.was_bare AND OLD.batch_seq IS NOT NULL BEGIN
    INSERT INTO news (blob_no, kind) SELECT blob_no, @sent FROM version
        WHERE no = OLD.version_no AND status IN (3, 5, 6);
END;
"""

MIGRATIONS: tuple[str, ...] = (sql_kinds(_SCHEMA_1.replace("@rank", sql_rank("status"))),)
SCHEMA = len(MIGRATIONS)


def migrate(db: Database, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring an open cache to the newest schema; nothing is written when it is there already.

    Args:
        db: the cache.
        migrations: what makes each schema of the one before it.

    Raises:
        TooNew: a newer syncagent has migrated it.
    """
    found = int(db.scalar("PRAGMA user_version"))
    check_schema(found, len(migrations))
    for number in range(found + 1, len(migrations) + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            if int(db.scalar("PRAGMA user_version")) < number:  # else another process was quicker
                for statement in _statements(migrations[number - 1]):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number}")
            db.commit()
        except BaseException:
            db.reopen()  # rolls back, also where a full disk would fail a ROLLBACK
            raise


def _statements(script: str) -> list[str]:
    """The statements of a script; a trigger's own semicolons do not end it."""
    statements: list[str] = []
    current: list[str] = []
    for line in script.splitlines():
        bare = line.split("--")[0].rstrip()
        if not bare:
            continue
        current.append(bare)
        in_trigger = current[0].startswith("CREATE TRIGGER")
        if bare == "END;" if in_trigger else bare.endswith(";"):
            statements.append("\n".join(current))
            current = []
    return statements

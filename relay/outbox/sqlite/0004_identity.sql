-- The outbox of ion-relay on SQLite, version 4: the identity of the store, and limits of columns that broke a tenant.

-- == The identity of the store ==

-- One row: the relay process that wrote last, and the number of that write. A file that a copy replaced holds another
-- process, or an earlier number.
CREATE TABLE relay_identity (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    writer   TEXT NOT NULL,
    position INTEGER NOT NULL
);

-- == Limits of columns ==

-- SQLite cannot add a constraint to a table. A trigger for what is written from now on does the same, without making a
-- table of millions of rows anew, and leaves old rows to be settled (decision 0018).
--
-- AUTOINCREMENT continues behind the greatest id: after the last one there is none, for any message. Python has no
-- year 0. Bytes that are not UTF-8, which a program in C can write (or CAST(x'ff' AS TEXT)): read as text, two message
-- ids may become one. And the control characters that PostgreSQL refuses too. A character that is written again by its
-- code point is the same bytes, if they were UTF-8. (SQLite takes U+FFFE and U+FFFF for none.) Texts in ASCII, nearly
-- all, are not looked at any further.
CREATE TRIGGER relay_outbox_inserted_limits AFTER INSERT ON relay_outbox
    WHEN NEW.id > 4611686018427387904
    OR NEW.created_at < '0001' OR NEW.queued_at < '0001' OR NEW.not_before < '0001' OR NEW.settled_at < '0001'
    OR NEW.document_name || NEW.message_id || NEW.to_logical_id || coalesce(NEW.ordering_key, '') GLOB '*[^ -~]*'
BEGIN
    SELECT RAISE(ABORT, 'CHECK constraint failed: id_is_at_most_4611686018427387904')
        WHERE NEW.id > 4611686018427387904;
    SELECT RAISE(ABORT, 'CHECK constraint failed: instants_are_in_the_years_1_to_9999')
        WHERE NEW.created_at < '0001' OR NEW.queued_at < '0001' OR NEW.not_before < '0001' OR NEW.settled_at < '0001';
    SELECT RAISE(ABORT, 'CHECK constraint failed: texts_are_printable_utf_8')
    FROM (SELECT NEW.document_name || ' ' || NEW.message_id || ' ' || NEW.to_logical_id || ' '
                 || coalesce(NEW.ordering_key, '') AS texts)
    WHERE NEW.document_name || NEW.message_id || coalesce(NEW.ordering_key, '')
          GLOB '*[' || char(128) || '-' || char(159) || ']*' OR EXISTS (
        SELECT 1 FROM json_each('[0' || replace(hex(zeroblob(length(texts))), '00', ',0') || ']')
        WHERE key > 0
          AND CAST(substr(texts, key, 1) AS BLOB) <> CAST(char(unicode(substr(texts, key, 1))) AS BLOB)
          AND hex(substr(texts, key, 1)) NOT IN ('EFBFBE', 'EFBFBF'));
END;

CREATE TRIGGER relay_outbox_updated_limits
    AFTER UPDATE OF document_name, message_id, to_logical_id, ordering_key, created_at ON relay_outbox
    WHEN NEW.created_at < '0001'
    OR NEW.document_name || NEW.message_id || NEW.to_logical_id || coalesce(NEW.ordering_key, '') GLOB '*[^ -~]*'
BEGIN
    SELECT RAISE(ABORT, 'CHECK constraint failed: instants_are_in_the_years_1_to_9999')
        WHERE NEW.created_at < '0001';
    SELECT RAISE(ABORT, 'CHECK constraint failed: texts_are_printable_utf_8')
    FROM (SELECT NEW.document_name || ' ' || NEW.message_id || ' ' || NEW.to_logical_id || ' '
                 || coalesce(NEW.ordering_key, '') AS texts)
    WHERE NEW.document_name || NEW.message_id || coalesce(NEW.ordering_key, '')
          GLOB '*[' || char(128) || '-' || char(159) || ']*' OR EXISTS (
        SELECT 1 FROM json_each('[0' || replace(hex(zeroblob(length(texts))), '00', ',0') || ']')
        WHERE key > 0
          AND CAST(substr(texts, key, 1) AS BLOB) <> CAST(char(unicode(substr(texts, key, 1))) AS BLOB)
          AND hex(substr(texts, key, 1)) NOT IN ('EFBFBE', 'EFBFBF'));
END;

-- Those that wait already can be selected by no document and no key that is text: they are parked.
CREATE TABLE relay_not_utf_8 AS
    SELECT id FROM (
        SELECT id, document_name || ' ' || coalesce(ordering_key, '') AS texts FROM relay_outbox
        WHERE state = 'pending'
          AND (document_name GLOB '*[^ -~]*'
               OR ordering_key GLOB '*[^ -~]*'))
    WHERE EXISTS (
        SELECT 1 FROM json_each('[0' || replace(hex(zeroblob(length(texts))), '00', ',0') || ']')
        WHERE key > 0
          AND CAST(substr(texts, key, 1) AS BLOB) <> CAST(char(unicode(substr(texts, key, 1))) AS BLOB)
          AND hex(substr(texts, key, 1)) NOT IN ('EFBFBE', 'EFBFBF'));
INSERT INTO relay_history (row, what, detail)
    SELECT id, 'parked', 'document_name or ordering_key: is not UTF-8; enqueue it again, with text in UTF-8'
    FROM relay_not_utf_8;
UPDATE relay_outbox
    SET state = 'parked', settled_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), not_before = NULL,
        reason = 'document_name or ordering_key: is not UTF-8; enqueue it again, with text in UTF-8'
    WHERE id IN (SELECT id FROM relay_not_utf_8);
DROP TABLE relay_not_utf_8;

-- == Settlements that are written again ==

-- Which settlement an entry is of; null: none. After an answer that was lost it is written again: once is enough.
-- Of a message that an operator retried: the bulk action, so that what became of its messages can be counted.
ALTER TABLE relay_history ADD COLUMN settlement TEXT;
CREATE INDEX relay_history_retried ON relay_history (settlement, row) WHERE what = 'retried';

-- == What happened, by time ==

-- Counts of each tenant (in upper case; empty: of all) in stretches of `span` seconds from `start` on (since 1970, UTC), as
-- each relay process, the `source`, counted them. Durations: JSON, how many in each bucket. The source is empty where a
-- relay looked how many messages of all processes wait: the most that were seen. Deleted after two hours (minutes) or a
-- day (quarters of an hour).
CREATE TABLE relay_activity (
    span      INTEGER NOT NULL,
    start     INTEGER NOT NULL,
    tenant_id TEXT NOT NULL,
    source    TEXT NOT NULL,
    delivered INTEGER NOT NULL DEFAULT 0,
    failed    INTEGER NOT NULL DEFAULT 0,
    parked    INTEGER NOT NULL DEFAULT 0,
    waiting   INTEGER,
    queued    TEXT NOT NULL DEFAULT '{}',
    answered  TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (span, start, tenant_id, source)
) WITHOUT ROWID;

INSERT INTO relay_schema (version) VALUES (4);

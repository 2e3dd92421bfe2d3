-- The outbox of ion-relay on SQLite, version 1.
--
-- For applications: INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES (?, ?, ?)
-- is enough, in a transaction of your own. A column that is left out, or given as NULL, gets its default.
-- Instants are UTC text like 2025-01-31T23:59:59.123Z, so that they compare and sort as text.

CREATE TABLE relay_schema (
    version    INTEGER PRIMARY KEY,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);

-- `payload` stands last, so that the other columns are read without it.
-- AUTOINCREMENT: an id is never given twice, so a late settlement cannot hit a new message.
CREATE TABLE relay_outbox (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id     TEXT NOT NULL COLLATE NOCASE,
    document_name TEXT NOT NULL,
    message_id    TEXT NOT NULL ON CONFLICT REPLACE DEFAULT (lower(
        hex(randomblob(6)) || '4' || substr(hex(randomblob(2)), 2)
        || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || hex(randomblob(6)))),
    to_logical_id TEXT NOT NULL ON CONFLICT REPLACE DEFAULT 'lid://default',
    ordering_key  TEXT,
    parameters    TEXT NOT NULL ON CONFLICT REPLACE DEFAULT '{}',
    state         TEXT NOT NULL ON CONFLICT REPLACE DEFAULT 'pending',
    attempts      INTEGER NOT NULL ON CONFLICT REPLACE DEFAULT 0,
    not_before    TEXT,
    reason        TEXT,
    created_at    TEXT NOT NULL ON CONFLICT REPLACE DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    queued_at     TEXT NOT NULL ON CONFLICT REPLACE DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    settled_at    TEXT,
    payload       BLOB NOT NULL,
    UNIQUE (message_id, tenant_id),
    CONSTRAINT tenant_id_is_1_to_22_letters_digits_underscores CHECK (
        typeof(tenant_id) = 'text' AND length(CAST(tenant_id AS BLOB)) BETWEEN 1 AND 22
        AND instr(tenant_id, char(0)) = 0 AND tenant_id NOT GLOB '*[^A-Za-z0-9_]*'),
    CONSTRAINT document_name_is_1_to_100_printable_characters CHECK (
        typeof(document_name) = 'text' AND length(document_name) BETWEEN 1 AND 100 AND trim(document_name) <> ''
        AND instr(document_name, char(0)) = 0
        AND document_name NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || ']*'),
    CONSTRAINT message_id_is_1_to_250_printable_characters CHECK (
        typeof(message_id) = 'text' AND length(message_id) BETWEEN 1 AND 250 AND trim(message_id) <> ''
        AND instr(message_id, char(0)) = 0
        AND message_id NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || ']*'),
    CONSTRAINT to_logical_id_begins_with_lid_and_has_at_most_250_characters CHECK (
        typeof(to_logical_id) = 'text' AND length(CAST(to_logical_id AS BLOB)) <= 250
        AND instr(to_logical_id, char(0)) = 0 AND to_logical_id GLOB 'lid://?*'),
    CONSTRAINT ordering_key_is_null_or_1_to_250_printable_characters CHECK (
        ordering_key IS NULL
        OR typeof(ordering_key) = 'text' AND length(ordering_key) BETWEEN 1 AND 250 AND trim(ordering_key) <> ''
        AND instr(ordering_key, char(0)) = 0
        AND ordering_key NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || ']*'),
    CONSTRAINT parameters_is_a_json_object CHECK (
        CASE WHEN typeof(parameters) = 'text' AND json_valid(parameters)
             THEN json_type(parameters) = 'object' ELSE 0 END),
    CONSTRAINT state_is_pending_delivered_parked_or_dropped CHECK (
        state IN ('pending', 'delivered', 'parked', 'dropped')),
    CONSTRAINT attempts_is_a_whole_number_from_0 CHECK (typeof(attempts) = 'integer' AND attempts >= 0),
    CONSTRAINT payload_is_bytes_or_text_and_not_empty CHECK (
        typeof(payload) IN ('blob', 'text') AND length(CAST(payload AS BLOB)) > 0),
    -- The format first: strftime() of 'now' is an error of another kind in a constraint. '+0 days': no 30 February.
    CONSTRAINT instants_are_utc_like_2025_01_31T23_59_59_123Z CHECK (
        CASE WHEN created_at GLOB '????-??-??T??:??:??.???Z'
             THEN coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', created_at, '+0 days') = created_at, 0) ELSE 0 END
        AND CASE WHEN queued_at GLOB '????-??-??T??:??:??.???Z'
             THEN coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', queued_at, '+0 days') = queued_at, 0) ELSE 0 END
        AND (not_before IS NULL OR CASE WHEN not_before GLOB '????-??-??T??:??:??.???Z'
             THEN coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', not_before, '+0 days') = not_before, 0) ELSE 0 END)
        AND (settled_at IS NULL OR CASE WHEN settled_at GLOB '????-??-??T??:??:??.???Z'
             THEN coalesce(strftime('%Y-%m-%dT%H:%M:%fZ', settled_at, '+0 days') = settled_at, 0) ELSE 0 END))
);

-- Pending rows lane by lane (no key: one lane): whatever one lane or one document piles up is stepped over.
CREATE INDEX relay_outbox_lanes ON relay_outbox (tenant_id, document_name, ordering_key, id)
    WHERE state = 'pending';
-- Pending rows that have a key, in the order of their ids, over all lanes.
CREATE INDEX relay_outbox_keyed ON relay_outbox (tenant_id, document_name, id, ordering_key)
    WHERE state = 'pending' AND ordering_key IS NOT NULL;
-- What an operator has to decide about.
CREATE INDEX relay_outbox_aside ON relay_outbox (state, tenant_id, id)
    WHERE state = 'parked' OR state = 'dropped';
-- What may be deleted, oldest first.
CREATE INDEX relay_outbox_settled ON relay_outbox (settled_at)
    WHERE state = 'delivered' OR state = 'dropped';
-- A tenant's rows, for operators who list them; untouched by settlements.
CREATE INDEX relay_outbox_tenant ON relay_outbox (tenant_id, id);

-- How many rows of each state, kept by triggers: counting a million delivered rows takes too long.
CREATE TABLE relay_counts (
    tenant_id TEXT PRIMARY KEY COLLATE NOCASE,
    pending   INTEGER NOT NULL DEFAULT 0,
    delivered INTEGER NOT NULL DEFAULT 0,
    parked    INTEGER NOT NULL DEFAULT 0,
    dropped   INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- What happened to a message besides plain delivery; goes with the message.
CREATE TABLE relay_history (
    id     INTEGER PRIMARY KEY,
    row    INTEGER NOT NULL,
    at     TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    what   TEXT NOT NULL CHECK (what IN ('released', 'blamed', 'parked', 'delivered', 'retried', 'dropped')),
    detail TEXT NOT NULL
);
CREATE INDEX relay_history_row ON relay_history (row, id);

CREATE TRIGGER relay_outbox_inserted AFTER INSERT ON relay_outbox
BEGIN
    INSERT INTO relay_counts (tenant_id)
        SELECT upper(NEW.tenant_id)
        WHERE NOT EXISTS (SELECT 1 FROM relay_counts WHERE tenant_id = NEW.tenant_id);
    UPDATE relay_counts
        SET pending = pending + (NEW.state = 'pending'), delivered = delivered + (NEW.state = 'delivered'),
            parked = parked + (NEW.state = 'parked'), dropped = dropped + (NEW.state = 'dropped')
        WHERE tenant_id = NEW.tenant_id;
END;

CREATE TRIGGER relay_outbox_state_changed AFTER UPDATE OF state ON relay_outbox WHEN OLD.state <> NEW.state
BEGIN
    UPDATE relay_counts
        SET pending = pending + (NEW.state = 'pending') - (OLD.state = 'pending'),
            delivered = delivered + (NEW.state = 'delivered') - (OLD.state = 'delivered'),
            parked = parked + (NEW.state = 'parked') - (OLD.state = 'parked'),
            dropped = dropped + (NEW.state = 'dropped') - (OLD.state = 'dropped')
        WHERE tenant_id = NEW.tenant_id;
END;

CREATE TRIGGER relay_outbox_deleted AFTER DELETE ON relay_outbox
BEGIN
    UPDATE relay_counts
        SET pending = pending - (OLD.state = 'pending'), delivered = delivered - (OLD.state = 'delivered'),
            parked = parked - (OLD.state = 'parked'), dropped = dropped - (OLD.state = 'dropped')
        WHERE tenant_id = OLD.tenant_id;
    DELETE FROM relay_history WHERE row = OLD.id;
END;

-- What operators decided about a tenant, and its live state as its worker last wrote it.
CREATE TABLE relay_tenants (
    tenant_id TEXT PRIMARY KEY COLLATE NOCASE,
    revision  INTEGER NOT NULL DEFAULT 0,
    paused    TEXT,
    relay     TEXT,
    state     TEXT,
    reason    TEXT,
    since     TEXT,
    next_try  TEXT
) WITHOUT ROWID;

-- One row a relay process, deleted at a clean stop. `token` distinguishes two processes of one name.
CREATE TABLE relay_relays (
    relay      TEXT PRIMARY KEY,
    token      TEXT NOT NULL,
    details    TEXT NOT NULL,
    started_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    beat_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) WITHOUT ROWID;

INSERT INTO relay_schema (version) VALUES (1);

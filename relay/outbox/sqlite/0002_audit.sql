-- The outbox of ion-relay on SQLite, version 2: an audit of operators' actions, and payloads that are purged before their rows.

-- Null while the payload is kept. Once it is purged: its length, and `payload` is its SHA-256.
ALTER TABLE relay_outbox ADD COLUMN payload_size INTEGER;

-- What operators did, and how far a bulk action has come.
CREATE TABLE relay_audit (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    who       TEXT NOT NULL,
    what      TEXT NOT NULL,
    tenant_id TEXT COLLATE NOCASE,      -- null: messages of any tenant
    selection TEXT NOT NULL,            -- which messages, in words
    reason    TEXT NOT NULL,
    messages  INTEGER NOT NULL DEFAULT 0,
    outcome   TEXT NOT NULL CHECK (outcome IN ('running', 'done', 'cancelled', 'failed')),
    ended_at  TEXT,
    wanted    TEXT,                     -- the same selection for the relay, as JSON
    reached   INTEGER NOT NULL DEFAULT 0,
    moved_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE INDEX relay_audit_tenant ON relay_audit (tenant_id, id);
CREATE INDEX relay_audit_running ON relay_audit (id) WHERE outcome = 'running';

INSERT INTO relay_schema (version) VALUES (2);

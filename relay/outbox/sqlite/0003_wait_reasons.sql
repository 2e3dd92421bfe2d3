-- The outbox of ion-relay on SQLite, version 3: what a tenant waits for as data, and 'counted' in a message's history.

-- Why the tenant waits, besides the text in `reason`: the kind, and the documents concerned as a JSON list.
ALTER TABLE relay_tenants ADD COLUMN kind TEXT;
ALTER TABLE relay_tenants ADD COLUMN documents TEXT;

-- A release that counts as an attempt is 'counted'. Relays up to version 2 called it 'blamed'; one that still runs
-- while a command upgrades its file continues to write that, so it stays allowed, and is read as 'counted'.
-- SQLite cannot alter a constraint: the table is made anew. (Not renamed: that fails on any broken view of the
-- application whose database this may be.)
CREATE TABLE relay_history_before AS SELECT id, row, at, what, detail FROM relay_history;
DROP TABLE relay_history;
CREATE TABLE relay_history (
    id     INTEGER PRIMARY KEY,
    row    INTEGER NOT NULL,
    at     TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    what   TEXT NOT NULL CHECK (
        what IN ('released', 'counted', 'blamed', 'parked', 'delivered', 'retried', 'dropped')),
    detail TEXT NOT NULL
);
INSERT INTO relay_history (id, row, at, what, detail)
    SELECT id, row, at, replace(what, 'blamed', 'counted'), detail FROM relay_history_before;
DROP TABLE relay_history_before;
CREATE INDEX relay_history_row ON relay_history (row, id);

INSERT INTO relay_schema (version) VALUES (3);

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

INSERT INTO relay_schema (version) VALUES (4);

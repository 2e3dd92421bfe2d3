-- The outbox of ion-relay on SQLite, version 4: the identity of the store, and limits of columns that broke a tenant.

-- == The identity of the store ==

-- == Limits of columns ==

-- == Settlements that are written again ==

-- Which settlement an entry is of; null: none. After an answer that was lost it is written again: once is enough.
ALTER TABLE relay_history ADD COLUMN settlement TEXT;

INSERT INTO relay_schema (version) VALUES (4);

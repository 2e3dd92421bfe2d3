-- The outbox of ion-relay on PostgreSQL, version 4: the identity of the store, limits of columns that broke a tenant,
-- and a notification that never fails an INSERT. Relays that know version 1 to 3 continue to work with it.

-- == The identity of the store ==

-- == Limits of columns ==

-- == Notifications ==

-- == Settlements that are written again ==

-- Which settlement an entry is of; null: none. After an answer that was lost it is written again: once is enough.
ALTER TABLE relay_history ADD COLUMN IF NOT EXISTS settlement text COLLATE "C";

INSERT INTO relay_schema (version, works_with) VALUES (4, 1) ON CONFLICT (version) DO NOTHING;

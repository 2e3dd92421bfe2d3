-- The outbox of ion-relay on PostgreSQL, version 4: the identity of the store, limits of columns that broke a tenant,
-- and a notification that never fails an INSERT. Relays that know version 1 to 3 continue to work with it.

-- == Leases ==

-- How long a heartbeat of the holder lasts: `until` says that only as long as the database's clock does not go back.
ALTER TABLE relay_holders ADD COLUMN IF NOT EXISTS seconds double precision;

-- == The identity of the store ==

-- == Limits of columns ==

-- == Notifications ==

INSERT INTO relay_schema (version, works_with) VALUES (4, 1) ON CONFLICT (version) DO NOTHING;

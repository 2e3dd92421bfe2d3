-- The outbox of ion-relay on PostgreSQL, version 3: what a tenant waits for as data, and 'counted' in a message's
-- history. Relays that know version 1 or 2 continue to work with it.

-- A release that counts as an attempt is 'counted'. Relays up to version 2 write 'blamed', also while they are
-- replaced one after the other: both are allowed, and both are read as 'counted'.
DO $$
DECLARE before text;
BEGIN
    FOR before IN
        SELECT conname FROM pg_constraint WHERE conrelid = to_regclass('relay_history') AND contype = 'c'
    LOOP
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', 'relay_history', before);
    END LOOP;
END $$;
ALTER TABLE relay_history ADD CHECK (
    what IN ('released', 'counted', 'blamed', 'parked', 'delivered', 'retried', 'dropped'));

-- Why the tenant waits, besides the text in `reason`: the kind, and the documents concerned as a JSON list.
-- `kind_since`: the `since` of the report that both belong to. A relay of version 2 replaces the other columns and
-- leaves these; they hold only while `kind_since` equals `since`.
ALTER TABLE relay_tenants ADD COLUMN IF NOT EXISTS kind text COLLATE "C";
ALTER TABLE relay_tenants ADD COLUMN IF NOT EXISTS documents json;
ALTER TABLE relay_tenants ADD COLUMN IF NOT EXISTS kind_since timestamptz;

INSERT INTO relay_schema (version, works_with) VALUES (3, 1) ON CONFLICT (version) DO NOTHING;

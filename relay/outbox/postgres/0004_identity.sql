-- The outbox of ion-relay on PostgreSQL, version 4: the identity of the store, limits of columns that broke a tenant,
-- a notification that never
-- fails an INSERT, and triggers that serve the outbox only. Relays that know version 1 to 3 continue to work with it.

-- == Leases ==

-- How long a heartbeat of the holder lasts: `until` says that only as long as the database's clock does not go back.
ALTER TABLE relay_holders ADD COLUMN IF NOT EXISTS seconds double precision;

-- == The identity of the store ==

-- One row. `store`: given once, when the table is made. `position` grows with each check of a relay, so that a copy
-- that was put back has an earlier one. `cluster`: the system identifier and the timeline that a relay last saw;
-- `changed_at`: when they, or the position, were not what was expected.
CREATE TABLE IF NOT EXISTS relay_identity (
    id         integer PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    store      uuid NOT NULL DEFAULT gen_random_uuid(),
    position   bigint NOT NULL DEFAULT 0,
    cluster    text COLLATE "C",
    changed_at timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);
INSERT INTO relay_identity DEFAULT VALUES ON CONFLICT (id) DO NOTHING;

-- Whoever may hold leases may check the identity.
DO $$
DECLARE allowed record;
BEGIN
    FOR allowed IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role,
               privilege_type AS what
        FROM pg_class CROSS JOIN LATERAL aclexplode(relacl)
        WHERE oid = to_regclass('relay_leases') AND grantee <> relowner
          AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s', allowed.what, 'relay_identity', allowed.role);
    END LOOP;
END $$;

-- == Limits of columns ==

-- Infinite instants, and years that few programs can hold. What is in the table already is exempt, by its id: a
-- constraint holds for every update of an old row too, and such a row could never be settled. So nothing is scanned;
-- the lock is held for a moment, once the transactions that write to the table have ended.
DO $$
DECLARE
    rule CONSTANT text := 'instants_are_in_the_years_1_to_9999';
    last bigint;
BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass('relay_outbox') AND conname = rule) THEN
        RETURN;
    END IF;
    LOCK TABLE relay_outbox IN ACCESS EXCLUSIVE MODE;
    SELECT max(id) INTO last FROM relay_outbox;
    EXECUTE format(
        $rule$ALTER TABLE %I ADD CONSTRAINT %I CHECK (%s (
            created_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999+00'
            AND queued_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999+00'
            AND not_before BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999+00'
            AND settled_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999+00')) NOT VALID$rule$,
        'relay_outbox', rule, CASE WHEN last IS NULL THEN '' ELSE format('id <= %s OR', last) END);
END $$;

-- == Notifications ==

-- A notification that finds the server's queue full fails its transaction, at the commit, where nobody can catch it.
-- So none is sent while the queue is more than half full, as where a session listens and does not read: relays poll.
-- The function is in the section on the rights of the triggers.

-- Whoever may change messages may see whether the ids that the sequences generate are behind those in the tables.
DO $$
DECLARE allowed record;
BEGIN
    FOR allowed IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
               AS role, sequence
        FROM pg_class CROSS JOIN LATERAL aclexplode(relacl)
             CROSS JOIN unnest(ARRAY[
                 'relay_outbox_id_seq', 'relay_history_id_seq', 'relay_audit_id_seq']) AS sequence
        WHERE oid = to_regclass('relay_outbox') AND grantee <> relowner AND privilege_type = 'UPDATE'
    LOOP
        EXECUTE format('GRANT SELECT ON SEQUENCE %I TO %s', allowed.sequence, allowed.role);
    END LOOP;
END $$;

-- == Settlements that are written again ==

-- Which settlement an entry is of; null: none. After an answer that was lost it is written again: once is enough.
-- Of a message that an operator retried: the bulk action, so that what became of its messages can be counted.
ALTER TABLE relay_history ADD COLUMN IF NOT EXISTS settlement text COLLATE "C";
CREATE INDEX IF NOT EXISTS relay_history_retried ON relay_history (settlement, message_row) WHERE what = 'retried';

-- == What happened, by time ==

-- Counts of each tenant (in upper case; empty: of all) in stretches of `span` seconds from `start` on (since 1970, UTC), as
-- each relay process, the `source`, counted them. Durations: JSON, how many in each bucket. The source is empty where a
-- relay looked how many messages of all processes wait: the most that were seen. Deleted after two hours (minutes) or a
-- day (quarters of an hour).
CREATE TABLE IF NOT EXISTS relay_activity (
    span      integer NOT NULL,
    start     bigint NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    source    text COLLATE "C" NOT NULL,
    delivered bigint NOT NULL DEFAULT 0,
    failed    bigint NOT NULL DEFAULT 0,
    parked    bigint NOT NULL DEFAULT 0,
    waiting   bigint,
    queued    text NOT NULL DEFAULT '{}',
    answered  text NOT NULL DEFAULT '{}',
    PRIMARY KEY (span, start, tenant_id, source)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

-- Whoever may change the states of tenants may count.
DO $$
DECLARE allowed record;
BEGIN
    FOR allowed IN
        SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role,
               privilege_type AS what
        FROM pg_class CROSS JOIN LATERAL aclexplode(relacl)
        WHERE oid = to_regclass('relay_tenants') AND grantee <> relowner
          AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    LOOP
        EXECUTE format('GRANT %s ON %I TO %s', allowed.what, 'relay_activity', allowed.role);
    END LOOP;
END $$;

-- == The rights of the triggers ==

-- They run with the owner's rights, so nobody else may attach their functions to a table of his own, and each refuses
-- to run for another table than the outbox, where one was attached before.

CREATE OR REPLACE FUNCTION relay_outbox_inserted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_RELID IS DISTINCT FROM to_regclass('relay_outbox') THEN
        RAISE insufficient_privilege USING MESSAGE = 'this function is for the outbox only';
    END IF;
    INSERT INTO relay_counts (tenant_id, pending, delivered, parked, dropped)
        SELECT upper(tenant_id), count(*) FILTER (WHERE state = 'pending'),
               count(*) FILTER (WHERE state = 'delivered'), count(*) FILTER (WHERE state = 'parked'),
               count(*) FILTER (WHERE state = 'dropped')
        FROM added GROUP BY upper(tenant_id);
    -- A hint without content: at most one a transaction. Off with: ALTER DATABASE … SET relay.notify = off
    IF FOUND AND coalesce(current_setting('relay.notify', true), 'on') <> 'off'
            AND pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify('relay_outbox', '');
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION relay_outbox_updated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_RELID IS DISTINCT FROM to_regclass('relay_outbox') THEN
        RAISE insufficient_privilege USING MESSAGE = 'this function is for the outbox only';
    END IF;
    INSERT INTO relay_counts (tenant_id, pending, delivered, parked, dropped)
        SELECT * FROM (
            SELECT tenant, coalesce(sum(n) FILTER (WHERE state = 'pending'), 0) AS pending,
                   coalesce(sum(n) FILTER (WHERE state = 'delivered'), 0) AS delivered,
                   coalesce(sum(n) FILTER (WHERE state = 'parked'), 0) AS parked,
                   coalesce(sum(n) FILTER (WHERE state = 'dropped'), 0) AS dropped
            FROM (SELECT upper(tenant_id) AS tenant, state, 1 AS n FROM now_so
                  UNION ALL SELECT upper(tenant_id), state, -1 FROM before) changed
            GROUP BY tenant) sums
        WHERE (pending, delivered, parked, dropped) <> (0, 0, 0, 0);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION relay_outbox_deleted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_RELID IS DISTINCT FROM to_regclass('relay_outbox') THEN
        RAISE insufficient_privilege USING MESSAGE = 'this function is for the outbox only';
    END IF;
    INSERT INTO relay_counts (tenant_id, pending, delivered, parked, dropped)
        SELECT upper(tenant_id), -count(*) FILTER (WHERE state = 'pending'),
               -count(*) FILTER (WHERE state = 'delivered'), -count(*) FILTER (WHERE state = 'parked'),
               -count(*) FILTER (WHERE state = 'dropped')
        FROM gone GROUP BY upper(tenant_id);
    DELETE FROM relay_history WHERE message_row IN (SELECT id FROM gone);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION relay_outbox_truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_RELID IS DISTINCT FROM to_regclass('relay_outbox') THEN
        RAISE insufficient_privilege USING MESSAGE = 'this function is for the outbox only';
    END IF;
    DELETE FROM relay_counts;
    DELETE FROM relay_history;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION relay_outbox_defaults() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.message_id := coalesce(NEW.message_id, replace(gen_random_uuid()::text, '-', ''));
    NEW.to_logical_id := coalesce(NEW.to_logical_id, 'lid://default');
    NEW.parameters := coalesce(NEW.parameters, '{}');
    NEW.state := coalesce(NEW.state, 'pending');
    NEW.attempts := coalesce(NEW.attempts, 0);
    NEW.created_at := coalesce(NEW.created_at, clock_timestamp());
    NEW.queued_at := coalesce(NEW.queued_at, clock_timestamp());
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER relay_outbox_defaults BEFORE INSERT ON relay_outbox FOR EACH ROW
    WHEN (num_nulls(NEW.message_id, NEW.to_logical_id, NEW.parameters, NEW.state, NEW.attempts,
                    NEW.created_at, NEW.queued_at) > 0)
    EXECUTE FUNCTION relay_outbox_defaults();

-- A trigger fires without the right to call its function; attaching it takes that right.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['inserted', 'updated', 'deleted', 'truncated', 'defaults'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SET search_path TO pg_catalog, %I, pg_temp',
                       'relay_outbox_' || name, current_schema());
        EXECUTE format('REVOKE ALL ON FUNCTION %I() FROM PUBLIC', 'relay_outbox_' || name);
    END LOOP;
END $$;

INSERT INTO relay_schema (version, works_with) VALUES (4, 1) ON CONFLICT (version) DO NOTHING;

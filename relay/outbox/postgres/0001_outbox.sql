-- The outbox of ion-relay on PostgreSQL 14 or later, version 1.
--
-- For applications: INSERT INTO relay_outbox (tenant_id, document_name, payload) VALUES ($1, $2, $3)
-- is enough, in a transaction of your own; the right to INSERT is all it takes. A column that is left out,
-- or given as NULL, gets its default. Text becomes a payload with convert_to('…', 'UTF8').

CREATE TABLE IF NOT EXISTS relay_schema (
    version    integer PRIMARY KEY,
    works_with integer NOT NULL,  -- relays that know this version, or a later one, can use the tables
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- Collation "C": the same order and the same upper() on every server, and indexes that outlive its upgrades.
-- An id is never given twice, so a late settlement cannot hit a new message.
CREATE TABLE IF NOT EXISTS relay_outbox (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     text COLLATE "C" NOT NULL,
    document_name text COLLATE "C" NOT NULL,
    message_id    text COLLATE "C" NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', ''),
    to_logical_id text COLLATE "C" NOT NULL DEFAULT 'lid://default',
    ordering_key  text COLLATE "C",
    parameters    json NOT NULL DEFAULT '{}',
    state         text COLLATE "C" NOT NULL DEFAULT 'pending',
    attempts      integer NOT NULL DEFAULT 0,
    not_before    timestamptz,
    reason        text,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    queued_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at    timestamptz,
    payload       bytea NOT NULL,
    CONSTRAINT tenant_id_is_1_to_22_letters_digits_underscores CHECK (
        tenant_id ~ '^[A-Za-z0-9_]{1,22}$'),
    CONSTRAINT document_name_is_1_to_100_printable_characters CHECK (
        length(document_name) BETWEEN 1 AND 100 AND btrim(document_name) <> '' AND document_name !~ '[[:cntrl:]]'),
    CONSTRAINT message_id_is_1_to_250_printable_characters CHECK (
        length(message_id) BETWEEN 1 AND 250 AND btrim(message_id) <> '' AND message_id !~ '[[:cntrl:]]'),
    CONSTRAINT to_logical_id_begins_with_lid_and_has_at_most_250_characters CHECK (
        to_logical_id LIKE 'lid://_%' AND octet_length(to_logical_id) <= 250),
    CONSTRAINT ordering_key_is_null_or_1_to_250_printable_characters CHECK (
        length(ordering_key) BETWEEN 1 AND 250 AND btrim(ordering_key) <> '' AND ordering_key !~ '[[:cntrl:]]'),
    CONSTRAINT parameters_is_a_json_object CHECK (json_typeof(parameters) = 'object'),
    CONSTRAINT state_is_pending_delivered_parked_or_dropped CHECK (
        state IN ('pending', 'delivered', 'parked', 'dropped')),
    CONSTRAINT attempts_is_a_whole_number_from_0 CHECK (attempts >= 0),
    CONSTRAINT payload_is_not_empty CHECK (octet_length(payload) > 0)
) WITH (
    -- Room on each page, so that a release (no indexed column changes) stays there; and a queue's own pace of
    -- vacuum: it is the dead entries at the head of an index that make a long-lived queue slow.
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.01
);

CREATE UNIQUE INDEX IF NOT EXISTS relay_outbox_message ON relay_outbox (message_id, upper(tenant_id));
-- Pending rows lane by lane (no key: one lane): whatever one lane or one document piles up is stepped over.
CREATE INDEX IF NOT EXISTS relay_outbox_lanes ON relay_outbox (upper(tenant_id), document_name, ordering_key, id)
    WHERE state = 'pending';
-- Pending rows that have a key, in the order of their ids, over all lanes.
CREATE INDEX IF NOT EXISTS relay_outbox_keyed ON relay_outbox (upper(tenant_id), document_name, id)
    INCLUDE (ordering_key) WHERE state = 'pending' AND ordering_key IS NOT NULL;
-- What an operator has to decide about.
CREATE INDEX IF NOT EXISTS relay_outbox_aside ON relay_outbox (state, upper(tenant_id), id)
    WHERE state IN ('parked', 'dropped');
-- What may be deleted, oldest first.
CREATE INDEX IF NOT EXISTS relay_outbox_settled ON relay_outbox (settled_at)
    WHERE state IN ('delivered', 'dropped');
-- A tenant's rows, for operators who list them.
CREATE INDEX IF NOT EXISTS relay_outbox_tenant ON relay_outbox (upper(tenant_id), id);

-- How many rows of each state: their sums by tenant. Statements append what they changed, so that producers
-- never wait for one another here; the relay merges a tenant's rows into one from time to time.
CREATE TABLE IF NOT EXISTS relay_counts (
    tenant_id text COLLATE "C" NOT NULL,
    pending   bigint NOT NULL,
    delivered bigint NOT NULL,
    parked    bigint NOT NULL,
    dropped   bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_analyze_scale_factor = 0.01);

-- What happened to a message besides plain delivery; goes with the message.
CREATE TABLE IF NOT EXISTS relay_history (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_row bigint NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    what        text COLLATE "C" NOT NULL
        CHECK (what IN ('released', 'blamed', 'parked', 'delivered', 'retried', 'dropped')),
    detail      text NOT NULL
);
CREATE INDEX IF NOT EXISTS relay_history_row ON relay_history (message_row, id);

-- What operators decided about a tenant, and its live state as its worker last wrote it. `tenant_id`: upper case.
CREATE TABLE IF NOT EXISTS relay_tenants (
    tenant_id text COLLATE "C" PRIMARY KEY,
    revision  bigint NOT NULL DEFAULT 0,
    paused    text,
    relay     text COLLATE "C",
    state     text COLLATE "C",
    reason    text,
    since     timestamptz,
    next_try  timestamptz
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);

-- One row a relay process, deleted at a clean stop. `token` distinguishes two processes of one name.
CREATE TABLE IF NOT EXISTS relay_relays (
    relay      text COLLATE "C" PRIMARY KEY,
    token      text COLLATE "C" NOT NULL,
    details    json NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);

-- Who may hold leases, and until when: one row a process keeps all its leases alive.
CREATE TABLE IF NOT EXISTS relay_holders (
    token text COLLATE "C" PRIMARY KEY,
    relay text COLLATE "C" NOT NULL,
    until timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01);

-- Who owns a tenant. `fence` grows whenever the holder changes; rows stay, so that it never goes back.
CREATE TABLE IF NOT EXISTS relay_leases (
    tenant_id text COLLATE "C" PRIMARY KEY,
    token     text COLLATE "C" REFERENCES relay_holders ON DELETE SET NULL,
    fence     bigint NOT NULL DEFAULT 1
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01);
CREATE INDEX IF NOT EXISTS relay_leases_token ON relay_leases (token);

-- The triggers write for applications that may only INSERT, hence SECURITY DEFINER.

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

CREATE OR REPLACE FUNCTION relay_outbox_inserted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO relay_counts (tenant_id, pending, delivered, parked, dropped)
        SELECT upper(tenant_id), count(*) FILTER (WHERE state = 'pending'),
               count(*) FILTER (WHERE state = 'delivered'), count(*) FILTER (WHERE state = 'parked'),
               count(*) FILTER (WHERE state = 'dropped')
        FROM added GROUP BY upper(tenant_id);
    -- A hint without content: at most one a transaction. Off with: ALTER DATABASE … SET relay.notify = off
    IF FOUND AND coalesce(current_setting('relay.notify', true), 'on') <> 'off' THEN
        PERFORM pg_notify('relay_outbox', '');
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION relay_outbox_updated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
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
    DELETE FROM relay_counts;
    DELETE FROM relay_history;
    RETURN NULL;
END $$;

-- What runs with the owner's rights finds its tables in this schema, and nobody else's.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['inserted', 'updated', 'deleted', 'truncated'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SET search_path TO pg_catalog, %I, pg_temp',
                       'relay_outbox_' || name, current_schema());
    END LOOP;
END $$;

CREATE OR REPLACE TRIGGER relay_outbox_defaults BEFORE INSERT ON relay_outbox FOR EACH ROW
    WHEN (num_nulls(NEW.message_id, NEW.to_logical_id, NEW.parameters, NEW.state, NEW.attempts,
                    NEW.created_at, NEW.queued_at) > 0)
    EXECUTE FUNCTION relay_outbox_defaults();
CREATE OR REPLACE TRIGGER relay_outbox_inserted AFTER INSERT ON relay_outbox
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION relay_outbox_inserted();
CREATE OR REPLACE TRIGGER relay_outbox_updated AFTER UPDATE ON relay_outbox
    REFERENCING OLD TABLE AS before NEW TABLE AS now_so FOR EACH STATEMENT EXECUTE FUNCTION relay_outbox_updated();
CREATE OR REPLACE TRIGGER relay_outbox_deleted AFTER DELETE ON relay_outbox
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION relay_outbox_deleted();
CREATE OR REPLACE TRIGGER relay_outbox_truncated AFTER TRUNCATE ON relay_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION relay_outbox_truncated();

INSERT INTO relay_schema (version, works_with) VALUES (1, 1) ON CONFLICT (version) DO NOTHING;

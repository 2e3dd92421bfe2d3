-- The outbox of ion-relay on PostgreSQL, version 2: an audit of operators' actions, and payloads that are purged before their rows.
-- Relays that know version 1 continue to work with it.

-- Null while the payload is kept. Once it is purged: its length, and `payload` is its SHA-256.
ALTER TABLE relay_outbox ADD COLUMN IF NOT EXISTS payload_size bigint;

-- What operators did, and how far a bulk action has come.
CREATE TABLE IF NOT EXISTS relay_audit (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    who       text NOT NULL,
    what      text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C",     -- upper case; null: messages of any tenant
    selection text NOT NULL,        -- which messages, in words
    reason    text NOT NULL,
    messages  bigint NOT NULL DEFAULT 0,
    outcome   text COLLATE "C" NOT NULL CHECK (outcome IN ('running', 'done', 'cancelled', 'failed')),
    ended_at  timestamptz,
    wanted    json,                 -- the same selection for the relay
    reached   bigint NOT NULL DEFAULT 0,
    moved_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS relay_audit_tenant ON relay_audit (tenant_id, id);
CREATE INDEX IF NOT EXISTS relay_audit_running ON relay_audit (id) WHERE outcome = 'running';

-- Whoever may pause tenants may write that into the audit.
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
        EXECUTE format('GRANT %s ON %I TO %s', allowed.what, 'relay_audit', allowed.role);
    END LOOP;
END $$;

INSERT INTO relay_schema (version, works_with) VALUES (2, 1) ON CONFLICT (version) DO NOTHING;

-- The outbox of ion-relay on PostgreSQL, version 4: the identity of the store, limits of columns that broke a tenant,
-- and a notification that never fails an INSERT. Relays that know version 1 to 3 continue to work with it.

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

-- == Notifications ==

INSERT INTO relay_schema (version, works_with) VALUES (4, 1) ON CONFLICT (version) DO NOTHING;

-- The outbox of ion-relay on PostgreSQL, version 4: the identity of the store, limits of columns that broke a tenant,
-- and a notification that never fails an INSERT. Relays that know version 1 to 3 continue to work with it.

-- == The identity of the store ==

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

INSERT INTO relay_schema (version, works_with) VALUES (4, 1) ON CONFLICT (version) DO NOTHING;

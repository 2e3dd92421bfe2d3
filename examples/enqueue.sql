-- Enqueue messages with plain SQL, here from the sqlite3 shell; the same works from any language.
--
--     relay outbox upgrade                     (once: creates relay.db, or adds the outbox to your own database)
--     sqlite3 relay.db < examples/enqueue.sql
--
-- All other columns have a default. A row that breaks a limit is refused at the INSERT.

BEGIN IMMEDIATE;

INSERT INTO relay_outbox (tenant_id, document_name, payload)
VALUES ('ACME_PRD', 'Sync.SalesOrder', '<SyncSalesOrder xmlns="http://schema.infor.com/InforOAGIS/2"/>');

-- Messages of one ordering_key are delivered in order; parameters are IMS properties, as JSON.
INSERT INTO relay_outbox (tenant_id, document_name, ordering_key, parameters, payload)
VALUES (
    'GLOBEX_TST',
    'My_PurchaseOrder_JSON',
    'PO-200001',
    '{"documentId": "PO-200001", "variationId": 1, "custom_Priority": "high"}',
    '{"orderNumber": "PO-200001", "lines": []}'
);

-- With a message id of your own a program that runs twice enqueues once: the UNIQUE constraint refuses the same
-- id, and with this ON CONFLICT clause the second INSERT has no effect. Then another document under the same id is
-- silently dropped: leave the clause out to get an error. Always name the columns (on PostgreSQL:
-- ON CONFLICT (message_id, upper(tenant_id))), so that no other collision is ignored.
INSERT INTO relay_outbox (tenant_id, document_name, message_id, payload)
VALUES ('ACME_PRD', 'Sync.SalesOrder', 'orders-2025-100002-v1', '<SyncSalesOrder xmlns="http://schema.infor.com/InforOAGIS/2"/>')
ON CONFLICT (tenant_id, message_id) DO NOTHING;

COMMIT;

-- Hand messages over with plain SQL, here from the sqlite3 shell; any language does the same.
--
--     relay outbox upgrade                     (once: makes relay.db, or adds the outbox to your own database)
--     sqlite3 relay.db < examples/hand_over.sql
--
-- Everything but these three columns has a default. What cannot be sent is refused at the INSERT.

BEGIN IMMEDIATE;

INSERT INTO relay_outbox (tenant_id, document_name, payload)
VALUES ('ACME_PRD', 'Sync.SalesOrder', '<SyncSalesOrder xmlns="http://schema.infor.com/InforOAGIS/2"/>');

-- With more said: messages of one ordering_key keep their order; parameters are IMS properties, as JSON.
INSERT INTO relay_outbox (tenant_id, document_name, ordering_key, parameters, payload)
VALUES (
    'GLOBEX_TST',
    'My_PurchaseOrder_JSON',
    'PO-200001',
    '{"documentId": "PO-200001", "variationId": 1, "custom_Priority": "high"}',
    '{"orderNumber": "PO-200001", "lines": []}'
);

-- With an id of your own: the same id again is refused by the UNIQUE constraint, so nothing is sent twice
-- because a program ran twice. ON CONFLICT DO NOTHING makes that run a quiet one.
INSERT INTO relay_outbox (tenant_id, document_name, message_id, payload)
VALUES ('ACME_PRD', 'Sync.SalesOrder', 'orders-2025-100002-v1', '<SyncSalesOrder xmlns="http://schema.infor.com/InforOAGIS/2"/>')
ON CONFLICT DO NOTHING;

COMMIT;

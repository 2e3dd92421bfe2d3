-- The outbox of ion-relay on SQLite, version 4: the identity of the store, and limits of columns that broke a tenant.

-- == The identity of the store ==

-- == Limits of columns ==

INSERT INTO relay_schema (version) VALUES (4);

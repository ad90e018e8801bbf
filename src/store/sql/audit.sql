-- The statements of `audit_events`.

--! Insert(tenants text[], times timestamptz[], events text[], actors text[], subjects text?[], methods text?[],
--!        peers text?[], causes text?[])
--? write Audit, each tenant's, since each row says whose it is
-- What happened.
INSERT INTO audit_events (tenant_id, at, event, actor, subject, method, peer, cause)
SELECT * FROM unnest(:tenants::text[], :times::timestamptz[], :events::text[], :actors::text[], :subjects::text[],
    :methods::text[], :peers::text[], :causes::text[])

--! Forget(before timestamptz, limit int8) -> (id uuid)
--? write Audit, each tenant's, since the server keeps all for as long
-- What is older than is kept, some at a time.
DELETE FROM audit_events WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM audit_events WHERE at < :before LIMIT :limit) RETURNING id

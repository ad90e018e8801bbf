-- The keys of messages and what refers to them: how to drop each, and how to make it again. Where ids are random the primary
-- key is made as full as random insertions leave it, and not as full as can be, which would make each append split a page.
-- $1: whether ids are random.
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname),
    format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
        || CASE WHEN contype = 'p' AND $1::bool THEN ' WITH (fillfactor = 70)' ELSE '' END
FROM pg_constraint
WHERE 'messages'::regclass IN (conrelid, confrelid) AND contype IN ('p', 'u', 'f')
-- Foreign keys first: they need the others.
ORDER BY contype = 'f' DESC, conname

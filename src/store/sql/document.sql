-- The statements of `documents`, which belong to the tenant and not to a user.
--: Document
--:   id text
--:   title text = coalesce(title, '')
--:   source_uri text = coalesce(source_uri, '')
--:   mime_type text = coalesce(mime_type, '')
--:   content_hash text = coalesce(content_hash, '')
--:   metadata text = metadata::text
--:   created_at timestamptz
--:   updated_at timestamptz

--! Upsert(id text, title text, source_uri text, mime_type text, content_hash text, metadata text) -> Document
--? write ChangeDocument, each user's, since documents are the tenant's
-- A new document, or another version of it.
INSERT INTO documents (tenant_id, id, title, source_uri, mime_type, content_hash, metadata)
VALUES (:tenant, :id, :title, :source_uri, :mime_type, :content_hash, :metadata::text::jsonb)
ON CONFLICT (tenant_id, id) DO UPDATE SET (title, source_uri, mime_type, content_hash, metadata, updated_at)
    = (excluded.title, excluded.source_uri, excluded.mime_type, excluded.content_hash, excluded.metadata, now())
RETURNING {{ Document }}

--! Get(id text) -> Document
--? read ReadDocument, each user's, since documents are the tenant's
-- One document.
SELECT {{ Document }} FROM documents WHERE tenant_id = :tenant AND id = :id

--! Delete(id text) -> (id text)
--? write ChangeDocument, each user's, since documents are the tenant's
-- A document's end.
DELETE FROM documents WHERE tenant_id = :tenant AND id = :id RETURNING id

--! List(after_id text, title text?, metadata text?, limit int8) -> Document
--? plan ReadDocument, each user's, since documents are the tenant's
-- A page of documents, by id.
SELECT {{ Document }} FROM documents
WHERE tenant_id = :tenant AND id > :after_id AND (:title::text IS NULL OR coalesce(title, '') ILIKE :title)
    AND (:metadata::text IS NULL OR metadata @> :metadata::text::jsonb)
ORDER BY id LIMIT :limit

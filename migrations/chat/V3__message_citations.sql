-- Citations: the sources of a message.
CREATE TABLE message_citations (
    -- For people's `FILTER (WHERE mc.id IS NOT NULL)`; the key is (message_id, citation_index).
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id text NOT NULL DEFAULT 'default',
    message_id uuid NOT NULL CONSTRAINT message_citations_message_fkey REFERENCES messages (id) ON DELETE CASCADE,
    session_id uuid NOT NULL,
    -- Need not be registered in documents. 1,024: what an index entry can surely hold.
    document_id text NOT NULL
        CONSTRAINT message_citations_document_check CHECK (octet_length(document_id) BETWEEN 1 AND 1024),
    chunk_id text CONSTRAINT message_citations_chunk_check CHECK (octet_length(chunk_id) <= 1024),
    score double precision,
    citation_index integer NOT NULL CONSTRAINT message_citations_index_check CHECK (citation_index > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- As messages have it.
    inserted_by bigint NOT NULL GENERATED ALWAYS AS (inserting_transaction()) STORED,
    -- A message's citations in order, and the cascade from messages.
    CONSTRAINT message_citations_pkey PRIMARY KEY (message_id, citation_index)
);

-- ListCitations of a document, which pages by (message_id, citation_index).
CREATE INDEX message_citations_document_idx ON message_citations (tenant_id, document_id, message_id);

-- ListTopDocuments' `created_at >= since`; BRIN as for messages.
CREATE INDEX message_citations_created_at_idx ON message_citations USING brin (created_at) WITH (autosummarize = on);

-- What reports haven't folded in yet, as for messages.
CREATE INDEX message_citations_inserted_by_idx ON message_citations USING brin (inserted_by) WITH (autosummarize = on);

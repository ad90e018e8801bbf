-- Documents: what is known of the sources. ListDocuments pages by the key.
CREATE TABLE documents (
    tenant_id text NOT NULL DEFAULT 'default',
    id text NOT NULL CONSTRAINT documents_id_check CHECK (octet_length(id) BETWEEN 1 AND 1024),
    title text CONSTRAINT documents_title_check CHECK (char_length(title) <= 500),
    source_uri text CONSTRAINT documents_source_uri_check CHECK (octet_length(source_uri) <= 2048),
    mime_type text CONSTRAINT documents_mime_type_check CHECK (octet_length(mime_type) <= 255),
    content_hash text CONSTRAINT documents_content_hash_check CHECK (octet_length(content_hash) <= 255),
    metadata jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT documents_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT documents_pkey PRIMARY KEY (tenant_id, id)
);

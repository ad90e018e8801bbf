//! Sources as teams have them, in SQL.

/// users, user_profiles, chat_sessions, messages, message_citations: UUIDs, and times without an offset.
pub fn rag_uuid(users: u32, sessions: u32, messages: u32) -> String {
    format!(
        "CREATE TABLE users (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email varchar(255) UNIQUE NOT NULL, name varchar(255),
            hashed_password varchar(255), created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
        CREATE TABLE user_profiles (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid UNIQUE REFERENCES users (id) ON DELETE CASCADE,
            software_background text, hardware_background text, experience_level varchar(50),
            preferred_language varchar(10) DEFAULT 'en', preferences jsonb DEFAULT '{{}}', timezone text,
            created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
        CREATE TABLE chat_sessions (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid REFERENCES users (id) ON DELETE CASCADE,
            title varchar(500), metadata jsonb DEFAULT '{{}}',
            created_at timestamp DEFAULT now(), updated_at timestamp DEFAULT now());
        CREATE TABLE messages (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            session_id uuid NOT NULL REFERENCES chat_sessions (id) ON DELETE CASCADE,
            role varchar(20) NOT NULL CHECK (role IN ('user', 'assistant', 'system')), content text NOT NULL,
            selected_text text, metadata jsonb DEFAULT '{{}}', created_at timestamp DEFAULT now());
        CREATE TABLE message_citations (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            message_id uuid NOT NULL REFERENCES messages (id) ON DELETE CASCADE, document_id varchar(255) NOT NULL,
            chunk_id varchar(255), score double precision, citation_index integer, created_at timestamp DEFAULT now());
        CREATE TABLE schema_migrations (version varchar(50) PRIMARY KEY, description text, applied_at timestamp);
        INSERT INTO schema_migrations VALUES ('20250129103000', 'init', now());
        INSERT INTO users (id, email, name, created_at)
            SELECT md5('user' || u)::uuid, 'User' || u || '@example.com', 'User ' || u, timestamp '2024-01-01' + u * interval '1 hour'
            FROM generate_series(1, {users}) u;
        INSERT INTO user_profiles (user_id, software_background, experience_level, preferences, timezone)
            SELECT id, 'Python', 'beginner', '{{\"theme\": \"dark\"}}', 'Asia/Karachi' FROM users;
        INSERT INTO chat_sessions (id, user_id, title, metadata, created_at, updated_at)
            SELECT md5('session' || s)::uuid, md5('user' || 1 + s % {users})::uuid, 'Session ' || s,
                jsonb_build_object('chapter', 'module-' || s), timestamp '2024-02-01' + s * interval '1 minute',
                timestamp '2024-03-01' + s * interval '1 minute'
            FROM generate_series(1, {sessions}) s;
        INSERT INTO messages (id, session_id, role, content, selected_text, metadata, created_at)
            SELECT md5('message' || m)::uuid, md5('session' || 1 + m % {sessions})::uuid,
                CASE m / {sessions} % 2 WHEN 0 THEN 'user' ELSE 'assistant' END,
                'Message ' || m || ' of many: ' || repeat('mot à mot ', m % 20),
                CASE m % 3 WHEN 0 THEN 'DDS ' || m END, jsonb_build_object('tokens', m),
                timestamp '2024-02-02 10:00' + m / 100 * interval '1.000001 seconds'
            FROM generate_series(1, {messages}) m;
        INSERT INTO message_citations (message_id, document_id, chunk_id, score, citation_index)
            SELECT md5('message' || m)::uuid, 'module-' || m % 7, 'chunk_' || c, 1.0 / (m + c), c
            FROM generate_series(1, {messages}) m, generate_series(1, 2) c WHERE m % 4 = 1;"
    )
}

/// What [`super::MESSAGES`] answers of a target with all of a `rag-uuid` source.
pub const RAG_UUID_MESSAGES: &str = "SELECT concat_ws('|', m.session_id,
        row_number() OVER (PARTITION BY m.session_id ORDER BY m.created_at, m.ctid), m.id, m.role, m.content,
        coalesce(m.selected_text, '-'), m.created_at,
        (SELECT coalesce(string_agg(concat_ws(',', c.citation_index, c.document_id, c.chunk_id, c.score), ';'
            ORDER BY c.citation_index), '-') FROM message_citations c WHERE c.message_id = m.id))
    FROM messages m ORDER BY m.session_id, m.created_at, m.ctid";

/// Integer keys, bcrypt hashes, and each session's messages in an array.
pub fn jsonb_history(users: u32, sessions: u32, messages: u32, hash: &str) -> String {
    format!(
        "CREATE TABLE users (
            id serial PRIMARY KEY, email varchar(255) UNIQUE NOT NULL, hashed_password varchar(255) NOT NULL,
            is_active boolean DEFAULT true, created_at timestamptz DEFAULT now(), updated_at timestamptz);
        CREATE TABLE chat_sessions (
            id serial PRIMARY KEY, user_id integer NOT NULL REFERENCES users (id) ON DELETE CASCADE,
            history jsonb NOT NULL DEFAULT '[]', created_at timestamptz DEFAULT now(), updated_at timestamptz);
        INSERT INTO users (email, hashed_password, is_active, created_at)
            SELECT 'u' || u || '@example.com', '{hash}', u % 2 = 1, timestamptz '2024-01-01 00:00Z' FROM generate_series(1, {users}) u;
        INSERT INTO chat_sessions (user_id, history, created_at, updated_at)
            SELECT 1 + s % {users}, coalesce((SELECT jsonb_agg(jsonb_build_object(
                    'role', CASE m % 2 WHEN 1 THEN 'user' ELSE 'assistant' END, 'content', 'Session ' || s || ', message ' || m,
                    'timestamp', to_char(timestamp '2024-01-15 10:30' + m * interval '5.25 s', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')
                        || CASE m % 2 WHEN 1 THEN 'Z' ELSE '' END) ORDER BY m)
                FROM generate_series(1, {messages}) m), '[]'),
                timestamptz '2024-01-15 10:00Z', timestamptz '2024-05-01 00:00Z'
            FROM generate_series(1, {sessions}) s;"
    )
}

/// As Alembic projects have it: integer keys here, roles as an enum in upper case.
pub fn chat_messages(users: u32, sessions: u32, messages: u32) -> String {
    format!(
        "CREATE TYPE messagerole AS ENUM ('USER', 'ASSISTANT', 'SYSTEM');
        CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
        INSERT INTO alembic_version VALUES ('ae1027a6acf');
        CREATE TABLE users (id serial PRIMARY KEY, email varchar UNIQUE NOT NULL, name varchar,
            created_at timestamptz NOT NULL, updated_at timestamptz);
        CREATE TABLE chat_sessions (id serial PRIMARY KEY, user_id integer REFERENCES users (id), title varchar,
            created_at timestamptz NOT NULL, updated_at timestamptz);
        CREATE TABLE chat_messages (id serial PRIMARY KEY, session_id integer NOT NULL REFERENCES chat_sessions (id),
            user_id integer REFERENCES users (id), role messagerole NOT NULL, content text NOT NULL, sources json,
            created_at timestamptz NOT NULL);
        CREATE TABLE documents (id serial PRIMARY KEY, title varchar NOT NULL, source_url varchar, content text,
            doc_metadata json, created_at timestamptz NOT NULL);
        INSERT INTO users (email, name, created_at)
            SELECT 'u' || u || '@example.com', 'U' || u, '2024-01-01Z' FROM generate_series(1, {users}) u;
        INSERT INTO chat_sessions (user_id, title, created_at)
            SELECT 1 + s % {users}, 'Chat ' || s, '2024-01-02Z' FROM generate_series(1, {sessions}) s;
        INSERT INTO chat_messages (session_id, user_id, role, content, sources, created_at)
            SELECT 1 + m % {sessions}, 1, CASE m % 2 WHEN 1 THEN 'USER' ELSE 'ASSISTANT' END::messagerole,
                'Message ' || m, json_build_array('doc' || m), timestamptz '2024-01-03Z' + m * interval '1 s'
            FROM generate_series(1, {messages}) m;
        INSERT INTO documents (title, source_url, content, doc_metadata, created_at)
            SELECT 'Document ' || d, 'https://example.com/' || d, 'text', '{{\"pages\": 3}}', '2024-01-01Z'
            FROM generate_series(1, 5) d;"
    )
}

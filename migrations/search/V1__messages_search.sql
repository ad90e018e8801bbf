-- chatledger: no-transaction
-- SearchMessages over a whole tenant: without a session and without a user. Opt-in, since every append pays for it.
-- The texts as store/search.rs has them, the content marked A and the selected text B, so that one index serves
-- searches in either and in both. For another language than english, see migrations/README.md.
CREATE INDEX CONCURRENTLY messages_search_idx ON messages USING gin ((
    setweight(to_tsvector('english', left(content, 100000)), 'A') || $$' ':1000$$::tsvector
    || setweight(to_tsvector('english', left(coalesce(selected_text, ''), 100000)), 'B')
)) WHERE deleted_at IS NULL;

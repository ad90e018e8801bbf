-- Sessions belong to users, where both sets are installed. NOT VALID: a database that had sessions before
-- it had users keeps those without a user; the server validates the constraint at boot, once none is left.
ALTER TABLE chat_sessions
    ADD CONSTRAINT chat_sessions_user_fkey FOREIGN KEY (tenant_id, user_id)
    REFERENCES users (tenant_id, id) ON DELETE CASCADE NOT VALID;

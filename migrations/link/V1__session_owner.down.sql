ALTER TABLE chat_sessions DROP CONSTRAINT chat_sessions_user_fkey;

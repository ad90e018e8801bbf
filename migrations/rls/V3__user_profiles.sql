-- Profiles are seen with their users.
DO $$
BEGIN
    IF to_regclass('user_profiles') IS NULL THEN
        RETURN;
    END IF;
    ALTER TABLE user_profiles ENABLE ROW LEVEL SECURITY;
    CREATE POLICY chatledger_all ON user_profiles
        USING (EXISTS (SELECT FROM users u WHERE u.id = user_profiles.user_id));
END $$;

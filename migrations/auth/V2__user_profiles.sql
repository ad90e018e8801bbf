-- What onboarding asked of a user: at most one row a user, deleted with the user.
CREATE TABLE user_profiles (
    user_id uuid CONSTRAINT user_profiles_pkey PRIMARY KEY
        CONSTRAINT user_profiles_user_fkey REFERENCES users (id) ON DELETE CASCADE,
    software_background text CONSTRAINT user_profiles_software_check CHECK (char_length(software_background) <= 4000),
    hardware_background text CONSTRAINT user_profiles_hardware_check CHECK (char_length(hardware_background) <= 4000),
    learning_goals text CONSTRAINT user_profiles_goals_check CHECK (char_length(learning_goals) <= 4000),
    experience_level text CONSTRAINT user_profiles_level_check CHECK (char_length(experience_level) <= 100),
    preferred_language text NOT NULL DEFAULT 'en'
        CONSTRAINT user_profiles_language_check CHECK (char_length(preferred_language) BETWEEN 1 AND 35),
    preferences jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT user_profiles_preferences_check CHECK (jsonb_typeof(preferences) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

-- ListProfiles by preferences_contain_json (@>), and people's own `preferences->'interests' ? '...'` in
-- the form `preferences @> '{"interests": ["..."]}'`. Profiles change rarely: the index costs no append.
CREATE INDEX user_profiles_preferences_idx ON user_profiles USING gin (preferences jsonb_path_ops);

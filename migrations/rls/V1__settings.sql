-- For whom a connection of another program asks: two settings, which it sets for each transaction (docs/security.md). Neither has a
-- default: who forgets one sees nothing. The owner of the tables, which the server is, is subject to no policy.

-- The tenant.
CREATE FUNCTION chatledger_tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('chatledger.tenant', true), '');

-- Whether all of the tenant's end users are meant: the setting is `*`.
CREATE FUNCTION chatledger_is_service() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(current_setting('chatledger.end_user', true) = '*', false);

-- The end user; null where all are meant, and where nobody is.
CREATE FUNCTION chatledger_end_user() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(nullif(current_setting('chatledger.end_user', true), '*'), '')::uuid;

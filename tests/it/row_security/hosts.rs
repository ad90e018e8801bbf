//! What the documents have people run at hosts, with a stand-in for their functions and roles.

use super::{DOCUMENT, blocks, count, filled};

const HOSTED: &str = include_str!("../../../docs/hosted-postgresql.md");

/// The roles, which are the whole cluster's, and `auth.uid()`, which answers the id that a token names.
const STAND_INS: &str = "DO $$ DECLARE name text; BEGIN
        FOREACH name IN ARRAY ARRAY['app', 'acme_reader', 'anon', 'authenticated', 'authenticator'] LOOP
            BEGIN EXECUTE format('CREATE ROLE %I', name); EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END;
        END LOOP;
    END $$;
    CREATE SCHEMA auth;
    GRANT USAGE ON SCHEMA auth TO authenticated;
    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE RETURN nullif(current_setting('test.token', true), '')::uuid;";

#[tokio::test]
async fn what_the_documents_say_can_be_run_and_holds() {
    let database = filled().await;
    let client = database.client().await;
    client.batch_execute(STAND_INS).await.expect("stand-ins");
    let (user, token) = (
        "5e5510aa-0000-4000-8000-000000000002",
        "5e5510aa-0000-4000-8000-000000000003",
    );
    let rows = format!(
        "INSERT INTO users (id, email, external_id) VALUES ('{user}', 'ada@example.com', '{token}');
         INSERT INTO chat_sessions (id, user_id) VALUES ('{token}', '{user}');
         INSERT INTO messages (session_id, role, content) VALUES ('{token}', 'user', 'default')"
    );
    client.batch_execute(&rows).await.expect("rows");
    for (number, block) in blocks(DOCUMENT).chain(blocks(HOSTED)).enumerate() {
        let block = block.replace(" TO app;", " TO app, acme_reader, authenticated;");
        client
            .batch_execute(&block)
            .await
            .unwrap_or_else(|error| panic!("block {number}: {error:?}"));
    }
    let granted = blocks(DOCUMENT)
        .find(|block| block.starts_with("GRANT SELECT"))
        .expect("the grants");
    let granted = granted.replace(" TO app;", " TO app, acme_reader, authenticated;");
    client
        .batch_execute(&granted)
        .await
        .expect("again, what the last block has taken back");

    // By the token's subject as the external id, without a setting.
    client
        .batch_execute(&format!("SET ROLE authenticated; SET test.token = '{token}'"))
        .await
        .expect("a role");
    for table in [
        "(SELECT id FROM users) a",
        "(SELECT id FROM chat_sessions) a",
        "messages",
    ] {
        assert_eq!(count(&client, table).await, 1, "{table}");
    }
    client
        .batch_execute(&format!("SET test.token = '{user}'"))
        .await
        .expect("another token");
    assert_eq!(count(&client, "messages").await, 0);
    // By the function that runs before each request, as the id.
    client
        .batch_execute("BEGIN; SELECT chatledger_request()")
        .await
        .expect("a request");
    assert_eq!(count(&client, "messages").await, 1);
    client
        .batch_execute("COMMIT; SET test.token = ''; BEGIN; SELECT chatledger_request()")
        .await
        .expect("a request");
    assert_eq!(count(&client, "messages").await, 0);
    client.batch_execute("COMMIT; RESET ROLE").await.expect("the end");

    // A role that is one tenant's, whatever it sets.
    client
        .batch_execute("SET ROLE acme_reader")
        .await
        .expect("a role");
    for (tenant, sessions) in [("acme", 3), ("umbrella", 0), ("default", 0)] {
        super::ask_for(&client, tenant, "*").await;
        assert_eq!(
            count(&client, "(SELECT id FROM chat_sessions) a").await,
            sessions,
            "{tenant}"
        );
        assert_eq!(count(&client, "messages").await > 0, sessions > 0, "{tenant}");
    }
}

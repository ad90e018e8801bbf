//! Down and up again, from every version and with rows, leaves what was there.

use super::*;
use crate::migrations::catalog;

/// Rows in every table that there is: a key, a record of the audit, two users with profiles, sessions, messages with citations, a document.
const FILL: [(&str, &str); 8] = [
    (
        "api_keys",
        "INSERT INTO api_keys (id, name, secret_hash, scopes)
        SELECT '0123456789abcdef', 'worker', sha256('secret'), ARRAY['read']",
    ),
    (
        "audit_events",
        "INSERT INTO audit_events (tenant_id, event, actor) VALUES ('default', 'key_created', 'operator')",
    ),
    (
        "users",
        "INSERT INTO users (email) SELECT 'u' || n FROM generate_series(1, 2) n",
    ),
    (
        "user_profiles",
        "INSERT INTO user_profiles (user_id, learning_goals) SELECT id, 'ROS 2' FROM users",
    ),
    (
        "chat_sessions",
        "INSERT INTO chat_sessions (title) SELECT 's' || n FROM generate_series(1, 3) n",
    ),
    (
        "messages",
        "INSERT INTO messages (session_id, seq, role, content)
        SELECT s.id, n, 'user', 'm' || n FROM chat_sessions s, generate_series(1, 5) n",
    ),
    (
        "message_citations",
        "INSERT INTO message_citations (message_id, session_id, document_id, citation_index)
        SELECT id, session_id, 'd', 1 FROM messages",
    ),
    ("documents", "INSERT INTO documents (id, title) VALUES ('d', 'D')"),
];

/// Fills the tables that are there and have no rows; how many rows each table has then.
async fn fill(client: &tokio_postgres::Client) -> Vec<(&'static str, i64)> {
    let mut counts = Vec::new();
    for (table, sql) in FILL {
        let there = format!("SELECT to_regclass('{table}') IS NOT NULL");
        if !client
            .query_one(&there, &[])
            .await
            .expect("a look")
            .get::<_, bool>(0)
        {
            continue;
        }
        let count = format!("SELECT count(*) FROM {table}");
        if client
            .query_one(&count, &[])
            .await
            .expect("a count")
            .get::<_, i64>(0)
            == 0
        {
            client.batch_execute(sql).await.expect("rows");
        }
        counts.push((
            table,
            client.query_one(&count, &[]).await.expect("a count").get(0),
        ));
    }
    counts
}

#[tokio::test]
async fn up_down_up_of_every_version_with_rows() {
    let database = TestDatabase::empty().await;
    let client = database.client().await;
    let with_search = ["up", "--with", "search", "--steps", "1", "--json"];
    let mut steps = 0;
    loop {
        let (before, rows) = (catalog(&client).await, fill(&client).await);
        let up = migrate(&database, &with_search).json();
        if names(&up).is_empty() {
            break;
        }
        steps += 1;
        let after = catalog(&client).await;
        fill(&client).await;
        let down = migrate(&database, &["down", "--yes", "--json"]).json();
        assert_eq!(names(&down), names(&up));
        assert_eq!(catalog(&client).await, before, "{down}");
        // What the others hold is still there.
        assert_eq!(fill(&client).await, rows, "{down}");
        let again = migrate(&database, &with_search).json();
        assert_eq!(names(&again), names(&up));
        assert_eq!(catalog(&client).await, after, "{again}");
        fill(&client).await;
    }
    assert_eq!(steps, 12);
    let whole = catalog(&client).await;
    migrate(&database, &["down", "--to", "0", "--yes"]).ok();
    assert!(catalog(&client).await.is_empty());
    migrate(&database, &["up", "--with", "search"]).ok();
    assert_eq!(catalog(&client).await, whole);
    migrate(&database, &["verify"]).ok();
}

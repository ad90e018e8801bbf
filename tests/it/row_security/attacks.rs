//! Attempts to see, or change, what is another tenant's.

use futures_util::TryStreamExt;
use tokio_postgres::error::SqlState;

use super::{MESSAGE, SESSION, USER, ask_for, count, filled, id, mallory, refused};

#[tokio::test]
async fn joins_functions_views_and_copy_see_no_more() {
    let database = filled().await;
    let client = mallory(&database).await;
    ask_for(&client, "acme", &id(USER, 0, 1)).await;
    client
        .batch_execute(
            "CREATE VIEW mine AS SELECT content FROM messages;
             CREATE FUNCTION by_sql() RETURNS SETOF text LANGUAGE sql AS 'SELECT content FROM messages';
             CREATE FUNCTION by_plpgsql() RETURNS SETOF text LANGUAGE plpgsql
                AS $$ BEGIN RETURN QUERY EXECUTE 'SELECT content FROM messages'; END $$;
             CREATE FUNCTION as_definer() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT content FROM messages';
             CREATE FUNCTION leaks(content text) RETURNS boolean LANGUAGE plpgsql COST 0.0001
                AS $$ BEGIN IF content LIKE 'umbrella%' THEN RAISE 'leaked %', content; END IF; RETURN true; END $$;",
        )
        .await
        .expect("objects");
    let other = id(SESSION, 1, 1);
    for (from, expected) in [
        ("mine".to_owned(), 2),
        ("by_sql()".to_owned(), 2),
        ("by_plpgsql()".to_owned(), 2),
        ("as_definer()".to_owned(), 2),
        ("messages WHERE leaks(content)".to_owned(), 2),
        (format!("messages WHERE session_id = '{other}' AND leaks(content)"), 0),
        ("messages m FULL JOIN chat_sessions s ON true".to_owned(), 2),
        ("chat_sessions s RIGHT JOIN messages m ON m.session_id = s.id".to_owned(), 2),
        ("documents d JOIN message_citations c ON c.document_id = d.id".to_owned(), 1),
        ("(SELECT content FROM messages UNION ALL SELECT title FROM chat_sessions) a".to_owned(), 3),
        ("(WITH RECURSIVE r AS (SELECT id FROM messages UNION SELECT m.id FROM messages m, r) SELECT * FROM r) a".to_owned(), 2),
        ("users WHERE lower(email) = 'user2@example.com'".to_owned(), 0),
        // What statistics have of the values.
        ("pg_stats WHERE tablename = 'messages'".to_owned(), 0),
    ] {
        assert_eq!(count(&client, &from).await, expected, "{from}");
    }
    let copied = client
        .copy_out("COPY messages (content) TO STDOUT")
        .await
        .expect("a copy");
    let copied: Vec<_> = copied.try_collect().await.expect("rows");
    assert_eq!(copied.len(), 2);
    // A plan that was made for one who sees all is not used for another.
    let prepared = client
        .prepare("SELECT count(*) FROM messages")
        .await
        .expect("a statement");
    for (tenant, end_user, expected) in [
        ("acme", "*", 4_i64),
        ("umbrella", &*id(USER, 1, 1), 2),
        ("", "*", 0),
    ] {
        ask_for(&client, tenant, end_user).await;
        let row = client.query_one(&prepared, &[]).await.expect("a count");
        assert_eq!(row.get::<_, i64>(0), expected, "{tenant} {end_user}");
    }
}

#[tokio::test]
async fn the_rows_of_others_are_neither_changed_nor_added_to() {
    let database = filled().await;
    let client = mallory(&database).await;
    let owner = database.client().await;
    let all = "SELECT md5(string_agg(row::text, ';' ORDER BY row::text)) FROM (
        SELECT s::text FROM chat_sessions s UNION ALL SELECT m::text FROM messages m UNION ALL SELECT c::text FROM message_citations c
        UNION ALL SELECT u::text FROM users u UNION ALL SELECT p::text FROM user_profiles p UNION ALL SELECT d::text FROM documents d
        UNION ALL SELECT r::text FROM chatledger_report_days r) row";
    let before: String = owner.query_one(all, &[]).await.expect("a look").get(0);
    let (own, foreign) = (id(SESSION, 0, 1), id(SESSION, 1, 1));
    let (own_user, foreign_user) = (id(USER, 0, 1), id(USER, 1, 1));
    let foreign_message = id(MESSAGE, 1, 1);
    for end_user in ["*", &own_user] {
        ask_for(&client, "acme", end_user).await;
        for sql in [
            "UPDATE chat_sessions SET title = 'x' WHERE tenant_id = 'umbrella'".to_owned(),
            format!("UPDATE messages SET content = 'x' WHERE session_id = '{foreign}'"),
            format!("DELETE FROM messages WHERE id = '{foreign_message}'"),
            format!("DELETE FROM message_citations WHERE message_id = '{foreign_message}'"),
            format!("UPDATE user_profiles SET learning_goals = 'x' WHERE user_id = '{foreign_user}'"),
            format!("UPDATE users SET email = 'x' WHERE id = '{foreign_user}'"),
            format!("DELETE FROM users WHERE id = '{foreign_user}'"),
            "UPDATE documents SET title = 'x' WHERE tenant_id = 'umbrella'".to_owned(),
            "UPDATE chatledger_report_days SET messages = 0".to_owned(),
            "DELETE FROM chatledger_report_days".to_owned(),
        ] {
            assert_eq!(client.execute(&sql, &[]).await.expect(&sql), 0, "{sql}");
        }
        for sql in [
            "INSERT INTO chat_sessions (tenant_id, title) VALUES ('umbrella', 'x')".to_owned(),
            format!("UPDATE chat_sessions SET tenant_id = 'umbrella', user_id = NULL WHERE id = '{own}'"),
            format!("UPDATE messages SET session_id = '{foreign}' WHERE session_id = '{own}'"),
            format!("INSERT INTO messages (session_id, seq, role, content) VALUES ('{foreign}', 9, 'user', 'x')"),
            // With a session of its own beside the other's message, whose readers would see it.
            format!(
                "INSERT INTO message_citations (tenant_id, message_id, session_id, document_id, citation_index)
                VALUES ('acme', '{foreign_message}', '{own}', 'x', 9)"
            ),
            format!(
                "INSERT INTO message_citations (tenant_id, message_id, session_id, document_id, citation_index)
                VALUES ('umbrella', '{foreign_message}', '{foreign}', 'x', 9)"
            ),
            format!(
                "INSERT INTO message_citations (tenant_id, message_id, session_id, document_id, citation_index)
                VALUES ('umbrella', '{}', '{own}', 'x', 9)",
                id(MESSAGE, 0, 1)
            ),
            "INSERT INTO users (tenant_id, email) VALUES ('umbrella', 'new@example.com')".to_owned(),
            "INSERT INTO documents (tenant_id, id) VALUES ('umbrella', 'x')".to_owned(),
            format!("INSERT INTO user_profiles (user_id) VALUES ('{foreign_user}')"),
            "INSERT INTO chatledger_report_days VALUES ('acme', 'UTC', '2026-01-02', 1, 1)".to_owned(),
            "INSERT INTO chatledger_report_session_changes VALUES (NULL, true)".to_owned(),
        ] {
            // 42501 also is "new row violates row-level security policy".
            refused(client.batch_execute(&sql).await, &SqlState::INSUFFICIENT_PRIVILEGE);
        }
    }
    // An end user is no service: neither for documents, nor users, nor sessions of others and of nobody.
    ask_for(&client, "acme", &own_user).await;
    for sql in [
        "INSERT INTO documents (tenant_id, id) VALUES ('acme', 'x')",
        "INSERT INTO users (tenant_id, email) VALUES ('acme', 'new@example.com')",
        "INSERT INTO chat_sessions (tenant_id) VALUES ('acme')",
        &format!(
            "INSERT INTO chat_sessions (tenant_id, user_id) VALUES ('acme', '{}')",
            id(USER, 0, 2)
        ),
        &format!(
            "UPDATE chat_sessions SET user_id = '{}' WHERE id = '{own}'",
            id(USER, 0, 2)
        ),
    ] {
        refused(client.batch_execute(sql).await, &SqlState::INSUFFICIENT_PRIVILEGE);
    }
    for sql in [
        "UPDATE documents SET title = 'x'",
        "DELETE FROM documents",
        &format!(
            "UPDATE chat_sessions SET title = 'x' WHERE id = '{}'",
            id(SESSION, 0, 9)
        ),
    ] {
        assert_eq!(client.execute(sql, &[]).await.expect(sql), 0, "{sql}");
    }
    let after: String = owner.query_one(all, &[]).await.expect("a look").get(0);
    assert_eq!(after, before);
}

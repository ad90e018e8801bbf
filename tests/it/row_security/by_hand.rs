//! Appends by hand, whose triggers run as whoever inserts.

use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::{MESSAGE, SESSION, USER, app, ask_for, filled, id};
use crate::harness::*;

#[tokio::test]
async fn appends_by_hand_are_numbered_and_completed() {
    let database = filled().await;
    let client = app(&database).await;
    let session = id(SESSION, 0, 1);
    for (end_user, seq) in [(id(USER, 0, 1), 3_i64), ("*".to_owned(), 4)] {
        ask_for(&client, "acme", &end_user).await;
        let sql = format!(
            "INSERT INTO messages (session_id, role, content) VALUES ('{session}', 'user', 'by hand') RETURNING id, seq"
        );
        let row = client.query_one(&sql, &[]).await.expect("a message");
        assert_eq!(row.get::<_, i64>("seq"), seq);
        let cite = "INSERT INTO message_citations (message_id, document_id) VALUES ($1, 'module-1')
            RETURNING session_id::text, tenant_id, citation_index";
        let row = client
            .query_one(cite, &[&row.get::<_, Uuid>("id")])
            .await
            .expect("a citation");
        assert_eq!(
            (row.get(0), row.get(1), row.get(2)),
            (session.clone(), "acme".to_owned(), 1)
        );
    }
}

#[tokio::test]
async fn an_id_that_another_tenant_has_does_no_harm() {
    let database = filled().await;
    let client = app(&database).await;
    ask_for(&client, "acme", &id(USER, 0, 1)).await;
    let (session, taken) = (id(SESSION, 0, 1), id(MESSAGE, 1, 1));
    let sql = format!(
        "INSERT INTO messages (id, session_id, role, content) VALUES ('{taken}', '{session}', 'user', 'mine')
         RETURNING given_id::text, seq"
    );
    let row = client.query_one(&sql, &[]).await.expect("a message");
    assert_eq!(
        (row.get::<_, String>(0), row.get::<_, i64>(1)),
        (taken.clone(), 3)
    );
    let kept = format!("SELECT content FROM messages WHERE id = '{taken}'");
    let row = database
        .client()
        .await
        .query_one(&kept, &[])
        .await
        .expect("the other one");
    assert_eq!(row.get::<_, String>(0), "umbrella content 1");
}

#[tokio::test]
async fn a_foreign_session_is_as_one_that_is_not_there_and_its_lock_is_not_waited_for() {
    let database = filled().await;
    let client = app(&database).await;
    let foreign = id(SESSION, 1, 1);
    let lock = SessionLock::on_session(&database, &foreign).await;
    // Of its own tenant, but another user's.
    let neighbour = id(SESSION, 0, 2);
    let other_lock = SessionLock::on_session(&database, &neighbour).await;
    ask_for(&client, "acme", &id(USER, 0, 1)).await;
    client
        .batch_execute("SET lock_timeout = '5s'")
        .await
        .expect("a limit");
    let mut errors = Vec::new();
    for session in [&foreign, &neighbour, &Uuid::now_v7().to_string()] {
        let sql =
            format!("INSERT INTO messages (session_id, role, content) VALUES ('{session}', 'user', 'x')");
        let error = client.execute(&sql, &[]).await.expect_err("no such session");
        assert_eq!(error.code(), Some(&SqlState::FOREIGN_KEY_VIOLATION), "{error:?}");
        errors.push(
            error
                .as_db_error()
                .expect("an error")
                .message()
                .replace(session.as_str(), "ID"),
        );
    }
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    let foreign_message = id(MESSAGE, 1, 1);
    let sql =
        format!("INSERT INTO message_citations (message_id, document_id) VALUES ('{foreign_message}', 'x')");
    let error = client.execute(&sql, &[]).await.expect_err("no such message");
    assert_eq!(error.code(), Some(&SqlState::FOREIGN_KEY_VIOLATION), "{error:?}");
    lock.release().await;
    other_lock.release().await;
}

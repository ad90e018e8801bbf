//! What doesn't fit: it is left out and told, or kept in another way, and nothing else suffers.

use super::*;

/// No users table, no keys, times and roles as they come.
const ODD: &str = "
    CREATE TABLE chat_sessions (id text, user_id text, history text, topic text);
    ALTER TABLE chat_sessions DROP COLUMN history;
    CREATE TABLE messages (id varchar, session_id text, role text, content text, created_at text);
    INSERT INTO chat_sessions VALUES ('a', 'somebody', 'ROS 2'), ('b', NULL, NULL);
    INSERT INTO messages VALUES
        ('m1', 'a', 'Human', 'first', '2024-01-01 10:00:00'),
        ('m2', 'a', ' AI ', 'second', NULL),
        ('m3', 'a', 'narrator', 'third', '2024-01-01 10:00:02'),
        ('m4', 'nowhere', 'user', 'lost', '2024-01-01 10:00:03'),
        ('m5', 'b', 'user', 'ahead', '2999-01-01 10:00:04'),
        (NULL, 'b', 'user', 'nameless', '2024-01-01 10:00:05'),
        ('m6', NULL, 'user', 'lost as well', '2024-01-01 10:00:06');";

#[tokio::test]
async fn odd_rows_are_told_one_by_one() {
    let source = source_of(ODD).await;
    let target = TestDatabase::empty().await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("report.jsonl");
    let mut command = import(&source, &target);
    command.arg("--report").arg(&file);
    let said = succeeds(command).await;
    let to = target.client().await;
    let stored = texts(
        &to,
        "SELECT concat_ws('|', s.metadata->>'topic', m.seq, m.role, m.content) FROM messages m
        JOIN chat_sessions s ON s.id = m.session_id ORDER BY m.content",
    )
    .await;
    assert_eq!(
        stored,
        ["1|user|ahead", "ROS 2|1|user|first", "ROS 2|2|assistant|second"]
    );
    let report = std::fs::read_to_string(&file).expect("a report");
    for (text, words) in [
        (&report, "its session does not exist"),
        (&report, "it has no id"),
        (&report, "it names no session"),
        (&report, "not valid: role"),
        (&report, "its time is in the future"),
        (&report, "it has no time"),
        (&report, "names the user in its metadata"),
        (
            &said,
            "messages            7          3              0          4",
        ),
    ] {
        assert!(text.contains(words), "{words}\n{said}\n{report}");
    }
    // The second time is the same.
    let again = succeeds(import(&source, &target)).await;
    assert!(
        again.contains("messages            7          0              3          4"),
        "{again}"
    );
}

#[tokio::test]
async fn emails_that_differ_in_case_are_one_user() {
    let source = source_of(
        "CREATE TABLE users (id int, email text, password_hash text);
        CREATE TABLE chat_sessions (id int, user_id int, history json);
        INSERT INTO users VALUES (1, 'Ada@example.com', 'x'), (2, 'ada@EXAMPLE.com', 'y'), (3, 'no address', 'z');
        INSERT INTO chat_sessions VALUES (1, 1, '[]'), (2, 2, '[{\"role\": \"user\", \"content\": \"hi\", \"n\": 1}]'),
            (3, 3, '{\"not\": \"an array\"}');",
    )
    .await;
    let target = TestDatabase::empty().await;
    let said = succeeds(import(&source, &target)).await;
    assert!(
        said.contains("not valid: email") && said.contains("another user has this email"),
        "{said}"
    );
    let to = target.client().await;
    let owners = texts(
        &to,
        "SELECT concat_ws('|', coalesce(u.email, '-'), s.last_seq) FROM chat_sessions s LEFT JOIN users u ON u.id = s.user_id
        ORDER BY 1",
    );
    assert_eq!(owners.await, ["-|0", "Ada@example.com|0", "Ada@example.com|1"]);
    assert_eq!(
        texts(&to, "SELECT metadata::text FROM messages").await,
        [r#"{"n": 1}"#]
    );
}

#[tokio::test]
async fn bad_citations_and_long_titles_cost_no_message() {
    let source = source_of(
        "CREATE TABLE chat_sessions (id uuid, title text);
        CREATE TABLE messages (id uuid, session_id uuid, role text, content text);
        CREATE TABLE message_citations (message_id uuid, document_id text, chunk_id text, score real);
        INSERT INTO chat_sessions VALUES ('5e5510aa-0000-4000-8000-000000000001', repeat('é', 600));
        INSERT INTO messages VALUES ('5e5510aa-0000-4000-8000-000000000002',
            '5e5510aa-0000-4000-8000-000000000001', 'assistant', 'hi');
        INSERT INTO message_citations SELECT '5e5510aa-0000-4000-8000-000000000002', d, 'c', s FROM (VALUES
            ('good', 0.5), ('', 0.1), ('nan', 'NaN'), (NULL, 0.1), (repeat('x', 600), 0.1)) AS v (d, s);
        INSERT INTO message_citations VALUES (gen_random_uuid(), 'lost', 'c', 0.5);",
    )
    .await;
    let target = TestDatabase::empty().await;
    let said = succeeds(import(&source, &target)).await;
    assert!(
        said.contains("citations           6          2              0          4"),
        "{said}"
    );
    assert!(said.contains("its message does not exist"), "{said}");
    let to = target.client().await;
    let cited = "SELECT concat_ws('|', document_id, score, citation_index) FROM message_citations ORDER BY document_id";
    let indexes = texts(&to, cited).await;
    assert!(
        indexes[0].starts_with("good|0.5|") && indexes[1].starts_with("nan|0|"),
        "{indexes:?}"
    );
    let titles =
        "SELECT concat_ws('|', char_length(title), char_length(metadata->>'title')) FROM chat_sessions";
    assert_eq!(texts(&to, titles).await, ["500|600"]);
}

#[tokio::test]
async fn one_message_that_is_too_long_harms_no_other() {
    let source = source_of(&super::sources::rag_uuid(1, 2, 40)).await;
    let from = source.client().await;
    let long = "UPDATE messages SET content = repeat('x', 2000000) WHERE id = md5('message7')::uuid";
    from.batch_execute(long).await.expect("a long one");
    let target = TestDatabase::empty().await;
    let said = succeeds(import(&source, &target)).await;
    assert!(
        said.contains("must have at most 1048576 bytes, has 2000000"),
        "{said}"
    );
    let to = target.client().await;
    assert_eq!(texts(&to, "SELECT count(*)::text FROM messages").await, ["39"]);
    assert_in_order(&to).await;
    let mut command = import(&source, &TestDatabase::empty().await);
    command.args(["--max-content-bytes", "2000000"]);
    let said = succeeds(command).await;
    assert!(
        said.contains("messages           40         40              0          0"),
        "{said}"
    );
}

#[tokio::test]
async fn what_has_no_place_is_told_and_another_user_is_kept() {
    let source = source_of(
        "CREATE TABLE users (id int, email text, phone text, last_login timestamp);
        CREATE TABLE documents (id int, title text, content text, pages int);
        CREATE TABLE chat_sessions (id int, user_id int);
        CREATE TABLE messages (id int, session_id int, user_id int, role text, content text);
        CREATE TABLE message_citations (message_id int, document_id text, snippet text);
        INSERT INTO users VALUES (1, 'ada@example.com', '123', NULL), (2, 'bob@example.com', NULL, NULL);
        INSERT INTO documents VALUES (7, 'ROS 2', 'long', 3);
        INSERT INTO chat_sessions VALUES (1, 1);
        INSERT INTO messages VALUES (1, 1, 1, 'user', 'mine'), (2, 1, 2, 'user', 'of a guest');
        INSERT INTO message_citations VALUES (1, '7', 'a passage');",
    )
    .await;
    let target = TestDatabase::empty().await;
    let said = succeeds(import(&source, &target)).await;
    for line in [
        "changed: 1 users: there is no place for phone",
        "changed: 1 documents: there is no place for content",
        "changed: 1 citations: there is no place for snippet",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    let to = target.client().await;
    let kept = "SELECT concat_ws('|', m.content, u.email, (SELECT metadata::text FROM documents))
        FROM messages m LEFT JOIN users u ON u.id = (m.metadata->>'user_id')::uuid ORDER BY m.seq";
    assert_eq!(
        texts(&to, kept).await,
        [
            r#"mine|{"pages": 3}"#,
            r#"of a guest|bob@example.com|{"pages": 3}"#
        ]
    );
}

#[tokio::test]
async fn a_history_is_read_as_programs_write_it_and_no_other_is_lost() {
    let source = source_of(
        r#"CREATE TABLE users (id int, email text);
        CREATE TABLE chat_sessions (id int, user_id int, history jsonb);
        INSERT INTO chat_sessions VALUES (1, NULL, '"[{\"role\": \"user\", \"content\": \"encoded twice\"}]"'),
            (2, NULL, '{"messages": [{"role": "user", "content": "of another form"}]}'), (3, NULL, 'null'), (4, NULL, NULL),
            (5, NULL, '"no array"'), (6, NULL, '[{"role": "user", "content": "plain"}, "no object"]');"#,
    )
    .await;
    let target = TestDatabase::empty().await;
    let said = succeeds(import(&source, &target)).await;
    assert!(
        said.contains("skipped: 1 messages: it is not an object"),
        "{said}"
    );
    let to = target.client().await;
    let contents = texts(&to, "SELECT content FROM messages ORDER BY content").await;
    assert_eq!(contents, ["encoded twice", "plain"]);
    let kept = "SELECT metadata->>'history' FROM chat_sessions WHERE metadata ? 'history' ORDER BY 1";
    assert_eq!(
        texts(&to, kept).await,
        [
            "no array",
            r#"{"messages": [{"role": "user", "content": "of another form"}]}"#
        ]
    );
}

#[tokio::test]
async fn a_row_without_a_key_is_told_as_what_it_is() {
    let source = source_of(
        "CREATE TABLE users (id int, email text); CREATE TABLE user_profiles (id int, user_id int, experience_level text);
        CREATE TABLE chat_sessions (id int); CREATE TABLE messages (id int, session_id int, role text, content text);
        INSERT INTO user_profiles VALUES (7, NULL, 'beginner');
        INSERT INTO messages VALUES (8, NULL, 'user', 'lost')",
    )
    .await;
    let said = succeeds(import(&source, &TestDatabase::empty().await)).await;
    for lines in [
        "skipped: 1 profiles: it has no user_id\n    7\n",
        "skipped: 1 messages: it names no session\n    8\n",
    ] {
        assert!(said.contains(lines), "{said}");
    }
}

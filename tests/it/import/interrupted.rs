//! An import that was stopped is run again.

use nix::sys::signal::Signal;

use super::{sources::*, *};

#[tokio::test]
async fn an_import_that_was_killed_goes_on_where_it_was() {
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let source = source_of(&rag_uuid(3, 7, 12_000)).await;
        let target = TestDatabase::new().await;
        let to = target.client().await;
        let mut process = ServerProcess::start(&mut import(&source, &target));
        let stored = async || {
            let rows = texts(&to, "SELECT count(*)::text FROM messages").await;
            rows[0].parse::<u32>().expect("a count")
        };
        eventually("some messages are stored", async || {
            (stored().await > 0).then_some(())
        })
        .await;
        process.signal(signal);
        assert!(!process.ended().await.success());
        let part = eventually("its last statement has ended", async || {
            let busy = "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
            if texts(&to, busy).await.is_empty() { Some(stored().await) } else { None }
        })
        .await;
        assert!(part < 12_000, "it was too quick");

        let said = succeeds(import(&source, &target)).await;
        let messages = said
            .lines()
            .find(|line| line.starts_with("messages"))
            .expect("a line");
        let numbers: Vec<u32> = messages
            .split_whitespace()
            .skip(1)
            .map(|n| n.parse().expect("a number"))
            .collect();
        assert_eq!(numbers, [12_000, 12_000 - part, part, 0], "{said}");
        let from = source.client().await;
        assert_same(
            &texts(&to, MESSAGES).await,
            &texts(&from, RAG_UUID_MESSAGES).await,
        );
        assert_in_order(&to).await;
        // And once more: nothing is left to do, and nothing is touched.
        let before = texts(
            &to,
            "SELECT concat(id, updated_at) FROM chat_sessions ORDER BY id",
        )
        .await;
        let said = succeeds(import(&source, &target)).await;
        assert!(said.contains("counts and checksums agree"), "{said}");
        assert_same(
            &texts(
                &to,
                "SELECT concat(id, updated_at) FROM chat_sessions ORDER BY id",
            )
            .await,
            &before,
        );
    }
}

#[tokio::test]
async fn what_was_said_since_is_added_and_what_differs_is_told() {
    let source = source_of(&rag_uuid(1, 2, 10)).await;
    let target = TestDatabase::empty().await;
    succeeds(import(&source, &target)).await;
    let (from, to) = (source.client().await, target.client().await);
    from.batch_execute(
        "INSERT INTO messages (session_id, role, content) SELECT session_id, 'user', 'later' FROM messages LIMIT 1",
    )
    .await
    .expect("a message");
    let said = succeeds(import(&source, &target)).await;
    assert!(said.contains("counts and checksums agree"), "{said}");
    assert_same(
        &texts(&to, MESSAGES).await,
        &texts(&from, RAG_UUID_MESSAGES).await,
    );

    from.batch_execute("UPDATE messages SET content = 'edited' WHERE content = 'later'")
        .await
        .expect("an edit");
    let output = output_of(import(&source, &target)).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("conflict: 1 messages") && said.contains("1 sessions differ"),
        "{said}"
    );
    let kept = texts(
        &to,
        "SELECT content FROM messages WHERE content IN ('later', 'edited')",
    )
    .await;
    assert_eq!(kept, ["later"]);

    // A difference that only the checksums can find: the source has forgotten a message.
    from.batch_execute(
        "UPDATE messages SET content = 'later' WHERE content = 'edited';
        DELETE FROM messages WHERE id = (SELECT id FROM messages ORDER BY created_at LIMIT 1)",
    )
    .await
    .expect("a change");
    let output = output_of(import(&source, &target)).await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("1 sessions differ"), "{said}");
}

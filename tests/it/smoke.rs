//! The shortest conversation.

use crate::harness::*;

#[tokio::test]
async fn a_conversation_is_kept() {
    let database = TestDatabase::new().await;
    let server = start(&database).await;
    let session = new_session(&server).await;
    let question = append(&server, &session, text("What is ROS 2?"))
        .await
        .expect("a receipt");
    let mut answer = text("Middleware [1].");
    answer.citations = vec![citation("module-1", "chunk-3", 0.9)];
    let answer = append(&server, &session, answer).await.expect("a receipt");
    assert_eq!((question.seq, answer.seq), (1, 2));
    let messages = messages_of(&server, &session).await;
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1].citations[0].document_id, "module-1");
    server.stop().await;
}

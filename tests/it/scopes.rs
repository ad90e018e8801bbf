//! `--scope`: what is served and what is in the database, and the way from a part to the whole.

use chatledger::migrations::Scope;
use pb::list_sessions_request::Owner;
use tonic::Code;

use crate::harness::*;

/// A server over a database that has what the scope needs, and no more.
async fn scoped(database: &TestDatabase, scope: Scope) -> TestServer {
    database.migrate(scope).await;
    start_with(database, |options| options.scope = scope).await
}

async fn tables(database: &TestDatabase) -> Vec<String> {
    let sql = "SELECT tablename::text FROM pg_tables
        WHERE schemaname = 'public' AND tablename NOT LIKE 'chatledger%' ORDER BY 1";
    let rows = database.client().await.query(sql, &[]).await.expect("tables");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Whether the foreign key from sessions to users is validated; `None` without the key.
async fn is_validated(database: &TestDatabase) -> Option<bool> {
    let sql = "SELECT convalidated FROM pg_constraint WHERE conname = 'chat_sessions_user_fkey'";
    let row = database.client().await.query_opt(sql, &[]).await.expect("a look");
    row.map(|row| row.get(0))
}

async fn get_session(server: &TestServer, id: &str) -> pb::Session {
    let request = pb::GetSessionRequest {
        session_id: id.to_owned(),
    };
    answer(server.sessions().get_session(request).await)
        .session
        .expect("a session")
}

#[tokio::test]
async fn with_chat_there_are_no_users_and_their_ids_are_opaque() {
    let database = TestDatabase::empty().await;
    let server = scoped(&database, Scope::Chat).await;
    assert_eq!(
        tables(&database).await,
        [
            "api_keys",
            "audit_events",
            "chat_sessions",
            "documents",
            "message_citations",
            "messages"
        ]
    );
    let user_id = id();
    let session = new_session_of(&server, Some(&user_id)).await;
    assert_eq!(session.user_id.as_ref(), Some(&user_id));
    append(&server, &session.id, text("hello"))
        .await
        .expect("a receipt");
    assert_eq!(messages_of(&server, &session.id).await.len(), 1);
    let anonymous = new_session(&server).await;
    let request = pb::ClaimSessionsRequest {
        user_id: user_id.clone(),
        session_ids: vec![anonymous.clone()],
        claim_secrets: Vec::new(),
    };
    let claimed = answer(server.sessions().claim_sessions(request).await);
    assert_eq!(claimed.claimed_session_ids, [anonymous]);
    let request = pb::ListSessionsRequest {
        owner: Some(Owner::UserId(user_id)),
        ..Default::default()
    };
    let page = answer(server.sessions().list_sessions(request).await);
    assert_eq!(page.sessions.len(), 2);
}

#[tokio::test]
async fn with_chat_users_and_profiles_are_not_served() {
    let database = TestDatabase::empty().await;
    let server = scoped(&database, Scope::Chat).await;
    let (code, reason) = (Code::Unimplemented, "SCOPE_NOT_SERVED");
    let (mut users, mut profiles) = (server.users(), server.profiles());
    assert_refused(
        users.create_user(pb::CreateUserRequest::default()).await,
        code,
        reason,
    );
    assert_refused(users.get_user(pb::GetUserRequest::default()).await, code, reason);
    assert_refused(
        users.update_user(pb::UpdateUserRequest::default()).await,
        code,
        reason,
    );
    assert_refused(
        users.delete_user(pb::DeleteUserRequest::default()).await,
        code,
        reason,
    );
    assert_refused(
        users.list_users(pb::ListUsersRequest::default()).await,
        code,
        reason,
    );
    let set = users.set_password(pb::SetPasswordRequest::default()).await;
    assert_refused(set, code, reason);
    let verified = users.verify_password(pb::VerifyPasswordRequest::default()).await;
    assert_refused(verified, code, reason);
    let got = profiles.get_profile(pb::GetProfileRequest::default()).await;
    assert_refused(got, code, reason);
    let updated = profiles.update_profile(pb::UpdateProfileRequest::default()).await;
    assert_refused(updated, code, reason);
    let deleted = profiles.delete_profile(pb::DeleteProfileRequest::default()).await;
    assert_refused(deleted, code, reason);
    let listed = profiles.list_profiles(pb::ListProfilesRequest::default()).await;
    assert_refused(listed, code, reason);
}

#[tokio::test]
async fn with_auth_there_are_users_and_profiles_only() {
    let database = TestDatabase::empty().await;
    let server = scoped(&database, Scope::Auth).await;
    assert_eq!(
        tables(&database).await,
        ["api_keys", "audit_events", "user_profiles", "users"]
    );
    let user = new_user(&server).await;
    let request = pb::UpdateProfileRequest {
        profile: Some(pb::Profile {
            user_id: user.id.clone(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let profile = answer(server.profiles().update_profile(request).await).profile;
    assert_eq!(profile.expect("a profile").user_id, user.id);

    let (code, reason) = (Code::Unimplemented, "SCOPE_NOT_SERVED");
    let request = pb::CreateSessionRequest::default();
    assert_refused(server.sessions().create_session(request).await, code, reason);
    let request = pb::ClaimSessionsRequest::default();
    assert_refused(server.sessions().claim_sessions(request).await, code, reason);
    let request = pb::AppendMessageRequest::default();
    assert_refused(server.messages().append_message(request).await, code, reason);
    let request = pb::SearchMessagesRequest::default();
    assert_refused(server.messages().search_messages(request).await, code, reason);
    let request = pb::ListCitationsRequest::default();
    assert_refused(server.citations().list_citations(request).await, code, reason);
    let request = pb::UpsertDocumentRequest::default();
    assert_refused(server.documents().upsert_document(request).await, code, reason);
    let request = pb::ListDailyVolumeRequest::default();
    assert_refused(server.analytics().list_daily_volume(request).await, code, reason);

    let request = pb::DeleteUserRequest { user_id: user.id };
    answer(server.users().delete_user(request).await);
}

#[tokio::test]
async fn from_auth_to_all_users_stay_and_get_sessions() {
    let database = TestDatabase::empty().await;
    let auth = scoped(&database, Scope::Auth).await;
    let user = new_user(&auth).await;
    auth.stop().await;
    assert_eq!(is_validated(&database).await, None);

    let all = scoped(&database, Scope::All).await;
    assert_eq!(is_validated(&database).await, Some(true));
    let session = new_session_of(&all, Some(&user.id)).await;
    let request = pb::CreateSessionRequest {
        user_id: Some(id()),
        ..Default::default()
    };
    let refused = all.sessions().create_session(request).await;
    assert_refused(refused, Code::NotFound, "USER_NOT_FOUND");
    let request = pb::DeleteUserRequest { user_id: user.id };
    answer(all.users().delete_user(request).await);
    let refused = refusal(append(&all, &session.id, text("hello")).await);
    assert_eq!(refused.reason, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn from_chat_to_all_sessions_of_nobody_known_can_still_be_used() {
    let database = TestDatabase::empty().await;
    let chat = scoped(&database, Scope::Chat).await;
    let orphan = new_session_of(&chat, Some(&id())).await;
    new_session(&chat).await;
    append(&chat, &orphan.id, text("first")).await.expect("a receipt");
    chat.stop().await;

    let all = scoped(&database, Scope::All).await;
    assert_eq!(is_validated(&database).await, Some(false));
    let receipt = append(&all, &orphan.id, text("second")).await.expect("a receipt");
    assert_eq!(receipt.seq, 2);
    // Also on the path that locks the session first.
    let receipts = append_batch(&all, &orphan.id, vec![text("third")], Some(2)).await;
    assert_eq!(receipts.expect("receipts")[0].seq, 3);
    let contents: Vec<String> = messages_of(&all, &orphan.id)
        .await
        .into_iter()
        .map(|message| message.content)
        .collect();
    assert_eq!(contents, ["first", "second", "third"]);
    let read = get_session(&all, &orphan.id).await;
    assert_eq!((read.user_id.clone(), read.last_seq), (orphan.user_id.clone(), 3));
    let request = pb::UpdateSessionRequest {
        session_id: orphan.id.clone(),
        title: Some("renamed".into()),
        ..Default::default()
    };
    let renamed = answer(all.sessions().update_session(request).await).session;
    assert_eq!(renamed.expect("a session").title, "renamed");
    let request = pb::ListSessionsRequest {
        owner: orphan.user_id.clone().map(Owner::UserId),
        ..Default::default()
    };
    let page = answer(all.sessions().list_sessions(request).await);
    assert_eq!(page.sessions.len(), 1);
    // New ones need a user all the same.
    let request = pb::CreateSessionRequest {
        user_id: orphan.user_id.clone(),
        ..Default::default()
    };
    let refused = all.sessions().create_session(request).await;
    assert_refused(refused, Code::NotFound, "USER_NOT_FOUND");
    // Booting again changes nothing while the orphan is there.
    database.migrate(Scope::All).await;
    assert_eq!(is_validated(&database).await, Some(false));
    let request = pb::DeleteSessionRequest {
        session_id: orphan.id,
    };
    answer(all.sessions().delete_session(request).await);
    database.migrate(Scope::All).await;
    assert_eq!(is_validated(&database).await, Some(true));
}

#[tokio::test]
async fn from_chat_to_all_a_session_is_the_users_whose_id_it_names() {
    let database = TestDatabase::empty().await;
    let chat = scoped(&database, Scope::Chat).await;
    let user_id = id();
    let session = new_session_of(&chat, Some(&user_id)).await;
    chat.stop().await;

    let all = scoped(&database, Scope::All).await;
    assert_eq!(is_validated(&database).await, Some(false));
    let request = pb::CreateUserRequest {
        user_id: Some(user_id.clone()),
        email: "ada@example.com".into(),
        ..Default::default()
    };
    answer(all.users().create_user(request).await);
    database.migrate(Scope::All).await;
    assert_eq!(is_validated(&database).await, Some(true));
    assert_eq!(get_session(&all, &session.id).await, session);
    let request = pb::DeleteUserRequest { user_id };
    answer(all.users().delete_user(request).await);
    let request = pb::GetSessionRequest {
        session_id: session.id,
    };
    let found = all.sessions().get_session(request).await;
    assert_refused(found, Code::NotFound, "SESSION_NOT_FOUND");
}

#[tokio::test]
async fn from_chat_to_all_without_orphans_the_key_is_validated_at_once() {
    let database = TestDatabase::empty().await;
    let chat = scoped(&database, Scope::Chat).await;
    let anonymous = new_session(&chat).await;
    chat.stop().await;
    let all = scoped(&database, Scope::All).await;
    assert_eq!(is_validated(&database).await, Some(true));
    assert_eq!(get_session(&all, &anonymous).await.user_id, None);
}

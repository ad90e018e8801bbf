//! The functions of store, ledger and watch, each as something that a caller tries on what belongs to an owner.

use std::{future::Future, pin::Pin, time::Duration};

use chatledger::{
    auth::{Action, Caller, NewSecret},
    domain::{
        JsonMode, JsonObject, Result,
        access::{AccessScopes, NewApiKey},
        citation::{CitationFilter, CitationSource},
        document::DocumentFilter,
        message::{MessageChange, MessageFilter, MessageRange, Search},
        page::Page,
        profile::{ProfileChange, ProfileFields, ProfileFilter},
        session::{
            ClaimHash, NewSession, SessionChange, SessionClaim, SessionFilter, SessionOrder, SessionOwner,
        },
        user::{NewUser, UserChange, UserFilter, UserKey},
    },
    ledger::Unit,
    store::{NewsRequest, PageSize},
    watch::WatchEvent,
};
use jiff::Timestamp;
use tokio::time;
use uuid::Uuid;

use super::world::{Belongings, Rooms, SECRET, TENANT, citation, document, message};

/// The answer: whether the caller has seen, or changed, anything of the owner's.
type TrialAnswer<'a> = Pin<Box<dyn Future<Output = Result<bool>> + 'a>>;

/// A function that is tried.
pub struct IsolationTrial {
    pub name: &'static str,
    pub action: Action,
    pub run: for<'a> fn(&'a Rooms, &'a Belongings, Caller) -> TrialAnswer<'a>,
}

macro_rules! trials {
    ($($name:ident: $action:ident, |$rooms:pat_param, $of:pat_param, $caller:ident| $body:expr;)*) => {
        pub static TRIALS: &[IsolationTrial] = &[$(IsolationTrial {
            name: stringify!($name),
            action: Action::$action,
            run: |$rooms, $of, $caller| Box::pin(async move { $body }),
        }),*];
    };
}

trials! {
    user_by_id: ReadUser, |rooms, of, caller| seen(rooms.store.user(&caller, &UserKey::Id(of.user_id)).await);
    user_by_email: ReadUser, |rooms, of, caller| seen(rooms.store.user(&caller, &UserKey::Email(of.email.clone())).await);
    user_by_external_id: ReadUser, |rooms, of, caller| {
        seen(rooms.store.user(&caller, &UserKey::ExternalId(of.user_id.to_string())).await)
    };
    list_users: ReadUser, |rooms, of, caller| {
        let filter = UserFilter { page: all(), email_prefix: Some(of.email.clone()), is_active: None };
        any(rooms.store.list_users(&caller, &filter).await)
    };
    create_user: CreateUser, |rooms, of, caller| seen(rooms.store.create_user(&caller, &new_user(of.user_id, &of.email), None).await);
    create_user_with_the_id: CreateUser, |rooms, of, caller| {
        seen(rooms.store.create_user(&caller, &new_user(of.user_id, &format!("{}@example.org", Uuid::now_v7())), None).await)
            .map(|_| false)
    };
    update_user: ChangeUser, |rooms, of, caller| {
        let change = UserChange { name: Some("Mallory".to_owned()), ..UserChange::default() };
        seen(rooms.store.update_user(&caller, of.user_id, &change).await)
    };
    set_password: ChangeUser, |rooms, of, caller| seen(rooms.store.set_password(&caller, of.user_id, "another").await);
    delete_user: ChangeUser, |rooms, of, caller| seen(rooms.store.delete_user(&caller, of.user_id).await);
    credentials: VerifyPassword, |rooms, of, caller| Ok(rooms.store.credentials(&caller, &of.email).await?.is_some());
    replace_hash: VerifyPassword, |rooms, of, caller| {
        let before = of.stored(rooms).await;
        rooms.store.replace_hash(&caller, of.user_id, "a hash", "another").await?;
        Ok(of.stored(rooms).await != before)
    };

    profile: ReadProfile, |rooms, of, caller| seen(rooms.store.profile(&caller, of.user_id).await);
    list_profiles: ReadProfile, |rooms, of, caller| {
        let filter = ProfileFilter { page: all(), experience_level: None, preferences_contain: None };
        let profiles = rooms.store.list_profiles(&caller, &filter).await?;
        Ok(profiles.iter().any(|profile| profile.user_id == of.user_id))
    };
    update_profile: ChangeProfile, |rooms, of, caller| seen(rooms.store.update_profile(&caller, &profile_change(of.user_id)).await);
    delete_and_create_profile: ChangeProfile, |rooms, of, caller| {
        rooms.store.delete_profile(&caller, of.user_id).await?;
        seen(rooms.store.update_profile(&caller, &profile_change(of.user_id)).await)
    };

    create_session: CreateSession, |rooms, of, caller| {
        let session = NewSession {
            id: of.session_id,
            user_id: Some(of.user_id),
            title: None,
            metadata: JsonObject::default(),
            claim_hash: None,
        };
        seen(rooms.store.create_session(&caller, &session).await)
    };
    session: ReadSession, |rooms, of, caller| seen(rooms.store.session(&caller, of.session_id).await);
    list_sessions: ReadSession, |rooms, of, caller| {
        any(rooms.store.list_sessions(&caller, &sessions(SessionOwner::User(of.user_id), SessionOrder::Created)).await)
    };
    list_active_sessions: ReadSession, |rooms, of, caller| {
        any(rooms.store.list_sessions(&caller, &sessions(SessionOwner::User(of.user_id), SessionOrder::LastActive)).await)
    };
    update_session: ChangeSession, |rooms, of, caller| {
        let change = SessionChange {
            id: of.session_id,
            title: Some("Mine".to_owned()),
            metadata: None,
            metadata_mode: JsonMode::Merge,
        };
        seen(rooms.store.update_session(&caller, &change).await)
    };
    delete_session: ChangeSession, |rooms, of, caller| seen(rooms.store.delete_session(&caller, of.session_id).await);
    delete_large_session: ChangeSession, |rooms, of, caller| {
        rooms.client.execute("UPDATE chat_sessions SET last_seq = 1500 WHERE id = $1", &[&of.session_id]).await.expect("SQL");
        seen(rooms.store.delete_session(&caller, of.session_id).await)
    };
    user_contents: ReadSession, |rooms, of, caller| {
        Ok(!rooms.store.user_contents(&caller, of.user_id).await?.is_empty())
    };
    erase_user: ChangeUser, |rooms, of, caller| seen(rooms.store.erase_user(&caller, of.user_id).await);
    claim_sessions: ClaimSessions, |rooms, of, caller| {
        any(rooms.store.claim_sessions(&caller, &claim(of, of.user_id, Some(SECRET))).await)
    };

    message: ReadMessages, |rooms, of, caller| seen(rooms.store.message(&caller, of.session_id, of.message_id).await);
    list_messages: ReadMessages, |rooms, of, caller| {
        seen(rooms.store.list_messages(&caller, &messages(of, false), 1 << 20).await)
    };
    list_last_messages: ReadMessages, |rooms, of, caller| {
        seen(rooms.store.list_messages(&caller, &messages(of, true), 1 << 20).await)
    };
    // Any message is larger than its share of nothing.
    list_large_messages: ReadMessages, |rooms, of, caller| {
        seen(rooms.store.list_messages(&caller, &messages(of, false), 1).await)
    };
    list_last_large_messages: ReadMessages, |rooms, of, caller| {
        seen(rooms.store.list_messages(&caller, &messages(of, true), 1).await)
    };
    read_history: ReadMessages, |rooms, of, caller| {
        seen(rooms.store.open_history(&caller, messages(of, false).range).await)
    };
    search_session: ReadMessages, |rooms, of, caller| {
        seen(rooms.store.search_messages(&caller, &search(Some(of.session_id), None)).await)
    };
    search_user: ReadMessages, |rooms, of, caller| {
        Ok(!rooms.store.search_messages(&caller, &search(None, Some(of.user_id))).await?.hits.is_empty())
    };
    search_tenant: ReadMessages, |rooms, of, caller| {
        let hits = rooms.store.search_messages(&caller, &search(None, None)).await?.hits;
        Ok(hits.iter().any(|hit| hit.message.session_id == of.session_id))
    };
    news: ReadMessages, |rooms, of, caller| {
        let request = NewsRequest { caller, session_id: of.session_id, known: 0 };
        let news = rooms.store.news(&[request], PageSize { rows: 10, bytes: 1 << 20, large: false }).await?;
        Ok(news.into_iter().flatten().next().is_some())
    };
    watch: ReadMessages, |rooms, of, caller| {
        let mut watcher = rooms.hub.watch(caller, of.session_id, 0).await?;
        let event = time::timeout(Duration::from_secs(20), watcher.next()).await;
        Ok(matches!(event.expect("an event")?, WatchEvent::Message(_)))
    };
    append: AppendMessages, |rooms, of, caller| seen(of.append(rooms, caller, vec![message("third", None)]).await);
    append_cited: AppendMessages, |rooms, of, caller| {
        seen(of.append(rooms, caller, vec![message("third", Some("doc"))]).await)
    };
    append_with_a_stored_id: AppendMessages, |rooms, of, caller| {
        let mut again = message("second brokers", None);
        again.id = of.message_id;
        seen(of.append(rooms, caller, vec![again]).await)
    };
    append_with_an_expected_seq: AppendMessages, |rooms, of, caller| {
        let unit = Unit {
            caller,
            session_id: of.session_id,
            messages: vec![message("third", None)],
            expected_last_seq: Some(2),
        };
        seen(rooms.ledger.append(unit).await)
    };
    append_above_a_given_seq: AppendMessages, |rooms, of, caller| {
        let insert = "INSERT INTO messages (session_id, seq, role, content) VALUES ($1, 3, 'user', 'by hand')";
        rooms.client.execute(insert, &[&of.session_id]).await.expect("SQL");
        rooms.client.execute("UPDATE chat_sessions SET last_seq = 2 WHERE id = $1", &[&of.session_id]).await.expect("SQL");
        seen(of.append(rooms, caller, vec![message("fourth", None)]).await)
    };
    update_message: ChangeMessages, |rooms, of, caller| {
        let change = MessageChange {
            session_id: of.session_id,
            message_id: of.message_id,
            metadata: JsonObject::default(),
            metadata_mode: JsonMode::Replace,
        };
        seen(rooms.store.update_message(&caller, &change).await)
    };
    delete_message: ChangeMessages, |rooms, of, caller| {
        seen(rooms.store.delete_message(&caller, of.session_id, of.message_id).await)
    };
    clear_messages: ChangeMessages, |rooms, of, caller| seen(rooms.store.clear_messages(&caller, of.session_id).await);

    list_citations_of_message: ReadCitations, |rooms, of, caller| {
        let source = CitationSource::Message { session_id: of.session_id, message_id: of.message_id };
        any(rooms.store.list_citations(&caller, &CitationFilter { page: all(), source }).await)
    };
    list_citations_of_document: ReadCitations, |rooms, of, caller| {
        let source = CitationSource::Document(of.document_id.clone());
        any(rooms.store.list_citations(&caller, &CitationFilter { page: all(), source }).await)
    };
    add_citations: ChangeCitations, |rooms, of, caller| {
        let mut more = citation("another");
        more.index = 2;
        any(rooms.store.add_citations(&caller, of.session_id, of.message_id, vec![more]).await)
    };
    delete_citation: ChangeCitations, |rooms, of, caller| {
        seen(rooms.store.delete_citation(&caller, of.session_id, of.message_id, 1).await)
    };

    document: ReadDocument, |rooms, of, caller| seen(rooms.store.document(&caller, &of.document_id).await);
    list_documents: ReadDocument, |rooms, of, caller| {
        let filter = DocumentFilter { page: all(), title_contains: None, metadata_contains: None };
        let documents = rooms.store.list_documents(&caller, &filter).await?;
        Ok(documents.iter().any(|document| document.fields.id == of.document_id))
    };
    upsert_document: ChangeDocument, |rooms, of, caller| {
        let before = of.stored(rooms).await;
        rooms.store.upsert_document(&caller, &document(&of.document_id)).await?;
        Ok(of.stored(rooms).await != before)
    };
    delete_document: ChangeDocument, |rooms, of, caller| seen(rooms.store.delete_document(&caller, &of.document_id).await);

    top_documents: Analyze, |rooms, of, caller| {
        let documents = rooms.store.top_documents(&caller, None, 100).await?;
        Ok(documents.iter().any(|document| document.document_id == of.document_id))
    };
    user_activity: Analyze, |rooms, of, caller| {
        let users = rooms.store.user_activity(&caller, &all()).await?;
        Ok(users.iter().any(|user| user.user_id == of.user_id))
    };
    daily_volume: Analyze, |rooms, _, caller| any(rooms.store.daily_volume(&caller, None, "UTC").await);
    stored_amounts: Analyze, |rooms, _, caller| {
        Ok(rooms.store.stored_amounts(&caller).await?.messages > 0)
    };
    session_lengths: Analyze, |rooms, _, caller| {
        let lengths = rooms.store.session_lengths(&caller, None).await?;
        Ok(lengths.iter().any(|bucket| bucket.session_count > 0))
    };
    kept_top_documents: Analyze, |rooms, of, caller| {
        rooms.fold().await?;
        let documents = rooms.store.top_documents(&caller, None, 100).await?;
        Ok(documents.iter().any(|document| document.document_id == of.document_id))
    };
    kept_daily_volume: Analyze, |rooms, _, caller| {
        rooms.fold().await?;
        any(rooms.store.daily_volume(&caller, None, "UTC").await)
    };
    kept_session_lengths: Analyze, |rooms, _, caller| {
        rooms.fold().await?;
        let lengths = rooms.store.session_lengths(&caller, None).await?;
        Ok(lengths.iter().any(|bucket| bucket.session_count > 0))
    };
    list_keys: ManageKeys, |rooms, _, caller| any(rooms.store.list_keys(&caller, &all()).await);
    key: ManageKeys, |rooms, of, caller| seen(rooms.store.key(&caller, &of.api_key_id).await);
    expire_key: ManageKeys, |rooms, of, caller| seen(rooms.store.expire_key(&caller, &of.api_key_id, Timestamp::UNIX_EPOCH).await);
    revoke_key: ManageKeys, |rooms, of, caller| seen(rooms.store.revoke_key(&caller, &of.api_key_id).await);
    create_key: ManageKeys, |rooms, _, caller| {
        let made = rooms.store.create_key(&caller, &new_key(), &new_secret()).await;
        made.map(|key| key.tenant == TENANT)
    };
}

/// A key to make.
pub fn new_key() -> NewApiKey {
    NewApiKey {
        tenant: None,
        name: "worker".to_owned(),
        scopes: AccessScopes::ALL,
        expires_at: None,
    }
}

/// The secret of a key to make.
pub fn new_secret() -> NewSecret {
    NewSecret::generate().expect("random numbers")
}

/// A success is a sight.
fn seen<T>(result: Result<T>) -> Result<bool> {
    result.map(|_| true)
}

/// A list is one if it has anything.
fn any<T>(result: Result<Vec<T>>) -> Result<bool> {
    Ok(!result?.is_empty())
}

/// The first page of all there is.
pub fn all<K>() -> Page<K> {
    Page {
        size: 500,
        after: None,
    }
}

fn new_user(id: Uuid, email: &str) -> NewUser {
    NewUser {
        id,
        email: email.to_owned(),
        external_id: None,
        name: None,
        profile: None,
    }
}

fn profile_change(user_id: Uuid) -> ProfileChange {
    ProfileChange {
        user_id,
        software_background: Some(Some("Rust".to_owned())),
        hardware_background: None,
        learning_goals: None,
        experience_level: None,
        preferred_language: None,
        preferences: None,
        preferences_mode: JsonMode::Merge,
        create: Some(ProfileFields::default()),
    }
}

fn sessions(owner: SessionOwner, order: SessionOrder) -> SessionFilter {
    SessionFilter {
        page: all(),
        owner,
        order,
        metadata_contains: None,
        title_contains: None,
    }
}

/// A claim of the session that is nobody's.
pub fn claim(of: &Belongings, user_id: Uuid, secret: Option<&str>) -> SessionClaim {
    SessionClaim {
        user_id,
        ids: vec![of.anonymous_id],
        hashes: secret.map(|secret| vec![ClaimHash::of(secret)]),
    }
}

/// The sessions that are nobody's.
pub fn anonymous_sessions() -> SessionFilter {
    sessions(SessionOwner::Anonymous, SessionOrder::Created)
}

fn messages(of: &Belongings, descending: bool) -> MessageFilter {
    MessageFilter {
        range: MessageRange {
            session_id: of.session_id,
            after_seq: None,
            before_seq: None,
            roles: Vec::new(),
            with_citations: true,
            payload_only: false,
        },
        page: all(),
        descending,
        chronological: false,
    }
}

fn search(session_id: Option<Uuid>, user_id: Option<Uuid>) -> Search {
    Search {
        query: "brokers".to_owned(),
        page: all(),
        user_id,
        session_id,
        roles: Vec::new(),
        in_content: true,
        in_selected_text: true,
    }
}

//! What an owner has, made anew for each trial: a user with a profile, a session with messages and citations, a document.

use std::{sync::Arc, time::Duration};

use chatledger::{
    auth::Caller,
    domain::{
        JsonObject, Limits, Result,
        citation::Citation,
        document::NewDocument,
        message::{NewMessage, Role},
        profile::ProfileFields,
        session::{ClaimHash, NewSession},
        user::NewUser,
    },
    ledger::{Ledger, LedgerOptions, Outcome, Unit},
    migrations::Scope,
    store::{FoldRequest, Store},
    watch::{Hub, WatchOptions},
};
use chatledger_postgres::{Db, DbOptions};
use tokio_postgres::Client;
use uuid::Uuid;

use super::trials::{new_key, new_secret};
use crate::harness::TestDatabase;

/// The rooms of the service that reach rows, over a database.
pub struct Rooms {
    pub store: Store,
    pub ledger: Ledger,
    pub hub: Hub,
    /// For SQL by hand.
    pub client: Client,
}

impl Rooms {
    pub async fn new(database: &TestDatabase) -> Self {
        Self::with_scope(database, Scope::All).await
    }

    pub async fn with_scope(database: &TestDatabase, scope: Scope) -> Self {
        let db = Db::new(database.connector(), pool()).expect("a pool");
        let store = Store::new(db.clone(), Arc::new(Limits::default()), scope, "english");
        let hub = Hub::start(&store, Some(database.connector()), WatchOptions::default()).expect("a hub");
        Rooms {
            ledger: Ledger::start(&db, &hub, &LedgerOptions::default()).expect("lanes"),
            store,
            hub,
            client: database.client().await,
        }
    }
}

impl Rooms {
    /// Has reports read what is kept, all of it counted anew.
    pub async fn fold(&self) -> Result<()> {
        let request = FoldRequest {
            transactions: i64::MAX,
            forget: true,
        };
        self.store.fold(self.store.db(), request).await.map(drop)
    }
}

fn pool() -> DbOptions {
    DbOptions {
        pool_size: 8,
        wait_timeout: Duration::from_secs(10),
        connect_for: Duration::from_secs(10),
        attempt_limit: DbOptions::ATTEMPT_LIMIT,
        pooled: false,
    }
}

/// What one owner has.
pub struct Belongings {
    pub user_id: Uuid,
    pub email: String,
    pub session_id: Uuid,
    pub anonymous_id: Uuid,
    /// The second message of the session, which has a citation.
    pub message_id: Uuid,
    pub document_id: String,
    pub api_key_id: String,
}

/// The secret of the session that is nobody's.
pub const SECRET: &str = "a secret that the owner's device keeps";

/// The tenant of the owner.
pub const TENANT: &str = "acme";

/// A caller of a tenant: an end user, or a service.
pub fn caller(tenant: &str, end_user: Option<Uuid>) -> Caller {
    Caller {
        tenant: Arc::from(tenant),
        end_user,
        ..Caller::local_service(None)
    }
}

pub fn message(content: &str, cites: Option<&str>) -> NewMessage {
    NewMessage {
        id: Uuid::now_v7(),
        id_is_given: true,
        role: Role::User,
        content: content.to_owned(),
        selected_text: None,
        metadata: JsonObject::default(),
        payload: None,
        citations: cites.into_iter().map(citation).collect(),
        created_at: None,
    }
}

pub fn citation(document_id: &str) -> Citation {
    Citation {
        document_id: document_id.to_owned(),
        chunk_id: String::new(),
        score: 0.5,
        index: 1,
    }
}

impl Belongings {
    pub async fn new(rooms: &Rooms) -> Self {
        let service = caller(TENANT, None);
        let (user_id, session_id, anonymous_id) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let email = format!("{user_id}@example.com");
        let user = NewUser {
            id: user_id,
            email: email.clone(),
            external_id: Some(user_id.to_string()),
            name: None,
            profile: Some(ProfileFields::default()),
        };
        let store = &rooms.store;
        let user = store.create_user(&service, &user, Some("a hash")).await;
        user.expect("a user");
        for (id, user_id) in [(session_id, Some(user_id)), (anonymous_id, None)] {
            let session = NewSession {
                id,
                user_id,
                title: None,
                metadata: JsonObject::default(),
                claim_hash: user_id.is_none().then(|| ClaimHash::of(SECRET)),
            };
            store.create_session(&service, &session).await.expect("a session");
        }
        let document_id = format!("doc-{user_id}");
        let document = store.upsert_document(&service, &document(&document_id)).await;
        document.expect("a document");
        let messages = [
            message("first brokers", None),
            message("second brokers", Some(&document_id)),
        ];
        let key = store.create_key(&service, &new_key(), &new_secret()).await;
        let belongings = Belongings {
            api_key_id: key.expect("a key").id,
            user_id,
            email,
            session_id,
            anonymous_id,
            message_id: messages[1].id,
            document_id,
        };
        let appended = belongings.append(rooms, service, messages.into()).await;
        appended.expect("receipts");
        belongings
    }

    /// Appends to the session.
    pub async fn append(&self, rooms: &Rooms, caller: Caller, messages: Vec<NewMessage>) -> Outcome {
        let unit = Unit {
            caller,
            session_id: self.session_id,
            messages,
            expected_last_seq: None,
        };
        rooms.ledger.append(unit).await
    }

    /// All that is stored of it, as text: what nobody else may change.
    pub async fn stored(&self, rooms: &Rooms) -> String {
        let query = "SELECT concat(
            (SELECT u FROM users u WHERE id = $1), (SELECT p FROM user_profiles p WHERE user_id = $1),
            (SELECT string_agg(s::text, ';' ORDER BY id) FROM chat_sessions s WHERE id IN ($2, $3)),
            (SELECT string_agg(m::text, ';' ORDER BY seq) FROM messages m WHERE session_id = $2),
            (SELECT string_agg(c::text, ';') FROM message_citations c WHERE session_id = $2),
            (SELECT d FROM documents d WHERE id = $4 AND tenant_id = $5))";
        let ids: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [
            &self.user_id,
            &self.session_id,
            &self.anonymous_id,
            &self.document_id,
            &TENANT,
        ];
        rooms.client.query_one(query, &ids).await.expect("a look").get(0)
    }
}

/// A document's fields.
pub fn document(id: &str) -> NewDocument {
    NewDocument {
        id: id.to_owned(),
        title: "A title".to_owned(),
        source_uri: String::new(),
        mime_type: String::new(),
        content_hash: String::new(),
        metadata: JsonObject::default(),
    }
}

//! Two tenants with the same of everything that a client chooses: neither notices the other.

use std::time::Duration;

use chatledger::{
    auth::Caller,
    domain::{
        Error, JsonObject,
        citation::{CitationFilter, CitationSource},
        message::{MessageFilter, MessageRange, NewMessage, Receipt, Search},
        session::NewSession,
        user::{NewUser, UserChange, UserFilter, UserKey},
    },
    ledger::Unit,
    watch::WatchEvent,
};
use tokio::time;
use uuid::Uuid;

use super::{
    rooms,
    trials::all,
    world::{Rooms, caller, document, message},
};
use crate::harness::TestDatabase;

const EMAIL: &str = "ada@example.com";
const EXTERNAL_ID: &str = "auth0|ada";
const DOCUMENT: &str = "module-1";

/// One of the two: its own ids are those only that are unique in the whole database.
struct Twin {
    caller: Caller,
    user_id: Uuid,
    session_id: Uuid,
}

impl Twin {
    async fn new(rooms: &Rooms, tenant: &str) -> Self {
        let caller = caller(tenant, None);
        let twin = Twin {
            user_id: Uuid::now_v7(),
            session_id: Uuid::now_v7(),
            caller,
        };
        let user = NewUser {
            id: twin.user_id,
            email: EMAIL.to_owned(),
            external_id: Some(EXTERNAL_ID.to_owned()),
            name: Some(tenant.to_owned()),
            profile: None,
        };
        let created = rooms.store.create_user(&twin.caller, &user, Some(tenant)).await;
        assert_eq!(created.expect("a user").id, twin.user_id);
        let session = NewSession {
            id: twin.session_id,
            user_id: Some(twin.user_id),
            title: None,
            metadata: JsonObject::default(),
            claim_hash: None,
        };
        rooms
            .store
            .create_session(&twin.caller, &session)
            .await
            .expect("a session");
        let mut document = document(DOCUMENT);
        tenant.clone_into(&mut document.title);
        rooms
            .store
            .upsert_document(&twin.caller, &document)
            .await
            .expect("a document");
        twin
    }

    fn tenant(&self) -> &str {
        &self.caller.tenant
    }

    /// Appends messages of these ids, with the tenant's words.
    async fn append(&self, rooms: &Rooms, ids: &[Uuid], expected_last_seq: Option<i64>) -> Vec<Receipt> {
        let messages = ids.iter().map(|id| NewMessage {
            id: *id,
            ..message(&format!("{} says brokers", self.tenant()), Some(DOCUMENT))
        });
        let unit = Unit {
            caller: self.caller.clone(),
            session_id: self.session_id,
            messages: messages.collect(),
            expected_last_seq,
        };
        rooms.ledger.append(unit).await.expect("receipts")
    }

    /// The ids and contents that a list shows.
    async fn listed(&self, rooms: &Rooms) -> Vec<(Uuid, String)> {
        let filter = MessageFilter {
            range: MessageRange {
                session_id: self.session_id,
                after_seq: None,
                before_seq: None,
                roles: Vec::new(),
                with_citations: true,
                payload_only: false,
            },
            page: all(),
            descending: false,
            chronological: false,
        };
        let page = rooms
            .store
            .list_messages(&self.caller, &filter, 1 << 20)
            .await
            .expect("a page");
        let messages = page.into_messages().map(|rows| {
            let message = rows.read(self.session_id).expect("a message");
            assert_eq!(message.citations.len(), 1);
            (message.id, message.content.to_owned())
        });
        messages.collect()
    }

    async fn cited(&self, rooms: &Rooms) -> Vec<(Uuid, Uuid)> {
        let source = CitationSource::Document(DOCUMENT.to_owned());
        let filter = CitationFilter { page: all(), source };
        let found = rooms
            .store
            .list_citations(&self.caller, &filter)
            .await
            .expect("citations");
        let mut found: Vec<_> = found
            .into_iter()
            .map(|cited| (cited.session_id, cited.message_id))
            .collect();
        found.sort_unstable();
        found
    }

    /// Everything that it sees is its own, and all that it has.
    async fn sees_its_own(&self, rooms: &Rooms, ids: &[Uuid]) {
        let (store, caller, tenant) = (&rooms.store, &self.caller, self.tenant());
        for key in [
            UserKey::Email(EMAIL.to_owned()),
            UserKey::ExternalId(EXTERNAL_ID.to_owned()),
        ] {
            let user = store.user(caller, &key).await.expect("the user");
            assert_eq!((user.id, user.name.as_str()), (self.user_id, tenant));
        }
        let credentials = store
            .credentials(caller, EMAIL)
            .await
            .expect("an answer")
            .expect("credentials");
        assert_eq!(credentials.hash.as_deref(), Some(tenant));
        let filter = UserFilter {
            page: all(),
            email_prefix: None,
            is_active: None,
        };
        assert_eq!(store.list_users(caller, &filter).await.expect("a list").len(), 1);
        assert_eq!(
            store
                .document(caller, DOCUMENT)
                .await
                .expect("a document")
                .fields
                .title,
            tenant
        );
        let expected: Vec<_> = ids
            .iter()
            .map(|id| (*id, format!("{tenant} says brokers")))
            .collect();
        assert_eq!(self.listed(rooms).await, expected);
        for id in ids {
            let message = store
                .message(caller, self.session_id, *id)
                .await
                .expect("the message");
            assert_eq!(
                (message.id, message.content),
                (*id, format!("{tenant} says brokers"))
            );
        }
        let mut expected: Vec<_> = ids.iter().map(|id| (self.session_id, *id)).collect();
        expected.sort_unstable();
        assert_eq!(self.cited(rooms).await, expected);
        for (session_id, user_id) in [
            (Some(self.session_id), None),
            (None, Some(self.user_id)),
            (None, None),
        ] {
            let search = Search {
                query: "brokers".to_owned(),
                page: all(),
                user_id,
                session_id,
                roles: Vec::new(),
                in_content: true,
                in_selected_text: true,
            };
            let hits = store.search_messages(caller, &search).await.expect("hits").hits;
            let mut hits: Vec<_> = hits
                .into_iter()
                .map(|hit| (hit.message.session_id, hit.message.id))
                .collect();
            hits.sort_unstable();
            assert_eq!(hits, expected);
        }
        let top = store.top_documents(caller, None, 10).await.expect("a report");
        assert_eq!(
            top.iter().map(|top| top.citation_count).sum::<i64>(),
            i64::try_from(ids.len()).expect("few")
        );
    }
}

fn seqs(receipts: &[Receipt]) -> Vec<(i64, bool)> {
    receipts
        .iter()
        .map(|receipt| (receipt.seq, receipt.deduplicated))
        .collect()
}

#[tokio::test]
async fn two_tenants_with_the_same_of_everything_do_not_notice_each_other() {
    let database = TestDatabase::new().await;
    let rooms = rooms(&database).await;
    let twins = [
        Twin::new(&rooms, "acme").await,
        Twin::new(&rooms, "umbrella").await,
    ];
    let ids: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
    for twin in &twins {
        // By the fast path, by the slow one, and several at once; and again.
        assert_eq!(seqs(&twin.append(&rooms, &ids[..1], None).await), [(1, false)]);
        assert_eq!(
            seqs(&twin.append(&rooms, &ids[1..2], Some(1)).await),
            [(2, false)]
        );
        assert_eq!(
            seqs(&twin.append(&rooms, &ids[2..], None).await),
            [(3, false), (4, false)]
        );
        assert_eq!(seqs(&twin.append(&rooms, &ids[..1], None).await), [(1, true)]);
        assert_eq!(
            seqs(&twin.append(&rooms, &ids[2..], Some(0)).await),
            [(3, true), (4, true)]
        );
    }
    for twin in &twins {
        twin.sees_its_own(&rooms, &ids).await;
    }
    // What the one does, the other keeps: another word under a stored id is refused in each by its own, a deleted message is only
    // the one's, and so are an address and a document that are given up.
    let [one, other] = &twins;
    rooms
        .store
        .delete_message(&one.caller, one.session_id, ids[0])
        .await
        .expect("gone");
    let again = one.append_result(&rooms, ids[0]).await;
    assert!(matches!(again, Err(Error::MessageDeleted)), "{again:?}");
    assert_eq!(seqs(&other.append(&rooms, &ids[..1], None).await), [(1, true)]);
    let change = UserChange {
        external_id: Some(None),
        email: Some("another@example.com".to_owned()),
        ..UserChange::default()
    };
    rooms
        .store
        .update_user(&one.caller, one.user_id, &change)
        .await
        .expect("a change");
    rooms
        .store
        .delete_document(&one.caller, DOCUMENT)
        .await
        .expect("gone");
    other.sees_its_own(&rooms, &ids).await;
    rooms
        .store
        .delete_user(&one.caller, one.user_id)
        .await
        .expect("gone");
    other.sees_its_own(&rooms, &ids).await;
}

impl Twin {
    async fn append_result(&self, rooms: &Rooms, id: Uuid) -> chatledger::ledger::Outcome {
        let unit = Unit {
            caller: self.caller.clone(),
            session_id: self.session_id,
            messages: vec![NewMessage {
                id,
                ..message("again", None)
            }],
            expected_last_seq: None,
        };
        rooms.ledger.append(unit).await
    }
}

#[tokio::test]
async fn a_watch_hears_of_its_own_tenant_only() {
    let database = TestDatabase::new().await;
    let rooms = rooms(&database).await;
    let twins = [
        Twin::new(&rooms, "acme").await,
        Twin::new(&rooms, "umbrella").await,
    ];
    let mut watchers = Vec::new();
    for twin in &twins {
        watchers.push(
            rooms
                .hub
                .watch(twin.caller.clone(), twin.session_id, 0)
                .await
                .expect("a watch"),
        );
        let stranger = rooms.hub.watch(caller("nobody", None), twin.session_id, 0).await;
        assert!(matches!(stranger, Err(Error::NotFound(_))));
    }
    let ids: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
    for id in &ids {
        // Both at the same moment, into one lane or two.
        let id = [*id];
        tokio::join!(
            twins[0].append(&rooms, &id, None),
            twins[1].append(&rooms, &id, None)
        );
    }
    for (twin, watcher) in twins.iter().zip(&mut watchers) {
        let mut heard = Vec::new();
        while heard.len() < ids.len() {
            let event = time::timeout(Duration::from_secs(20), watcher.next()).await;
            if let WatchEvent::Message(message) = event.expect("in time").expect("an event") {
                assert_eq!(
                    (message.session_id, message.content.as_str()),
                    (twin.session_id, &*format!("{} says brokers", twin.tenant()))
                );
                heard.push((message.seq, message.id));
            }
        }
        let expected: Vec<_> = (1..).zip(ids.iter().copied()).collect();
        assert_eq!(heard, expected);
    }
}

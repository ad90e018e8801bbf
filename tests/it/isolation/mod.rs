//! Isolation: what belongs to an end user exists for that user and for the services of its tenant, and for nobody else.
//!
//! Every function of store, ledger and watch is tried by every kind of caller, on belongings that are made anew each time. What
//! must come of it follows from the one table in `auth`. Which statements have run is recorded: a new one that no trial runs
//! fails the last of these tests.

mod claims;
mod locks;
mod record;
mod trials;
mod twins;
mod world;

use chatledger::{
    audit::{AuditEvent, AuditRecord},
    auth::{Caller, Reach},
    domain::{Error, Result},
    migrations::Scope,
    statements::{self, Binding},
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::harness::TestDatabase;
use record::recorded;
use trials::{IsolationTrial, TRIALS};
use world::{Belongings, Rooms, TENANT, caller};

/// What must come of a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Sight,
    Nothing,
    Refusal,
}

/// A database whose messages can be searched tenant-wide, and the service over it.
async fn rooms(database: &TestDatabase) -> Rooms {
    let rooms = Rooms::new(database).await;
    let index = include_str!("../../../migrations/search/V1__messages_search.sql");
    rooms.client.batch_execute(index).await.expect("the index");
    rooms
}

fn came_of(result: &Result<bool>) -> Expected {
    match result {
        Ok(true) => Expected::Sight,
        Ok(false) | Err(Error::NotFound(_) | Error::IdTaken(_)) => Expected::Nothing,
        Err(Error::NotForEndUsers) => Expected::Refusal,
        Err(error) => panic!("{error:?}"),
    }
}

/// Tries everything, each time on new belongings, and compares what comes of it. Who sees nothing has changed nothing.
async fn try_all(caller: impl Fn(&Belongings) -> Caller, expected: impl Fn(&IsolationTrial) -> Expected) {
    // Boxed: it has a trial of each kind in it.
    Box::pin(async {
        let database = TestDatabase::new().await;
        let rooms = rooms(&database).await;
        for trial in TRIALS {
            let belongings = Belongings::new(&rooms).await;
            let before = belongings.stored(&rooms).await;
            let result = (trial.run)(&rooms, &belongings, caller(&belongings)).await;
            assert_eq!(came_of(&result), expected(trial), "{}", trial.name);
            // These change the rows by hand before they try.
            let is_prepared = matches!(trial.name, "append_above_a_given_seq" | "delete_large_session");
            if expected(trial) != Expected::Sight && !is_prepared {
                assert_eq!(belongings.stored(&rooms).await, before, "{}", trial.name);
            }
        }
    })
    .await;
}

/// What comes of a trial that is no sight even for those who see all: an id that is in use, for another email.
fn is_never_seen(trial: &IsolationTrial) -> bool {
    trial.name == "create_user_with_the_id"
}

#[tokio::test]
async fn a_service_of_the_tenant_sees_all() {
    let expected = |trial: &IsolationTrial| {
        if is_never_seen(trial) {
            Expected::Nothing
        } else {
            Expected::Sight
        }
    };
    try_all(|_| caller(TENANT, None), expected).await;
}

#[tokio::test]
async fn the_owner_sees_its_own() {
    let expected = |trial: &IsolationTrial| match trial.action.of_end_user() {
        Reach::Own | Reach::Tenant => Expected::Sight,
        Reach::Nothing => Expected::Refusal,
    };
    try_all(|of| caller(TENANT, Some(of.user_id)), expected).await;
}

#[tokio::test]
async fn for_a_stranger_it_does_not_exist() {
    let stranger = Uuid::now_v7();
    let expected = |trial: &IsolationTrial| match trial.action.of_end_user() {
        Reach::Own => Expected::Nothing,
        Reach::Tenant => Expected::Sight,
        Reach::Nothing => Expected::Refusal,
    };
    try_all(|_| caller(TENANT, Some(stranger)), expected).await;
}

#[tokio::test]
async fn for_another_tenant_it_does_not_exist() {
    try_all(|_| caller("other", None), |_| Expected::Nothing).await;
}

#[tokio::test]
async fn for_an_end_user_of_another_tenant_with_the_same_id_it_does_not_exist() {
    let expected = |trial: &IsolationTrial| match trial.action.of_end_user() {
        Reach::Own | Reach::Tenant => Expected::Nothing,
        Reach::Nothing => Expected::Refusal,
    };
    try_all(|of| caller("other", Some(of.user_id)), expected).await;
}

#[test]
fn each_statement_binds_what_the_table_says() {
    for statement in statements::all() {
        let agrees = match (statement.action.of_end_user(), statement.binding) {
            // A reason says what binds the end user instead.
            (Reach::Own, _) | (_, Binding::Nothing(_)) => true,
            (Reach::Tenant, binding) => matches!(binding, Binding::Tenant(_)),
            (Reach::Nothing, binding) => binding != Binding::Nothing(""),
        };
        assert!(agrees, "{}: {:?}", statement.sql.name, statement.binding);
    }
}

/// Every statement that doesn't bind tenant and end user. Its reason is in its file; whoever adds one thinks of it here again.
const UNBOUND: &[&str] = &[
    "access.Expire",
    "access.Get",
    "access.Insert",
    "access.Known",
    "access.List",
    "access.Revoke",
    "access.Subject",
    "access.Used",
    "analytics.TimeZone",
    "append.AppendCited",
    "append.AppendUncited",
    "append.Lock",
    "append.LockFree",
    "append.Lookup",
    "append.RaiseLastSeq",
    "audit.Forget",
    "audit.Insert",
    "citation.Delete",
    "citation.Insert",
    "citation.OfLocked",
    "database.State",
    "document.Delete",
    "document.Get",
    "document.List",
    "document.Upsert",
    "message.DeleteCitations",
    "reports.Add",
    "reports.Advance",
    "reports.Begin",
    "reports.CountKept",
    "reports.FindKept",
    "reports.FoldDocuments",
    "reports.FoldLengths",
    "reports.FoldVolume",
    "reports.Forget",
    "reports.ForgetChanges",
    "reports.ForgetUncited",
    "reports.KeptDocuments",
    "reports.KeptLengths",
    "reports.KeptVolume",
    "reports.ReadPosition",
    "reports.Watermarks",
    "search.TenantIndex",
    "session.Analyze",
    "session.DeleteMessages",
    "user.Analyze",
    "user.IdInUse",
    "user.Insert",
    "user.Repeated",
    "user.ReplaceHash",
    "watch.News",
    "watch.Notify",
];

#[test]
fn the_statements_that_do_not_bind_their_caller_are_these() {
    let mut unbound: Vec<&str> = statements::all()
        .filter(|statement| statement.binding != Binding::EndUser)
        .map(|statement| statement.sql.name)
        .collect();
    unbound.sort_unstable();
    assert_eq!(unbound, UNBOUND);
}

#[tokio::test]
async fn the_trials_run_every_statement() {
    let database = TestDatabase::new().await;
    let rooms = rooms(&database).await;
    let chats = Rooms::with_scope(&database, Scope::Chat).await;
    let service = || caller(TENANT, None);
    let ran = recorded(Box::pin(async {
        for trial in TRIALS {
            let belongings = Belongings::new(&rooms).await;
            let result = (trial.run)(&rooms, &belongings, service()).await;
            came_of(&result);
        }
        // What only other circumstances bring about.
        let belongings = Belongings::new(&rooms).await;
        let lock = "BEGIN; SELECT FROM chat_sessions WHERE id = '";
        let lock = format!("{lock}{}' FOR UPDATE", belongings.session_id);
        rooms.client.batch_execute(&lock).await.expect("the lock");
        let append = belongings.append(&rooms, service(), vec![world::message("later", None)]);
        let release = async {
            crate::harness::waiting(&database, 1).await;
            rooms.client.batch_execute("COMMIT").await.expect("the end");
        };
        assert!(tokio::join!(append, release).0.is_ok());
        let anonymous = trials::anonymous_sessions();
        rooms
            .store
            .list_sessions(&service(), &anonymous)
            .await
            .expect("a list");
        chats
            .store
            .user_activity(&service(), &trials::all())
            .await
            .expect("a list");
        rooms.store.notify("*").await.expect("a notification");
        rooms.store.database_state().await.expect("a state");
        rooms.store.known_keys(None).await.expect("keys");
        rooms
            .store
            .note_key_use("0123456789abcdef")
            .await
            .expect("a note");
        rooms.store.subject(&service(), "ada").await.expect("nobody");
        let record = AuditRecord::new(AuditEvent::KeyCreated, TENANT, "a test");
        rooms.store.keep_audit(&[record]).await.expect("a record");
        rooms
            .store
            .forget_audit(Timestamp::UNIX_EPOCH, 1)
            .await
            .expect("nothing old");
        rooms.store.kept_rows().await.expect("what is kept");
        rooms.store.analyze().await.expect("statistics");
    }))
    .await;
    let missing: Vec<&str> = statements::all()
        .map(|statement| statement.sql.name)
        .filter(|name| !ran.contains(*name))
        .collect();
    assert!(missing.is_empty(), "no trial runs {missing:?}");
}

//! Greedy tenants: one with many connections doesn't stand before another's only one.

use std::sync::{Arc, Mutex};

use chatledger::{
    auth::Caller,
    domain::{
        JsonMode, JsonObject, Limits,
        session::{NewSession, SessionChange},
    },
    fair::Holder,
    migrations::Scope,
    store::Store,
};
use chatledger_postgres::{Db, DbOptions};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::harness::*;

/// A caller of a tenant, which has that number, by one of its connections.
fn caller(group: u64, connection: u64) -> Caller {
    Caller {
        tenant: Arc::from(format!("tenant {group}")),
        holder: Holder::of(group, connection),
        ..Caller::local_service(None)
    }
}

fn store(database: &TestDatabase) -> Store {
    let options = DbOptions {
        pool_size: 2,
        wait_timeout: PATIENCE,
        connect_for: PATIENCE,
        attempt_limit: DbOptions::ATTEMPT_LIMIT,
        pooled: false,
    };
    let db = Db::new(database.connector(), options).expect("a pool");
    Store::new(db, Arc::new(Limits::default()), Scope::All, "english")
}

async fn session(store: &Store, caller: &Caller) -> Uuid {
    let new = NewSession {
        id: Uuid::now_v7(),
        user_id: None,
        title: None,
        metadata: JsonObject::default(),
        claim_hash: None,
    };
    store.create_session(caller, &new).await.expect("a session").id
}

fn retitled(id: Uuid) -> SessionChange {
    SessionChange {
        id,
        title: Some("another".to_owned()),
        metadata: None,
        metadata_mode: JsonMode::Merge,
    }
}

#[tokio::test]
async fn a_connection_goes_to_the_tenant_that_has_none() {
    let database = TestDatabase::new().await;
    let store = store(&database);
    let (greedy, polite) = (caller(1, 0), caller(2, 0));
    let (locked, other) = (session(&store, &greedy).await, session(&store, &polite).await);
    let lock = SessionLock::on_session(&database, &locked.to_string()).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut calls = JoinSet::new();
    let mut ask = |caller: Caller, id: Uuid, name: &'static str| {
        let (store, order) = (store.clone(), Arc::clone(&order));
        calls.spawn(async move {
            let changed = store.update_session(&caller, &retitled(id)).await;
            changed.expect("a session");
            order.lock().expect("no panic").push(name);
        });
    };
    // From a connection each, so that only the tenant tells them from the other.
    for connection in 0..30 {
        ask(caller(1, connection), locked, "greedy");
    }
    waiting(&database, 2).await;
    // Two of them have all connections, and the others are waiting: every task has begun, in the order of this one thread.
    ask(polite, other, "polite");
    tokio::task::yield_now().await;
    lock.release().await;
    while let Some(ended) = calls.join_next().await {
        ended.expect("no panic");
    }
    let order = order.lock().expect("no panic");
    let place = order.iter().position(|name| *name == "polite").expect("served");
    // The two that had the connections, and whoever is quick on the other one meanwhile: not all who had come before.
    assert!(place <= 10, "{place} were served before: {order:?}");
}

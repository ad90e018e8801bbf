//! The record of the statements that are run, by their events.

use std::{
    collections::HashSet,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, Registry, layer::Context, prelude::*};

/// The names of the statements that run meanwhile, on this thread: that of all tasks of a test's runtime.
pub async fn recorded(work: impl Future<Output = ()>) -> HashSet<String> {
    let record = StatementRecord::default();
    let names = Arc::clone(&record.0);
    let guard = tracing::subscriber::set_default(Registry::default().with(record));
    work.await;
    drop(guard);
    let names = names.lock().unwrap_or_else(PoisonError::into_inner);
    names.clone()
}

#[derive(Default)]
struct StatementRecord(Arc<Mutex<HashSet<String>>>);

impl<S: Subscriber> Layer<S> for StatementRecord {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Name(&self.0));
    }
}

struct Name<'a>(&'a Mutex<HashSet<String>>);

impl Visit for Name<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "statement" {
            let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            names.insert(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

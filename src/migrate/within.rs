//! The migrations within a transaction of the caller's, for `migrate adopt`: refinery wants one of its own.

use anyhow::Context;
use jiff::Timestamp;
use tokio_postgres::Client;

use super::{explain, sets::SetName};
use crate::store::Scope;

/// Applies all migrations of a scope to a database that has none of them, and records them as refinery does.
/// The connection is in a transaction.
///
/// # Errors
/// A migration that fails; it is named.
pub async fn install_within(client: &Client, scope: Scope) -> anyhow::Result<()> {
    let wanted = |name: &SetName| name.is_in(scope) && !name.is_optional();
    for name in SetName::ALL.into_iter().filter(wanted) {
        let Some(runner) = name.runner() else { continue };
        let table = name.table();
        let made = format!(
            "CREATE TABLE {table} (version INT8 PRIMARY KEY, name VARCHAR(255), applied_on VARCHAR(255), checksum VARCHAR(255))"
        );
        client
            .batch_execute(&made)
            .await
            .map_err(explain)
            .with_context(|| format!("migration set {name}"))?;
        for migration in runner.get_migrations() {
            let done = format!(
                "{};\nINSERT INTO {table} VALUES ({}, '{}', '{}', '{}')",
                migration.sql().unwrap_or_default(),
                migration.version(),
                migration.name(),
                Timestamp::now(),
                migration.checksum()
            );
            let done = client.batch_execute(&done).await.map_err(explain);
            done.with_context(|| format!("migration {migration} of set {name}"))?;
        }
    }
    Ok(())
}

//! `rag-uuid` tables that are in the target's own database: converted where they are, in one transaction. The
//! old tables move to a schema of their own, our migrations run, the rows are copied by SQL, and unless both
//! sides agree, all of it is undone.

mod old;

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, bail, ensure};
use jiff::tz::TimeZone;
use serde::Serialize;
use tokio_postgres::{Client, types::Type};

use crate::layouts::SourceLayout;
use chatledger::migrations::Scope;
use chatledger_migrate::{Backup, MigrationListener, Migrator, SchemaTransaction};
use old::{KEPT_IN, OldTables, explain, tables_of};

/// The dependents that would go on using the old tables: foreign keys and views of tables that aren't moved.
const DEPENDENTS: &str = "SELECT format('%s of %s', k.conname, k.conrelid::regclass) FROM pg_constraint k
        WHERE k.contype = 'f' AND k.confrelid = ANY(SELECT to_regclass(t) FROM unnest($1) t)
            AND NOT k.conrelid = ANY(SELECT to_regclass(t) FROM unnest($1) t WHERE to_regclass(t) IS NOT NULL)
    UNION SELECT format('view %s', r.ev_class::regclass) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = ANY(SELECT to_regclass(t) FROM unnest($1) t)
            AND r.ev_class <> d.refobjid";

/// The answer: what was adopted.
#[derive(Debug, Default, Serialize)]
pub struct Adoption {
    /// The number of rows of each table.
    pub rows: BTreeMap<&'static str, i64>,
    /// Columns that have no place in the new tables, such as `users.phone`: only the old tables have them.
    pub left_behind: Vec<String>,
}

impl fmt::Display for Adoption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, rows) in &self.rows {
            writeln!(f, "{table:<20} {rows:>10}")?;
        }
        if !self.left_behind.is_empty() {
            writeln!(
                f,
                "only in the old tables, since there is no place for them: {}",
                self.left_behind.join(", ")
            )?;
        }
        writeln!(
            f,
            "adopted; counts and checksums agree. The old tables are in the schema {KEPT_IN}: drop it"
        )?;
        writeln!(f, "when nothing misses them (DROP SCHEMA {KEPT_IN} CASCADE).")
    }
}

/// Converts the tables of a scope.
///
/// # Errors
/// The tables aren't of this layout, or something doesn't fit; then nothing has changed.
pub async fn adopt(
    migrator: &Migrator,
    layout: SourceLayout,
    scope: Scope,
    time_zone: &TimeZone,
    backup: Option<&Backup>,
    listener: &MigrationListener,
) -> anyhow::Result<Adoption> {
    let work = migrator.within(listener).await?;
    match layout.recognize(work.client()).await? {
        SourceLayout::RagUuid => {}
        SourceLayout::Chatledger => bail!("the database is chatledger's already"),
        other => bail!(
            "the tables are {}: only rag-uuid can be converted in place; `chatledger import` copies the others",
            other.name()
        ),
    }
    let names = present(work.client(), tables_of(scope)).await?;
    ensure!(
        !names.is_empty(),
        "--scope: of its tables ({}) there is none",
        tables_of(scope).join(", ")
    );
    work.begin(&names, backup).await?;
    let adopted = convert(&work, scope, time_zone)
        .await
        .context("nothing was changed")?;
    work.commit().await?;
    Ok(adopted)
}

/// Those tables that there are.
async fn present(client: &Client, tables: &[&str]) -> anyhow::Result<Vec<String>> {
    texts(
        client,
        "SELECT c.relname::text FROM unnest($1) t JOIN pg_class c ON c.oid = to_regclass(t) WHERE c.relkind IN ('r', 'p')",
        tables,
    )
    .await
}

async fn convert(
    work: &SchemaTransaction<'_>,
    scope: Scope,
    time_zone: &TimeZone,
) -> anyhow::Result<Adoption> {
    let client = work.client();
    let zone = time_zone.iana_name().context("the time zone has no name")?;
    let old = OldTables::read(client, scope, zone).await?;
    let dependents = texts(client, DEPENDENTS, tables_of(scope)).await?;
    ensure!(
        dependents.is_empty(),
        "these would go on using the old tables: {}; drop them first, and make them again afterwards",
        dependents.join(", ")
    );
    execute(client, &format!("CREATE SCHEMA {KEPT_IN}")).await?;
    for table in old.tables.keys() {
        execute(client, &format!("ALTER TABLE {table} SET SCHEMA {KEPT_IN}")).await?;
    }
    work.install(&scope.sets()).await?;
    let mut adopted = Adoption {
        left_behind: old.left_behind(),
        ..Adoption::default()
    };
    for (table, statement) in old.copies() {
        let copied = async {
            execute(client, &statement).await?;
            old.compare(client, table).await
        };
        let rows = work.step(&format!("copying {table}"), copied).await?;
        adopted.rows.insert(table, rows);
    }
    if scope.has_chat() {
        work.step("counting each session's messages", execute(client, COUNTERS))
            .await?;
    }
    Ok(adopted)
}

async fn execute(client: &Client, sql: &str) -> anyhow::Result<()> {
    client.batch_execute(sql).await.map_err(explain)
}

async fn texts(client: &Client, sql: &str, tables: &[&str]) -> anyhow::Result<Vec<String>> {
    let rows = client
        .query_typed(sql, &[(&tables, Type::TEXT_ARRAY)])
        .await
        .map_err(explain)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The ledger's knowledge of each session.
const COUNTERS: &str = "UPDATE chat_sessions s SET last_seq = m.last, last_message_at = m.newest
    FROM (SELECT session_id, max(seq) AS last, max(created_at) AS newest FROM messages GROUP BY session_id) m
    WHERE m.session_id = s.id";

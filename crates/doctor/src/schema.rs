//! The schema: how far its migrations are, whether the server's statements fit it, and its indexes.

use std::{collections::BTreeMap, time::Duration};

use tokio::time;
use tokio_postgres::types::Type;

use crate::{
    DatabaseCheck, Finding, Patient,
    finding::{CONSTRAINTS, HISTORY, INDEXES_INVALID, INDEXES_MISSING, MIGRATIONS, STATEMENTS},
    line::{Asked, Line, Unknown, cell},
    units::count,
};
use chatledger_migrate::{Drift, MadeObjects, MigrationStatus, Problem};

/// The longest time that the migrations' state may take: a few small tables.
const LOOKED_WITHIN: Duration = Duration::from_secs(10);
/// How many names are told; more make a line unreadable.
const TOLD: usize = 5;

const INDEXES: &str = include_str!("sql/indexes.sql");
const CONSTRAINTS_SQL: &str = include_str!("sql/constraints.sql");

/// What the applied migrations have made.
pub(crate) async fn made(patient: &Patient) -> Asked<MadeObjects> {
    bounded(patient.migrator.made()).await
}

/// Work of the migrations' own, on a connection of theirs.
pub(crate) fn bounded<T>(work: impl Future<Output = anyhow::Result<T>>) -> impl Future<Output = Asked<T>> {
    // It is large.
    let work = Box::pin(work);
    async move {
        let done = time::timeout(LOOKED_WITHIN, work)
            .await
            .map_err(|_| Unknown::Late)?;
        done.map_err(|error| {
            let reason = format!("{error:#}");
            // What PostgreSQL says of it, in words of ours with the code at the end.
            if reason.contains("(SQLSTATE 42501)") {
                Unknown::Denied
            } else {
                Unknown::Other(reason)
            }
        })
    }
}

/// Looks at the schema.
pub(crate) async fn look(patient: &Patient, line: &mut Line, made: &Asked<MadeObjects>) -> Vec<Finding> {
    let mut found = match bounded(patient.migrator.status()).await {
        Ok(status) => vec![judge_migrations(&status), judge_history(&status)],
        Err(reason) => vec![MIGRATIONS.unknown(&reason), HISTORY.unknown(&reason)],
    };
    found.push(statements(patient, line).await);
    let empty = MadeObjects::default();
    let (tables, reason) = match made {
        Ok(made) => (made, None),
        Err(reason) => (&empty, Some(reason)),
    };
    let checks: [&DatabaseCheck; 3] = [&INDEXES_MISSING, &INDEXES_INVALID, &CONSTRAINTS];
    if let Some(reason) = reason {
        found.extend(checks.iter().map(|check| check.unknown(reason)));
        return found;
    }
    match indexes(line, &tables.tables).await {
        Ok(there) => found.extend([judge_missing(tables, &there), judge_invalid(&there)]),
        Err(reason) => found.extend(checks.iter().take(2).map(|check| check.unknown(&reason))),
    }
    found.push(CONSTRAINTS.settle(constraints(line, &tables.tables).await));
    found
}

fn judge_migrations(status: &MigrationStatus) -> Finding {
    let installed = status.sets.iter().filter(|set| set.installed);
    let versions: Vec<String> = installed
        .clone()
        .map(|set| format!("{} {}", set.set, set.current.unwrap_or(0)))
        .collect();
    let found = versions.join(", ");
    let missing: Vec<String> = installed
        .clone()
        .filter(|set| set.current.is_none() && !set.pending.is_empty())
        .map(|set| set.set.to_string())
        .collect();
    let pending: usize = installed.map(|set| set.pending.len()).sum();
    if !missing.is_empty() {
        MIGRATIONS.error(
            format!("{found}: nothing of {} is there", missing.join(", ")),
            "`chatledger migrate up`, or a server, which does it when it boots",
        )
    } else if pending > 0 {
        MIGRATIONS.warning(
            format!("{found}: {} pending", count(pending, "migration")),
            "`chatledger migrate up`, or a server, which does it when it boots",
        )
    } else {
        MIGRATIONS.ok(format!("up to date: {found}"))
    }
}

fn judge_history(status: &MigrationStatus) -> Finding {
    let problems: Vec<&Problem> = status.sets.iter().flat_map(|set| &set.problems).collect();
    let worst = status
        .sets
        .iter()
        .map(|set| set.drift)
        .max()
        .unwrap_or(Drift::None);
    let told: Vec<String> = problems.iter().take(TOLD).map(ToString::to_string).collect();
    let told = told.join("; ");
    match worst {
        Drift::None => {
            HISTORY.ok("history and program agree; `chatledger migrate verify` compares the tables as well")
        }
        Drift::Unread => HISTORY.notice(
            "a team's own migrations were applied, which aren't at hand",
            "--migrations-dir (CHATLEDGER_MIGRATIONS_DIR)",
        ),
        Drift::Newer => HISTORY.notice(
            told,
            "a newer server has been here; that is meant where one is being rolled out",
        ),
        Drift::Missing => HISTORY.warning(told, "restore the file"),
        Drift::OutOfOrder | Drift::Edited => {
            HISTORY.error(told, "servers won't migrate or boot until it is mended")
        }
    }
}

/// Prepares every statement of the server, which takes no lock that others wait for, and runs nothing.
async fn statements(patient: &Patient, line: &mut Line) -> Finding {
    if patient.is_pooled && !patient.has_direct {
        return STATEMENTS.unknown(&Unknown::Other("not through a pooler".to_owned()));
    }
    let all = (patient.program.statements)();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    for sql in &all {
        let prepared =
            line.attempt(async |client| client.prepare_typed(sql.text, sql.params).await.map(drop));
        match prepared.await {
            Ok(()) => {}
            Err(Unknown::Other(reason)) => *refused.entry(reason).or_default() += 1,
            Err(reason) => return STATEMENTS.unknown(&reason),
        }
    }
    if refused.is_empty() {
        return STATEMENTS.ok(format!("all {} can be", all.len()));
    }
    let told: Vec<String> = refused.keys().take(TOLD).cloned().collect();
    STATEMENTS.error(
        format!(
            "{} of {} can't: {}",
            refused.values().sum::<usize>(),
            all.len(),
            told.join("; ")
        ),
        "what is pending in schema.migrations; else `chatledger migrate verify` says what differs",
    )
}

/// An index that is there.
#[derive(Debug)]
struct FoundIndex {
    name: String,
    is_valid: bool,
    is_being_built: bool,
}

async fn indexes(line: &mut Line, tables: &[String]) -> Asked<Vec<FoundIndex>> {
    let rows = line.ask(INDEXES, &[(&tables, Type::TEXT_ARRAY)]).await?;
    let found = rows.iter().map(|row| {
        Ok(FoundIndex {
            name: cell(row, 0)?,
            is_valid: cell(row, 1)?,
            is_being_built: cell(row, 2)?,
        })
    });
    found.collect()
}

fn judge_missing(made: &MadeObjects, there: &[FoundIndex]) -> Finding {
    let missing: Vec<String> = made
        .indexes
        .iter()
        .filter(|index| !there.iter().any(|other| other.name == index.name))
        .map(|index| format!("{} of {}", index.name, index.table))
        .collect();
    if missing.is_empty() {
        INDEXES_MISSING.ok(format!("all {} are there", made.indexes.len()))
    } else {
        INDEXES_MISSING.error(
            format!("missing: {}", missing.join(", ")),
            "`chatledger migrate verify --fix-plan` prints the SQL that makes them again",
        )
    }
}

fn judge_invalid(there: &[FoundIndex]) -> Finding {
    let invalid: Vec<&FoundIndex> = there.iter().filter(|index| !index.is_valid).collect();
    let names = |some: &[&FoundIndex]| {
        some.iter()
            .map(|index| index.name.clone())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if invalid.is_empty() {
        INDEXES_INVALID.ok(format!("all {} can", there.len()))
    } else if invalid.iter().all(|index| index.is_being_built) {
        INDEXES_INVALID.notice(
            format!("being built: {}", names(&invalid)),
            "it takes as long as it takes",
        )
    } else {
        INDEXES_INVALID.error(
            format!("invalid, so that every write pays for them and no read gains: {}", names(&invalid)),
            "REINDEX INDEX CONCURRENTLY each, or drop it and run `chatledger migrate up` where a build was interrupted",
        )
    }
}

async fn constraints(line: &mut Line, tables: &[String]) -> Asked<Finding> {
    let rows = line.ask(CONSTRAINTS_SQL, &[(&tables, Type::TEXT_ARRAY)]).await?;
    let names = rows
        .iter()
        .map(|row| cell(row, 0))
        .collect::<Asked<Vec<String>>>()?;
    Ok(if names.is_empty() {
        CONSTRAINTS.ok("all are")
    } else {
        CONSTRAINTS.notice(
            format!("not validated: {}; rows from before may not keep them", names.join(", ")),
            "mend those rows; the next `chatledger migrate up` validates it, or ALTER TABLE … VALIDATE CONSTRAINT",
        )
    })
}

//! Vacuum: whether it runs, keeps up, and is held back by nobody.

use std::time::Duration;

use tokio_postgres::{Row, types::Type};

use crate::{
    DatabaseCheck, Finding,
    finding::{AUTOVACUUM, AUTOVACUUM_TABLES, BLOAT, DEAD_ROWS, TRANSACTIONS, WRAPAROUND},
    line::{Asked, Line, cell},
    units::{bytes, percent, span},
};

/// Fewer dead rows than this are nothing, whatever share they are.
const DEAD_ROWS_LEAST: i64 = 10_000;
/// Autovacuum comes at a fifth by default; at twice that it doesn't keep up.
const DEAD_SHARE: i64 = 40;
/// Less waste than this isn't worth a thought.
const WASTE_LEAST: i64 = 64 << 20;
/// At two billion ids PostgreSQL stops taking writes; at this many it has been trying to freeze for long.
const OLD_AGE: i64 = 1_000_000_000;
const VERY_OLD_AGE: i64 = 1_500_000_000;
/// A transaction that is older holds back what autovacuum would clear.
const OLD_TRANSACTION: Duration = Duration::from_hours(1);

const GLOBAL: &str = include_str!("sql/autovacuum.sql");
const TABLES: &str = include_str!("sql/tables.sql");
const TRANSACTIONS_SQL: &str = include_str!("sql/transactions.sql");

/// A table as its statistics have it.
#[derive(Debug, Default)]
struct TableState {
    name: String,
    is_switched_off: bool,
    live: i64,
    dead: i64,
    /// When autovacuum, or somebody, last vacuumed it, in RFC 3339 to the second.
    vacuumed: Option<String>,
    /// The table itself, without indexes and long values.
    size: i64,
    /// About what its rows need.
    needed: Option<i64>,
    /// The age of its oldest transaction id.
    age: i64,
}

impl TableState {
    fn read(row: &Row) -> Asked<TableState> {
        Ok(TableState {
            name: cell(row, 0)?,
            is_switched_off: cell(row, 1)?,
            live: cell(row, 2)?,
            dead: cell(row, 3)?,
            vacuumed: cell(row, 4)?,
            size: cell(row, 5)?,
            needed: cell(row, 6)?,
            age: cell(row, 7)?,
        })
    }
}

/// Looks at what vacuum does with the tables.
pub(crate) async fn look(line: &mut Line, tables: &[String]) -> Vec<Finding> {
    let mut found = vec![AUTOVACUUM.settle(global(line).await)];
    let checks: [&DatabaseCheck; 4] = [&AUTOVACUUM_TABLES, &DEAD_ROWS, &BLOAT, &WRAPAROUND];
    match states(line, tables).await {
        Ok(tables) => found.extend([
            judge_switches(&tables),
            judge_dead_rows(&tables),
            judge_bloat(&tables),
            judge_age(&tables),
        ]),
        Err(reason) => found.extend(checks.iter().map(|check| check.unknown(&reason))),
    }
    found.push(TRANSACTIONS.settle(transactions(line).await));
    found
}

async fn global(line: &mut Line) -> Asked<Finding> {
    let row = line.ask_one(GLOBAL, &[]).await?;
    let (is_on, counts, workers): (bool, bool, i32) = (cell(&row, 0)?, cell(&row, 1)?, cell(&row, 2)?);
    Ok(if !is_on || !counts {
        let which = if is_on {
            "track_counts is off, without which autovacuum does nothing"
        } else {
            "autovacuum is off"
        };
        AUTOVACUUM.error(
            format!(
                "{which}: tables grow for ever, plans become wrong, and in the end nothing can be written"
            ),
            "autovacuum = on and track_counts = on in postgresql.conf",
        )
    } else if workers < 1 {
        AUTOVACUUM.error(
            "on, with no worker (autovacuum_max_workers)",
            "autovacuum_max_workers = 3",
        )
    } else {
        AUTOVACUUM.ok(format!("on, with {workers} workers"))
    })
}

async fn states(line: &mut Line, tables: &[String]) -> Asked<Vec<TableState>> {
    let rows = line.ask(TABLES, &[(&tables, Type::TEXT_ARRAY)]).await?;
    rows.iter().map(TableState::read).collect()
}

fn judge_switches(tables: &[TableState]) -> Finding {
    let off: Vec<&str> = tables
        .iter()
        .filter(|it| it.is_switched_off)
        .map(|it| it.name.as_str())
        .collect();
    if off.is_empty() {
        AUTOVACUUM_TABLES.ok(format!("on all {}", tables.len()))
    } else {
        AUTOVACUUM_TABLES.warning(
            format!("off on {}", off.join(", ")),
            "ALTER TABLE … RESET (autovacuum_enabled, toast.autovacuum_enabled)",
        )
    }
}

fn judge_dead_rows(tables: &[TableState]) -> Finding {
    let behind = tables.iter().filter(|it| {
        it.dead > DEAD_ROWS_LEAST
            && it.dead.saturating_mul(100) > (it.live + it.dead).saturating_mul(DEAD_SHARE)
    });
    let told: Vec<String> = behind
        .map(|it| {
            let last = it.vacuumed.as_deref().unwrap_or("never");
            format!(
                "{}: {} of its rows are dead ({}), last vacuumed {last}",
                it.name,
                percent(it.dead, it.live + it.dead),
                it.dead
            )
        })
        .collect();
    if told.is_empty() {
        let dead: i64 = tables.iter().map(|it| it.dead).sum();
        DEAD_ROWS.ok(format!("{dead} dead rows in all"))
    } else {
        DEAD_ROWS.warning(
            told.join("; "),
            "VACUUM (ANALYZE) it now; then see vacuum.transactions, and more often by autovacuum_vacuum_scale_factor and \
             autovacuum_vacuum_cost_limit",
        )
    }
}

/// An estimate by the rows' average width, as the statistics have it: good enough for half, not for a tenth.
fn judge_bloat(tables: &[TableState]) -> Finding {
    let swollen = tables.iter().filter_map(|it| {
        let needed = it.needed?;
        let waste = it.size - needed;
        (waste > WASTE_LEAST && it.size > needed.saturating_mul(2)).then(|| {
            format!(
                "{}: {}, of which about {} would do",
                it.name,
                bytes(it.size),
                bytes(needed)
            )
        })
    });
    let told: Vec<String> = swollen.collect();
    if told.is_empty() {
        BLOAT.ok("by an estimate, none is twice as large as its rows need")
    } else {
        BLOAT.warning(
            told.join("; "),
            "new rows will fill it; to give it back to the disk, pg_repack, or VACUUM FULL, which locks the table",
        )
    }
}

fn judge_age(tables: &[TableState]) -> Finding {
    const ADVICE: &str =
        "VACUUM (FREEZE) it, and see vacuum.transactions and replication.slots for what holds it back";
    let Some(oldest) = tables.iter().max_by_key(|it| it.age) else {
        return WRAPAROUND.ok("there are no tables yet");
    };
    let found = format!(
        "the oldest is {} transactions old, in {}; 2 billion is the end",
        oldest.age, oldest.name
    );
    if oldest.age > VERY_OLD_AGE {
        WRAPAROUND.error(found, ADVICE)
    } else if oldest.age > OLD_AGE {
        WRAPAROUND.warning(found, ADVICE)
    } else {
        WRAPAROUND.ok(found)
    }
}

async fn transactions(line: &mut Line) -> Asked<Finding> {
    let row = line.ask_one(TRANSACTIONS_SQL, &[]).await?;
    let (oldest, prepared, unseen): (f64, i64, i64) = (cell(&row, 0)?, cell(&row, 1)?, cell(&row, 2)?);
    Ok(judge_transactions(
        Duration::try_from_secs_f64(oldest).unwrap_or_default(),
        prepared,
        unseen,
    ))
}

fn judge_transactions(oldest: Duration, prepared: i64, unseen: i64) -> Finding {
    const ADVICE: &str =
        "end it: pg_stat_activity says whose it is, by backend_xmin; pg_prepared_xacts has the prepared ones";
    let waiting = if prepared > 0 {
        format!(", {prepared} prepared ones wait to be committed")
    } else {
        String::new()
    };
    let found = format!("the oldest is {} old{waiting}", span(oldest));
    if oldest > OLD_TRANSACTION {
        return TRANSACTIONS.warning(found, ADVICE);
    }
    if unseen > 0 {
        return TRANSACTIONS.notice(
            format!("{found}, of those that this role sees; {unseen} sessions of others it doesn't"),
            "GRANT pg_read_all_stats to the role that asks",
        );
    }
    TRANSACTIONS.ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity::{Error, Notice, Ok as Well, Warning};

    fn table(change: impl FnOnce(&mut TableState)) -> [TableState; 1] {
        let mut table = TableState {
            name: "messages".to_owned(),
            ..TableState::default()
        };
        change(&mut table);
        [table]
    }

    #[test]
    fn shares_count_only_where_there_is_something() {
        let dead = |live, dead| judge_dead_rows(&table(|it| (it.live, it.dead) = (live, dead))).severity;
        assert_eq!(
            [dead(0, 5_000), dead(100_000, 20_000), dead(20_000, 20_000)],
            [Well, Well, Warning]
        );
        let bloat = |size: i64, needed| {
            judge_bloat(&table(|it| (it.size, it.needed) = (size << 20, needed))).severity
        };
        assert_eq!(
            [
                bloat(60, Some(0)),
                bloat(500, None),
                bloat(500, Some(300 << 20)),
                bloat(500, Some(9))
            ],
            [Well, Well, Well, Warning]
        );
        let age = |age| judge_age(&table(|it| it.age = age)).severity;
        assert_eq!(
            [age(200_000_000), age(1_200_000_000), age(1_900_000_000)],
            [Well, Warning, Error]
        );
    }

    #[test]
    fn what_a_role_does_not_see_is_told() {
        let judged = |hours, unseen| judge_transactions(Duration::from_hours(hours), 0, unseen).severity;
        assert_eq!(
            [judged(0, 0), judged(2, 0), judged(0, 3)],
            [Well, Warning, Notice]
        );
    }
}

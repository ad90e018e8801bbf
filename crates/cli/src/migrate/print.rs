//! The answers of the commands, for people and for programs, to stdout.

use serde::Serialize;

use crate::output::{say, show};
use chatledger_migrate::{
    Change, Difference, HistoryEntry, MigrationStatus, NewFiles, PlannedMigration, Problem, Rehearsal,
    SchemaVerification, StampReport,
};

type PrintResult = anyhow::Result<()>;

pub(super) fn json(document: &impl Serialize) -> PrintResult {
    say!("{}", serde_json::to_string_pretty(document)?);
    Ok(())
}

/// Columns that are as wide as they have to be.
fn table(rows: &[Vec<String>]) {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:width$}", width = width(column)))
            .collect();
        say!("{}", cells.join("  ").trim_end());
    }
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

pub(super) fn status(as_json: bool, place: &str, status: &MigrationStatus) -> PrintResult {
    #[derive(Serialize)]
    struct StatusDocument<'a> {
        database: &'a str,
        #[serde(flatten)]
        status: &'a MigrationStatus,
    }
    if as_json {
        return json(&StatusDocument {
            database: place,
            status,
        });
    }
    say!("{place}\n");
    let mut rows = vec![row(["SET", "CURRENT", "HEAD", "PENDING", "APPLIED", "DRIFT"])];
    let number = |version: Option<i64>| version.map_or("-".to_owned(), |version| version.to_string());
    for set in &status.sets {
        rows.push(vec![
            set.set.to_string(),
            number(set.current),
            number(set.head),
            if set.installed {
                set.pending.len().to_string()
            } else {
                "opt-in".to_owned()
            },
            set.applied_at.clone().unwrap_or_else(|| "-".to_owned()),
            set.drift.to_string(),
        ]);
    }
    table(&rows);
    problems(status.sets.iter().flat_map(|set| &set.problems));
    if status.sets.iter().any(|set| !set.installed) {
        say!("\nAn opt-in set is installed by `chatledger migrate up --with <set>`.");
    }
    Ok(())
}

fn problems<'a>(problems: impl Iterator<Item = &'a Problem>) {
    for (number, problem) in problems.enumerate() {
        if number == 0 {
            say!();
        }
        say!("{}: {problem}", problem.drift);
    }
}

pub(super) fn history(as_json: bool, entries: &[HistoryEntry]) -> PrintResult {
    if as_json {
        return json(&entries);
    }
    let mut rows = vec![row(["SET", "MIGRATION", "APPLIED", "DRIFT"])];
    rows.extend(entries.iter().map(|entry| {
        vec![
            entry.set.to_string(),
            entry.migration.clone(),
            entry.applied_at.clone().unwrap_or_else(|| "pending".to_owned()),
            entry.drift.to_string(),
        ]
    }));
    table(&rows);
    Ok(())
}

pub(super) fn changes(as_json: bool, direction: &str, changes: &[Change]) -> PrintResult {
    if as_json {
        return json(&changes);
    }
    match changes.len() {
        0 if direction == "up" => say!("Nothing is pending."),
        0 => say!("There is nothing to take back."),
        _ => {
            for change in changes {
                say!("{direction} {} {}", change.set, change.migration);
            }
        }
    }
    Ok(())
}

pub(super) fn new(as_json: bool, files: &NewFiles) -> PrintResult {
    if as_json {
        return json(files);
    }
    say!("{}\n{}", files.up.display(), files.down.display());
    Ok(())
}

pub(super) fn stamped(as_json: bool, stamped: &StampReport) -> PrintResult {
    if as_json {
        return json(stamped);
    }
    let StampReport { set, version, .. } = stamped;
    say!("The history of {set} says V{version} now; no migration was run.");
    for file in &stamped.forgotten {
        say!("It no longer says that {file} was applied.");
    }
    Ok(())
}

pub(super) fn plan(as_json: bool, planned: &[PlannedMigration]) -> PrintResult {
    if as_json {
        return json(&planned);
    }
    if planned.is_empty() {
        say!("-- Nothing is pending.");
    }
    for step in planned {
        say!("-- {} {}\n{}", step.set, step.migration, step.sql);
    }
    Ok(())
}

pub(super) fn verdict(as_json: bool, fix_plan: bool, verdict: &SchemaVerification) -> PrintResult {
    #[derive(Serialize)]
    struct VerifyDocument<'a> {
        clean: bool,
        #[serde(flatten)]
        verdict: &'a SchemaVerification,
        fix_plan: Option<&'a str>,
    }
    if as_json {
        json(&VerifyDocument {
            clean: verdict.is_clean(),
            verdict,
            fix_plan: fix_plan.then_some(verdict.fix_plan.as_str()),
        })?;
    } else if fix_plan {
        show!("{}", verdict.fix_plan);
        return Ok(());
    } else {
        print_verdict(verdict);
    }
    if fix_plan || verdict.is_clean() {
        return Ok(());
    }
    anyhow::ensure!(
        !(verdict.problems.is_empty() && verdict.differences.is_empty()),
        "the web's roles can read secrets: revoke that"
    );
    anyhow::bail!("the database is not what its migrations make: {}", count(verdict))
}

fn count(verdict: &SchemaVerification) -> String {
    let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let differences = plural(verdict.differences.len(), "difference");
    match verdict.problems.len() {
        0 => differences,
        problems => format!("{differences}, {} of the history", plural(problems, "problem")),
    }
}

fn print_verdict(verdict: &SchemaVerification) {
    for problem in &verdict.problems {
        say!("{}: {problem}", problem.drift);
    }
    for difference in &verdict.differences {
        let Difference { .. } = difference;
        say!("{difference}");
    }
    for (number, exposure) in verdict.exposures.iter().enumerate() {
        if number == 0 {
            say!("Other roles' access (docs/hosted-postgresql.md):");
        }
        say!("  {exposure}");
    }
    if verdict.is_clean() {
        say!("The database is what its migrations make.");
    } else if !verdict.differences.is_empty() {
        say!("\n`chatledger migrate verify --fix-plan` prints the SQL for what can be mended by adding.");
    }
}

pub(super) fn rehearsal(as_json: bool, rehearsal: &Rehearsal) -> PrintResult {
    #[derive(Serialize)]
    struct RehearsalDocument<'a> {
        good: bool,
        #[serde(flatten)]
        rehearsal: &'a Rehearsal,
    }
    if as_json {
        json(&RehearsalDocument {
            good: rehearsal.is_good(),
            rehearsal,
        })?;
    } else {
        print_rehearsal(rehearsal);
    }
    anyhow::ensure!(
        rehearsal.is_good(),
        "the rehearsal found fault: {}, {} of the server's statements failed",
        count(&rehearsal.verify),
        rehearsal.statements_failed.len()
    );
    Ok(())
}

fn print_rehearsal(rehearsal: &Rehearsal) {
    let mut rows = vec![row(["MIGRATION", "MS", "LOCKS"])];
    for change in &rehearsal.changes {
        let locks: Vec<String> = change
            .locks
            .iter()
            .map(|lock| format!("{} {}", lock.table, lock.mode))
            .collect();
        rows.push(vec![
            format!("{} {}", change.set, change.migration),
            change.milliseconds.to_string(),
            if locks.is_empty() {
                "none that others wait for".to_owned()
            } else {
                locks.join(", ")
            },
        ]);
    }
    if rehearsal.changes.is_empty() {
        say!("Nothing is pending.");
    } else {
        table(&rows);
    }
    say!();
    print_verdict(&rehearsal.verify);
    say!(
        "{} of the server's statements ran on the copy.",
        rehearsal.statements_run
    );
    for failed in &rehearsal.statements_failed {
        say!("failed: {failed}");
    }
}

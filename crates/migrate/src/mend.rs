//! The SQL for what can be mended by adding. The rest is left to people, and named.

use crate::{
    catalog::{ObjectKind, SchemaObject},
    difference::Difference,
};

/// A script for psql: it isn't one transaction, since indexes are built concurrently.
pub(crate) fn script(
    expected: &[SchemaObject],
    found: &[SchemaObject],
    differences: &[Difference],
) -> String {
    let mut sql = String::from(
        "-- Adds what is missing. Read it before you run it, with psql, outside of a transaction.\n",
    );
    sql.push_str(LIMIT);
    sql.push('\n');
    for thing in expected {
        let is_there = found.iter().any(|other| other.key == thing.key);
        // A part of a missing column comes with the column.
        let comes_along = matches!(thing.key.kind, ObjectKind::Default | ObjectKind::NotNull)
            && differences.iter().all(|it| it.key() != thing.key);
        if !is_there && !comes_along {
            sql.push_str(&patiently(thing.key.kind, &thing.adding));
            sql.push('\n');
        }
    }
    for difference in differences.iter().filter(|it| it.found.is_some()) {
        let mended = mended(difference, expected);
        sql.push_str(&mended.unwrap_or_else(|| format!("-- by hand: {difference}").replace('\n', " ")));
        sql.push('\n');
    }
    sql
}

/// Others that wait behind it are held up for no longer.
const LIMIT: &str = "SET lock_timeout = '2s';";

/// A concurrent build holds nobody up; a limit on its waiting would only leave it INVALID.
fn patiently(kind: ObjectKind, sql: &str) -> String {
    match kind {
        ObjectKind::Index => format!("SET lock_timeout = 0;\n{sql}\n{LIMIT}"),
        _ => sql.to_owned(),
    }
}

/// A thing that is there in another form, and can be put right without a loss.
fn mended(difference: &Difference, expected: &[SchemaObject]) -> Option<String> {
    let (wanted, found) = (difference.expected.as_deref()?, difference.found.as_deref()?);
    let thing = expected.iter().find(|thing| thing.key == difference.key())?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (table, name) = (quoted(&difference.table), quoted(&difference.name));
    match difference.kind {
        ObjectKind::Default | ObjectKind::Function => Some(thing.adding.clone()),
        ObjectKind::Index if found.strip_suffix(" INVALID") == Some(wanted) => Some(patiently(
            difference.kind,
            &format!("REINDEX INDEX CONCURRENTLY {name};"),
        )),
        ObjectKind::Constraint if found.strip_suffix(" NOT VALID") == Some(wanted) => {
            Some(format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name};"))
        }
        ObjectKind::Trigger if found.strip_suffix(" DISABLED") == Some(wanted) => {
            Some(format!("ALTER TABLE {table} ENABLE TRIGGER {name};"))
        }
        _ => None,
    }
}

//! Privileges: what the server's role may do, and who else may do what.

use tokio_postgres::types::Type;

use crate::{
    Finding, Patient,
    finding::{MIGRATION_PRIVILEGES, ROLE, SECRETS, TABLE_PRIVILEGES},
    line::{Asked, Line, cell},
    schema::bounded,
};
use chatledger_migrate::Exposure;

/// How many of those exposed are told.
const TOLD: usize = 5;

const TABLES: &str = include_str!("sql/privileges.sql");
const ROLE_SQL: &str = include_str!("sql/role.sql");

/// Looks at privileges. `tables` are those that the migrations have made.
pub(crate) async fn look(patient: &Patient, line: &mut Line, tables: &[String]) -> Vec<Finding> {
    vec![
        TABLE_PRIVILEGES.settle(on_tables(line, tables).await),
        MIGRATION_PRIVILEGES.settle(to_migrate(line, tables).await),
        SECRETS.settle(secrets(patient, tables).await),
        ROLE.settle(role(line).await),
    ]
}

async fn on_tables(line: &mut Line, tables: &[String]) -> Asked<Finding> {
    let rows = line.ask(TABLES, &[(&tables, Type::TEXT_ARRAY)]).await?;
    let mut lacking = Vec::new();
    for row in &rows {
        let (table, privileges): (String, String) = (cell(row, 0)?, cell(row, 1)?);
        lacking.push(format!("{privileges} on {table}"));
    }
    Ok(if tables.is_empty() {
        TABLE_PRIVILEGES.ok("there are no tables yet")
    } else if lacking.is_empty() {
        TABLE_PRIVILEGES.ok(format!(
            "SELECT, INSERT, UPDATE and DELETE on all {}",
            tables.len()
        ))
    } else {
        TABLE_PRIVILEGES.error(
            format!("the role may not {}", lacking.join("; ")),
            "GRANT them to the server's role, or give the URL of the tables' owner",
        )
    })
}

async fn to_migrate(line: &mut Line, tables: &[String]) -> Asked<Finding> {
    const ADVICE: &str =
        "migrate as the owner, by `chatledger migrate up` with its URL, and `serve --migrate check`";
    const SQL: &str = include_str!("sql/ownership.sql");
    let row = line.ask_one(SQL, &[(&tables, Type::TEXT_ARRAY)]).await?;
    let (role, may_create, others): (String, bool, Option<String>) =
        (cell(&row, 0)?, cell(&row, 1)?, cell(&row, 2)?);
    Ok(match (may_create, others) {
        (true, None) => MIGRATION_PRIVILEGES.ok(format!("the role {role} may")),
        (_, Some(others)) => {
            MIGRATION_PRIVILEGES.notice(format!("{role} may not: {others} owns tables"), ADVICE)
        }
        (false, None) => {
            MIGRATION_PRIVILEGES.notice(format!("{role} may not create tables in the schema"), ADVICE)
        }
    })
}

async fn secrets(patient: &Patient, tables: &[String]) -> Asked<Finding> {
    Ok(judge_exposures(
        &bounded(patient.migrator.exposures(tables)).await?,
    ))
}

fn judge_exposures(exposures: &[Exposure]) -> Finding {
    let (grave, others): (Vec<&Exposure>, Vec<&Exposure>) = exposures.iter().partition(|it| it.is_grave());
    let told = |some: &[&Exposure]| {
        some.iter()
            .take(TOLD)
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    if !grave.is_empty() {
        SECRETS.error(
            told(&grave),
            "REVOKE it: hashes of passwords, claim secrets and API keys are for nobody (docs/security.md)",
        )
    } else if !others.is_empty() {
        SECRETS.warning(
            told(&others),
            "REVOKE what isn't meant (docs/security.md); `chatledger migrate verify` tells all",
        )
    } else {
        SECRETS.ok("nobody")
    }
}

async fn role(line: &mut Line) -> Asked<Finding> {
    let row = line.ask_one(ROLE_SQL, &[]).await?;
    let (name, is_super, powers): (String, bool, String) = (cell(&row, 0)?, cell(&row, 1)?, cell(&row, 2)?);
    Ok(if is_super {
        ROLE.notice(
            format!("{name} is a superuser: whoever has the server's URL has the whole cluster"),
            "a role of its own, which owns the database and nothing else",
        )
    } else if powers.is_empty() {
        ROLE.ok(format!("{name} is an ordinary role"))
    } else {
        ROLE.ok(format!("{name}, with {powers}"))
    })
}

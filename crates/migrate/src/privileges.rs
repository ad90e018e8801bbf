//! Who else may read the tables. Hosts of PostgreSQL give their web roles everything that is created from now on, by default
//! privileges; a migration takes that back for what it creates ([`REMEMBER`], [`REVOKE`]), and `verify` tells what is open.

use std::fmt;

use serde::Serialize;
use tokio_postgres::{Client, types::Type};

use crate::{client::explain, program::Program};

/// What is run before a migration, in its transaction.
pub(crate) const REMEMBER: &str = include_str!("sql/remember.sql");
/// What is run behind a migration, in its transaction.
pub(crate) const REVOKE: &str = include_str!("sql/revoke.sql");

/// The name under which PostgreSQL grants to everybody.
const EVERYBODY: &str = "PUBLIC";
/// The roles that requests from the web have at hosts with an interface over HTTP: `anon` and `authenticated` at Supabase,
/// `anonymous` and `authenticated` at Neon.
const WEB_ROLES: [&str; 3] = ["anon", "anonymous", "authenticated"];

/// What a role can do that wasn't meant to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exposure {
    /// The role; `PUBLIC` is everybody.
    pub role: String,
    /// The table.
    pub table: String,
    /// The column, which has secrets; where there is none, it is about the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The privileges, such as `INSERT, SELECT of title`.
    pub privileges: String,
}

impl Exposure {
    /// Whether the web can read a secret: nobody means that.
    #[must_use]
    pub fn is_grave(&self) -> bool {
        self.column.is_some() && (self.role == EVERYBODY || WEB_ROLES.contains(&self.role.as_str()))
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.column {
            Some(column) => write!(f, "{} can read {}.{column}", self.role, self.table),
            None => write!(f, "{} has {} on {}", self.role, self.privileges, self.table),
        }
    }
}

/// What is open of these tables.
pub(crate) async fn exposures(
    client: &Client,
    program: &Program,
    tables: &[&str],
) -> anyhow::Result<Vec<Exposure>> {
    let (secret_tables, secret_columns): (Vec<&str>, Vec<&str>) = program.secrets.iter().copied().unzip();
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] = [
        (&tables, Type::TEXT_ARRAY),
        (&secret_tables, Type::TEXT_ARRAY),
        (&secret_columns, Type::TEXT_ARRAY),
        (&WEB_ROLES.as_slice(), Type::TEXT_ARRAY),
    ];
    let rows = client.query_typed(include_str!("sql/exposures.sql"), &params);
    let rows = rows.await.map_err(explain)?;
    let exposures = rows.iter().map(|row| Exposure {
        role: row.get(0),
        table: row.get(1),
        column: row.get(2),
        privileges: row.get(3),
    });
    Ok(exposures.collect())
}

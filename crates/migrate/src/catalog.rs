//! What is in a database's schema, as text that can be compared.

use std::fmt;

use serde::Serialize;
use tokio_postgres::{Client, types::Type};

use super::{Program, explain};

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An enum and its labels.
    Type,
    /// A sequence that isn't an identity column's.
    Sequence,
    /// A table and its settings.
    Table,
    /// A column and its type.
    Column,
    /// A column's default.
    Default,
    /// That a column is NOT NULL.
    NotNull,
    /// A function or procedure.
    Function,
    /// A key, foreign key, check or exclusion.
    Constraint,
    /// An index that isn't a constraint's.
    Index,
    /// A trigger.
    Trigger,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
}

impl Kind {
    fn parse(text: &str) -> Option<Kind> {
        Some(match text {
            "type" => Kind::Type,
            "sequence" => Kind::Sequence,
            "table" => Kind::Table,
            "column" => Kind::Column,
            "default" => Kind::Default,
            "not null" => Kind::NotNull,
            "function" => Kind::Function,
            "constraint" => Kind::Constraint,
            "index" => Kind::Index,
            "trigger" => Kind::Trigger,
            "view" => Kind::View,
            "materialized view" => Kind::MaterializedView,
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Type => "type",
            Kind::Sequence => "sequence",
            Kind::Table => "table",
            Kind::Column => "column",
            Kind::Default => "default of",
            Kind::NotNull => "NOT NULL of",
            Kind::Function => "function",
            Kind::Constraint => "constraint",
            Kind::Index => "index",
            Kind::Trigger => "trigger",
            Kind::View => "view",
            Kind::MaterializedView => "materialized view",
        })
    }
}

/// Which thing it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub kind: Kind,
    /// Empty for what is in no table: types, sequences, functions and views.
    pub table: String,
    /// Empty for tables.
    pub name: String,
}

/// Such as `column messages.content`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { kind, table, name } = self;
        match (table.is_empty(), name.is_empty()) {
            (false, true) => write!(f, "{kind} {table}"),
            (true, _) => write!(f, "{kind} {name}"),
            _ => write!(f, "{kind} {table}.{name}"),
        }
    }
}

/// A thing, and how it is defined.
#[derive(Clone, Debug)]
pub struct Thing {
    pub key: Key,
    pub value: String,
    /// The SQL that adds it.
    pub adding: String,
}

/// Everything in the current schema, in an order in which it can be added.
pub async fn read(client: &Client, program: &Program) -> anyhow::Result<Vec<Thing>> {
    const CATALOG: &str = include_str!("sql/catalog.sql");
    let rows = client
        .query_typed(
            CATALOG,
            &[
                (&program.histories(), Type::TEXT_ARRAY),
                (&program.name, Type::TEXT),
            ],
        )
        .await
        .map_err(explain)?;
    let things = rows.iter().filter_map(|row| {
        let key = Key {
            kind: Kind::parse(row.get(0))?,
            table: row.get(1),
            name: row.get(2),
        };
        Some(Thing {
            key,
            value: row.get(3),
            adding: row.get(4),
        })
    });
    Ok(things.collect())
}

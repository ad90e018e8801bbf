//! What is in a database's schema, as text that can be compared.

use std::fmt;

use serde::Serialize;
use tokio_postgres::{Client, types::Type};

use crate::{client::explain, program::Program};

/// The kinds of things that a schema is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
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
    /// A column's NOT NULL.
    NotNull,
    /// A function or procedure.
    Function,
    /// A key, foreign key, check or exclusion.
    Constraint,
    /// An index that isn't a constraint's.
    Index,
    /// A trigger.
    Trigger,
    /// A table's row-level security.
    RowSecurity,
    /// A policy of row-level security.
    Policy,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
}

impl ObjectKind {
    fn parse(text: &str) -> Option<ObjectKind> {
        Some(match text {
            "type" => ObjectKind::Type,
            "sequence" => ObjectKind::Sequence,
            "table" => ObjectKind::Table,
            "column" => ObjectKind::Column,
            "default" => ObjectKind::Default,
            "not null" => ObjectKind::NotNull,
            "function" => ObjectKind::Function,
            "constraint" => ObjectKind::Constraint,
            "index" => ObjectKind::Index,
            "trigger" => ObjectKind::Trigger,
            "row security" => ObjectKind::RowSecurity,
            "policy" => ObjectKind::Policy,
            "view" => ObjectKind::View,
            "materialized view" => ObjectKind::MaterializedView,
            _ => return None,
        })
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Type => "type",
            ObjectKind::Sequence => "sequence",
            ObjectKind::Table => "table",
            ObjectKind::Column => "column",
            ObjectKind::Default => "default of",
            ObjectKind::NotNull => "NOT NULL of",
            ObjectKind::Function => "function",
            ObjectKind::Constraint => "constraint",
            ObjectKind::Index => "index",
            ObjectKind::Trigger => "trigger",
            ObjectKind::RowSecurity => "row-level security of",
            ObjectKind::Policy => "policy",
            ObjectKind::View => "view",
            ObjectKind::MaterializedView => "materialized view",
        })
    }
}

/// The identity of a thing in the schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ObjectKey {
    pub kind: ObjectKind,
    /// The table's name: empty for what is in no table, which is types, sequences, functions and views.
    pub table: String,
    /// The thing's own name: empty for tables.
    pub name: String,
}

/// The thing in words, such as `column messages.content`.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectKey { kind, table, name } = self;
        match (table.is_empty(), name.is_empty()) {
            (false, true) => write!(f, "{kind} {table}"),
            (true, _) => write!(f, "{kind} {name}"),
            _ => write!(f, "{kind} {table}.{name}"),
        }
    }
}

/// A thing in the schema, and how it is defined.
#[derive(Clone, Debug)]
pub(crate) struct SchemaObject {
    pub key: ObjectKey,
    pub value: String,
    /// The SQL that adds the thing.
    pub adding: String,
}

/// Everything in the current schema, in an order in which it can be added.
pub(crate) async fn read(client: &Client, program: &Program) -> anyhow::Result<Vec<SchemaObject>> {
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
        let key = ObjectKey {
            kind: ObjectKind::parse(row.get(0))?,
            table: row.get(1),
            name: row.get(2),
        };
        Some(SchemaObject {
            key,
            value: row.get(3),
            adding: row.get(4),
        })
    });
    Ok(things.collect())
}

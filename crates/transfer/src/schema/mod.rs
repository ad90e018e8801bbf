//! Read models for programs that share the database: `chatledger schema`.
//!
//! [`catalog`] reads what the live database has, migrations that were opted into included; [`sql`],
//! [`prisma`] and [`sqlalchemy`] write it down for people, TypeScript and Python.

// Texts of a few kilobytes, written once: the plain form is the clearest.
#![allow(clippy::format_push_string, clippy::format_collect)]

pub(crate) mod catalog;
mod prisma;
mod sql;
mod sqlalchemy;

use catalog::{Column, ForeignKey, Schema, SchemaTable};

/// The readers of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SchemaFormat {
    /// SQL.
    Sql,
    /// A Prisma schema.
    Prisma,
    /// A module of SQLAlchemy 2 models.
    Sqlalchemy,
}

impl SchemaFormat {
    /// The text.
    #[must_use]
    pub fn write(self, schema: &Schema) -> String {
        match self {
            SchemaFormat::Sql => sql::write(schema),
            SchemaFormat::Prisma => prisma::write(schema),
            SchemaFormat::Sqlalchemy => sqlalchemy::write(schema),
        }
    }
}

/// The names of a table's rows in a model.
struct ModelNames {
    table: &'static str,
    model: &'static str,
    one: &'static str,
    many: &'static str,
    /// The column that many rows are ordered by, within what they belong to.
    order: &'static str,
}

/// The tables that have models.
static NAMES: [ModelNames; 6] = [
    ModelNames {
        table: "users",
        model: "User",
        one: "user",
        many: "users",
        order: "id",
    },
    ModelNames {
        table: "user_profiles",
        model: "UserProfile",
        one: "profile",
        many: "profiles",
        order: "user_id",
    },
    ModelNames {
        table: "chat_sessions",
        model: "ChatSession",
        one: "session",
        many: "sessions",
        order: "created_at",
    },
    ModelNames {
        table: "messages",
        model: "Message",
        one: "message",
        many: "messages",
        order: "seq",
    },
    ModelNames {
        table: "message_citations",
        model: "MessageCitation",
        one: "citation",
        many: "citations",
        order: "citation_index",
    },
    ModelNames {
        table: "documents",
        model: "Document",
        one: "document",
        many: "documents",
        order: "id",
    },
];

fn names(table: &str) -> Option<&'static ModelNames> {
    NAMES.iter().find(|names| names.table == table)
}

/// The tables that have models, in the order of [`NAMES`].
fn models(schema: &Schema) -> impl Iterator<Item = (&'static ModelNames, &SchemaTable)> {
    NAMES
        .iter()
        .filter_map(|names| Some((names, schema.table(names.table)?)))
}

/// The foreign keys that refer to a table, and whose they are.
fn referring<'a>(
    schema: &'a Schema,
    table: &'a str,
) -> impl Iterator<Item = (&'static ModelNames, &'a SchemaTable, &'a ForeignKey)> {
    models(schema).flat_map(move |(names, from)| {
        let keys = from.foreign_keys.iter().filter(move |key| key.to == table);
        keys.map(move |key| (names, from, key))
    })
}

/// Whether a column is read by those only who ask for it by name.
fn is_secret(column: &Column) -> bool {
    column.name == "hashed_password"
}

/// Whether at most one row refers to each row of the other table.
fn is_one_to_one(from: &SchemaTable, key: &ForeignKey) -> bool {
    from.keys.iter().any(|unique| unique.columns == key.columns)
}

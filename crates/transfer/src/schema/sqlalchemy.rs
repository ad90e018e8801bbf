//! A module of SQLAlchemy 2 models. Its metadata is all that Alembic compares, so it has every index and key,
//! and refinery's histories as plain tables.

use super::{
    ModelNames,
    catalog::{Column, ForeignKey, Index, Schema, SchemaTable},
    is_one_to_one, is_secret, models, names, referring,
};

const HEAD: &str = r#""""chatledger's tables, as they are in this database: made by `chatledger schema --format sqlalchemy`.

For reading, and for joins with tables of your own: the server migrates them itself. In a project that uses Alembic,
give `Base.metadata` to `target_metadata` beside your own, and `--autogenerate` leaves these tables alone.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Any, Optional

from sqlalchemy import Column, Computed, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Table, UniqueConstraint, literal_column, text, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """What all models share."""


class OtherType(types.UserDefinedType[Any]):
    """A type that SQLAlchemy has no class for, such as an enum of your own."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name

"#;

/// Writes the tables.
pub(super) fn write(schema: &Schema) -> String {
    let mut text = HEAD.to_owned();
    for (of, table) in models(schema) {
        text += &model(schema, of, table);
    }
    for table in schema.tables.iter().filter(|table| names(&table.name).is_none()) {
        text += &plain(table);
    }
    text
}

fn model(schema: &Schema, of: &ModelNames, table: &SchemaTable) -> String {
    let mut text = format!(
        "\nclass {}(Base):\n    __tablename__ = {}\n",
        of.model,
        quoted(&table.name)
    );
    text += &format!(
        "    __table_args__ = (\n{}    )\n\n",
        lines(&arguments(table), "        ")
    );
    for column in &table.columns {
        text += &format!("    {}\n", attribute(column));
    }
    let mut relations: Vec<String> = table
        .foreign_keys
        .iter()
        .filter_map(|key| parent(schema, table, key))
        .collect();
    relations.extend(referring(schema, &table.name).map(|(from, child, key)| children(of, from, child, key)));
    if !relations.is_empty() {
        text.push('\n');
        text += &relations
            .iter()
            .map(|relation| format!("    {relation}\n"))
            .collect::<String>();
    }
    text + "\n"
}

/// A table without a model.
fn plain(table: &SchemaTable) -> String {
    let mut parts = vec![quoted(&table.name), "Base.metadata".to_owned()];
    parts.extend(
        table
            .columns
            .iter()
            .map(|column| format!("Column({}, {})", quoted(&column.name), details(column))),
    );
    parts.extend(arguments(table));
    format!("\n{} = Table(\n{})\n", table.name, lines(&parts, "    "))
}

fn lines(parts: &[String], indent: &str) -> String {
    parts.iter().map(|part| format!("{indent}{part},\n")).collect()
}

/// Keys and indexes.
fn arguments(table: &SchemaTable) -> Vec<String> {
    let mut parts = Vec::new();
    for key in &table.keys {
        let class = if key.primary {
            "PrimaryKeyConstraint"
        } else {
            "UniqueConstraint"
        };
        parts.push(format!(
            "{class}({}, name={})",
            list(&key.columns),
            quoted(&key.name)
        ));
    }
    for key in &table.foreign_keys {
        let to: Vec<String> = key
            .to_columns
            .iter()
            .map(|column| format!("{}.{column}", key.to))
            .collect();
        let cascade = if key.cascades {
            ", ondelete=\"CASCADE\""
        } else {
            ""
        };
        parts.push(format!(
            "ForeignKeyConstraint([{}], [{}], name={}{cascade})",
            list(&key.columns),
            list(&to),
            quoted(&key.name)
        ));
    }
    parts.extend(table.indexes.iter().map(index));
    parts
}

fn index(index: &Index) -> String {
    let mut parts = vec![quoted(&index.name)];
    let mut operators = Vec::new();
    for (number, part) in index.parts.iter().enumerate() {
        // An expression's operator class is given by a label's name; in its text, Alembic couldn't compare it.
        let label = format!("{}_{}", index.name, number + 1);
        let (sql, name) = match (part.is_expression, part.operators.as_str()) {
            (true, "") => (format!("text({})", quoted(&part.text)), &label),
            (true, _) => {
                let sql = format!("literal_column({}).label({})", quoted(&part.text), quoted(&label));
                (sql, &label)
            }
            (false, _) => (quoted(&part.text), &part.text),
        };
        parts.push(sql);
        if !part.operators.is_empty() {
            operators.push(format!("{}: {}", quoted(name), quoted(&part.operators)));
        }
    }
    if index.unique {
        parts.push("unique=True".to_owned());
    }
    if index.method != "btree" {
        parts.push(format!("postgresql_using={}", quoted(&index.method)));
    }
    if !operators.is_empty() {
        parts.push(format!("postgresql_ops={{{}}}", operators.join(", ")));
    }
    if let Some(predicate) = &index.predicate {
        parts.push(format!("postgresql_where=text({})", quoted(predicate)));
    }
    if !index.options.is_empty() {
        let options: Vec<String> = index
            .options
            .iter()
            .map(|(name, value)| format!("{}: {}", quoted(name), quoted(value)))
            .collect();
        parts.push(format!("postgresql_with={{{}}}", options.join(", ")));
    }
    format!("Index({})", parts.join(", "))
}

fn attribute(column: &Column) -> String {
    let (python, _) = type_of(&column.type_name);
    let python = if column.nullable {
        format!("Optional[{python}]")
    } else {
        python
    };
    // A column's name may be one that SQLAlchemy has taken.
    let (name, given) = match column.name.as_str() {
        "metadata" => ("metadata_", "\"metadata\", "),
        name => (name, ""),
    };
    let deferred = if is_secret(column) { ", deferred=True" } else { "" };
    format!(
        "{name}: Mapped[{python}] = mapped_column({given}{}{deferred})",
        details(column)
    )
}

fn details(column: &Column) -> String {
    let (_, sql) = type_of(&column.type_name);
    let nullable = if column.nullable { "" } else { ", nullable=False" };
    match (&column.default, &column.generated) {
        (Some(text), _) => format!("{sql}{nullable}, server_default=text({})", quoted(text)),
        // Computed is no argument by name, and comes before those.
        (_, Some(text)) => format!("{sql}, Computed({}, persisted=True){nullable}", quoted(text)),
        _ => format!("{sql}{nullable}"),
    }
}

/// The class in [`HEAD`].
const OTHER: &str = "OtherType";

/// Python's type and SQLAlchemy's.
fn type_of(type_name: &str) -> (String, String) {
    if let Some(element) = type_name.strip_suffix("[]") {
        let (python, sql) = type_of(element);
        if !sql.starts_with(OTHER) {
            return (format!("list[{python}]"), format!("postgresql.ARRAY({sql})"));
        }
    }
    // `numeric(10,2)`: the type, and what it takes.
    let (base, arguments) = match type_name.split_once('(') {
        Some((base, rest)) => (base, rest.trim_end_matches(')').replace(',', ", ")),
        None => (type_name, String::new()),
    };
    let (python, sql) = match base {
        "uuid" => ("uuid.UUID", "UUID(as_uuid=True)"),
        "text" => ("str", "TEXT()"),
        "character varying" => return ("str".to_owned(), format!("postgresql.VARCHAR({arguments})")),
        "boolean" => ("bool", "BOOLEAN()"),
        "smallint" => ("int", "SMALLINT()"),
        "integer" => ("int", "INTEGER()"),
        "bigint" => ("int", "BIGINT()"),
        "real" => ("float", "REAL()"),
        "double precision" => ("float", "DOUBLE_PRECISION()"),
        "numeric" => {
            return (
                "decimal.Decimal".to_owned(),
                format!("postgresql.NUMERIC({arguments})"),
            );
        }
        "json" => ("Any", "JSON()"),
        "jsonb" => ("dict[str, Any]", "JSONB()"),
        "bytea" => ("bytes", "BYTEA()"),
        "date" => ("datetime.date", "DATE()"),
        "timestamp without time zone" => ("datetime.datetime", "TIMESTAMP()"),
        "timestamp with time zone" => ("datetime.datetime", "TIMESTAMP(timezone=True)"),
        _ => return ("Any".to_owned(), format!("{OTHER}({})", quoted(type_name))),
    };
    (python.to_owned(), format!("postgresql.{sql}"))
}

fn parent(schema: &Schema, table: &SchemaTable, key: &ForeignKey) -> Option<String> {
    let to = names(&key.to).filter(|to| schema.table(to.table).is_some())?;
    let own = names(&table.name)?;
    let back = if is_one_to_one(table, key) {
        own.one
    } else {
        own.many
    };
    let python = if table.may_lack(key) {
        format!("Optional[{}]", to.model)
    } else {
        to.model.to_owned()
    };
    Some(format!(
        "{}: Mapped[{python}] = relationship(back_populates={})",
        to.one,
        quoted(back)
    ))
}

fn children(of: &ModelNames, from: &ModelNames, child: &SchemaTable, key: &ForeignKey) -> String {
    if is_one_to_one(child, key) {
        return format!(
            "{}: Mapped[Optional[{}]] = relationship(back_populates={}, passive_deletes=True)",
            from.one,
            from.model,
            quoted(of.one)
        );
    }
    format!(
        "{}: Mapped[list[{}]] = relationship(back_populates={}, order_by={}, passive_deletes=True)",
        from.many,
        from.model,
        quoted(of.one),
        quoted(&format!("{}.{}", from.model, from.order))
    )
}

fn list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| quoted(name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A string of Python's. (A colon begins a parameter in `text()`, but not a doubled one, as casts have it.)
fn quoted(text: &str) -> String {
    format!(
        "\"{}\"",
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    )
}

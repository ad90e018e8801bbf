//! A Prisma schema.

use super::{
    ModelNames,
    catalog::{Column, ForeignKey, Index, Schema, SchemaTable},
    is_one_to_one, is_secret, models, names, referring,
};

const HEAD: &str = r#"// chatledger's tables, as they are in this database: made by `chatledger schema --format prisma`. For reading,
// and for joins with tables of your own: the server migrates them itself.
// Where the URL goes: prisma.config.ts.

generator client {
  provider = "prisma-client-js"
}

datasource db {
  provider = "postgresql"
}
"#;

/// Writes the tables with models.
pub(super) fn write(schema: &Schema) -> String {
    let mut text = HEAD.to_owned();
    for (of, table) in models(schema) {
        text += &model(schema, of, table);
    }
    text
}

fn model(schema: &Schema, of: &ModelNames, table: &SchemaTable) -> String {
    let mut lines: Vec<String> = table.columns.iter().map(|column| field(table, column)).collect();
    for key in &table.foreign_keys {
        lines.extend(parent(table, key));
    }
    for (from, child, key) in referring(schema, &table.name) {
        lines.push(if is_one_to_one(child, key) {
            format!("{} {}?", from.one, from.model)
        } else {
            format!("{} {}[]", from.many, from.model)
        });
    }
    lines.push(String::new());
    for key in &table.keys {
        let columns = key.columns.join(", ");
        match (key.primary, key.columns.len()) {
            // A primary key of one column is written with the column.
            (true, 1) => {}
            (true, _) => lines.push(format!("@@id([{columns}], map: \"{}\")", key.name)),
            (false, _) => lines.push(format!("@@unique([{columns}], map: \"{}\")", key.name)),
        }
    }
    lines.extend(table.indexes.iter().map(index));
    lines.push(format!("@@map(\"{}\")", table.name));
    let lines: Vec<String> = lines
        .into_iter()
        .map(|line| {
            if line.is_empty() {
                line
            } else {
                format!("  {line}")
            }
        })
        .collect();
    format!("\nmodel {} {{\n{}\n}}\n", of.model, lines.join("\n"))
}

fn field(table: &SchemaTable, column: &Column) -> String {
    let of = type_of(&column.type_name);
    // A list of Prisma's can't be absent.
    let optional = if column.nullable && !of.is_list { "?" } else { "" };
    let list = if of.is_list { "[]" } else { "" };
    let mut line = format!("{} {}{list}{optional}", column.name, of.name);
    let is_key = table
        .primary_key()
        .filter(|key| key.columns == [column.name.as_str()]);
    if let Some(key) = is_key {
        line += &format!(" @id(map: \"{}\")", key.name);
    }
    let default = match (&column.default, &column.generated) {
        (Some(default), _) if !of.is_list => Some(default_of(&of.name, default)),
        (Some(expression), _) | (None, Some(expression)) => Some(computed(expression)),
        (None, None) => None,
    };
    if let Some(default) = default {
        line += &format!(" @default({default})");
    }
    if !of.native.is_empty() {
        line += &format!(" @db.{}", of.native);
    }
    if is_secret(column) {
        line += " @ignore";
    }
    line
}

struct PrismaType {
    name: String,
    /// The type's name in PostgreSQL, where it isn't the usual one.
    native: String,
    is_list: bool,
}

fn type_of(type_name: &str) -> PrismaType {
    if let Some(element) = type_name.strip_suffix("[]") {
        return PrismaType {
            is_list: true,
            ..type_of(element)
        };
    }
    // A type like `numeric(10,2)` is split: its name, and what it takes.
    let (base, arguments) = match type_name.split_once('(') {
        Some((base, rest)) => (base, format!("({}", rest.replace(',', ", "))),
        None => (type_name, String::new()),
    };
    let (name, native) = match base {
        "uuid" => ("String", "Uuid"),
        "text" => ("String", ""),
        "character varying" => ("String", "VarChar"),
        "boolean" => ("Boolean", ""),
        "smallint" => ("Int", "SmallInt"),
        "integer" => ("Int", ""),
        "bigint" => ("BigInt", ""),
        "real" => ("Float", "Real"),
        "double precision" => ("Float", ""),
        "numeric" => ("Decimal", "Decimal"),
        "json" => ("Json", "Json"),
        "jsonb" => ("Json", ""),
        "bytea" => ("Bytes", ""),
        "date" => ("DateTime", "Date"),
        "timestamp without time zone" => ("DateTime", "Timestamp(6)"),
        "timestamp with time zone" => ("DateTime", "Timestamptz(6)"),
        _ => {
            return PrismaType {
                name: format!("Unsupported(\"{}\")", escaped(type_name)),
                native: String::new(),
                is_list: false,
            };
        }
    };
    PrismaType {
        name: name.to_owned(),
        native: format!("{native}{arguments}"),
        is_list: false,
    }
}

fn default_of(type_name: &str, default: &str) -> String {
    let literal = default
        .strip_prefix('\'')
        .and_then(|rest| Some(rest.rsplit_once("'::")?.0));
    match (type_name, literal) {
        ("String" | "Json", Some(text)) => format!("\"{}\"", escaped(&text.replace("''", "'"))),
        ("Boolean", _) if matches!(default, "true" | "false") => default.to_owned(),
        ("Int" | "BigInt", _) if default.parse::<i64>().is_ok() => default.to_owned(),
        ("DateTime", _) if default == "now()" => default.to_owned(),
        _ => computed(default),
    }
}

/// A default that PostgreSQL computes: Prisma knows none of the functions in it.
fn computed(expression: &str) -> String {
    format!("dbgenerated(\"{}\")", escaped(expression))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// The field of the row that this one belongs to.
fn parent(table: &SchemaTable, key: &ForeignKey) -> Option<String> {
    let to = names(&key.to)?;
    let optional = if table.may_lack(key) { "?" } else { "" };
    let on_delete = if key.cascades { "Cascade" } else { "NoAction" };
    Some(format!(
        "{} {}{optional} @relation(fields: [{}], references: [{}], onDelete: {on_delete}, onUpdate: NoAction, map: \"{}\")",
        to.one,
        to.model,
        key.columns.join(", "),
        key.to_columns.join(", "),
        key.name
    ))
}

fn index(index: &Index) -> String {
    // An index with a predicate or an expression can't be said in Prisma.
    if index.predicate.is_some() || index.parts.iter().any(|part| part.is_expression) {
        return format!("// {}", index.definition);
    }
    let parts: Vec<String> = index
        .parts
        .iter()
        .map(|part| match part.operators.as_str() {
            "" => part.text.clone(),
            operators => format!("{}(ops: raw(\"{operators}\"))", part.text),
        })
        .collect();
    let attribute = if index.unique { "@@unique" } else { "@@index" };
    let method = match index.method.as_str() {
        "gin" => ", type: Gin",
        "gist" => ", type: Gist",
        "brin" => ", type: Brin",
        _ => "",
    };
    format!(
        "{attribute}([{}], map: \"{}\"{method})",
        parts.join(", "),
        index.name
    )
}

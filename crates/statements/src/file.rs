//! A directory of `.sql` files: their rows and statements.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use minijinja::{Environment, UndefinedBehavior};

use crate::types::SqlType;

/// A file.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) docs: Vec<String>,
    pub(crate) rows: Vec<RowShape>,
    pub(crate) statements: Vec<Declared>,
}

/// A kind of row.
#[derive(Clone, Debug)]
pub(crate) struct RowShape {
    pub(crate) name: String,
    /// Whether it stays the driver's, and its columns are borrowed from that.
    pub(crate) is_borrowed: bool,
    pub(crate) parts: Vec<RowPart>,
}

/// A column, or another row within the row.
#[derive(Clone, Debug)]
pub(crate) enum RowPart {
    Column {
        name: String,
        sql_type: SqlType,
        expression: String,
    },
    Nested {
        name: String,
        row: String,
        is_optional: bool,
    },
}

/// A statement as its file declares it.
#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) parameters: Parameters,
    pub(crate) answer: StatementAnswer,
    /// How it is run, such as `read`.
    pub(crate) mode: String,
    /// What is done by it, such as `ReadSession`.
    pub(crate) action: String,
    /// Why it doesn't bind the end user, or the tenant.
    pub(crate) unbound: Option<Unbound>,
    pub(crate) docs: Vec<String>,
    pub(crate) sql: String,
}

/// A statement's parameters.
#[derive(Debug)]
pub(crate) enum Parameters {
    Own(Vec<(String, SqlType)>),
    /// Those of another statement of the file.
    Like(String),
}

/// What a statement answers.
#[derive(Debug)]
pub(crate) enum StatementAnswer {
    Nothing,
    Column(String, SqlType),
    Row(String),
}

/// The reason for which a statement doesn't bind the caller.
#[derive(Debug)]
pub(crate) enum Unbound {
    EachUsers(String),
    EachTenants(String),
}

/// The files of a directory, by name and text.
pub(crate) fn read(directory: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("can't read {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            files.push((name, fs::read_to_string(&path)?));
        }
    }
    files.sort();
    Ok(files)
}

/// A file, by name and text.
pub(crate) fn read_file(path: &Path) -> Result<(String, String)> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    Ok((name.into_owned(), text))
}

/// The modules of files, which are given by name and text.
pub(crate) fn modules(files: &[(String, String)]) -> Result<Vec<Module>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut all_rows = Vec::new();
    let mut found = Vec::new();
    for (name, text) in files {
        let (rows, template) = split_rows(text).with_context(|| format!("in {name}.sql"))?;
        all_rows.extend(rows.iter().cloned());
        environment.add_template_owned(format!("{name}.sql"), template)?;
        found.push((name, rows));
    }
    for row in &all_rows {
        environment.add_global(row.name.clone(), column_list(row, &all_rows)?);
    }
    let mut modules = Vec::new();
    for (name, rows) in found {
        let in_file = || format!("in {name}.sql");
        let text = environment
            .get_template(&format!("{name}.sql"))?
            .render(())
            .with_context(in_file)?;
        let (docs, statements) = split_statements(&text).with_context(in_file)?;
        modules.push(Module {
            name: name.clone(),
            docs,
            rows,
            statements,
        });
    }
    Ok(modules)
}

/// The row of that name.
pub(crate) fn find_row<'a>(rows: impl IntoIterator<Item = &'a RowShape>, name: &str) -> Result<&'a RowShape> {
    let mut rows = rows.into_iter();
    rows.find(|row| row.name == name)
        .with_context(|| format!("there is no row {name:?}"))
}

/// A row's columns as SQL, each under its name.
fn column_list(row: &RowShape, rows: &[RowShape]) -> Result<String> {
    let mut columns = Vec::new();
    for part in &row.parts {
        columns.push(match part {
            RowPart::Nested { row, .. } => column_list(find_row(rows, row)?, rows)?,
            RowPart::Column { name, expression, .. } => {
                if expression.rsplit('.').next() == Some(name) {
                    expression.clone()
                } else {
                    format!("{expression} AS {name}")
                }
            }
        });
    }
    Ok(columns.join(", "))
}

/// The rows that a file declares, and the text without them.
fn split_rows(text: &str) -> Result<(Vec<RowShape>, String)> {
    let mut rows: Vec<RowShape> = Vec::new();
    let mut rest = String::new();
    for line in text.lines() {
        let Some(declaration) = line.strip_prefix("--:") else {
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        if declaration.starts_with("   ") {
            let row = rows.last_mut().context("a column without a row before it")?;
            row.parts.push(row_part(declaration.trim())?);
        } else {
            let name = declaration.trim();
            let borrowed = name.strip_prefix('&');
            rows.push(RowShape {
                name: borrowed.unwrap_or(name).to_owned(),
                is_borrowed: borrowed.is_some(),
                parts: Vec::new(),
            });
        }
    }
    Ok((rows, rest))
}

/// `title text = coalesce(title, '')`, or `message: Message?`.
fn row_part(text: &str) -> Result<RowPart> {
    let (declared, expression) = match text.split_once(" = ") {
        Some((declared, expression)) => (declared, Some(expression)),
        None => (text, None),
    };
    if let Some((name, row)) = declared.split_once(": ") {
        return Ok(RowPart::Nested {
            name: name.to_owned(),
            row: row.trim_end_matches('?').to_owned(),
            is_optional: row.ends_with('?'),
        });
    }
    let (name, sql_type) = typed(declared)?;
    Ok(RowPart::Column {
        expression: expression.unwrap_or(&name).to_owned(),
        name,
        sql_type,
    })
}

/// `name type`.
fn typed(text: &str) -> Result<(String, SqlType)> {
    let mut words = text.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(name), Some(sql_type), None) => Ok((name.to_owned(), SqlType::parse(sql_type)?)),
        _ => bail!("{text:?} should be a name and a type"),
    }
}

/// A file's own comment, and its statements.
fn split_statements(text: &str) -> Result<(Vec<String>, Vec<Declared>)> {
    // A header may go on in further lines, which are indented.
    let text = text.replace("\n--!  ", " ");
    let mut parts = text.split("\n--! ");
    let head = parts.next().unwrap_or_default();
    let docs = head.lines().filter_map(comment).collect();
    let statements = parts.map(|part| {
        let name = part
            .split(|c: char| !c.is_alphanumeric())
            .next()
            .unwrap_or_default();
        declared(part).with_context(|| format!("in the statement {name}"))
    });
    Ok((docs, statements.collect::<Result<_>>()?))
}

/// The text of a line that is a comment.
fn comment(line: &str) -> Option<String> {
    let text = line.trim_start().strip_prefix("--")?;
    Some(text.strip_prefix(' ').unwrap_or(text).to_owned())
}

fn declared(part: &str) -> Result<Declared> {
    let (header, body) = part
        .split_once("\n--? ")
        .context("has no line that begins with --?")?;
    let (signature, answer) = match header.split_once(" -> ") {
        Some((signature, answer)) => (signature, answer.trim()),
        None => (header, ""),
    };
    let (name, parameters) = signature_of(signature.trim())?;
    let answer = match answer
        .strip_prefix('(')
        .and_then(|answer| answer.strip_suffix(')'))
    {
        Some(column) => {
            let (name, sql_type) = typed(column)?;
            StatementAnswer::Column(name, sql_type)
        }
        None if answer.is_empty() => StatementAnswer::Nothing,
        None => StatementAnswer::Row(answer.to_owned()),
    };
    let (how, body) = body.split_once('\n').context("has no text")?;
    let (how, unbound) = match how.split_once(", ") {
        Some((how, reason)) => (how, Some(unbound(reason)?)),
        None => (how, None),
    };
    let (mode, action) = how
        .split_once(' ')
        .context("--? needs how it is run, and what is done")?;
    let docs: Vec<String> = body.lines().map_while(comment).collect();
    ensure!(!docs.is_empty(), "has no comment that says what it is for");
    let lines = body.lines().skip(docs.len());
    let sql: Vec<&str> = lines
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && comment(line).is_none())
        .collect();
    Ok(Declared {
        name,
        parameters,
        answer,
        mode: mode.to_owned(),
        action: action.to_owned(),
        unbound,
        docs,
        sql: sql.join("\n"),
    })
}

/// `Name`, `Name(a text, b int8)` or `Name like Other`.
fn signature_of(text: &str) -> Result<(String, Parameters)> {
    if let Some((name, other)) = text.split_once(" like ") {
        return Ok((name.to_owned(), Parameters::Like(other.to_owned())));
    }
    let Some((name, list)) = text.split_once('(') else {
        return Ok((text.to_owned(), Parameters::Own(Vec::new())));
    };
    let list = list
        .strip_suffix(')')
        .context("the list of parameters has no end")?;
    let parameters = list.split(',').map(typed).collect::<Result<_>>()?;
    Ok((name.to_owned(), Parameters::Own(parameters)))
}

fn unbound(reason: &str) -> Result<Unbound> {
    if let Some(reason) = reason.strip_prefix("each user's, since ") {
        return Ok(Unbound::EachUsers(reason.to_owned()));
    }
    match reason.strip_prefix("each tenant's, since ") {
        Some(reason) => Ok(Unbound::EachTenants(reason.to_owned())),
        None => bail!("{reason:?} should begin with \"each user's, since\" or \"each tenant's, since\""),
    }
}

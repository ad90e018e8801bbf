//! Compares two catalogs.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::Serialize;

use crate::catalog::{ObjectKey, ObjectKind, SchemaObject};
use crate::program::LateConstraint;

/// A difference: one thing that isn't as the migrations make it.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The kind of thing that differs.
    pub kind: ObjectKind,
    /// The thing's table; empty for what is in none, such as functions.
    pub table: String,
    /// The thing's name; empty for tables.
    pub name: String,
    /// The definition by the migrations; `None`: they don't make the thing.
    pub expected: Option<String>,
    /// The definition in the database; `None`: the thing isn't there.
    pub found: Option<String>,
}

impl Difference {
    fn new(key: &ObjectKey, expected: Option<&SchemaObject>, found: Option<&SchemaObject>) -> Difference {
        let value = |thing: Option<&SchemaObject>| thing.map(|thing| thing.value.clone());
        Difference {
            kind: key.kind,
            table: key.table.clone(),
            name: key.name.clone(),
            expected: value(expected),
            found: value(found),
        }
    }

    /// Whether the thing's definition has many lines.
    fn is_long(&self) -> bool {
        matches!(
            self.kind,
            ObjectKind::Function | ObjectKind::View | ObjectKind::MaterializedView
        )
    }

    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey {
            kind: self.kind,
            table: self.table.clone(),
            name: self.name.clone(),
        }
    }
}

/// The difference in one line.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(f, "{}: ", self.key())?;
        match (&self.expected, &self.found) {
            (Some(_), None) if self.kind == ObjectKind::Table => f.write_str("is missing"),
            (Some(expected), None) => write!(f, "is missing; expected {}", line(expected)),
            (None, Some(found)) => write!(f, "no migration makes it; found {}", line(found)),
            (Some(expected), Some(found)) if self.is_long() => write!(
                f,
                "is different; expected {}; found {}",
                first_difference(expected, found),
                first_difference(found, expected)
            ),
            (expected, found) => write!(
                f,
                "is different; expected {}; found {}",
                line(expected.as_deref().unwrap_or_default()),
                line(found.as_deref().unwrap_or_default())
            ),
        }
    }
}

/// The first line of a text that the other hasn't at the same place.
fn first_difference(text: &str, other: &str) -> String {
    let lines = text
        .lines()
        .zip(other.lines().map(Some).chain(std::iter::repeat(None)));
    let found = lines
        .enumerate()
        .find(|(_, (line, other))| Some(*line) != *other)
        .map(|(number, (line, _))| format!("in line {}: {}", number + 1, line.trim()));
    found.unwrap_or_else(|| "nothing more".to_owned())
}

/// All differences, in the order of what is expected, and then what is too much. People's own tables, and what is in no
/// table, are none.
pub(crate) fn compare(
    expected: &[SchemaObject],
    found: &[SchemaObject],
    late: Option<&LateConstraint>,
) -> Vec<Difference> {
    let by_key = |things: &'_ [SchemaObject]| -> HashMap<ObjectKey, usize> {
        things
            .iter()
            .enumerate()
            .map(|(i, thing)| (thing.key.clone(), i))
            .collect()
    };
    let (wanted, there) = (by_key(expected), by_key(found));
    let mut differences = Vec::new();
    for thing in expected {
        let other = there.get(&thing.key).map(|&i| &found[i]);
        if other.is_none_or(|other| !is_same(thing, other, late)) {
            differences.push(Difference::new(&thing.key, Some(thing), other));
        }
    }
    let mut tables: HashSet<&str> = expected.iter().map(|thing| thing.key.table.as_str()).collect();
    tables.remove("");
    for thing in found {
        let is_ours = tables.contains(thing.key.table.as_str());
        if is_ours && !wanted.contains_key(&thing.key) {
            differences.push(Difference::new(&thing.key, None, Some(thing)));
        }
    }
    without_consequences(differences)
}

/// Whether both things are defined alike. A late constraint is validated by `up` once it can be.
fn is_same(expected: &SchemaObject, found: &SchemaObject, late: Option<&LateConstraint>) -> bool {
    let waits = late.is_some_and(|late| expected.key.name == late.name)
        && found.value.strip_suffix(" NOT VALID") == Some(expected.value.as_str());
    expected.value == found.value || waits
}

/// A table that is missing has no columns either, and a column no default.
fn without_consequences(differences: Vec<Difference>) -> Vec<Difference> {
    let one_sided = |kind: ObjectKind| -> HashSet<(String, String)> {
        differences
            .iter()
            .filter(|it| it.kind == kind && (it.expected.is_none() || it.found.is_none()))
            .map(|it| (it.table.clone(), it.name.clone()))
            .collect()
    };
    let (tables, columns) = (one_sided(ObjectKind::Table), one_sided(ObjectKind::Column));
    let is_cause = |it: &Difference| {
        let of_column = matches!(it.kind, ObjectKind::Default | ObjectKind::NotNull);
        let of_table = it.kind != ObjectKind::Table;
        !(of_table && tables.contains(&(it.table.clone(), String::new()))
            || of_column && columns.contains(&(it.table.clone(), it.name.clone())))
    };
    differences.iter().filter(|it| is_cause(it)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(kind: ObjectKind, table: &str, name: &str, value: &str) -> SchemaObject {
        let key = ObjectKey {
            kind,
            table: table.into(),
            name: name.into(),
        };
        SchemaObject {
            key,
            value: value.into(),
            adding: String::new(),
        }
    }

    fn lines(expected: &[SchemaObject], found: &[SchemaObject]) -> Vec<String> {
        compare(expected, found, None)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_is_missing_is_too_much_or_is_different_is_named_once() {
        let expected = [
            thing(ObjectKind::Table, "gone", "", ""),
            thing(ObjectKind::Column, "gone", "a", "text"),
            thing(ObjectKind::Table, "t", "", ""),
            thing(ObjectKind::Column, "t", "a", "text"),
            thing(ObjectKind::NotNull, "t", "a", "NOT NULL"),
            thing(ObjectKind::Column, "t", "b", "text"),
            thing(ObjectKind::Function, "", "f()", "one\ntwo"),
        ];
        let found = [
            thing(ObjectKind::Table, "t", "", ""),
            thing(ObjectKind::Column, "t", "b", "integer"),
            thing(ObjectKind::Column, "t", "c", "text"),
            thing(ObjectKind::Default, "t", "c", "1"),
            thing(ObjectKind::Table, "theirs", "", ""),
            thing(ObjectKind::Function, "", "f()", "one\nthree"),
            thing(ObjectKind::Function, "", "theirs()", ""),
        ];
        assert_eq!(
            lines(&expected, &found),
            [
                "table gone: is missing",
                "column t.a: is missing; expected text",
                "column t.b: is different; expected text; found integer",
                "function f(): is different; expected in line 2: two; found in line 2: three",
                "column t.c: no migration makes it; found text",
            ]
        );
        assert!(compare(&expected, &expected, None).is_empty());
    }
}

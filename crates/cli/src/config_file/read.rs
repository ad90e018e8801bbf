//! The file itself, which is read as a whole: every mistake is told, each with its line. A value is checked as its flag's
//! would be. What may be secret isn't quoted.

use std::{collections::BTreeMap, fs, path::Path};

use chatledger::watched::line_at;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Mistakes,
    keys::{Key, Keys, Meaning, ValueKind},
};

/// A value of the file.
#[derive(Clone, Debug)]
pub(super) struct FileValue {
    /// Where its key is.
    pub line: usize,
    /// What the flag would be given: one, but for lists.
    pub values: Vec<String>,
}

/// The values of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct FileValues {
    /// By key.
    pub values: BTreeMap<String, FileValue>,
    /// The files that secrets are in, by the secrets' keys.
    pub secret_files: BTreeMap<String, FileValue>,
}

impl FileValues {
    /// Reads a file. What is wrong with it goes to `mistakes`.
    pub(super) fn read(path: &Path, keys: &Keys, mistakes: &mut Mistakes) -> Self {
        match fs::read_to_string(path) {
            Ok(text) => {
                let mut reader = FileReader {
                    path,
                    text: &text,
                    keys,
                    mistakes,
                    found: FileValues::default(),
                };
                reader.read();
                reader.found
            }
            Err(error) => {
                mistakes.add(format!("--config {}: can't read it: {error}", path.display()));
                FileValues::default()
            }
        }
    }
}

struct FileReader<'a> {
    path: &'a Path,
    text: &'a str,
    keys: &'a Keys,
    mistakes: &'a mut Mistakes,
    found: FileValues,
}

impl FileReader<'_> {
    fn read(&mut self) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            self.wrong(offset, None, error.message());
        }
        if !errors.is_empty() {
            return;
        }
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(word, _)| word.span().start);
        for (word, value) in entries {
            self.entry(word.get_ref(), word.span().start, value);
        }
        for (key, file) in &self.found.secret_files {
            if self.found.values.contains_key(key) {
                let text = format!("{key} and {key}-file are both given, and only one may be");
                let line = file.line;
                self.mistakes.add_at(self.path, line, &text);
            }
        }
    }

    fn entry(&mut self, word: &str, offset: usize, value: &Spanned<DeValue<'_>>) {
        let keys = self.keys;
        let line = line_at(self.text, offset);
        if value.get_ref().is_table() {
            let reason = "is a table: keys are written without one, as max-requests = 1024";
            return self.wrong(offset, Some(word), reason);
        }
        match keys.meaning(word) {
            Ok(Meaning::Key(key)) => match texts(key, value.get_ref()) {
                Ok(values) => {
                    self.found
                        .values
                        .insert(word.to_owned(), FileValue { line, values });
                }
                Err(reason) => self.wrong(offset, Some(word), &reason),
            },
            Ok(Meaning::SecretFile(secret)) => match value.get_ref().as_str() {
                Some(path) => {
                    let values = vec![path.to_owned()];
                    let value = FileValue { line, values };
                    self.found.secret_files.insert(secret.to_owned(), value);
                }
                None => self.wrong(offset, Some(word), &must_be(ValueKind::Text, value.get_ref())),
            },
            Err(reason) => self.wrong(offset, Some(word), &reason),
        }
    }

    fn wrong(&mut self, offset: usize, key: Option<&str>, reason: &str) {
        let line = line_at(self.text, offset);
        match key {
            Some(key) => self.mistakes.add_at(self.path, line, &format!("{key}: {reason}")),
            None => self.mistakes.add_at(self.path, line, reason),
        }
    }
}

/// What the flag would be given.
fn texts(key: &Key, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let values = match value {
        DeValue::Array(values) if key.is_list => {
            let texts = values.iter().map(|value| text(key.kind, value.get_ref()));
            texts.collect::<Result<Vec<_>, _>>()?
        }
        DeValue::Array(_) => return Err(must_be(key.kind, value)),
        value => vec![text(key.kind, value)?],
    };
    for value in &values {
        if key.is_list
            && let Some(delimiter) = key.delimiter
            && value.contains(delimiter)
        {
            return Err(format!("{value:?}: a list is written [\"one\", \"other\"]"));
        }
        key.check(value)?;
    }
    Ok(values)
}

fn text(kind: ValueKind, value: &DeValue<'_>) -> Result<String, String> {
    match (kind, value) {
        (ValueKind::Boolean, DeValue::Boolean(is)) => Ok(is.to_string()),
        (ValueKind::Text, DeValue::String(text)) => Ok(text.to_string()),
        (ValueKind::Number, DeValue::Integer(number)) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|error| error.to_string()),
        (ValueKind::Number, DeValue::Float(number)) => Ok(number.as_str().to_owned()),
        (kind, value) => Err(must_be(kind, value)),
    }
}

fn must_be(kind: ValueKind, value: &DeValue<'_>) -> String {
    let is = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("must be {}, and is {is}", kind.wanted())
}

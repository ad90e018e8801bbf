//! The keys that a configuration file may have: the flags of all commands that have a variable, by their names without
//! dashes, and `…-file` for those that are secret. A flag without a variable says what one run of a command is to do, which
//! is no setting.

use std::{any::TypeId, collections::BTreeMap};

use chatledger::config::Secret;
use clap::{Arg, ArgAction, Command, builder::ValueParser, error::ContextKind, error::ContextValue};

/// How near a key has to be to be what somebody may have meant, from 0 to 1: `max-request` is, `colour` is near nothing.
const NEAR: f64 = 0.8;

/// What a key's value is in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueKind {
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// A text in quotes.
    Text,
}

impl ValueKind {
    fn of(arg: &Arg) -> Self {
        let id = arg.get_value_parser().type_id();
        let is = |ids: &[TypeId]| ids.iter().any(|one| id == *one);
        if !arg.get_action().takes_values() || is(&[TypeId::of::<bool>()]) {
            ValueKind::Boolean
        } else if is(&[
            TypeId::of::<u8>(),
            TypeId::of::<u16>(),
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<i64>(),
            TypeId::of::<f64>(),
        ]) {
            ValueKind::Number
        } else {
            ValueKind::Text
        }
    }

    /// As an error says it.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            ValueKind::Boolean => "true or false",
            ValueKind::Number => "a number",
            ValueKind::Text => "a text in quotes",
        }
    }
}

/// A key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    /// What its value is.
    pub kind: ValueKind,
    /// Whether its value may be a list.
    pub is_list: bool,
    /// Whether its value is never shown.
    pub is_secret: bool,
    /// The variable.
    pub variable: String,
    /// What it is for, as `--help` says it.
    pub help: String,
    /// What is between the values of a list, in a flag or variable.
    pub(super) delimiter: Option<char>,
    parser: ValueParser,
}

impl Key {
    /// What a flag is in a file. Nothing, where it has no variable.
    pub(crate) fn of(arg: &Arg) -> Option<Self> {
        let variable = arg.get_env()?.to_str()?.to_owned();
        Some(Key {
            kind: ValueKind::of(arg),
            is_list: matches!(arg.get_action(), ArgAction::Append),
            is_secret: is_secret(arg),
            variable,
            help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            delimiter: arg.get_value_delimiter(),
            parser: arg.get_value_parser().clone(),
        })
    }

    /// Whether the flag would take a text.
    pub(super) fn check(&self, text: &str) -> Result<(), String> {
        let arg = Arg::new("value")
            .long("value")
            .value_parser(self.parser.clone())
            .action(ArgAction::Set);
        let command = Command::new("value").no_binary_name(true).arg(arg);
        let taken = command.try_get_matches_from([format!("--value={text}")]);
        taken.map(drop).map_err(|error| self.reason(text, &error))
    }

    fn reason(&self, text: &str, error: &clap::Error) -> String {
        if self.is_secret {
            return "can't be used".to_owned();
        }
        let reason = std::error::Error::source(error).map(ToString::to_string);
        let valid = match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(valid)) if !valid.is_empty() => {
                Some(format!("must be one of {}", valid.join(", ")))
            }
            _ => None,
        };
        let reason = reason.or(valid).unwrap_or_else(|| "can't be used".to_owned());
        format!("{text:?}: {reason}")
    }
}

/// Whether what a flag takes is never shown.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<Secret>()
}

/// The keys that there are.
pub(crate) struct Keys {
    keys: BTreeMap<String, Key>,
    /// Flags that are said on the command line only.
    flags: BTreeMap<String, String>,
}

/// What a word at the beginning of a line is.
pub(super) enum Meaning<'a> {
    /// A key.
    Key(&'a Key),
    /// The key that names the file with a secret: the key of the secret, and itself.
    SecretFile(&'a str),
}

impl Keys {
    /// The keys of a program's commands.
    pub(crate) fn of(program: &Command) -> Self {
        let mut keys = Keys {
            keys: BTreeMap::new(),
            flags: BTreeMap::new(),
        };
        keys.add(program, "");
        keys
    }

    fn add(&mut self, command: &Command, above: &str) {
        for arg in command.get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            match Key::of(arg) {
                Some(key) if arg.get_id() != super::CONFIG => {
                    self.keys.insert(long.to_owned(), key);
                }
                _ => {
                    let flag = format!("{above}{} --{long}", command.get_name());
                    self.flags.entry(long.to_owned()).or_insert(flag);
                }
            }
        }
        let above = format!("{above}{} ", command.get_name());
        for command in command.get_subcommands() {
            self.add(command, &above);
        }
    }

    /// Each key with its name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Key)> {
        self.keys.iter().map(|(name, key)| (name.as_str(), key))
    }

    /// What a word is, or what is wrong with it.
    pub(super) fn meaning<'a>(&'a self, word: &'a str) -> Result<Meaning<'a>, String> {
        if let Some(key) = self.keys.get(word) {
            return Ok(Meaning::Key(key));
        }
        if let Some(secret) = word.strip_suffix("-file")
            && self.keys.get(secret).is_some_and(|key| key.is_secret)
        {
            return Ok(Meaning::SecretFile(secret));
        }
        if let Some(flag) = self.flags.get(word) {
            return Err(format!("is no setting: it is said on the command line ({flag})"));
        }
        Err(match self.nearest(word) {
            Some(nearest) => format!("there is no such key; did you mean {nearest}?"),
            None => "there is no such key".to_owned(),
        })
    }

    fn nearest(&self, word: &str) -> Option<String> {
        let word = word.trim_start_matches('-').replace('_', "-").to_lowercase();
        let secrets = self.keys.iter().filter(|(_, key)| key.is_secret);
        let files = secrets.map(|(name, _)| format!("{name}-file"));
        let names = self.keys.keys().cloned().chain(files);
        names
            .map(|name| (strsim::jaro_winkler(&word, &name), name))
            .filter(|(nearness, _)| *nearness >= NEAR)
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn settings<'a>(command: &'a Command, found: &mut Vec<(&'a str, Key)>) {
        for arg in command.get_arguments() {
            found.extend(arg.get_long().zip(Key::of(arg)));
        }
        for below in command.get_subcommands() {
            settings(below, found);
        }
    }

    #[test]
    fn a_key_means_the_same_in_all_commands() {
        let program = crate::Cli::command();
        let mut found = Vec::new();
        settings(&program, &mut found);
        assert!(found.len() > 100, "{}", found.len());
        for (name, key) in &found {
            for (other, other_key) in &found {
                let (is_same, has_same) = (name == other, key.variable == other_key.variable);
                assert_eq!(is_same, has_same, "{name} and {other}");
                let form = |key: &Key| (key.kind, key.is_list, key.is_secret);
                assert!(!is_same || form(key) == form(other_key), "{name}");
            }
        }
    }
}

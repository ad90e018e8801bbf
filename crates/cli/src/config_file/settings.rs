//! What a command was given in the end, and where each value is from.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use chatledger_postgres::url::DatabaseUrl;
use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use super::{GivenDefaults, Key, ValueKind, keys};

/// What is shown instead of a secret.
const HIDDEN: &str = "[hidden]";

/// Where a value is from, the strongest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SettingSource {
    /// The command line.
    Flag,
    /// A variable, by its name.
    Variable(String),
    /// The configuration file.
    File {
        /// Where in it.
        line: usize,
    },
    /// The program.
    Default,
    /// There is no value.
    Unset,
}

/// A flag with its value.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The flag without dashes.
    pub name: String,
    /// What `--help` lists it under.
    pub heading: Option<String>,
    /// What `--help` calls its value.
    pub placeholder: Option<String>,
    /// Whether `--help` has it.
    pub is_listed: bool,
    /// What it is.
    pub key: Key,
    /// Where the values are from.
    pub source: SettingSource,
    /// The value that the program has by itself.
    pub default: Option<String>,
    values: Vec<String>,
}

impl Setting {
    fn of(arg: &Arg, key: Key, matches: &ArgMatches, defaults: &GivenDefaults) -> Option<Self> {
        let name = arg.get_long()?.to_owned();
        let id = arg.get_id().as_str();
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => SettingSource::Flag,
            Some(ValueSource::EnvVariable) => SettingSource::Variable(key.variable.clone()),
            Some(_) => match defaults.get(&name) {
                Some(given) => given.source.clone(),
                None => SettingSource::Default,
            },
            None => SettingSource::Unset,
        };
        let raw = matches.get_raw(id).into_iter().flatten();
        let default = arg.get_default_values().first();
        let default = default.map(|value| value.to_string_lossy().into_owned());
        let is_off = key.kind == ValueKind::Boolean;
        let placeholder = arg.get_value_names().and_then(|names| names.first());
        Some(Setting {
            name,
            heading: arg.get_help_heading().map(ToOwned::to_owned),
            placeholder: placeholder.map(ToString::to_string),
            is_listed: !arg.is_hide_set(),
            default: default.or_else(|| is_off.then(|| "false".to_owned())),
            key,
            source,
            values: raw.map(OsStr::to_string_lossy).map(Into::into).collect(),
        })
    }

    /// The values, without what is secret.
    pub(crate) fn shown(&self) -> Vec<String> {
        let show = |value: &String| {
            if self.key.is_secret {
                shown_secret(value)
            } else {
                shown_text(value)
            }
        };
        self.values.iter().map(show).collect()
    }

    /// The value as TOML has it, without what is secret.
    pub(crate) fn toml(&self) -> String {
        let shown = self.shown();
        let mut texts = shown.iter().map(|value| literal(self.key.kind, value));
        if self.key.is_list {
            return format!("[{}]", texts.collect::<Vec<_>>().join(", "));
        }
        texts.next().unwrap_or_default()
    }
}

/// A value in TOML.
pub(crate) fn literal(kind: ValueKind, value: &str) -> String {
    match kind {
        // Both languages quote the same way, but for the rarest of characters.
        ValueKind::Text => serde_json::Value::from(value).to_string(),
        ValueKind::Boolean | ValueKind::Number => value.to_owned(),
    }
}

/// Where a database is; nothing of any other secret.
fn shown_secret(value: &str) -> String {
    match DatabaseUrl::parse(value) {
        Ok(url) => format!("postgres://{HIDDEN}@{}", url.display()),
        Err(_) => HIDDEN.to_owned(),
    }
}

/// A text, but for the user, the password and the parameters of a URL.
fn shown_text(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.to_owned();
    };
    let rest = match rest.rsplit_once('@') {
        Some((_, place)) => format!("{HIDDEN}@{place}"),
        None => rest.to_owned(),
    };
    match rest.split_once('?') {
        Some((place, _)) => format!("{scheme}://{place}?{HIDDEN}"),
        None => format!("{scheme}://{rest}"),
    }
}

/// All that a command was given.
#[derive(Clone, Debug)]
pub(crate) struct GivenSettings {
    /// The configuration file.
    file: Option<PathBuf>,
    /// In the order of `--help`.
    settings: Vec<Setting>,
}

impl GivenSettings {
    pub(super) fn of(
        program: &Command,
        matches: &ArgMatches,
        defaults: &GivenDefaults,
        file: Option<PathBuf>,
    ) -> Self {
        let (mut command, mut matches) = (program, matches);
        while let Some((name, below)) = matches.subcommand() {
            let Some(found) = command.find_subcommand(name) else {
                break;
            };
            (command, matches) = (found, below);
        }
        let args = command
            .get_arguments()
            .filter(|arg| arg.get_id() != super::CONFIG);
        let settings = args
            .filter_map(|arg| {
                let key = keys::Key::of(arg)?;
                Setting::of(arg, key, matches, defaults)
            })
            .collect();
        GivenSettings { file, settings }
    }

    /// The configuration file, if there is one.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// An error that begins with a flag, with the file and the line before it where the flag's value is from there.
    pub(crate) fn locate(&self, error: anyhow::Error) -> anyhow::Error {
        let text = format!("{error:#}");
        let flag = text
            .strip_prefix("--")
            .and_then(|rest| rest.split([' ', ':']).next());
        let setting = flag.and_then(|flag| self.settings.iter().find(|setting| setting.name == flag));
        match (&self.file, setting.map(|setting| &setting.source)) {
            (Some(file), Some(SettingSource::File { line })) => {
                anyhow::anyhow!("{} line {line}: {text}", file.display())
            }
            _ => error,
        }
    }

    /// How those of another run of the same command differ: each that does, as it is here and there.
    pub(crate) fn changed<'a>(
        &'a self,
        other: &'a GivenSettings,
    ) -> impl Iterator<Item = (&'a Setting, &'a Setting)> {
        let pairs = self.settings.iter().zip(&other.settings);
        pairs.filter(|(here, there)| here.values != there.values)
    }

    /// Takes a setting of another run's, which is in use now.
    pub(crate) fn take(&mut self, other: &Setting) {
        let same = self
            .settings
            .iter_mut()
            .find(|setting| setting.name == other.name);
        if let Some(setting) = same {
            setting.clone_from(other);
        }
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.settings.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        for (secret, shown) in [
            (
                "postgres://u:hunter2@h/d?sslmode=require",
                "postgres://[hidden]@h",
            ),
            ("postgres://u:hun@ter2@h/d", "[hidden]"),
            ("cl_hunter2", "[hidden]"),
        ] {
            let text = shown_secret(secret);
            assert!(text.starts_with(shown) && !text.contains("ter2"), "{text}");
        }
        for (text, shown) in [
            ("english", "english"),
            (
                "https://u:hunter2@h/keys?token=hunter2",
                "https://[hidden]@h/keys?[hidden]",
            ),
            ("https://h/keys", "https://h/keys"),
        ] {
            assert_eq!(shown_text(text), shown);
        }
    }
}

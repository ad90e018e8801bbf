//! The configuration file (`--config`). Its values become the defaults of the flags, so that flags and variables win over
//! them, and each goes where the flag's would.
//!
//! - [`keys`]: which keys there are.
//! - [`mod@read`]: the file, with every mistake in it.
//! - [`secrets`]: secrets in files of their own.
//! - [`settings`]: what a command was given in the end, and where each value is from.

mod keys;
mod read;
mod secrets;
mod settings;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

use clap::{Arg, Command, CommandFactory, FromArgMatches, builder::Resettable};

pub(crate) use keys::{Key, Keys, ValueKind};
pub(crate) use settings::{GivenSettings, Setting, SettingSource, literal};

use super::Cli;
use read::FileValues;

/// The flag of the file, and its variable.
const CONFIG: &str = "config";
const CONFIG_VARIABLE: &str = "CHATLEDGER_CONFIG";

/// Flags that one variable more gives a value to: where that is set, the file's value is no default any more.
const OTHER_VARIABLES: &[(&str, &str)] = &[("database-url", "NEON_DATABASE_URL")];

/// What the program was called with. Loading it again reads the files again.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    args: Vec<OsString>,
}

/// What was to be done, with all that it was given.
pub(crate) struct Loaded {
    /// The command.
    pub cli: Cli,
    /// What it was given.
    pub settings: GivenSettings,
}

/// Why nothing could be loaded.
pub(crate) enum LoadError {
    /// The command line or a variable; or it only asks for help.
    CommandLine(Box<clap::Error>),
    /// The configuration file, or a file with a secret.
    Files(Mistakes),
}

/// What is wrong with files: a line each, none of which quotes a secret.
#[derive(Debug, Default)]
pub(crate) struct Mistakes(Vec<String>);

impl Mistakes {
    pub(crate) fn add(&mut self, mistake: impl fmt::Display) {
        self.0.push(mistake.to_string());
    }

    fn add_at(&mut self, file: &Path, line: usize, mistake: &str) {
        self.add(format_args!("{} line {line}: {mistake}", file.display()));
    }

    /// What was found, as an error where it is something.
    ///
    /// # Errors
    /// It is something.
    pub(crate) fn none(self) -> Result<(), Mistakes> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// A line each.
    pub(crate) fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Mistakes {}

/// A default of a flag that isn't the program's.
#[derive(Clone, Debug)]
struct GivenDefault {
    values: Vec<String>,
    source: SettingSource,
}

type GivenDefaults = BTreeMap<String, GivenDefault>;

impl Invocation {
    /// What `args` ask for; the first is the program's name.
    pub(crate) fn new(args: impl IntoIterator<Item = OsString>) -> Self {
        Invocation {
            args: args.into_iter().collect(),
        }
    }

    /// Reads the command line, the variables and the files.
    ///
    /// # Errors
    /// One of them can't be used.
    pub(crate) fn load(&self) -> Result<Loaded, LoadError> {
        let program = Cli::command();
        let (command, path) = self.look_ahead(&program);
        let defaults = match given_defaults(&program, command, path.as_deref()) {
            Ok(defaults) => defaults,
            // Who asks for help gets it, whatever the file is like.
            Err(mistakes) => {
                return Err(match program.try_get_matches_from(&self.args) {
                    Err(error) if !error.use_stderr() => LoadError::CommandLine(Box::new(error)),
                    _ => LoadError::Files(mistakes),
                });
            }
        };
        let plain = program.clone();
        let mut program = with_defaults(program, &defaults);
        let matches = program
            .try_get_matches_from_mut(&self.args)
            .map_err(|error| LoadError::CommandLine(Box::new(error)))?;
        let cli = Cli::from_arg_matches(&matches)
            .map_err(|error| LoadError::CommandLine(Box::new(error.format(&mut program))))?;
        let settings = GivenSettings::of(&plain, &matches, &defaults, path);
        Ok(Loaded { cli, settings })
    }

    /// The command that is asked for, and the configuration file. clap says both only once it has all, defaults included;
    /// that the line is a right one is found then.
    fn look_ahead<'a>(&self, program: &'a Command) -> (&'a Command, Option<PathBuf>) {
        let mut command = program;
        let mut path = None;
        let mut args = self.args.iter().skip(1).take_while(|arg| *arg != "--");
        while let Some(arg) = args.next() {
            let text = arg.to_str().unwrap_or_default();
            if text == "--config" {
                path = args.next().map(PathBuf::from);
            } else if let Some(given) = text.strip_prefix("--config=") {
                path = Some(PathBuf::from(given));
            } else if let Some(below) = command.find_subcommand(arg) {
                command = below;
            }
        }
        let path = path.or_else(|| secrets::variable(CONFIG_VARIABLE).map(PathBuf::from));
        (command, path)
    }
}

/// The defaults that aren't the program's: those of the file, and secrets in files of their own.
fn given_defaults(
    program: &Command,
    command: &Command,
    path: Option<&Path>,
) -> Result<GivenDefaults, Mistakes> {
    let mut mistakes = Mistakes::default();
    let file = match path {
        Some(path) => FileValues::read(path, &Keys::of(program), &mut mistakes),
        None => FileValues::default(),
    };
    let mut defaults: GivenDefaults = file
        .values
        .iter()
        .map(|(key, value)| {
            let source = SettingSource::File { line: value.line };
            let values = value.values.clone();
            (key.clone(), GivenDefault { values, source })
        })
        .collect();
    for arg in command.get_arguments().filter(|arg| keys::is_secret(arg)) {
        match secret_default(arg, &file, path) {
            Ok(Some((key, default))) => drop(defaults.insert(key, default)),
            Ok(None) => {}
            Err(mistake) => mistakes.add(mistake),
        }
    }
    for (key, variable) in OTHER_VARIABLES {
        let is_given = [(*variable).to_owned(), secrets::file_variable(variable)];
        let is_given = is_given.iter().any(|name| secrets::variable(name).is_some());
        let is_of_file = |given: &GivenDefault| matches!(given.source, SettingSource::File { .. });
        if is_given && defaults.get(*key).is_some_and(is_of_file) {
            defaults.remove(*key);
        }
    }
    mistakes.none().map(|()| defaults)
}

/// A secret that is in a file of its own.
fn secret_default(
    arg: &Arg,
    file: &FileValues,
    path: Option<&Path>,
) -> Result<Option<(String, GivenDefault)>, String> {
    let (Some(long), Some(name)) = (arg.get_long(), arg.get_env().and_then(OsStr::to_str)) else {
        return Ok(None);
    };
    let default = |text, source| {
        let values = vec![text];
        Some((long.to_owned(), GivenDefault { values, source }))
    };
    if let Some(secret) = secrets::of_variable(name)? {
        return Ok(default(
            secret,
            SettingSource::Variable(secrets::file_variable(name)),
        ));
    }
    let Some(named) = file.secret_files.get(long) else {
        return Ok(None);
    };
    let secret_path = named.values.first().map_or(Path::new(""), Path::new);
    match secrets::read(secret_path) {
        Ok(secret) => Ok(default(secret, SettingSource::File { line: named.line })),
        Err(reason) => Err(format!(
            "{} line {}: {long}-file: {}: {reason}",
            path.unwrap_or(Path::new("")).display(),
            named.line,
            secret_path.display()
        )),
    }
}

/// The program with other defaults, and with empty variables as if they weren't set.
fn with_defaults(command: Command, defaults: &GivenDefaults) -> Command {
    let command = command.mut_args(|arg| {
        let Some(variable) = arg.get_env() else {
            return arg;
        };
        let is_empty = std::env::var_os(variable).is_some_and(|value| value.is_empty());
        let arg = if is_empty { arg.env(Resettable::Reset) } else { arg };
        match arg.get_long().and_then(|long| defaults.get(long)) {
            Some(given) => {
                let is_secret = keys::is_secret(&arg);
                let arg = if is_secret {
                    arg.hide_default_value(true)
                } else {
                    arg
                };
                arg.required(false).default_values(given.values.clone())
            }
            None => arg,
        }
    });
    command.mut_subcommands(|below| with_defaults(below, defaults))
}

//! `chatledger config`: what `serve` would be given, without serving.

use std::{collections::BTreeMap, path::Path};

use chatledger::{
    config::ServeConfig,
    telemetry::{TelemetrySettings, Variables},
};
use clap::{Args, CommandFactory, Subcommand};
use serde_json::{Value, json};

use super::{
    Cli,
    config_file::{GivenSettings, Key, Keys, Mistakes, Setting, SettingSource, ValueKind, literal},
    logs::parse_filter,
    output::{say, show},
};

/// The width from which on comments aren't below each other any more: a long path would move all of them out of sight.
const WIDEST: usize = 48;

/// How the example begins.
const EXAMPLE: &str = "\
# The settings of chatledger. A flag or a variable wins over what is written here. The values are the defaults:
# take the # away from a line to change one. `chatledger config check` says what is wrong.
";

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check flags, variables and the file, and the files that they name; nothing is connected to
    Check(ServeFlags),
    /// Show every value, and where it is from; secrets are hidden
    Show(ShowArgs),
    /// Write a file with all keys, each with what it is for, to be filled in
    Example(ServeFlags),
}

/// What `serve` takes.
#[derive(Debug, Args)]
pub(super) struct ServeFlags {
    #[command(flatten)]
    serve: Box<ServeConfig>,
}

/// How to show it.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Answer in JSON, one document on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ServeFlags,
}

pub(super) fn run(command: &ConfigCommand, settings: &GivenSettings) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(flags) => check(&flags.serve, settings),
        ConfigCommand::Show(args) if args.json => {
            say!("{:#}", as_json(settings));
            Ok(())
        }
        ConfigCommand::Show(_) => {
            show!("{}", as_toml(settings));
            Ok(())
        }
        ConfigCommand::Example(_) => {
            show!("{}", example(settings, &Keys::of(&Cli::command())));
            Ok(())
        }
    }
}

fn check(config: &ServeConfig, settings: &GivenSettings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut mistakes = Mistakes::default();
    if let Err(mistake) = parse_filter(&config.log_filter) {
        mistakes.add(format_args!("{mistake:#}"));
    }
    if let Err(mistake) = TelemetrySettings::read(&Variables::of_process()) {
        mistakes.add(format_args!("{mistake:#}"));
    }
    runtime.block_on(async {
        for mistake in config.mistakes().into_iter().chain(config.mistakes_in_files()) {
            mistakes.add(format_args!("{mistake:#}"));
        }
    });
    mistakes.none()?;
    let of_file = |setting: &&Setting| matches!(setting.source, SettingSource::File { .. });
    match settings.file() {
        Some(file) => say!(
            "{}: nothing is wrong; serve takes {} of its values from it",
            file.display(),
            settings.iter().filter(of_file).count()
        ),
        None => say!("nothing is wrong; no file is given (--config, CHATLEDGER_CONFIG)"),
    }
    Ok(())
}

/// The headings in the order of `--help`, with what is under them.
fn by_heading(settings: &GivenSettings) -> Vec<(&str, Vec<&Setting>)> {
    let mut headings: Vec<&str> = Vec::new();
    let mut under: BTreeMap<&str, Vec<&Setting>> = BTreeMap::new();
    for setting in settings.iter().filter(|setting| setting.is_listed) {
        let heading = setting.heading.as_deref().unwrap_or("Server");
        if !headings.contains(&heading) {
            headings.push(heading);
        }
        under.entry(heading).or_default().push(setting);
    }
    let take = |heading| (heading, under.remove(heading).unwrap_or_default());
    headings.into_iter().map(take).collect()
}

/// A file that would say the same, but for secrets, with a comment on each line.
fn as_toml(settings: &GivenSettings) -> String {
    let parts = by_heading(settings).into_iter().map(|(heading, settings)| {
        let rows: Vec<(String, String)> = settings
            .into_iter()
            .map(|setting| {
                let line = match setting.source {
                    SettingSource::Unset => format!("# {} =", setting.name),
                    _ => format!("{} = {}", setting.name, setting.toml()),
                };
                (line, source_words(&setting.source))
            })
            .collect();
        let widths = rows.iter().map(|(line, _)| line.chars().count());
        let width = widths.max().unwrap_or_default().min(WIDEST);
        let rows = rows
            .iter()
            .map(|(line, source)| format!("{line:width$}  # {source}\n"));
        format!("# {heading}\n{}", rows.collect::<String>())
    });
    parts.collect::<Vec<_>>().join("\n")
}

fn source_words(source: &SettingSource) -> String {
    match source {
        SettingSource::Flag => "flag".to_owned(),
        SettingSource::Variable(name) => format!("variable {name}"),
        SettingSource::File { line } => format!("file, line {line}"),
        SettingSource::Default => "default".to_owned(),
        SettingSource::Unset => "not set".to_owned(),
    }
}

fn as_json(settings: &GivenSettings) -> Value {
    let settings_json: Vec<Value> = settings.iter().map(setting_json).collect();
    json!({ "file": settings.file().map(Path::to_string_lossy), "settings": settings_json })
}

fn setting_json(setting: &Setting) -> Value {
    let one = |text: &String| match setting.key.kind {
        ValueKind::Text => Value::from(text.as_str()),
        // What a flag has parsed as one of these is JSON as well; if it isn't, it is shown as it is.
        ValueKind::Boolean | ValueKind::Number => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()))
        }
    };
    let shown = setting.shown();
    let value = match setting.source {
        SettingSource::Unset => Value::Null,
        _ if setting.key.is_list => shown.iter().map(one).collect(),
        _ => shown.first().map_or(Value::Null, one),
    };
    let mut json = json!({
        "key": setting.name,
        "value": value,
        "secret": setting.key.is_secret,
        "source": match &setting.source {
            SettingSource::Flag => "flag",
            SettingSource::Variable(_) => "variable",
            SettingSource::File { .. } => "file",
            SettingSource::Default => "default",
            SettingSource::Unset => "unset",
        },
    });
    match &setting.source {
        SettingSource::Variable(name) => json["variable"] = Value::from(name.as_str()),
        SettingSource::File { line } => json["line"] = Value::from(*line),
        _ => {}
    }
    json
}

/// All keys, each commented out, with the program's defaults; at the end those that other commands have.
fn example(settings: &GivenSettings, keys: &Keys) -> String {
    let mut parts = vec![EXAMPLE.to_owned()];
    for (heading, settings) in by_heading(settings) {
        parts.push(format!("## {heading}\n"));
        parts.extend(settings.into_iter().map(|setting| {
            let (placeholder, default) = (setting.placeholder.as_deref(), setting.default.as_deref());
            example_of(&setting.name, &setting.key, placeholder, default)
        }));
    }
    parts.push("## Other commands\n".to_owned());
    let others = keys
        .iter()
        .filter(|(name, _)| settings.iter().all(|setting| setting.name != *name));
    parts.extend(others.map(|(name, key)| example_of(name, key, None, None)));
    parts.join("\n")
}

fn example_of(name: &str, key: &Key, placeholder: Option<&str>, default: Option<&str>) -> String {
    let value = match (default, key.kind) {
        (Some(default), kind) => literal(kind, default),
        (None, ValueKind::Boolean) => "false".to_owned(),
        (None, ValueKind::Number) => "1".to_owned(),
        (None, ValueKind::Text) => literal(key.kind, placeholder.unwrap_or("…")),
    };
    let value = if key.is_list { format!("[{value}]") } else { value };
    // What has no default stays a comment when the # is taken away from every line that sets something.
    let mark = if default.is_some() { "#" } else { "# " };
    let text = format!("# {} ({})\n{mark}{name} = {value}\n", key.help, key.variable);
    if key.is_secret {
        return format!("{text}# {name}-file = \"FILE\"\n");
    }
    text
}

//! SIGHUP: the settings are read again. What can change while the server runs does: the files that are watched, and the log's
//! filter. One line of the log says what has changed, and what waits for a restart.

use chatledger::watched::{LookOutcome, Looks};
use tokio::task;
use tracing_subscriber::EnvFilter;

use super::{
    CliCommand,
    config_file::{GivenSettings, Invocation, LoadError, Loaded, Mistakes, Setting, SettingSource},
    logs::{LogFilter, parse_filter},
    signals::ReloadSignal,
};

/// What its lines are of, in the log.
pub(super) const TARGET: &str = module_path!();

/// The setting that can be changed.
const LOG_FILTER: &str = "log-filter";

/// What a running server has of its settings.
pub(super) struct Reload {
    /// What it was started with.
    pub invocation: Invocation,
    /// What is in use.
    pub running: GivenSettings,
    /// The files that are watched.
    pub looks: Looks,
    /// What the log is filtered by.
    pub log_filter: LogFilter,
}

/// Settings that could be in use.
struct NewSettings {
    settings: GivenSettings,
    filter: EnvFilter,
}

impl Reload {
    /// Reads the settings again as often as that is asked for. For ever.
    pub(super) async fn follow(mut self, mut signal: ReloadSignal) {
        loop {
            signal.asked().await;
            let invocation = self.invocation.clone();
            // A file system may take its time.
            let loaded = match task::spawn_blocking(move || load(&invocation)).await {
                Ok(loaded) => loaded,
                Err(error) => Err(error.into()),
            };
            match loaded {
                Ok(new) => self.take(new).await,
                Err(error) => tracing::error!(
                    error = format!("{error:#}"),
                    "SIGHUP: the settings can't be used, and nothing was changed"
                ),
            }
        }
    }

    async fn take(&mut self, new: NewSettings) {
        let NewSettings { settings, filter } = new;
        let mut done = Outcome::default();
        let changed: Vec<(Setting, Setting)> = self
            .running
            .changed(&settings)
            .map(|(old, new)| (old.clone(), new.clone()))
            .collect();
        for (old, new) in changed {
            if new.name != LOG_FILTER {
                done.waiting.push(words(&old, &new));
                continue;
            }
            match self.log_filter.set(filter.clone()) {
                Ok(()) => {
                    done.in_use.push(words(&old, &new));
                    self.running.take(&new);
                }
                Err(error) => done.refused.push(format!("{error:#}")),
            }
        }
        for outcome in self.looks.now().await {
            match outcome {
                LookOutcome::Same => {}
                LookOutcome::InUse(files) => done.in_use.push(files),
                LookOutcome::Refused(error) => done.refused.push(error),
            }
        }
        done.tell();
    }
}

/// Reads everything, and checks it as at boot.
fn load(invocation: &Invocation) -> anyhow::Result<NewSettings> {
    let Loaded { cli, settings } = invocation.load().map_err(|error| match error {
        LoadError::Files(mistakes) => anyhow::Error::from(mistakes),
        LoadError::CommandLine(error) => anyhow::Error::from(error),
    })?;
    let CliCommand::Serve(config) = cli.command else {
        anyhow::bail!("the command line isn't that of serve");
    };
    let mut mistakes = Mistakes::default();
    for mistake in config.mistakes() {
        mistakes.add(format_args!("{mistake:#}"));
    }
    mistakes.none()?;
    let filter = parse_filter(&config.log_filter)?;
    Ok(NewSettings { settings, filter })
}

/// A change, without what is secret.
fn words(old: &Setting, new: &Setting) -> String {
    if new.key.is_secret {
        return new.name.clone();
    }
    let value = |setting: &Setting| match setting.source {
        SettingSource::Unset => "not set".to_owned(),
        _ => setting.shown().join(","),
    };
    format!("{} ({} -> {})", new.name, value(old), value(new))
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    in_use: Vec<String>,
    waiting: Vec<String>,
    refused: Vec<String>,
}

impl Outcome {
    fn tell(&self) {
        let list = |what: &[String]| match what {
            [] => "nothing".to_owned(),
            what => what.join(", "),
        };
        let (in_use, needs_restart) = (list(&self.in_use), list(&self.waiting));
        if self.refused.is_empty() {
            tracing::info!(in_use, needs_restart, "SIGHUP: the settings were read again");
        } else {
            let refused = self.refused.join("; ");
            tracing::warn!(
                in_use,
                needs_restart,
                refused,
                "SIGHUP: the settings were read again, and some of them can't be used: what was in use stays"
            );
        }
    }
}

//! What goes on, to stderr: a spinner on a terminal, else a line for each thing that ends, and now and then one for
//! what takes long.

use std::{
    io::{IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use chatledger_migrate::{MigrationEvent, MigrationListener};

/// How often a line says that something still goes on.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// Shows what goes on.
pub(super) struct MigrateProgress {
    spinner: Option<ProgressBar>,
    /// What goes on, and how long it had when a line last said so.
    current: Arc<Mutex<(String, Duration)>>,
}

impl MigrateProgress {
    pub fn start() -> MigrateProgress {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
            // A template of ours, which is well-formed.
            ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        MigrateProgress {
            spinner,
            current: Arc::default(),
        }
    }

    /// Who tells this.
    pub fn listener(&self) -> Box<MigrationListener> {
        let (spinner, current) = (self.spinner.clone(), Arc::clone(&self.current));
        Box::new(move |event| {
            let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
            let say = |line: String| match &spinner {
                Some(spinner) => spinner.suspend(|| write_line(&line)),
                None => write_line(&line),
            };
            match event {
                MigrationEvent::Began(what) => {
                    *current = (what.clone(), Duration::ZERO);
                    if let Some(spinner) = &spinner {
                        spinner.enable_steady_tick(TURN);
                        spinner.reset_elapsed();
                        spinner.set_message(what.clone());
                    }
                }
                MigrationEvent::Running { elapsed, detail } => {
                    let detail = detail
                        .as_ref()
                        .map(|detail| format!(": {detail}"))
                        .unwrap_or_default();
                    match &spinner {
                        Some(spinner) => spinner.set_message(format!("{}{detail}", current.0)),
                        None if *elapsed >= current.1 + LINE_EVERY => {
                            current.1 = *elapsed;
                            write_line(&format!("{}{detail} (for {} s)", current.0, elapsed.as_secs()));
                        }
                        None => {}
                    }
                }
                MigrationEvent::Retrying { reason, pause } => {
                    say(format!(
                        "{}: {reason}; again in {} ms",
                        current.0,
                        pause.as_millis()
                    ));
                }
                MigrationEvent::Note(note) => say(format!("{}: {note}", current.0)),
                MigrationEvent::Done(elapsed) => say(format!("{} ({} ms)", current.0, elapsed.as_millis())),
            }
        })
    }

    /// Leaves the terminal to what is printed next.
    pub fn clear(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// A line on stderr, whether or not anybody reads it: a migration isn't broken off for that.
fn write_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

//! The program `chatledger`: its commands, one file each, over the service ([`chatledger`]), moving in and out
//! ([`chatledger_transfer`]), migrations ([`chatledger_migrate`]) and the load tester ([`chatledger_bench`]). A command reads
//! its flags, makes one call, and shows what it answers.
//!
//! - `serve`, `import`, `export`, `erase`, `schema`, `bench`, `reports`, `key` and `migrate` are the commands, each with its flags.
//! - `config_file` is the file of settings, whose values become the flags' defaults, and `config_command` shows what comes of it.
//! - `doctor` shows what [`chatledger_doctor`] finds.
//! - `look` has the commands for people at a terminal, which are clients of a server: `sessions`, `messages`, `watch`, `search`,
//!   `health`; `server_target` is the server that they, and the load tester, talk to.
//! - `reload` reads the settings of a running server again.
//! - `target` is the database that a command is about, of a URL or embedded; `database` reads or fills it past any pooler.
//! - `logs` is the log, `output` what goes to stdout, `signals` how a command hears that it is to stop, `operator` what is kept
//!   of what a command did.
//!
//! What it promises: 0 where all went well, 1 with one line on stderr where it didn't (one for each mistake in a configuration
//! file), 2 for a wrong command line. The whole
//! program is tested over a real socket and a real PostgreSQL, in `tests/it` at the top.

mod bench;
mod config_command;
mod config_file;
mod database;
mod doctor;
mod erase;
mod export;
mod import;
mod key;
mod logs;
mod look;
mod migrate;
mod operator;
mod output;
mod reload;
mod reports;
mod schema;
mod serve;
mod server_target;
mod signals;
mod target;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use chatledger::config::ServeConfig;
use config_file::{GivenSettings, Invocation, LoadError, Loaded, Mistakes};
use logs::last_words;

/// Keeps the users, sessions, messages and citations of RAG chatbots in PostgreSQL, over gRPC.
#[derive(Debug, Parser)]
#[command(name = "chatledger", version, about, propagate_version = true)]
struct Cli {
    /// Settings in a TOML file: flags that have a variable, by their names without dashes. Flags and variables win over it
    #[arg(long, env = "CHATLEDGER_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Serve gRPC
    Serve(Box<ServeConfig>),
    /// Copy what other schemas, or an export, hold into the ledger; it can be stopped and run again
    Import(Box<import::ImportArgs>),
    /// Write a user's or a session's data, or everything, as lines of JSON
    Export(Box<export::ExportArgs>),
    /// Erase a person: the user's row, profile, sessions and messages, and what is kept of them
    Erase(Box<erase::EraseArgs>),
    /// Write the tables as models for other tools: SQL, Prisma, SQLAlchemy
    Schema(Box<schema::SchemaArgs>),
    /// Measure a server: its throughput, its latencies, and whether it keeps what it acknowledges
    #[command(subcommand)]
    Bench(Box<bench::BenchCommand>),
    /// Look after what reports keep
    #[command(subcommand)]
    Reports(Box<reports::ReportsCommand>),
    /// Look after the keys of services: create, list, revoke, rotate
    #[command(subcommand)]
    Key(Box<key::KeyCommand>),
    /// Look at what `serve` is given: check it, show where each value is from, write an example of a file
    #[command(subcommand)]
    Config(Box<config_command::ConfigCommand>),
    /// Look at the database as a server would use it: what is well, what isn't, and what to do
    Doctor(Box<doctor::DoctorArgs>),
    /// List the sessions of a user, or of nobody
    Sessions(Box<look::sessions::SessionsArgs>),
    /// Show a conversation, or the newest of it
    Messages(Box<look::messages::MessagesArgs>),
    /// Follow a conversation as it goes on
    Watch(Box<look::watch::SessionWatchArgs>),
    /// Search messages by their words
    Search(Box<look::search::SearchArgs>),
    /// Ask a server whether it serves; for probes
    Health(Box<look::health::HealthArgs>),
    /// Look after the schema: status, up, down, verify and more
    Migrate(Box<migrate::MigrateArgs>),
}

/// Runs the program. The exit code is 0, 1 for what went wrong, 2 for a wrong command line.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let invocation = Invocation::new(args);
    // Reading settings takes a moment, in which a service manager may ask for them to be read again.
    signals::hold_hangups();
    let done = match invocation.load() {
        Ok(Loaded { cli, settings }) => {
            let located = settings.clone();
            let done = cli.run(&invocation, settings);
            done.map_err(|error| located.locate(error))
        }
        Err(LoadError::Files(mistakes)) => Err(mistakes.into()),
        Err(LoadError::CommandLine(error)) => error.exit(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let lines = match error.downcast_ref::<Mistakes>() {
                Some(mistakes) => mistakes.lines().to_vec(),
                None => vec![format!("{error:#}")],
            };
            let lines = lines.iter().map(|line| format!("chatledger: {line}"));
            last_words(lines.collect::<Vec<_>>().join("\n"));
            ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn run(self, invocation: &Invocation, settings: GivenSettings) -> anyhow::Result<()> {
        if !matches!(self.command, CliCommand::Serve(_)) {
            signals::release_hangups();
        }
        match self.command {
            CliCommand::Serve(config) => serve::run(&config, invocation, settings),
            CliCommand::Import(import) => import::run(&import),
            CliCommand::Export(export) => export::run(&export),
            CliCommand::Erase(args) => erase::run(&args),
            CliCommand::Schema(schema) => schema::run(&schema),
            CliCommand::Bench(bench) => bench::run(*bench),
            CliCommand::Reports(command) => reports::run(&command),
            CliCommand::Key(command) => key::run(&command),
            CliCommand::Doctor(args) => doctor::run(&args),
            CliCommand::Sessions(args) => look::sessions::run(&args),
            CliCommand::Messages(args) => look::messages::run(&args),
            CliCommand::Watch(args) => look::watch::run(&args),
            CliCommand::Search(args) => look::search::run(&args),
            CliCommand::Health(args) => look::health::run(&args),
            CliCommand::Config(command) => config_command::run(&command, &settings),
            CliCommand::Migrate(args) => migrate::run(*args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_of_all_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_set_is_refused_with_the_ones_that_there_are() {
        assert!(Cli::try_parse_from(["chatledger", "migrate", "up", "--set", "chat"]).is_ok());
        let error = Cli::try_parse_from(["chatledger", "migrate", "up", "--set", "chats"]);
        let error = error.expect_err("no such set").to_string();
        assert!(
            error.contains("access, auth, chat, link, search, rls, own"),
            "{error}"
        );
    }
}

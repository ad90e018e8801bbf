//! `chatledger bench`: flags, and what surrounds a measurement: the server, Ctrl-C, the report's files.

mod append;
mod compare;
mod growth;
mod watch;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch as signal;

use super::{output::show, server_target::open_target, signals::StopSignals};
use chatledger::config::Secret;
use chatledger_bench::{
    BenchProgress, BenchReport, ContentSizes, Halt, OwnServer, Parties, Workload, WorkloadOptions,
    create_sessions, delete_sessions, report_page, report_summary,
};
use chatledger_client::{ServerChannel, ServerTarget};

/// What `bench` does.
#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Append messages, as fast as they are answered or at a rate, and check that all are there
    Append(append::AppendArgs),
    /// Append at a rate, and measure how soon those who watch get each message
    Watch(watch::WatchArgs),
    /// Compare the service with what an application would do itself, on one database
    Compare(compare::CompareArgs),
    /// Measure what appends and lists cost as messages gather, beside an empty table
    Growth(growth::GrowthArgs),
}

pub(super) fn run(bench: BenchCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let halt = listen()?;
        match bench {
            BenchCommand::Append(args) => append::run(args, &halt).await,
            BenchCommand::Watch(args) => watch::run(args, &halt).await,
            BenchCommand::Compare(args) => Box::pin(compare::run(args, &halt)).await,
            BenchCommand::Growth(args) => Box::pin(growth::run(args, &halt)).await,
        }
    })
}

/// Ctrl-C ends the measurement, and what was measured is shown; a second one ends the process.
fn listen() -> anyhow::Result<Halt> {
    let mut stop = StopSignals::listen()?;
    let (sender, receiver) = signal::channel(false);
    tokio::spawn(async move {
        stop.asked().await;
        eprintln!("stopping; once more to quit at once, without cleaning up");
        sender.send_replace(true);
        stop.insisted().await;
    });
    Ok(Halt::new(receiver))
}

/// Which server.
#[derive(Debug, Args)]
struct ServerArgs {
    /// The server, as http://HOST:PORT or https://HOST:PORT; without one, a server of its own is started
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// The authority of the server's certificate, in PEM [default: those that the system knows]
    #[arg(long, value_name = "FILE", requires = "target")]
    tls_ca: Option<PathBuf>,
    /// The API key or token that every call has
    #[arg(long, env = "CHATLEDGER_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<Secret>,
    /// Where the programs of its own server's PostgreSQL are [default: wherever they are found]
    #[arg(long, env = "CHATLEDGER_PG_BIN", value_name = "DIR")]
    pg_bin: Option<PathBuf>,
}

/// The server that is measured.
struct BenchSubject {
    target: ServerTarget,
    parties: Parties,
    own: Option<OwnServer>,
}

impl BenchSubject {
    async fn open(args: &ServerArgs, halt: &Halt) -> anyhow::Result<Self> {
        if let Some(url) = &args.target {
            return Ok(BenchSubject {
                target: open_target(url, args.tls_ca.as_deref(), None, args.api_key.as_ref())?,
                parties: Parties::default(),
                own: None,
            });
        }
        let progress = BenchProgress::waiting("starting a server");
        let own = halt.unless_asked(OwnServer::start(args.pg_bin.clone())).await?;
        progress.clear();
        Ok(BenchSubject {
            target: own.target.clone(),
            parties: own.parties,
            own: Some(own),
        })
    }

    /// Runs a measurement over the workload's sessions, and deletes them afterwards where they would stay.
    async fn with_sessions<T>(
        &self,
        workload: &Workload,
        keep: bool,
        halt: &Halt,
        measurement: impl AsyncFnOnce(&ServerChannel) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let channel = self.target.connect().await?;
        let progress = BenchProgress::waiting("creating sessions");
        let created = halt.unless_asked(create_sessions(&channel, workload)).await;
        progress.clear();
        let result = match created {
            Ok(()) => measurement(&channel).await,
            Err(error) => Err(error),
        };
        if self.own.is_some() || keep {
            return result;
        }
        let progress = BenchProgress::waiting("deleting the sessions");
        let deleted = delete_sessions(&channel, workload).await;
        progress.clear();
        both(result, deleted)
    }

    /// Stops the server, if it is ours.
    async fn close(self) -> anyhow::Result<()> {
        match self.own {
            Some(own) => own.stop().await,
            None => Ok(()),
        }
    }

    /// What it was, for the report.
    fn name(&self) -> String {
        match self.own {
            Some(_) => "a server of its own".to_owned(),
            None => self.target.url(),
        }
    }
}

/// What to send.
#[derive(Debug, Args)]
struct WorkloadArgs {
    /// How many sessions messages go to
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sessions: u32,
    /// How long contents are: a number of bytes, uniform:MIN..MAX, or lognormal:MEDIAN,SIGMA
    #[arg(long, value_name = "SIZES", default_value = "512")]
    content_bytes: ContentSizes,
    /// How many citations a message has
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100))]
    citations: u32,
    /// Two runs with one seed send the same contents to the same places
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl WorkloadArgs {
    fn options(&self) -> WorkloadOptions {
        WorkloadOptions {
            seed: self.seed,
            sessions: self.sessions as usize,
            content: self.content_bytes,
            citations: self.citations as usize,
        }
    }

    fn settings(&self) -> BTreeMap<&'static str, Value> {
        BTreeMap::from([
            ("sessions", self.sessions.into()),
            ("content_bytes", self.content_bytes.to_string().into()),
            ("citations", self.citations.into()),
            ("seed", self.seed.into()),
        ])
    }
}

/// Where the report goes besides stdout.
#[derive(Debug, Args)]
struct OutputArgs {
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl OutputArgs {
    /// A mistaken path is told before the measurement, not after it.
    fn check(&self) -> anyhow::Result<()> {
        check_file("--json", self.json.as_deref())?;
        check_file("--html", self.html.as_deref())
    }

    fn write(&self, report: &BenchReport) -> anyhow::Result<()> {
        show!("{}", report_summary(report));
        write_json(self.json.as_deref(), report)?;
        if let Some(file) = &self.html {
            fs::write(file, report_page(report)).with_context(|| format!("--html {}", file.display()))?;
        }
        Ok(())
    }
}

fn check_file(flag: &str, file: Option<&Path>) -> anyhow::Result<()> {
    if let Some(file) = file {
        let opened = fs::OpenOptions::new().append(true).create(true).open(file);
        opened.with_context(|| format!("{flag} {}", file.display()))?;
    }
    Ok(())
}

fn write_json(file: Option<&Path>, report: &impl Serialize) -> anyhow::Result<()> {
    if let Some(file) = file {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        fs::write(file, text).with_context(|| format!("--json {}", file.display()))?;
    }
    Ok(())
}

/// The first failure counts; the second one would hide it.
fn both<T>(result: anyhow::Result<T>, closed: anyhow::Result<()>) -> anyhow::Result<T> {
    let value = result?;
    closed?;
    Ok(value)
}

/// Messages a second.
fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (0.01..=10_000_000.0).contains(rate))
        .ok_or_else(|| "must be a number of messages a second, from 0.01 to 10000000".to_owned())
}

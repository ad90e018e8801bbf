//! `chatledger migrate`: flags, the call, and what is printed ([`mod@print`]; progress: [`progress`]).

mod adopt;
mod print;
mod progress;

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;
use clap::{
    Args, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
};

use super::{logs::Logs, target::CommandTarget};
use chatledger::{
    config::{LogFormat, Secret, SourceConfig, duration},
    migrations::{self, PROGRAM, Scope},
};
use chatledger_migrate::{Backup, LockPolicy, Migrator, RehearsalCopy, SetName, Settings, Until, new_files};
use chatledger_postgres::connect::Connector;
use progress::MigrateProgress;

/// What is logged where RUST_LOG says nothing: the commands tell what they do themselves.
const DEFAULT_LOG: &str = "warn,refinery_core=off";

/// `chatledger migrate`.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(subcommand)]
    command: MigrateCommand,
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// Show how far each set is, what is pending, and whether history and files agree
    Status(CommonArgs),
    /// List every migration, applied or pending
    History(CommonArgs),
    /// Apply what is pending
    Up(UpArgs),
    /// Take back what was applied, newest first; one migration, unless told otherwise
    Down(DownArgs),
    /// Write a new migration of your own, and its way back, to be filled in
    New(NewArgs),
    /// Record that all up to a version was applied, and nothing above it, without running anything
    Stamp(StampArgs),
    /// Print the SQL that `up` would run, and run nothing
    Plan(PlanArgs),
    /// Compare the database with what its migrations make
    Verify(VerifyArgs),
    /// Apply what is pending to a copy, and report durations, locks and whether all is well afterwards
    Rehearse(RehearseArgs),
    /// Convert another schema's tables where they are, in one transaction; the old ones are kept
    Adopt(adopt::AdoptArgs),
}

fn set_parser() -> impl TypedValueParser<Value = SetName> {
    let names = PROGRAM.sets.iter().map(|set| set.as_str());
    PossibleValuesParser::new(names).try_map(|name| PROGRAM.parse_set(&name))
}

/// What all commands take.
#[derive(Debug, Args)]
struct CommonArgs {
    /// Which of the embedded migrations
    #[arg(long, env = "CHATLEDGER_SCOPE", value_enum, default_value_t = Scope::All)]
    scope: Scope,
    /// Only this set
    #[arg(long, value_parser = set_parser(), value_name = "SET")]
    set: Option<SetName>,
    /// A directory of your own migrations, which run after the embedded ones
    #[arg(long, env = "CHATLEDGER_MIGRATIONS_DIR", value_name = "DIR")]
    migrations_dir: Option<PathBuf>,
    /// Answer in JSON, one document on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceConfig,
}

/// How far.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct RangeArgs {
    /// Until this version is the newest; for `down`, 0 is before the first
    #[arg(long, value_name = "V", value_parser = clap::value_parser!(i64).range(0..))]
    to: Option<i64>,
    /// So many migrations
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
}

impl RangeArgs {
    fn until(&self, otherwise: Until) -> Until {
        match (self.to, self.steps) {
            (Some(version), _) => Until::Version(version),
            (None, Some(steps)) => Until::Steps(steps),
            (None, None) => otherwise,
        }
    }
}

/// Sets that are installed only where they are asked for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OptIn {
    /// The index for searching all messages of a tenant
    Search,
    /// Row-level security, for other programs' roles
    Rls,
}

/// What is pending.
#[derive(Debug, Args)]
struct PendingArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// An optional set to install as well; once there, it is kept up to date like the others
    #[arg(long, value_enum, value_name = "SET")]
    with: Vec<OptIn>,
}

/// How to wait for locks, and what to keep before.
#[derive(Debug, Args)]
struct CareArgs {
    /// The longest wait for a lock, while others queue behind; then make way, and try again
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    lock_timeout: Duration,
    /// How often to try again
    #[arg(long, value_name = "N", default_value_t = 30)]
    lock_retries: usize,
    /// First write a dump of the database to this file, by pg_dump
    #[arg(long, value_name = "FILE")]
    backup: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    pending: PendingArgs,
    #[command(flatten)]
    care: CareArgs,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct DownArgs {
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    care: CareArgs,
    /// Don't ask before rows are dropped
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct NewArgs {
    /// What it is for, such as "add user time zone"
    description: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct StampArgs {
    /// The version; 0: nothing was applied
    #[arg(value_name = "V", value_parser = clap::value_parser!(i64).range(0..))]
    up_to: i64,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct PlanArgs {
    #[command(flatten)]
    pending: PendingArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Where scratch databases are made.
#[derive(Debug, Args)]
struct ScratchArgs {
    /// Make the scratch database on this server (of the same major version), where the role may not on its own
    #[arg(
        long,
        env = "CHATLEDGER_SCRATCH_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    scratch_url: Option<Secret>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    scratch: ScratchArgs,
    /// Print the SQL for what can be mended by adding, instead of the differences
    #[arg(long)]
    fix_plan: bool,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
struct RehearseArgs {
    #[command(flatten)]
    scratch: ScratchArgs,
    /// An optional set to install as well
    #[arg(long, value_enum, value_name = "SET")]
    with: Vec<OptIn>,
    /// A copy that exists, such as a branch; without it, one is made by pg_dump and dropped
    #[arg(long, value_name = "URL")]
    branch_url: Option<Secret>,
    #[command(flatten)]
    common: CommonArgs,
}

impl MigrateCommand {
    fn common(&self) -> &CommonArgs {
        match self {
            MigrateCommand::Status(common) | MigrateCommand::History(common) => common,
            MigrateCommand::Up(args) => &args.common,
            MigrateCommand::Down(args) => &args.common,
            MigrateCommand::New(args) => &args.common,
            MigrateCommand::Stamp(args) => &args.common,
            MigrateCommand::Plan(args) => &args.common,
            MigrateCommand::Verify(args) => &args.common,
            MigrateCommand::Rehearse(args) => &args.common,
            MigrateCommand::Adopt(args) => &args.common,
        }
    }

    fn with(&self) -> &[OptIn] {
        match self {
            MigrateCommand::Up(UpArgs { pending, .. }) | MigrateCommand::Plan(PlanArgs { pending, .. }) => {
                &pending.with
            }
            MigrateCommand::Rehearse(args) => &args.with,
            _ => &[],
        }
    }

    fn locks(&self) -> LockPolicy {
        match self {
            MigrateCommand::Up(UpArgs { care, .. })
            | MigrateCommand::Down(DownArgs { care, .. })
            | MigrateCommand::Adopt(adopt::AdoptArgs { care, .. }) => LockPolicy {
                timeout: care.lock_timeout,
                retries: care.lock_retries,
            },
            _ => LockPolicy::default(),
        }
    }
}

pub(super) fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let _logs = Logs::start(LogFormat::Text, DEFAULT_LOG);
    let command = args.command;
    if let MigrateCommand::New(args) = &command {
        return new(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(over_database(&command))
}

fn new(args: &NewArgs) -> anyhow::Result<()> {
    let dir = args.common.migrations_dir.as_deref();
    let dir = dir.context(
        "where to? Give --migrations-dir (CHATLEDGER_MIGRATIONS_DIR), for this and the other commands",
    )?;
    let files = new_files(&PROGRAM, dir, &args.description, jiff::Timestamp::now())?;
    print::new(args.common.json, &files)
}

async fn over_database(command: &MigrateCommand) -> anyhow::Result<()> {
    let common = command.common();
    let target = CommandTarget::open(&common.source).await?;
    let result = async {
        let settings = Settings {
            program: &PROGRAM,
            scope: common.scope.sets(),
            only: common.set,
            with: command
                .with()
                .iter()
                .map(|opt_in| match opt_in {
                    OptIn::Search => migrations::SEARCH,
                    OptIn::Rls => migrations::RLS,
                })
                .collect(),
            migrations_dir: common.migrations_dir.clone(),
            patience: common.source.connect_timeout,
            locks: command.locks(),
            pooled: common.source.migrates_pooled(&target.direct_url),
        };
        let connector = Connector::new(&target.direct_url)?;
        let migrator = Migrator::new(connector, settings)?;
        Box::pin(run_command(command, &migrator, &target)).await
    }
    .await;
    let place = target.direct_url.display();
    target.close().await;
    result.with_context(|| format!("database {place}"))
}

async fn run_command(
    command: &MigrateCommand,
    migrator: &Migrator,
    target: &CommandTarget,
) -> anyhow::Result<()> {
    let common = command.common();
    let json = common.json;
    let progress = MigrateProgress::start();
    match command {
        MigrateCommand::Status(_) => print::status(json, &target.place(), &migrator.status().await?),
        MigrateCommand::History(_) => print::history(json, &migrator.history().await?),
        MigrateCommand::Up(args) => {
            let backup = backup(&args.care, migrator, common).await?;
            let until = args.pending.range.until(Until::Head);
            let changes = migrator.up(until, backup.as_ref(), &*progress.listener()).await?;
            progress.clear();
            print::changes(json, "up", &changes)
        }
        MigrateCommand::Down(args) => {
            let backup = backup(&args.care, migrator, common).await?;
            let until = args.range.until(Until::Steps(1));
            let allow = |names: &[String], loses: bool| allow(names, loses, args.yes);
            let listener = progress.listener();
            let changes = migrator.down(until, backup.as_ref(), allow, &*listener).await?;
            progress.clear();
            print::changes(json, "down", &changes)
        }
        MigrateCommand::New(_) => Ok(()), // needs no database, and was dealt with before
        MigrateCommand::Stamp(args) => print::stamped(json, &migrator.stamp(args.up_to).await?),
        MigrateCommand::Plan(args) => {
            let planned = migrator.plan(args.pending.range.until(Until::Head)).await?;
            print::plan(json, &planned)
        }
        MigrateCommand::Verify(args) => {
            let place = scratch(&args.scratch)?;
            let verdict = migrator.verify(place.as_ref(), &*progress.listener()).await?;
            progress.clear();
            print::verdict(json, args.fix_plan, &verdict)
        }
        MigrateCommand::Rehearse(args) => {
            let copy = copy(args, migrator).await?;
            let place = scratch(&args.scratch)?;
            let listener = progress.listener();
            let rehearsal = migrator.rehearse(&copy, place.as_ref(), &*listener).await?;
            progress.clear();
            print::rehearsal(json, &rehearsal)
        }
        MigrateCommand::Adopt(args) => adopt::run(args, migrator, &progress).await,
    }
}

async fn backup(care: &CareArgs, migrator: &Migrator, common: &CommonArgs) -> anyhow::Result<Option<Backup>> {
    let Some(file) = &care.backup else {
        return Ok(None);
    };
    anyhow::ensure!(
        !file.exists(),
        "--backup {}: exists already; it is not overwritten",
        file.display()
    );
    Ok(Some(Backup {
        programs: migrator
            .programs(common.source.pg_bin.as_deref())
            .await
            .context("--backup")?,
        file: file.clone(),
    }))
}

fn scratch(args: &ScratchArgs) -> anyhow::Result<Option<Connector>> {
    let flag = "--scratch-url (CHATLEDGER_SCRATCH_URL)";
    let url = args
        .scratch_url
        .as_ref()
        .map(|url| url.url(flag))
        .transpose()?
        .flatten();
    Ok(url.as_ref().map(Connector::new).transpose()?)
}

async fn copy(args: &RehearseArgs, migrator: &Migrator) -> anyhow::Result<RehearsalCopy> {
    let url = args
        .branch_url
        .as_ref()
        .map(|url| url.url("--branch-url"))
        .transpose()?
        .flatten();
    Ok(match url {
        Some(url) => RehearsalCopy::Branch(Connector::new(&url)?),
        None => RehearsalCopy::Dump(migrator.programs(args.common.source.pg_bin.as_deref()).await?),
    })
}

/// Asks, where rows would be lost.
fn allow(names: &[String], loses: bool, yes: bool) -> anyhow::Result<()> {
    if !loses || yes {
        return Ok(());
    }
    let list = names.join(", ");
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "this would take back {list}, with the rows that they hold: confirm it with --yes"
    );
    eprint!("This takes back {list}, with the rows that they hold. Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    anyhow::ensure!(
        ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()),
        "nothing was changed"
    );
    Ok(())
}

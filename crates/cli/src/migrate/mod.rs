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

use super::{logs::Logs, target::Target};
use chatledger::{
    config::{LogFormat, Secret, SourceConfig, duration},
    migrations::{self, PROGRAM, Scope},
};
use chatledger_migrate::{Backup, Copy, LockPolicy, Migrator, Settings, Until, own, sets::SetName};
use chatledger_postgres::connect::Connector;
use progress::Progress;

/// What is logged where RUST_LOG says nothing: the commands tell what they do themselves.
const DEFAULT_LOG: &str = "warn,refinery_core=off";

/// `chatledger migrate`.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show how far each set is, what is pending, and whether history and files agree
    Status(Common),
    /// List every migration, applied or pending
    History(Common),
    /// Apply what is pending
    Up(Up),
    /// Take back what was applied, newest first; one migration, unless told otherwise
    Down(Down),
    /// Write a new migration of your own, and its way back, to be filled in
    New(New),
    /// Record that all up to a version was applied, and nothing above it, without running anything
    Stamp(Stamp),
    /// Print the SQL that `up` would run, and run nothing
    Plan(Plan),
    /// Compare the database with what its migrations make
    Verify(Verify),
    /// Apply what is pending to a copy, and report durations, locks and whether all is well afterwards
    Rehearse(Rehearse),
    /// Convert another schema's tables where they are, in one transaction; the old ones are kept
    Adopt(adopt::Adopt),
}

fn set_parser() -> impl TypedValueParser<Value = SetName> {
    let names = PROGRAM.sets.iter().map(|set| set.as_str());
    PossibleValuesParser::new(names).try_map(|name| chatledger_migrate::parse_set(&PROGRAM, &name))
}

/// What all commands take.
#[derive(Debug, Args)]
struct Common {
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
struct Range {
    /// Until this version is the newest; for `down`, 0 is before the first
    #[arg(long, value_name = "V", value_parser = clap::value_parser!(i64).range(0..))]
    to: Option<i64>,
    /// So many migrations
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
}

impl Range {
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
}

/// What is pending.
#[derive(Debug, Args)]
struct Pending {
    #[command(flatten)]
    range: Range,
    /// An optional set to install as well; once there, it is kept up to date like the others
    #[arg(long, value_enum, value_name = "SET")]
    with: Vec<OptIn>,
}

/// How to wait for locks, and what to keep before.
#[derive(Debug, Args)]
struct Care {
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
struct Up {
    #[command(flatten)]
    pending: Pending,
    #[command(flatten)]
    care: Care,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Down {
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    care: Care,
    /// Don't ask before rows are dropped
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct New {
    /// What it is for, such as "add user time zone"
    description: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Stamp {
    /// The version; 0: nothing was applied
    #[arg(value_name = "V", value_parser = clap::value_parser!(i64).range(0..))]
    up_to: i64,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Plan {
    #[command(flatten)]
    pending: Pending,
    #[command(flatten)]
    common: Common,
}

/// Where scratch databases are made.
#[derive(Debug, Args)]
struct Scratch {
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
struct Verify {
    #[command(flatten)]
    scratch: Scratch,
    /// Print the SQL for what can be mended by adding, instead of the differences
    #[arg(long)]
    fix_plan: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Rehearse {
    #[command(flatten)]
    scratch: Scratch,
    /// An optional set to install as well
    #[arg(long, value_enum, value_name = "SET")]
    with: Vec<OptIn>,
    /// A copy that exists, such as a branch; without it, one is made by pg_dump and dropped
    #[arg(long, value_name = "URL")]
    branch_url: Option<Secret>,
    #[command(flatten)]
    common: Common,
}

impl Command {
    fn common(&self) -> &Common {
        match self {
            Command::Status(common) | Command::History(common) => common,
            Command::Up(args) => &args.common,
            Command::Down(args) => &args.common,
            Command::New(args) => &args.common,
            Command::Stamp(args) => &args.common,
            Command::Plan(args) => &args.common,
            Command::Verify(args) => &args.common,
            Command::Rehearse(args) => &args.common,
            Command::Adopt(args) => &args.common,
        }
    }

    fn with(&self) -> &[OptIn] {
        match self {
            Command::Up(Up { pending, .. }) | Command::Plan(Plan { pending, .. }) => &pending.with,
            Command::Rehearse(args) => &args.with,
            _ => &[],
        }
    }

    fn locks(&self) -> LockPolicy {
        match self {
            Command::Up(Up { care, .. })
            | Command::Down(Down { care, .. })
            | Command::Adopt(adopt::Adopt { care, .. }) => LockPolicy {
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
    if let Command::New(args) = &command {
        return new(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(over_database(&command))
}

fn new(args: &New) -> anyhow::Result<()> {
    let dir = args.common.migrations_dir.as_deref();
    let dir = dir.context(
        "where to? Give --migrations-dir (CHATLEDGER_MIGRATIONS_DIR), for this and the other commands",
    )?;
    let files = own::new(PROGRAM.name, dir, &args.description, jiff::Timestamp::now())?;
    print::new(args.common.json, &files)
}

async fn over_database(command: &Command) -> anyhow::Result<()> {
    let common = command.common();
    let target = Target::open(&common.source).await?;
    let result = async {
        let settings = Settings {
            program: &PROGRAM,
            scope: common.scope.sets(),
            only: common.set,
            with: command
                .with()
                .iter()
                .map(|OptIn::Search| migrations::SEARCH)
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

async fn run_command(command: &Command, migrator: &Migrator, target: &Target) -> anyhow::Result<()> {
    let common = command.common();
    let json = common.json;
    let progress = Progress::start();
    match command {
        Command::Status(_) => print::status(json, &target.place(), &migrator.status().await?),
        Command::History(_) => print::history(json, &migrator.history().await?),
        Command::Up(args) => {
            let backup = backup(&args.care, migrator, common).await?;
            let until = args.pending.range.until(Until::Head);
            let changes = migrator.up(until, backup.as_ref(), &*progress.listener()).await?;
            progress.clear();
            print::changes(json, "up", &changes)
        }
        Command::Down(args) => {
            let backup = backup(&args.care, migrator, common).await?;
            let until = args.range.until(Until::Steps(1));
            let allow = |names: &[String], loses: bool| allow(names, loses, args.yes);
            let listener = progress.listener();
            let changes = migrator.down(until, backup.as_ref(), allow, &*listener).await?;
            progress.clear();
            print::changes(json, "down", &changes)
        }
        Command::New(_) => Ok(()), // needs no database, and was dealt with before
        Command::Stamp(args) => print::stamped(json, &migrator.stamp(args.up_to).await?),
        Command::Plan(args) => {
            let planned = migrator.plan(args.pending.range.until(Until::Head)).await?;
            print::plan(json, &planned)
        }
        Command::Verify(args) => {
            let place = scratch(&args.scratch)?;
            let verdict = migrator.verify(place.as_ref(), &*progress.listener()).await?;
            progress.clear();
            print::verdict(json, args.fix_plan, &verdict)
        }
        Command::Rehearse(args) => {
            let copy = copy(args, migrator).await?;
            let place = scratch(&args.scratch)?;
            let listener = progress.listener();
            let rehearsal = migrator.rehearse(&copy, place.as_ref(), &*listener).await?;
            progress.clear();
            print::rehearsal(json, &rehearsal)
        }
        Command::Adopt(args) => adopt::run(args, migrator, &progress).await,
    }
}

async fn backup(care: &Care, migrator: &Migrator, common: &Common) -> anyhow::Result<Option<Backup>> {
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

fn scratch(args: &Scratch) -> anyhow::Result<Option<Connector>> {
    let flag = "--scratch-url (CHATLEDGER_SCRATCH_URL)";
    let url = args
        .scratch_url
        .as_ref()
        .map(|url| url.url(flag))
        .transpose()?
        .flatten();
    Ok(url.as_ref().map(Connector::new).transpose()?)
}

async fn copy(args: &Rehearse, migrator: &Migrator) -> anyhow::Result<Copy> {
    let url = args
        .branch_url
        .as_ref()
        .map(|url| url.url("--branch-url"))
        .transpose()?
        .flatten();
    Ok(match url {
        Some(url) => Copy::Branch(Connector::new(&url)?),
        None => Copy::Dump(migrator.programs(args.common.source.pg_bin.as_deref()).await?),
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

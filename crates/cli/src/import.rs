//! `chatledger import`: from other schemas, and from exports.

use std::path::PathBuf;

use anyhow::Context;
use jiff::tz::TimeZone;

use super::{database::DatabaseAccess, logs::Logs, output::show, signals::StopSignals};
use chatledger::{
    config::{DatabaseConfig, LimitFlags, LogFormat, Secret},
    migrations::Scope,
};
use chatledger_postgres::{
    Db,
    connect::{Connector, describe},
    url::DatabaseUrl,
};
use chatledger_transfer::{
    ImportReport, ImportRun, LineSource, Source, SourceLayout, TableSource, TransferProgress, identity,
};

/// A configuration that every PostgreSQL has: an import searches nothing.
const SEARCH_CONFIG: &str = "simple";

/// What to import, and where.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// Where to read: a PostgreSQL URL, a file that `chatledger export` has written, or - for standard input
    #[arg(
        long,
        env = "CHATLEDGER_IMPORT_FROM",
        value_name = "URL|FILE",
        hide_env_values = true
    )]
    from: Secret,
    /// What the source's tables look like
    #[arg(long, value_enum, default_value_t = SourceLayout::Auto)]
    layout: SourceLayout,
    /// What times without an offset mean, such as UTC or Asia/Karachi
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    source_time_zone: TimeZone,
    /// What ids are derived with where keys are integers [default: what PostgreSQL calls the database]
    #[arg(long, value_name = "NAME")]
    source_name: Option<String>,
    /// Where to write all that was left out or changed, as lines of JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// What to keep
    #[arg(long, env = "CHATLEDGER_SCOPE", value_enum, default_value_t = Scope::All)]
    scope: Scope,
    #[command(flatten)]
    database: DatabaseConfig,
    #[command(flatten)]
    limits: LimitFlags,
}

pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|error| error.to_string())
}

pub(super) fn run(args: &ImportArgs) -> anyhow::Result<()> {
    let _logs = Logs::start(LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let agrees = runtime.block_on(async {
        let mut stop = StopSignals::listen()?;
        tokio::select! {
            // Boxed: it holds a chunk of the source.
            done = Box::pin(import(args, args.from.reveal())) => done,
            () = stop.asked() => anyhow::bail!("interrupted; the same command goes on where it was"),
        }
    });
    // Reading standard input can't be given up otherwise.
    runtime.shutdown_background();
    anyhow::ensure!(
        agrees?,
        "the target differs from the source; see the report above"
    );
    Ok(())
}

/// Answers whether both sides agree.
async fn import(args: &ImportArgs, from: &str) -> anyhow::Result<bool> {
    let mut source = open(args, from).await?;
    let located = DatabaseAccess::find(&args.database.source).await?;
    if let Source::Tables(tables) = &source {
        refuse_itself(&located, tables).await?;
        eprintln!(
            "layout {}, keys derived with --source-name {}",
            tables.layout.name(),
            tables.origin.name
        );
    }
    let imported = async {
        let db = located
            .migrated(&args.database, args.scope, SEARCH_CONFIG)
            .await?;
        into(args, &mut source, db).await
    };
    let imported = imported.await;
    located.close().await;
    let report = imported?;
    show!("{report}");
    Ok(report.agrees())
}

async fn open(args: &ImportArgs, from: &str) -> anyhow::Result<Source> {
    if !from.starts_with("postgres://") && !from.starts_with("postgresql://") {
        // Not shown: it may be a mistyped URL.
        anyhow::ensure!(
            !from.contains("://"),
            "--from must be a postgres:// URL, a file, or - for standard input"
        );
        return Ok(Source::Lines(LineSource::open(from).await?));
    }
    let url = DatabaseUrl::parse(from).context("--from")?;
    let zone = args.source_time_zone.clone();
    let tables = TableSource::open(
        &Connector::new(&url)?,
        args.layout,
        args.source_name.clone(),
        zone,
    )
    .await;
    Ok(Source::Tables(
        tables.with_context(|| format!("--from {}", url.display()))?,
    ))
}

async fn refuse_itself(target: &DatabaseAccess, source: &TableSource) -> anyhow::Result<()> {
    let (client, _) = target
        .direct
        .connect()
        .await
        .map_err(|error| anyhow::anyhow!(describe(&error)))?;
    let target = identity(&client).await?;
    anyhow::ensure!(
        target != source.identity,
        "--from and the target (--database-url, DATABASE_URL) are the same database"
    );
    Ok(())
}

async fn into(args: &ImportArgs, source: &mut Source, db: Db) -> anyhow::Result<ImportReport> {
    let report = ImportReport::new(args.report.as_deref())?;
    let progress = TransferProgress::of(source, "importing").await?;
    let mut import = ImportRun::new(db, args.scope, args.limits.limits(), report);
    let done = import.run(source, &progress).await;
    progress.clear();
    done?;
    Ok(import.report)
}

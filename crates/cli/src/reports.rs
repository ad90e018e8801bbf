//! `chatledger reports`: what reports keep.

use chatledger::{
    config::{DatabaseConfig, LogFormat},
    domain::Limits,
    migrations::Scope,
    reports,
    store::{Folded, Store},
};
use clap::{Args, Subcommand};

use super::{
    database::{ANY_SEARCH_CONFIG, DatabaseAccess},
    logs::Logs,
    output::say,
};

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum ReportsCommand {
    /// Forget what reports keep, and count all messages, citations and sessions again
    Rebuild(RebuildArgs),
}

/// Where to do it.
#[derive(Debug, Args)]
pub(super) struct RebuildArgs {
    #[command(flatten)]
    database: DatabaseConfig,
}

pub(super) fn run(command: &ReportsCommand) -> anyhow::Result<()> {
    let ReportsCommand::Rebuild(args) = command;
    let _logs = Logs::start(LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let located = DatabaseAccess::find(&args.database.source).await?;
        let rebuilt = rebuild(args, &located).await;
        located.close().await;
        rebuilt
    })
}

async fn rebuild(args: &RebuildArgs, located: &DatabaseAccess) -> anyhow::Result<()> {
    let db = located
        .migrated(&args.database, Scope::Chat, ANY_SEARCH_CONFIG)
        .await?;
    let store = Store::new(db, Limits::default().into(), Scope::Chat, ANY_SEARCH_CONFIG);
    let folded = reports::catch_up(&store, store.db(), true).await;
    let folded = folded.map_err(|error| anyhow::anyhow!("the reports can't be rebuilt: {error}"))?;
    anyhow::ensure!(
        folded != Folded::Busy,
        "a server is counting for the reports just now; try again in a moment"
    );
    for kept in store
        .kept_rows()
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?
    {
        say!("{}: {} counted, in {} rows", kept.report, kept.counted, kept.rows);
    }
    Ok(())
}

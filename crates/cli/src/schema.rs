//! `chatledger schema`: read models for other tools.

use std::path::PathBuf;

use anyhow::Context;

use super::{database::DatabaseAccess, logs::Logs, output::show};
use chatledger::config::{DatabaseConfig, LogFormat};
use chatledger_postgres::connect::describe;
use chatledger_transfer::{Schema, SchemaFormat};

/// Which models, and whereto.
#[derive(Debug, clap::Args)]
pub(super) struct SchemaArgs {
    /// For whom
    #[arg(long, value_enum)]
    format: SchemaFormat,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseConfig,
}

pub(super) fn run(args: &SchemaArgs) -> anyhow::Result<()> {
    let _logs = Logs::start(LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let located = DatabaseAccess::find(&args.database.source).await?;
        let schema = read(&located).await;
        located.close().await;
        schema.map(|schema| args.format.write(&schema))
    })?;
    match &args.output {
        Some(path) => std::fs::write(path, text).with_context(|| format!("--output {}", path.display()))?,
        None => show!("{text}"),
    }
    Ok(())
}

async fn read(located: &DatabaseAccess) -> anyhow::Result<Schema> {
    let (client, _) = located
        .direct
        .connect()
        .await
        .map_err(|error| anyhow::anyhow!(describe(&error)))?;
    Schema::read(&client).await
}

//! `chatledger migrate adopt`.

use clap::Args;
use jiff::tz::TimeZone;

use super::{CareArgs, CommonArgs, backup, print, progress::MigrateProgress};
use crate::{import::zone, output::show};
use chatledger_migrate::Migrator;
use chatledger_transfer::{SourceLayout, adopt};

/// What the tables look like.
#[derive(Debug, Args)]
pub(super) struct AdoptArgs {
    /// What the tables look like (rag-uuid; the others are for `chatledger import`)
    #[arg(long, value_enum, default_value_t = SourceLayout::Auto)]
    layout: SourceLayout,
    /// What times without an offset mean, such as UTC or Asia/Karachi
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    source_time_zone: TimeZone,
    #[command(flatten)]
    pub(super) care: CareArgs,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

pub(super) async fn run(
    args: &AdoptArgs,
    migrator: &Migrator,
    progress: &MigrateProgress,
) -> anyhow::Result<()> {
    let backup = backup(&args.care, migrator, &args.common).await?;
    let adopted = adopt(
        migrator,
        args.layout,
        args.common.scope,
        &args.source_time_zone,
        backup.as_ref(),
        &*progress.listener(),
    )
    .await;
    progress.clear();
    let adopted = adopted?;
    if args.common.json {
        return print::json(&adopted);
    }
    show!("{adopted}");
    Ok(())
}

//! `chatledger migrate adopt`.

use std::collections::BTreeMap;

use clap::Args;
use jiff::tz::TimeZone;

use super::{Common, print};
use crate::{
    cli::import::zone,
    postgres::connect::{Connector, describe},
    transfer::{Layout, adopt},
};

/// What the tables look like.
#[derive(Debug, Args)]
pub(super) struct Adopt {
    /// What the tables look like (rag-uuid; the others are for `chatledger import`)
    #[arg(long, value_enum, default_value_t = Layout::Auto)]
    layout: Layout,
    /// What times without an offset mean, such as UTC or Asia/Karachi
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    source_time_zone: TimeZone,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) async fn run(args: &Adopt, connector: &Connector) -> anyhow::Result<()> {
    let (mut client, _) = connector
        .connect()
        .await
        .map_err(|error| anyhow::anyhow!(describe(&error)))?;
    let adopted = adopt::run(
        &mut client,
        args.layout,
        args.common.scope,
        &args.source_time_zone,
    )
    .await?;
    if args.common.json {
        let rows: BTreeMap<_, _> = adopted.0.iter().copied().collect();
        return print::json(&rows);
    }
    print!("{adopted}");
    Ok(())
}

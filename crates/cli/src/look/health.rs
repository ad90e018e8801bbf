//! `chatledger health`: asks grpc.health.v1, for probes of containers that have no shell and no other program.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::time;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::refused;
use crate::{output::tell, server_target::ServerFlags};
use chatledger::config::duration;

/// What to ask.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// One of its services, such as chatledger.v1.MessageService [default: the whole server]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
    /// How long the answer may take
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    server: ServerFlags,
}

pub(crate) fn run(args: &HealthArgs) -> anyhow::Result<()> {
    super::run(async {
        let asked = time::timeout(args.timeout, ask(args)).await;
        asked.with_context(|| format!("no answer within {:?} (--timeout)", args.timeout))?
    })
}

async fn ask(args: &HealthArgs) -> anyhow::Result<()> {
    let channel = args.server.connect().await?;
    let request = HealthCheckRequest {
        service: args.service.clone(),
    };
    let answer = HealthClient::new(channel).check(request).await;
    let status = answer.map_err(|status| refused(&status))?.into_inner().status();
    if status != ServingStatus::Serving {
        bail!("the server is not serving: {}", status.as_str_name());
    }
    tell("serving\n");
    Ok(())
}

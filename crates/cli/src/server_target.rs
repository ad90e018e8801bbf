//! The server that a command is a client of.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use chatledger::config::Secret;
use chatledger_client::{CallCredentials, ServerChannel, ServerTarget};

/// Where the server is, and how to come in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(super) struct ServerFlags {
    /// The server, as http://HOST:PORT or https://HOST:PORT
    #[arg(
        long,
        env = "CHATLEDGER_TARGET",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051"
    )]
    target: String,
    /// The authority of the server's certificate, in PEM [default: those that the system knows]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The name that the server's certificate is for, where it isn't the target's host
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// The API key or token that every call has
    #[arg(long, env = "CHATLEDGER_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<Secret>,
}

impl ServerFlags {
    /// A connection to it.
    pub(super) async fn connect(&self) -> anyhow::Result<ServerChannel> {
        self.open()?.connect().await.context("--target")
    }

    fn open(&self) -> anyhow::Result<ServerTarget> {
        open_target(
            &self.target,
            self.tls_ca.as_deref(),
            self.tls_server_name.as_deref(),
            self.api_key.as_ref(),
        )
    }
}

/// A server by what flags of these names say.
pub(super) fn open_target(
    url: &str,
    tls_ca: Option<&Path>,
    tls_server_name: Option<&str>,
    api_key: Option<&Secret>,
) -> anyhow::Result<ServerTarget> {
    let mut target = ServerTarget::parse(url).with_context(|| format!("--target {url}"))?;
    if let Some(path) = tls_ca {
        let named = || format!("--tls-ca {}", path.display());
        let pem = std::fs::read(path).with_context(named)?;
        target = target.with_authority(&pem).with_context(named)?;
    }
    if let Some(name) = tls_server_name {
        let named = || format!("--tls-server-name {name}");
        target = target.with_server_name(name).with_context(named)?;
    }
    if let Some(key) = api_key.filter(|key| !key.is_empty()) {
        target = target.with_credentials(CallCredentials::bearer(key.reveal()).context("--api-key")?);
    }
    Ok(target)
}
